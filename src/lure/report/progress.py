"""How far the training is, on standard error: bars on a terminal, and elsewhere a line for each stage that is done."""

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich import progress as rich_progress
from rich.console import Console, Group
from rich.live import Live

from lure.errors import printable
from lure.words import count, percent

if TYPE_CHECKING:
    from lure.experiment.job import PlannedRun
    from lure.store.stage import Stage
    from lure.training.fit import Progress


class StageProgress:
    """Show the running stage: epoch, accuracy and time left. A log or a pipe gets one line for each stage that is done.

    Args:
        console: where to show it; None means standard error.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr)
        self._progress: rich_progress.Progress | None = None
        if self._console.is_terminal:
            self._progress = rich_progress.Progress(
                rich_progress.TextColumn("{task.description}", markup=False),
                rich_progress.BarColumn(bar_width=30),
                rich_progress.TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
                rich_progress.TextColumn("{task.fields[accuracy]}"),
                rich_progress.TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
        self._shown: tuple[str, int] | None = None

    def __enter__(self) -> Self:
        if self._progress:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress:
            self._progress.stop()

    def stage_done(self, label: str, stage: "Stage") -> None:
        """Print the result of a stage on one line, where there is no bar; `label` names the run ("lure, seed 0")."""
        if self._progress is not None:
            return
        self._console.print(stage_line(label, stage), highlight=False, markup=False, soft_wrap=True)

    def show(self, label: str, moment: "Progress") -> None:
        """Move the bar to where a fit is; `label` names the run ("lure, seed 0")."""
        if self._progress is None:
            return
        if self._shown != (label, moment.stage):
            for task in list(self._progress.task_ids):
                self._progress.remove_task(task)
            self._progress.add_task(
                f"{printable(label)}, stage {moment.stage}",
                total=moment.epochs * moment.steps,
                epoch=moment.epoch,
                epochs=moment.epochs,
                accuracy="",
            )
            self._shown = label, moment.stage
        accuracy = "" if moment.accuracy is None else f"accuracy {percent(moment.accuracy)} %"
        self._progress.update(
            self._progress.task_ids[-1],
            completed=(moment.epoch - 1) * moment.steps + moment.step,
            epoch=moment.epoch,
            accuracy=accuracy,
        )


def stage_line(label: str, stage: "Stage") -> str:
    """Write the result of a stage on one line; `label` names the run ("lure, seed 0")."""
    words = [f"{printable(label)}, stage {stage.stage}: {count(stage.train_examples, 'example')}"]
    if stage.accuracy is not None:
        words.append(f"test accuracy {percent(stage.accuracy)} %")
    words.append(f"{stage.unlearn_seconds + stage.train_seconds:.1f} seconds")
    return ", ".join(words)


class RunsProgress:
    """Show many runs that go side by side: a line for each one in flight, and one for all with the time left.

    A log or a pipe gets a line for each stage that is done, as from `StageProgress`.

    Args:
        runs: all runs, in order; their labels must differ.
        console: where to show it; None means standard error.
    """

    def __init__(self, runs: "Sequence[PlannedRun]", console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr)
        self._numbers = {run.label: number for number, run in enumerate(runs, start=1)}
        self._work = {run.label: _work(run, run.experiment.num_mega_batches or 1) for run in runs}
        self._ended = {run.label for run in runs if run.is_done}
        self._total = sum(work for label, work in self._work.items() if label not in self._ended)
        self._fractions: dict[str, float] = {}
        self._began = time.monotonic()
        self._live: Live | None = None
        if self._console.is_terminal:
            self._rows = rich_progress.Progress(
                rich_progress.TextColumn("{task.description}", markup=False),
                rich_progress.BarColumn(bar_width=20),
                rich_progress.TextColumn("{task.fields[where]}", markup=False),
                console=self._console,
            )
            self._tasks: dict[str, rich_progress.TaskID] = {}
            self._overall = rich_progress.Progress(
                rich_progress.TextColumn("{task.description}", markup=False),
                rich_progress.BarColumn(bar_width=20),
                rich_progress.TextColumn("{task.fields[left]}", markup=False),
                console=self._console,
            )
            self._all = self._overall.add_task("", total=1.0, left="")
            self._live = Live(Group(self._rows, self._overall), console=self._console, transient=True)

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        if self._live:
            self._show_all()
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, run: "PlannedRun", moment: "Progress") -> None:
        """Move the line of a run to where its fit is."""
        if self._live is None:
            return
        done = (moment.epoch - 1 + moment.step / moment.steps) / moment.epochs
        stages = run.experiment.num_mega_batches or moment.stage
        self._fractions[run.label] = min(1.0, _work(run, moment.stage, done) / _work(run, stages))
        accuracy = "" if moment.accuracy is None else f", accuracy {percent(moment.accuracy)} %"
        where = f"stage {moment.stage}, epoch {moment.epoch} of {moment.epochs}{accuracy}"
        if run.label not in self._tasks:
            self._tasks[run.label] = self._rows.add_task(printable(run.label), total=1.0, where="")
        self._rows.update(self._tasks[run.label], completed=self._fractions[run.label], where=where)
        self._show_all()

    def stage_done(self, run: "PlannedRun", stage: "Stage") -> None:
        """Print the result of a stage on one line, where there are no bars."""
        if self._live is None:
            label = f"run {self._numbers[run.label]} of {len(self._numbers)}: {run.label}"
            self._console.print(stage_line(label, stage), highlight=False, markup=False, soft_wrap=True)

    def run_ended(self, run: "PlannedRun", problem: str) -> None:
        """Remove the line of a run; say so where it failed."""
        self._ended.add(run.label)
        if problem:
            self._console.print(printable(f"{run.label}: {problem}"), highlight=False, markup=False, soft_wrap=True)
        if self._live:
            self._fractions[run.label] = 1.0
            if run.label in self._tasks:
                self._rows.remove_task(self._tasks.pop(run.label))
            self._show_all()

    def _show_all(self) -> None:
        done = sum(self._work[label] * fraction for label, fraction in self._fractions.items())
        share = done / self._total if self._total else 1.0
        left = ""
        if 0 < share < 1:
            seconds = round((time.monotonic() - self._began) * (1 - share) / share)
            left = f"about {seconds // 60}:{seconds % 60:02d} left"
        self._overall.update(
            self._all,
            completed=share,
            description=f"{len(self._ended)} of {count(len(self._work), 'run')} done",
            left=left,
        )


def _work(run: "PlannedRun", stage: int, fraction: float = 1.0) -> float:
    """Estimate the work of a run up to a share of a stage, in passes over one mega-batch; replay makes stages grow."""
    recipe = run.experiment
    sizes = [number if recipe.replay.startswith("full") else 1 for number in range(1, stage + 1)]
    passes = [recipe.epochs_of(number) * size for number, size in enumerate(sizes, start=1)]
    return sum(passes[:-1]) + passes[-1] * fraction
