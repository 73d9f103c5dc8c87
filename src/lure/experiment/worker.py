"""A process that does runs of a comparison, one after the other: `python -m lure.experiment.worker`.

It reads one job a line from standard input and writes what happens, one event a line, to standard output. What others
print in this process goes to standard error. When its input is closed in the middle of a job, whoever started it is
gone: it saves a checkpoint and ends, so that no run outlives its comparison.
"""

import os
import queue
import signal
import sys
import threading
import time
import traceback
import warnings
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, TextIO

from lure.errors import InputError

if TYPE_CHECKING:
    from lure.data.sources import Dataset
    from lure.experiment.job import Event, Job

ORPHAN_SECONDS = 10.0  # what an abandoned process may take to save a checkpoint
PROGRESS_SECONDS = 0.1  # between two messages about how far the training is


def main() -> int:
    """Do jobs until the input ends; return the exit code."""
    signal.signal(signal.SIGTERM, _stop)
    # SLURM sends this one to all processes of a job; submitit, which owns this process, acts on it.
    if hasattr(signal, "SIGUSR2"):
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    # What a user's own code prints must not get between the events.
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        worker = Worker(events)
        threading.Thread(target=worker.read, daemon=True).start()
        worker.work()
    except KeyboardInterrupt:
        return 130
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return 0


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # once is enough: a second one would hit what saves the checkpoint
    raise KeyboardInterrupt


class Worker:
    """Does the jobs that come in.

    Args:
        events: where to write what happens.
    """

    def __init__(self, events: TextIO) -> None:
        self._events = events
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._busy = False
        self._last_progress = 0.0
        self._dataset: tuple[object, Dataset] | None = None  # of the last job: others of its comparison share it

    def read(self) -> None:
        """Pass the lines of the input on; at its end, stop the job that is running."""
        for line in sys.stdin:
            self._busy = True
            self._lines.put(line)
        self._lines.put("")
        if self._busy:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(ORPHAN_SECONDS)
            os._exit(1)

    def work(self) -> None:
        """Do one job after the other."""
        from lure.experiment.job import Ended, Job, Note  # imports torch

        warnings.showwarning = lambda message, *_: self._tell(Note(f"warning: {message}"))
        while line := self._lines.get():
            problem = self._do(Job.from_json(line))
            self._busy = False
            self._tell(Ended(problem))

    def _do(self, job: "Job") -> str:
        """Do a job; return what went wrong, in one line."""
        from lure.experiment.run import open_dataset

        experiment, placement, sys.argv = job.run.experiment, job.placement, job.argv
        try:
            place = (placement.data, experiment.dataset, experiment.train_limit, experiment.test_limit)
            if self._dataset is None or self._dataset[0] != place:
                self._dataset = place, open_dataset(experiment, placement)
            job.do(self._tell, self._dataset[1])
        except InputError as error:
            return str(error)
        except Exception as error:
            traceback.print_exc()
            return " ".join(f"{type(error).__name__}: {error}".split())
        return ""

    def _tell(self, event: "Event") -> None:
        from lure.experiment.job import event_to_json
        from lure.training.fit import Progress

        if isinstance(event, Progress):
            now = time.monotonic()
            if now < self._last_progress + PROGRESS_SECONDS:
                return
            self._last_progress = now
        try:
            print(event_to_json(event), file=self._events, flush=True)
        except BrokenPipeError:  # nobody listens: as if the input had ended
            raise KeyboardInterrupt from None


if __name__ == "__main__":
    sys.exit(main())
