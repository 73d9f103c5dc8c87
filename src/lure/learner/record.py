"""The records between the steps of a stage, and the ledger's line that they become."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from lure.learner.arrival import Arrival
from lure.learner.gate import Decision
from lure.learner.mega_batch import MegaBatch
from lure.learner.opening import Opened
from lure.learner.task import Task
from lure.store.stage import Stage
from lure.training.loader import Loader
from lure.training.state import FitState
from lure.unlearn import UnlearnReport


@dataclass(frozen=True, kw_only=True)
class Unlearned:
    """What unlearning did before a fit.

    Attributes:
        torch: the version of torch that the stage began under.
        changed_fraction: share of all trainable entries that changed, in [0, 1].
        relative_distance: ||after - before|| / ||before||.
        forgotten: tensor -> share of its entries that changed; empty in stage 1.
        unlearn_seconds: time that the unlearner took.
        examples_drawn: examples whose gradients it read, repeats counted.
        left_out: tensor -> why it, or part of it, could not be judged.
        examples_read: examples that it only passed forward, repeats counted.
        choices: what an unlearner that chooses has tried, as in `UnlearnReport`.
    """

    torch: str
    changed_fraction: float = 0.0
    relative_distance: float = 0.0
    forgotten: dict[str, float]
    unlearn_seconds: float = 0.0
    examples_drawn: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    examples_read: int = 0
    choices: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def nothing(cls) -> "Unlearned":
        """Return the record of stage 1, which has nothing to unlearn."""
        return cls(torch=torch.__version__, forgotten={})

    @classmethod
    def of(cls, report: UnlearnReport, examples_drawn: int, examples_read: int = 0) -> "Unlearned":
        """Return the record of what a report says."""
        return cls(
            torch=torch.__version__,
            changed_fraction=report.changed_fraction,
            relative_distance=report.relative_distance,
            forgotten={tensor.name: tensor.changed_fraction for tensor in report.tensors},
            unlearn_seconds=report.seconds,
            examples_drawn=examples_drawn,
            left_out=dict(report.left_out),
            examples_read=examples_read,
            choices=[dict(choice) for choice in report.choices],
        )

    @classmethod
    def of_choices(cls, report: UnlearnReport) -> "Unlearned":
        """Return the record of what a method that chooses says, its own cost included."""
        trained, read = (
            sum(choice.get(f"examples_{what}", 0) for choice in report.choices) for what in ("trained", "read")
        )
        return cls.of(report, trained, read)


@dataclass(frozen=True, kw_only=True)
class SetMeasures:
    """What the outputs on one set of examples say.

    Attributes:
        examples: how many there are.
        known_examples: how many of them are of classes that the network has an output for.
        error_count: how many are wrong.
        expected_calibration_error: in [0, 1].
        negative_log_likelihood: mean, in nats.
        correct: which are right, bool (N,).
        class_accuracies: share of each class that is right; None for a class without examples.
    """

    examples: int
    known_examples: int
    error_count: int
    expected_calibration_error: float
    negative_log_likelihood: float
    correct: Tensor
    class_accuracies: list[float | None]

    @property
    def accuracy(self) -> float:
        """Share that is right, in [0, 1]."""
        return (self.examples - self.error_count) / self.examples

    @property
    def known_accuracy(self) -> float | None:
        """Share of the examples of known classes that is right, in [0, 1]; None where there are none."""
        return (self.examples - self.error_count) / self.known_examples if self.known_examples else None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for the ledger."""
        return {
            "examples": self.examples,
            "error_count": self.error_count,
            "accuracy": 1 - self.error_count / self.examples,
            "expected_calibration_error": self.expected_calibration_error,
            "negative_log_likelihood": self.negative_log_likelihood,
        }


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a trained version is worth: accuracies on training and validation examples, and all of the held-out sets.

    `judged` is of the test examples whose class the version in use knows, too; `flips` holds the labels of those that
    it had right and the new version has wrong, None where that is not known.
    """

    train_accuracy: float
    validation_accuracy: float | None
    test: SetMeasures | None
    judged: SetMeasures | None
    flips: list[int] | None
    independent: SetMeasures | None

    @property
    def generalization_gap(self) -> float | None:
        """Train minus validation accuracy, or minus test accuracy without validation examples; None without both."""
        held_out = self.validation_accuracy
        if held_out is None and self.test is not None:
            held_out = self.test.accuracy
        return None if held_out is None else self.train_accuracy - held_out


@dataclass(frozen=True)
class Offered:
    """What a stage works on: training, validation and test examples, and the stages whose data were taken in.

    `arrivals` says how many of the training examples came with each mega-batch, as in `Split`.
    """

    train: Loader
    validation: Loader
    test: Loader | None
    taken_in: list[int]
    arrivals: tuple[int, ...]


@dataclass(frozen=True)
class Running:
    """A stage about to train: its optimiser, where its fit stood if it was interrupted, and what was unlearnt."""

    optimizer: torch.optim.Optimizer
    fitted: FitState | None
    unlearned: Unlearned


@dataclass(frozen=True)
class Round:
    """A stage that was trained and measured, and waits for its commit; `task` is that of its version."""

    task: Task
    new_classes: list[str]
    arrived: MegaBatch
    arrival: Arrival | None
    offered: Offered
    running: Running
    fitted: FitState
    measured: Measured
    decision: Decision | None


def record_stage(opened: Opened, ended: Round, flops_per_example: int) -> Stage:
    """Return the record of a stage, but for the checksums of its files.

    Args:
        opened: what the learner works with.
        ended: the results of its steps.
        flops_per_example: floating-point operations of one forward and backward pass over one example.
    """
    recipe, stages, standing = opened.recipe, opened.directory.stages, opened.directory.standing
    measured, unlearned, fitted, arrived = ended.measured, ended.running.unlearned, ended.fitted, ended.arrived
    test, accepted = measured.test, ended.decision is None or ended.decision.accepted
    errors = None if test is None else test.error_count
    in_use = errors if accepted else stages[standing.current - 1].error_count
    before = (stages[-1].cumulative_errors if stages else 0) or 0
    return Stage(
        stage=arrived.stage,
        parent=standing.current,
        unlearner=recipe.unlearner,
        seed=recipe.seed,
        train_examples=len(ended.offered.train),
        validation_examples=len(ended.offered.validation),
        test_examples=len(opened.test) if opened.test is not None else 0,
        error_count=errors,
        accuracy=None if test is None else test.accuracy,
        error_rate=None if test is None else test.error_count / test.examples,
        cumulative_errors=None if in_use is None else before + in_use,
        train_accuracy=measured.train_accuracy,
        validation_accuracy=measured.validation_accuracy,
        generalization_gap=measured.generalization_gap,
        expected_calibration_error=None if test is None else test.expected_calibration_error,
        negative_log_likelihood=None if test is None else test.negative_log_likelihood,
        changed_fraction=unlearned.changed_fraction,
        relative_distance=unlearned.relative_distance,
        forgotten=unlearned.forgotten,
        unlearn_seconds=unlearned.unlearn_seconds,
        train_seconds=fitted.seconds,
        examples_seen=fitted.examples,
        # A pass forward is a third of one forward and backward.
        train_flops=fitted.examples * flops_per_example + fitted.forwards * flops_per_example // 3,
        unlearn_flops=unlearned.examples_drawn * flops_per_example + unlearned.examples_read * flops_per_example // 3,
        epochs_run=fitted.epoch,
        kept_epoch=fitted.kept_epoch,
        data_fingerprint=arrived.whole.fingerprint,
        data_examples=len(arrived.whole),
        data_validation=arrived.num_validation,
        data_stored=opened.stream is None,
        test_fingerprint=None if opened.test is None else opened.test.fingerprint,
        num_classes=ended.task.num_classes,
        new_classes=ended.new_classes,
        holdout_added=_added_to_holdout(opened),
        known_accuracy=None if test is None else test.known_accuracy,
        negative_flips=None if measured.flips is None else len(measured.flips),
        negative_flips_by_class=_by_class(ended.task, measured.flips or []),
        taken_in=ended.offered.taken_in,
        stopped_by=fitted.stopped_by,
        exact=_is_exact(opened, stages, unlearned.torch),
        accepted=accepted,
        arrival=None if ended.arrival is None else ended.arrival.as_dict(),
        decision=None if ended.decision is None else ended.decision.as_dict(),
        independent=None if measured.independent is None else measured.independent.as_dict(),
        committed_at=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=environment(opened.device),
        files={},
        left_out=unlearned.left_out,
        choices=unlearned.choices,
        again=arrived.again,
    )


def _added_to_holdout(opened: Opened) -> str | None:
    """Return the fingerprint of what came to the holdout since the last line of the ledger."""
    known = opened.directory.holdout()
    return next((part for part in opened.holdout[1:] if part not in known), None)


def _by_class(task: Task, labels: list[int]) -> dict[str, int]:
    """Return name of a class -> how many of these labels are its own, in order of classes."""
    counts = sorted(Counter(labels).items())
    return dict(zip(task.names(label for label, _ in counts), (count for _, count in counts), strict=True))


def _is_exact(opened: Opened, stages: Sequence[Stage], torch_before: str) -> bool:
    """Tell whether the same commands give the same bits: all on the CPU, with no limit of time, under one torch."""
    exact = opened.device.type == "cpu" and opened.recipe.max_seconds is None and torch_before == torch.__version__
    last = stages[-1] if stages else None
    return exact and (last is None or (last.exact and last.environment.get("torch") == torch.__version__))


def environment(device: torch.device) -> dict[str, str]:
    """Return the versions and the device that a stage was made with."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"python": sys.version.split()[0], "torch": torch.__version__, "lure": version("lure-torch"), "device": name}
