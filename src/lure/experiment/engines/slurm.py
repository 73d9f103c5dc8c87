"""SLURM: one array of jobs, one for each run, by submitit. Needs `pip install 'lure-torch[slurm]'`."""

import importlib.util
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lure.errors import InputError
from lure.experiment.engines.cluster import follow, task_of
from lure.experiment.engines.process import Task
from lure.experiment.job import Job, Report
from lure.settings import check_settings, setting

FOLDER = "slurm"  # beside the runs: what submitit writes


@dataclass(frozen=True, kw_only=True)
class Slurm:
    """An array of SLURM jobs, each one run. A job that is preempted, or runs out of time, is queued again and resumes.

    The runs' directories, the data and the Python environment must lie on storage that all nodes share. submitit keeps
    its scripts, its pickled calls and the logs in the folder `slurm` beside the runs.
    """

    cluster: Literal["slurm", "local"] = setting("slurm", "slurm, or local: the same jobs on this machine, for a trial")
    partition: str | None = setting(None, "the partition")
    account: str | None = setting(None, "who pays")
    qos: str | None = setting(None, "the quality of service")
    constraint: str | None = setting(None, "features that a node must have")
    time: int = setting(240, "minutes that a job may take before it is queued again", 1)
    restarts: int = setting(10, "how often a run that ran out of time is queued again", 0)
    cpus: int | None = setting(None, "cores of a run; none: its threads and workers", 1)
    gpus: int = setting(0, "GPUs of a run", 0)
    memory: float | None = setting(None, "GB of memory of a run", above=0)
    setup: str | None = setting(None, "a line of shell that runs first, such as: module load python")

    def __post_init__(self) -> None:
        check_settings(self, accept_text=True)

    def check(self) -> None:
        """Raise unless submitit and SLURM are here.

        Raises:
            InputError: saying what is missing.
        """
        if importlib.util.find_spec("submitit") is None:
            raise InputError("the engine slurm needs submitit: pip install 'lure-torch[slurm]'")
        if self.cluster == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
            raise InputError(
                "there is no SLURM here: neither sbatch nor srun is a command; run this where jobs are submitted, or "
                "leave out --engine slurm"
            )

    def run(self, jobs: Sequence[Job], limit: int | None, report: Report) -> None:
        """Submit the jobs as one array, at most `limit` of them at once, and follow them to their ends.

        Raises:
            InputError: if SLURM refuses them.
        """
        import submitit

        folder = jobs[0].run.directory.absolute().parent.parent / FOLDER
        was_there = [parent for parent in (folder, *folder.parents) if parent.exists()]
        try:
            executor = submitit.AutoExecutor(folder, self.cluster, slurm_max_num_timeout=self.restarts)
            executor.update_parameters(**self._parameters(jobs, limit))
            with executor.batch():
                submitted = [executor.submit(_Resumable.of(task_of(job))) for job in jobs]
        except (RuntimeError, OSError, ValueError, NameError, submitit.core.utils.FailedSubmissionError) as error:
            for parent in (folder, *folder.parents):
                if parent not in was_there:
                    shutil.rmtree(parent, ignore_errors=True)
            raise InputError(f"SLURM refuses the jobs: {' '.join(str(error).split())}") from error
        handles = dict(zip(map(id, jobs), submitted, strict=True))
        try:
            follow(jobs, lambda job: handles[id(job)], _how_it_ended, None, report)
        finally:
            for handle in submitted:
                if not handle.done():
                    handle.cancel(check=False)

    def _parameters(self, jobs: Sequence[Job], limit: int | None) -> dict[str, Any]:
        threads = max(job.run.experiment.threads for job in jobs)
        given = {
            "name": "lure",
            "timeout_min": self.time,
            "cpus_per_task": self.cpus or threads + jobs[0].placement.workers,
            "gpus_per_node": self.gpus or None,
            "mem_gb": self.memory,
            "slurm_partition": self.partition,
            "slurm_account": self.account,
            "slurm_qos": self.qos,
            "slurm_constraint": self.constraint,
            "slurm_array_parallelism": limit,
            "slurm_setup": [self.setup] if self.setup else None,
        }
        return {name: value for name, value in given.items() if value is not None}


class _Resumable(Task):
    """A task that submitit queues again when it is preempted or runs out of time."""

    @classmethod
    def of(cls, task: Task) -> "_Resumable":
        return cls(task.job, task.threads, task.search_path)

    def checkpoint(self) -> Any:
        """End the worker, which saves where it stands; return what is to be queued: the same again."""
        import submitit

        self.stop()
        return submitit.helpers.DelayedSubmission(type(self).of(self))


def _how_it_ended(handle: Any) -> str | None:
    if not handle.done():
        return None
    try:
        return str(handle.result())
    except Exception:  # submitit has several; what SLURM says is the same in all
        log = Path(handle.paths.stderr)
        return f"its SLURM job {handle.job_id} ended as {handle.state}; see {log}"
