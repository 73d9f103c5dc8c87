"""What `lure run`, `lure compare` and `lure evaluate` do, from Python: what they return prints as the commands do.

Each result is an object that is also what a program needs: the records of the runs, the stages, the numbers. Torch is
imported when something is run, and not to read what is on disk.
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.console import RenderableType

from lure.errors import InputError
from lure.report.comparison import group_runs
from lure.report.console import report_console
from lure.report.evaluation_table import evaluation_tables
from lure.report.price import PriceAnswer, asks_for_price, price_answers, price_sentence
from lure.report.records import RunRecord, read_run, read_runs
from lure.report.regret_table import regret_tables
from lure.report.stage_rows import write_csv
from lure.report.table import comparison_table, price_table, run_table, settings_tables
from lure.report.verdict import verdict
from lure.store.stage import Stage

if TYPE_CHECKING:
    from lure.data.examples import Examples
    from lure.experiment.job import PlannedRun
    from lure.experiment.run import Placement
    from lure.metrics.evaluation import Model
    from lure.recipe import Experiment, Policy
    from lure.training.fit import Progress

WIDTH = 100  # columns of a table in text


def answer_tables(runs: Sequence[RunRecord], width: int = WIDTH) -> list[RenderableType]:
    """Return the tables that answer a comparison: policies side by side, prices; for several settings, regret, too."""
    tables = (
        comparison_table(runs, width),
        price_table(runs, width),
        *settings_tables(runs, width),
        *regret_tables(runs),
    )
    return [table for table in tables if table is not None]


def answer_sentence(runs: Sequence[RunRecord]) -> str:
    """Return the last line of a comparison: its price, or its verdict where nothing asks for a price."""
    return price_sentence(runs) if asks_for_price(group_runs(runs)) else verdict(runs)


def _text(tables: Iterable[RenderableType], width: int = WIDTH) -> str:
    text = io.StringIO()
    console = report_console(text)
    console.width = width
    for table in tables:
        console.print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()).strip("\n")


class Comparison:
    """The runs of a comparison, and what they answer. It prints as `lure compare` does.

    Args:
        runs: its records, as `lure.report.records.read_runs` returns them.
    """

    def __init__(self, runs: Iterable[RunRecord]) -> None:
        self.runs = tuple(runs)
        if not self.runs:
            raise InputError("there is no run to report")

    @classmethod
    def read(cls, *directories: Path | str) -> Self:
        """Read what comparisons left in these directories.

        Raises:
            InputError: if there is no run, or a file is damaged.
        """
        return cls(read_runs(directories))

    def table(self, width: int = WIDTH) -> str:
        """Return the tables as text: policies side by side, and their prices."""
        return _text(answer_tables(self.runs, width), width)

    def price(self) -> list[PriceAnswer]:
        """Return the answer for each policy; [] without retraining (scratch at budget 1) among them.

        Runs of several recipes give the answers of one recipe after the other.
        """
        return [answer for group in group_runs(self.runs) for answer in price_answers(group)]

    @property
    def verdict(self) -> str:
        """The answer in one sentence for each recipe."""
        return answer_sentence(self.runs)

    def to_csv(self, file: Path | str) -> None:
        """Write one row for each run and stage, for pandas; an older file is replaced.

        Raises:
            InputError: if the file cannot be written.
        """
        write_csv(self.runs, file)

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[RunRecord]:
        return iter(self.runs)

    def __str__(self) -> str:
        return f"{self.table()}\n\n{self.verdict}"


class Run(list[Stage]):
    """The stages of a run, oldest first, and what they show. It prints as `lure run` does.

    Args:
        record: what `lure.report.records.read_run` returns.
    """

    def __init__(self, record: RunRecord) -> None:
        super().__init__(record.stages)
        self.record = record

    def table(self, width: int = WIDTH) -> str:
        """Return the table as text, a row for each stage."""
        return _text([run_table(self.record)], width)

    def to_csv(self, file: Path | str) -> None:
        """Write one row for each stage, for pandas; an older file is replaced.

        Raises:
            InputError: if the file cannot be written.
        """
        write_csv([self.record], file)

    def __str__(self) -> str:
        return self.table()


class Evaluation(dict[str, Any]):
    """What `lure.metrics.evaluate` measures, by name. It prints as `lure evaluate` does."""

    def table(self, width: int = WIDTH) -> str:
        """Return the tables as text: the whole set, each class, and what else was measured."""
        return "\n\n".join(f"{title}\n\n{_text([table], width)}" for title, table in evaluation_tables(self))

    def to_csv(self, file: Path | str) -> None:
        """Write every number with its place, such as `per_class.3.accuracy`, a row each; an older file is replaced.

        Raises:
            InputError: if the file cannot be written.
        """
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(("metric", "value"))
        rows.writerows(_numbers("", self))
        try:
            Path(file).write_text(text.getvalue(), encoding="utf-8", newline="")
        except OSError as error:
            raise InputError(f"cannot write the table {file}: {error.strerror}") from None

    def __str__(self) -> str:
        return self.table()


def _numbers(place: str, value: Any) -> Iterator[tuple[str, float]]:
    """Yield all numbers inside a value, each with the keys and positions that lead to it."""
    if isinstance(value, int | float):
        yield place, value
    elif isinstance(value, Mapping | list | tuple):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, inside in items:
            yield from _numbers(f"{place}.{key}" if place else str(key), inside)


def compare(
    experiment: "Experiment",
    policies: "Iterable[Policy | str]",
    seeds: Iterable[int] = (0, 1, 2),
    out: Path | str = "runs/compared",
    *,
    budgets: Sequence[float] = (),
    placement: "Placement | None" = None,
    jobs: int | None = None,
    engine: str = "local",
    engine_options: Mapping[str, Any] | None = None,
    watch: "Callable[[PlannedRun, Progress], None] | None" = None,
    on_stage: "Callable[[PlannedRun, Stage], None] | None" = None,
    on_end: "Callable[[PlannedRun, str], None] | None" = None,
) -> Comparison:
    """Run an experiment for every policy, budget and seed, or go on where that was interrupted; return the answer.

    Equal to `lure compare`. All runs are checked before the first one starts. How many run at once, and where, changes
    no bit of any. The runs of other calls that `out` holds are left out of the answer.

    Args:
        experiment: what all runs share; its own unlearner and seed do not count.
        policies: policies, or their text: "lure", "lure:forget_fraction=0.4", "averaged=lr=0.1 budget=0.3".
        seeds: one run of each policy and budget for each; a price takes at least three.
        out: the directory that holds the runs, each in POLICY/seed-N.
        budgets: each policy runs at each of them, unless it sets its own; empty for that of `experiment`.
        placement: data path, device, workers and tracker.
        jobs: how many at once, each in a process of its own; 1 runs them in this process. None: as many as there are
            cores for their threads or, on GPUs, one a device; an engine that is a cluster decides by itself.
        engine: "local", "slurm" or "ray".
        engine_options: the engine's own, such as {"partition": "gpu"}; see docs/scaling.md.
        watch: called now and then while training, with the run.
        on_stage: called with each stage as it is committed, with the run.
        on_end: called with a run that has ended, and why it is not done; "" where it is.

    Raises:
        InputError: for a policy or budget that cannot be, data that cannot be used, a run's directory that was begun
            with another recipe, or an engine that cannot work.
        lure.experiment.compare.RunsFailed: if some runs could not be done; the others are, and the same call goes on.

    Example:
        >>> import tempfile
        >>> from lure import Experiment
        >>> tiny = Experiment(num_mega_batches=2, mega_batch_size=20, test_limit=50, epochs=2, milestones=(), threads=1)
        >>> with tempfile.TemporaryDirectory() as out:
        ...     answer = compare(tiny, ["scratch", "lure"], [0], out, budgets=[0.5, 1], jobs=1)
        >>> [(run.policy, run.budget) for run in answer.runs]
        [('scratch', 0.5), ('scratch', 1.0), ('lure', 0.5), ('lure', 1.0)]
    """
    from lure.experiment.compare import compare as run_all  # imports torch

    directories = run_all(
        experiment,
        policies,
        seeds,
        out,
        budgets=budgets,
        placement=placement,
        jobs=jobs,
        engine=engine,
        engine_options=engine_options,
        watch=watch,
        on_stage=on_stage,
        on_end=on_end,
    )
    return Comparison(read_runs(directories))


def run(experiment: "Experiment", out: Path | str, **options: Any) -> Run:
    """Run an experiment into a directory, or go on with the one that is there; return its stages.

    Equal to `lure run`, but for the evaluation of the last version: that is `lure.evaluate(out)`.

    Args:
        experiment: what to run.
        out: the run directory; new, or begun with the same experiment.
        **options: as for `lure.experiment.run.run`: placement, dataset, watch, on_stage.

    Raises:
        InputError: for data or settings that cannot be used; nothing on disk has then changed.
    """
    from lure.experiment.run import run as run_one

    run_one(experiment, out, **options)
    return Run(read_run(out))


def evaluate(subject: "Model | Path | str", examples: "Examples | None" = None, **options: Any) -> Evaluation:
    """Measure a model, or a version in a run directory, in depth.

    Equal to `lure evaluate` for a directory or an exported file.

    Args:
        subject: a model, as for `lure.metrics.evaluate`; or a run directory or exported file, as for
            `lure.experiment.evaluate.evaluate_version`.
        examples: the test set of a model.
        **options: those of the function that is named above.

    Raises:
        InputError: as these functions.

    Example:
        >>> import torch
        >>> from lure import Examples
        >>> result = evaluate(lambda inputs: 9 * inputs, Examples(torch.eye(2), torch.tensor([0, 1])))
        >>> result["accuracy"], str(result).splitlines()[0]
        (1.0, '2 examples')
    """
    if isinstance(subject, Path | str):
        if examples is not None:
            raise InputError("a version is measured on its own test set: give file=PATH for another one")
        from lure.experiment.evaluate import evaluate_version

        return Evaluation(evaluate_version(subject, **options))
    if examples is None:
        raise InputError("a model needs examples to be measured on: evaluate(model, examples)")
    from lure.metrics.evaluation import evaluate as measure

    return Evaluation(measure(subject, examples, **options))
