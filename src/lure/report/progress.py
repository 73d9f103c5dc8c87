"""A progress bar for people: on a terminal only, on standard error, one line that says how far the training is."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich import progress as rich_progress
from rich.console import Console

from lure.words import percent

if TYPE_CHECKING:
    from lure.training.fit import Progress


class StageProgress:
    """Show the running stage: epoch, accuracy and time left. Shows nothing where standard error is not a terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr)
        self._progress: rich_progress.Progress | None = None
        if self._console.is_terminal:
            self._progress = rich_progress.Progress(
                rich_progress.TextColumn("{task.description}"),
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

    def show(self, label: str, moment: "Progress") -> None:
        """Move the bar to where a fit is; `label` names the run ("lure, seed 0")."""
        if self._progress is None:
            return
        if self._shown != (label, moment.stage):
            for task in list(self._progress.task_ids):
                self._progress.remove_task(task)
            self._progress.add_task(
                f"{label}, stage {moment.stage}",
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
