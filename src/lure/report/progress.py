"""How far the training is, on standard error: a bar on a terminal, and elsewhere a line for each stage that is done."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich import progress as rich_progress
from rich.console import Console

from lure.errors import printable
from lure.words import count, percent

if TYPE_CHECKING:
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
        words = [f"{printable(label)}, stage {stage.stage}: {count(stage.train_examples, 'example')}"]
        if stage.accuracy is not None:
            words.append(f"test accuracy {percent(stage.accuracy)} %")
        words.append(f"{stage.unlearn_seconds + stage.train_seconds:.1f} seconds")
        self._console.print(", ".join(words), highlight=False, markup=False, soft_wrap=True)

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
