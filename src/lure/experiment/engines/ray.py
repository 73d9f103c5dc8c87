"""Ray: one task for each run, on a cluster by its address. Needs `pip install 'lure-torch[ray]'`."""

import importlib
import importlib.util
import os
import signal
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lure.errors import InputError
from lure.experiment.engines.cluster import follow, task_of
from lure.experiment.engines.process import Task
from lure.experiment.job import Job, Report
from lure.settings import check_settings, setting

CONNECT_SECONDS = 5.0  # what a cluster may take to answer


@dataclass(frozen=True, kw_only=True)
class Ray:
    """A Ray task for each run, which may take a part of a GPU. A task whose node is lost is done again, and resumes.

    The runs' directories, the data and the Python environment must lie on storage that all nodes share. Ray holds no
    state of a run.
    """

    address: str = setting("auto", "host:port of the cluster; auto: the one of this machine; local: start one here")
    cpus: float | None = setting(None, "cores of a run; none: its threads and workers", above=0)
    gpus: float = setting(0.0, "GPUs of a run; 0.25 puts four on each", 0)
    memory: float | None = setting(None, "GB of memory of a run", above=0)
    retries: int = setting(3, "how often a run is begun again whose node or process was lost", 0)

    def __post_init__(self) -> None:
        check_settings(self, accept_text=True)

    def check(self) -> None:
        """Connect to the cluster.

        Raises:
            InputError: if Ray is not installed, or the cluster does not answer.
        """
        if importlib.util.find_spec("ray") is None:
            raise InputError("the engine ray needs Ray: pip install 'lure-torch[ray]'")
        ray = importlib.import_module("ray")
        if ray.is_initialized():
            return
        on_termination = signal.getsignal(signal.SIGTERM)
        try:
            _knock(self.address)
            ray.init(address=self.address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
        except Exception as error:  # Ray has many; all mean that there is nobody to work with
            raise InputError(
                f"there is no Ray at {self.address!r} ({type(error).__name__}): begin one with 'ray start --head', or "
                f"give --engine-option address=HOST:PORT or address=local"
            ) from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_termination)  # Ray's own would end this process without a word

    def run(self, jobs: Sequence[Job], limit: int | None, report: Report) -> None:
        """Hand the jobs to the cluster, at most `limit` at once, and follow them to their ends."""
        ray = importlib.import_module("ray")
        begun: list[Any] = []

        def begin(job: Job) -> Any:
            task, threads = task_of(job), job.run.experiment.threads
            resources = {"num_cpus": self.cpus or threads + job.placement.workers, "num_gpus": self.gpus}
            if self.memory is not None:
                resources["memory"] = self.memory * 1e9
            modules = {"env_vars": {"PYTHONPATH": os.pathsep.join(task.search_path)}}
            remote = ray.remote(max_retries=self.retries, runtime_env=modules, **resources)(do)
            begun.append(remote.remote(task))
            return begun[-1]

        try:
            follow(jobs, begin, _how_it_ended, limit, report)
        finally:
            for reference in begun:
                ray.cancel(reference, force=True)  # the worker sees that its owner is gone, saves, and ends


def _knock(address: str) -> None:
    """Raise `OSError` unless somebody answers at an address: Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()


def do(task: Task) -> str:
    """Do a task, on a node of the cluster."""
    return task()


def _how_it_ended(reference: Any) -> str | None:
    ray = importlib.import_module("ray")
    if not ray.wait([reference], timeout=0)[0]:
        return None
    try:
        return str(ray.get(reference))
    except Exception as error:  # Ray has one for each way in which a process or a node is lost
        return f"Ray lost it ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
