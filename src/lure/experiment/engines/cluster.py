"""What engines that are clusters share: runs are somebody else's processes, and are followed on the shared storage."""

import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from lure.errors import InputError
from lure.experiment.engines.process import Task
from lure.experiment.job import Ended, Job, Report
from lure.store.ledger import LEDGER, Ledger
from lure.store.stage import Stage

POLL_SECONDS = 1.0  # between two looks at what has become of the runs

Handle = TypeVar("Handle")


def task_of(job: Job) -> Task:
    """Return a job in the form that a cluster does it in."""
    places = [str(Path(place).absolute()) for place in sys.path]
    return Task(job.to_json(), job.run.experiment.threads, places)


def follow(
    jobs: Sequence[Job],
    begin: Callable[[Job], Handle],
    how_it_ended: Callable[[Handle], str | None],
    limit: int | None,
    report: Report,
) -> None:
    """Begin jobs, at most `limit` at once, and report what becomes of them until all have ended.

    Args:
        jobs: what to do.
        begin: hands a job to the cluster; what it returns stands for it.
        how_it_ended: None while a job goes on; then why it is not done, or "".
        limit: None for no limit.
        report: hears of stages and ends.
    """
    waiting = deque(jobs)
    running: list[_Running[Handle]] = []
    while waiting or running:
        while waiting and (limit is None or len(running) < limit):
            running.append(_Running(job := waiting.popleft(), begin(job)))
        time.sleep(POLL_SECONDS)
        for each in list(running):
            problem = how_it_ended(each.handle)
            for stage in each.new_stages():
                report(each.job.run, stage)
            if problem is not None:
                running.remove(each)
                report(each.job.run, Ended(problem))


class _Running(Generic[Handle]):
    """A job that a cluster does, and how many of its stages were reported."""

    def __init__(self, job: Job, handle: Handle) -> None:
        self.job, self.handle = job, handle
        self._ledger = job.run.directory / LEDGER
        self._size = 0
        self._stages = 0
        self._stages = len(self.new_stages())  # those of an earlier comparison are no news

    def new_stages(self) -> Sequence[Stage]:
        """Return the stages that were committed since the last look."""
        size = self._ledger.stat().st_size if self._ledger.exists() else 0
        if size == self._size:
            return []
        try:
            stages = Ledger(self._ledger.parent).stages
        except InputError:  # the end of the run says what is wrong
            return []
        new, self._size, self._stages = stages[self._stages :], size, len(stages)
        return new
