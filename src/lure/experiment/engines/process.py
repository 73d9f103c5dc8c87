"""A worker process as its owner sees it. Nothing here imports torch: owners on a cluster do nothing but wait."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

STOP_SECONDS = 5.0  # what an interrupted worker may take to save a checkpoint


class WorkerProcess:
    """A process that does jobs (see `lure.experiment.worker`).

    It is not of the terminal's group: Ctrl-C reaches its owner, which stops it. If the owner is killed, the pipe
    between them is closed, and the worker ends by itself.

    Args:
        threads: CPU threads of one run; they must be known before the worker loads torch.
        search_path: where it looks for modules; None takes this process' own.
    """

    def __init__(self, threads: int, search_path: Iterable[str] | None = None) -> None:
        places = sys.path if search_path is None else search_path
        environment = os.environ | {
            "OMP_NUM_THREADS": str(threads),
            "PYTHONPATH": os.pathsep.join(str(Path(place).absolute()) for place in places),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "lure.experiment.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )

    def send(self, job: str) -> None:
        """Give it a job; if it has died, that shows at the end of its events."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(job + "\n")
            self._process.stdin.flush()

    def events(self) -> Iterator[str]:
        """Yield its events, as they were written, until it has ended."""
        assert self._process.stdout is not None
        with self._process.stdout as events:
            yield from events

    def how_it_ended(self) -> str:
        """Wait for its end, and say how it came."""
        code = self._process.wait()
        if code >= 0:
            return f"its process ended with exit code {code}"
        name = signal.Signals(-code).name
        return f"{name} ended its process" + (", as the system does when memory runs out" if name == "SIGKILL" else "")

    def ask_to_stop(self) -> None:
        """Interrupt what it does; it saves a checkpoint where there is one to save."""
        self._process.terminate()
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()

    def wait(self, deadline: float) -> None:
        """Wait for its end until a time of `time.monotonic`; then kill it."""
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def stop(workers: Iterable[WorkerProcess]) -> None:
    """End these workers within seconds."""
    workers = list(workers)
    for worker in workers:
        worker.ask_to_stop()
    deadline = time.monotonic() + STOP_SECONDS
    for worker in workers:
        worker.wait(deadline)


class Task:
    """A job as a cluster does it: it waits for a worker of its own. It travels pickled, by the cluster's own means.

    Args:
        job: the job as one line of JSON.
        threads: CPU threads of the run.
        search_path: where the worker looks for modules: the folders of whoever planned the run.
    """

    def __init__(self, job: str, threads: int, search_path: Iterable[str]) -> None:
        self.job, self.threads, self.search_path = job, threads, list(search_path)
        self._worker: WorkerProcess | None = None

    def __call__(self) -> str:
        """Do the job; return in one line why it is not done, "" where it is. What happens goes to standard output."""
        self._worker = WorkerProcess(self.threads, self.search_path)
        try:
            self._worker.send(self.job)
            for line in self._worker.events():
                event = json.loads(line)
                if event["event"] == "Ended":
                    return str(event["problem"])
                if event["event"] != "Progress":
                    sys.stdout.write(line)
            return self._worker.how_it_ended()
        finally:
            self.stop()

    def stop(self) -> None:
        """End the worker, if it is at work: it saves a checkpoint."""
        if self._worker is not None:
            stop([self._worker])
            self._worker = None
