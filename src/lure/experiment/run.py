"""Run one experiment: a stream of mega-batches cut from a named data set, and a learner that takes them in."""

import dataclasses
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lure.data.examples import Examples, Split
from lure.data.released import released_order
from lure.data.sources import Dataset, load_dataset
from lure.data.sources.dataset import tell
from lure.data.stream import few_shot_rows, mega_batches
from lure.errors import require_within
from lure.experiment.threads import choose_threads
from lure.experiment.trackers import Tracker, Tracking, require_tracker
from lure.learner.learner import Learner
from lure.metrics import anytime_relative_error, cumulative_error, mean_error_rate
from lure.recipe import Experiment
from lure.store.run_directory import RunDirectory
from lure.store.stage import Stage
from lure.training.fit import Watch


@dataclass(frozen=True)
class Placement:
    """Where an experiment runs: what decides nothing about its result.

    Attributes:
        data: folder, file or archive of the data set; None for one that needs none.
        download: fetch the official archive into `data` if it is not there.
        device: "auto", "cpu" or "cuda".
        workers: processes that read data too large for memory.
        tracking: the experiment tracker that follows the run; None for none.

    Raises:
        InputError: for fewer than 0 workers.
    """

    data: Path | None = None
    download: bool = False
    device: str = "auto"
    workers: int = 0
    tracking: Tracking | None = None

    def __post_init__(self) -> None:
        require_within("workers", self.workers, 0)


def open_dataset(experiment: Experiment, placement: Placement) -> Dataset:
    """Load the experiment's data set, cut to the recipe's limits.

    Raises:
        InputError: if the data are missing or damaged.
    """
    dataset = load_dataset(experiment.dataset, placement.data, placement.download)
    train, test = dataset.train[: experiment.train_limit], dataset.test[: experiment.test_limit]
    return dataclasses.replace(dataset, train=train, test=test)


def tell_columns(dataset: Dataset, placement: Placement) -> None:
    """Say, as a warning, what becomes of the columns of a table, where it is more than taking their numbers."""
    form = dataset.form
    if form is not None and any(column.levels or column.mean is not None for column in form.columns):
        tell(f"the training table in {placement.data} fixes what becomes of columns. {'; '.join(form.describe())}")


def stream_of(experiment: Experiment, dataset: Dataset) -> list[Examples | Split]:
    """Cut the training examples into the experiment's mega-batches.

    Raises:
        InputError: if there are too few examples.
    """
    if experiment.order == "released":
        count, size, shots = experiment.num_mega_batches, experiment.mega_batch_size, experiment.shots
        total = len(dataset.train if shots is None else few_shot_rows(dataset.train.labels, shots))
        size = size or max(1, total // (count or 1))
        return list(released_order(dataset.train, count or total // size, size, experiment.validation_fraction, shots))
    return list(
        mega_batches(
            dataset.train,
            experiment.num_mega_batches,
            experiment.mega_batch_size,
            order=experiment.order,
            shots=experiment.shots,
            imbalance=experiment.imbalance,
            label_noise=experiment.label_noise,
            num_classes=len(dataset.class_names),
            seed=experiment.seed,
        )
    )


def run(
    experiment: Experiment,
    out: Path | str,
    *,
    placement: Placement | None = None,
    dataset: Dataset | None = None,
    watch: Watch | None = None,
    on_stage: Callable[[Stage], None] | None = None,
) -> list[Stage]:
    """Run an experiment into a directory, or go on with the one that is there.

    Equal to opening a `Learner` and calling `learn` on each mega-batch of the stream, then writing result.json.

    Args:
        experiment: what to run.
        out: the run directory; new, or begun with the same experiment.
        placement: data path, device, workers and tracker.
        dataset: the loaded data set, where the caller has it already.
        watch: called now and then while training.
        on_stage: called with each stage as it is committed.

    Returns:
        All stages of the run, those of earlier calls included.

    Raises:
        InputError: for data or settings that cannot be used; nothing on disk has then changed.
    """
    placement = placement or Placement()
    require_tracker(placement.tracking)
    if dataset is None:
        dataset = open_dataset(experiment, placement)
        tell_columns(dataset, placement)
    if not RunDirectory(out).exists:
        experiment = dataclasses.replace(experiment, threads=choose_threads(experiment, dataset, placement.device))
    stream = stream_of(experiment, dataset)
    experiment.require_stages(len(stream))
    with _open(experiment, out, placement, dataset, stream) as learner:
        if not learner.stages:
            learner.rehearse()
        left = stream[len(learner.stages) :]
        with Tracker(placement.tracking if left else None, experiment, Path(out)) as tracker:
            for mega_batch in left:
                stage = learner.learn(mega_batch, watch, on_epoch=tracker.epoch)
                tracker.stage(stage)
                if on_stage:
                    on_stage(stage)
        result = summarize(learner.stages)
        if not (learner.directory.path / "result.json").exists():
            learner.directory.write_result(result)
        return list(learner.stages)


def _open(
    experiment: Experiment,
    out: Path | str,
    placement: Placement,
    dataset: Dataset,
    stream: Sequence[Examples | Split],
) -> Learner:
    return Learner.open(
        out,
        recipe=experiment,
        test=dataset.test,
        class_names=dataset.class_names,
        form=dataset.form,
        normalization=None if dataset.mean is None or dataset.std is None else (dataset.mean, dataset.std),
        stream=stream,
        device=placement.device,
        workers=placement.workers,
    )


def summarize(stages: Sequence[Stage]) -> dict[str, Any]:
    """Return what result.json holds: status, the stream's metrics, and what the run cost in total."""
    last = stages[-1]
    errors = [stage.error_count or 0 for stage in stages]
    return {
        "status": "complete",
        "final_accuracy": last.accuracy,
        "cumulative_error_count": cumulative_error(errors),
        "mean_error_rate": mean_error_rate(errors, last.test_examples),
        "anytime_relative_error": anytime_relative_error(errors, last.test_examples),
        "train_flops": sum(stage.train_flops for stage in stages),
        "unlearn_flops": sum(stage.unlearn_flops for stage in stages),
        "train_seconds": sum(stage.train_seconds for stage in stages),
        "unlearn_seconds": sum(stage.unlearn_seconds for stage in stages),
        "examples_seen": sum(stage.examples_seen for stage in stages),
        "stages": len(stages),
        **{f"{name}_version": last.environment.get(name) for name in ("python", "torch", "lure")},
        "device": last.environment.get("device"),
        "command": command_line(),
    }


def command_line() -> str:
    """Return the command that this process was started with; the program without its folder."""
    program = Path(sys.argv[0]).name
    return shlex.join(["lure" if program == "__main__.py" else program, *sys.argv[1:]])
