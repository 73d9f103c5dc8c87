"""Runs side by side on this machine, each in a process of its own."""

import dataclasses
import os
import queue
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lure.distributed import are_several
from lure.errors import InputError
from lure.experiment.engines.process import WorkerProcess, stop
from lure.experiment.job import Ended, Job, Report, event_from_json
from lure.learner.opening import choose_device

Inbox = queue.SimpleQueue[tuple[WorkerProcess, str | None]]


@dataclass(frozen=True, kw_only=True)
class Local:
    """Several processes on this machine; each does one run after the other.

    A process that dies takes only its own run with it: the others go on, and another process does what is left.
    """

    def check(self) -> None:
        """Nothing is needed that is not there."""

    def run(self, jobs: Sequence[Job], limit: int | None, report: Report) -> None:
        """Do the jobs, in this order, as `side_by_side` says; GPUs are dealt out to the processes in turn."""
        inbox: Inbox = queue.SimpleQueue()
        waiting, devices = deque(jobs), _devices(jobs[0].placement.device)
        places = [_Place(devices[number % len(devices)], inbox) for number in range(side_by_side(jobs, limit))]
        try:
            for place in places:
                place.begin(waiting.popleft())
            while any(place.job for place in places):
                worker, line = inbox.get()
                at = next(place for place in places if worker in place.workers)
                if at.job is None or worker is not at.workers[-1]:
                    continue  # the end of a process that had nothing more to do
                event = Ended(worker.how_it_ended()) if line is None else event_from_json(line)
                report(at.job.run, event)
                if isinstance(event, Ended):
                    at.job = None
                    if waiting:
                        at.begin(waiting.popleft(), anew=line is None)
        finally:
            stop([worker for place in places for worker in place.workers])


def side_by_side(jobs: Sequence[Job], limit: int | None) -> int:
    """Return how many jobs run at once on this machine.

    Args:
        jobs: what there is to do.
        limit: what the user asked for; None: one a GPU, or as many as there are cores for their threads.

    Raises:
        InputError: for several at once where a launcher already started several processes for each.
    """
    if are_several():
        if limit not in (None, 1):
            raise InputError(
                f"--jobs {limit} cannot go with torchrun, whose processes train one run together: drop one"
            )
        return 1
    if limit is None and jobs:
        devices = _devices(jobs[0].placement.device)
        threads = max(job.run.experiment.threads for job in jobs)
        limit = number_of_cores() // threads if devices == ["cpu"] else len(devices)
    return max(1, min(limit or 1, len(jobs)))


def number_of_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _devices(name: str) -> list[str]:
    """Return the devices that runs may be dealt out to: all GPUs, unless one is named."""
    device = choose_device(name)
    if device.type == "cpu" or device.index is not None:
        return [str(device)]
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())]


class _Place:
    """A place for one run at a time: its process, and the job that it does.

    Args:
        device: where its runs compute.
        inbox: takes the lines that the process writes, and None when it has ended.
    """

    def __init__(self, device: str, inbox: Inbox) -> None:
        self.device, self.inbox = device, inbox
        self.job: Job | None = None
        self.threads = 0
        self.workers: list[WorkerProcess] = []  # the last one is at work

    def begin(self, job: Job, anew: bool = False) -> None:
        """Give a job to the process, or to a new one if it is gone or has another number of threads."""
        threads = job.run.experiment.threads
        if not self.workers or anew or threads != self.threads:
            stop(self.workers)
            self.workers.append(WorkerProcess(threads))
            self.threads = threads
            threading.Thread(target=self._listen, args=(self.workers[-1],), daemon=True).start()
        self.job = job
        placed = dataclasses.replace(job, placement=dataclasses.replace(job.placement, device=self.device))
        self.workers[-1].send(placed.to_json())

    def _listen(self, worker: WorkerProcess) -> None:
        for line in worker.events():
            self.inbox.put((worker, line))
        self.inbox.put((worker, None))
