"""Measuring a stage: the outputs on every set, read once, and what the gate makes of them."""

import dataclasses
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lure.errors import InputError
from lure.learner.gate import Decision, EarlierVersion, decide, warn_of_chance
from lure.learner.record import Measured, Offered, SetMeasures
from lure.learner.state import WorkingState
from lure.metrics.calibration import expected_calibration_error, negative_log_likelihood
from lure.metrics.classification import error_count, per_class
from lure.store.run_directory import RunDirectory
from lure.training.fit import Diverged
from lure.training.predict import predict
from lure.training.state import FitState


def measure(state: WorkingState, offered: Offered, stage: int, fitted: FitState) -> Measured:
    """Read the outputs on all sets once.

    Args:
        state: holds the trained network.
        offered: training, validation and test examples.
        stage: its number, for messages.
        fitted: where the fit ended, for messages.

    Raises:
        Diverged: if the outputs are not finite: what the last step did shows in no loss.
    """
    recipe, model, independent = state.opened.recipe, state.trained_model(), state.opened.independent
    logits, labels = predict(model, offered.train, recipe)
    if bool((logits.isnan() | logits.isposinf()).any()):
        raise Diverged(
            f"the outputs became NaN or infinite by the end of stage {stage}, epoch {fitted.epoch}, "
            f"step {fitted.steps} of the stage",
            recipe,
        )
    train_accuracy, validation_accuracy = _accuracy(logits, labels), None
    held_out = judged = flips = None
    if offered.test is not None:
        outputs = predict(model, offered.test, recipe)
        held_out = measure_set(*outputs)
        rows = None if state.opened.gate is None else _judged(state.num_known, outputs[1])
        judged = held_out if rows is None else measure_set(*(each[rows] for each in outputs))
        flips = _flips(state, held_out.correct, outputs[1])
    if len(offered.validation):
        validation_accuracy = _accuracy(*predict(model, offered.validation, recipe))
    return Measured(
        train_accuracy=train_accuracy,
        validation_accuracy=validation_accuracy,
        test=held_out,
        judged=judged,
        flips=flips,
        independent=None if independent is None else measure_set(*predict(model, state.place(independent), recipe)),
    )


def _judged(num_known: int | None, labels: Tensor) -> Tensor | None:
    """Return which test examples are of classes that the version in use knows, bool (N,); None where all are."""
    if num_known is None:
        return None
    known = labels < num_known
    return None if bool(known.all()) else known


def _flips(state: WorkingState, correct: Tensor, labels: Tensor) -> list[int] | None:
    """Return the labels of the test examples that the version in use had right, and the new one has wrong."""
    if state.correct is None:
        return None
    shared = len(state.correct)  # what was added to a holdout since was not there to be had right
    flipped: list[int] = labels[:shared][state.correct & ~correct[:shared]].tolist()
    return flipped


def measure_set(logits: Tensor, labels: Tensor) -> SetMeasures:
    """Return what the outputs on one set of examples say; logits (N, classes), labels (N,).

    An example of a class that there is no output for is an error; the likelihood, which it would make zero, is of the
    others.
    """
    known = labels < logits.shape[1]
    likelihood = negative_log_likelihood(logits[known], labels[known]) if bool(known.any()) else math.nan
    if missing := max(0, int(labels.max()) + 1 - logits.shape[1]):
        logits = F.pad(logits, (0, missing), value=-math.inf)
    return SetMeasures(
        examples=len(labels),
        known_examples=int(known.sum()),
        error_count=error_count(logits, labels),
        expected_calibration_error=expected_calibration_error(logits, labels),
        negative_log_likelihood=likelihood,
        correct=logits.argmax(1) == labels,
        class_accuracies=[row["accuracy"] for row in per_class(logits, labels)],
    )


def decide_version(state: WorkingState, measured: Measured) -> Decision | None:
    """Let the gate compare a new version with the one in use, and with the best of its line; None without a gate."""
    opened, task = state.opened, state.task
    test, judged, directory = measured.test, measured.judged, opened.directory
    if opened.gate is None or opened.test is None or task is None or test is None or judged is None:
        return None
    labels, line = opened.test.labels, directory.standing.lineage
    current = best = None
    if line:
        current = _earlier(directory, line[0], labels)
        rivals = [_earlier(directory, version, labels) for version in _best_of_each_holdout(directory, line)]
        best = max(rivals, key=lambda rival: rival.shortfall(test.correct))
    num_known = len(judged.class_accuracies) if state.num_known is None else state.num_known
    found = decide(
        opened.gate,
        test.correct,
        current,
        best,
        judged.class_accuracies[:num_known],
        judged.expected_calibration_error,
        _judged(state.num_known, labels),
    )
    new = range(task.num_classes if state.num_known is None else state.num_known, task.num_classes)
    shares = dict(enumerate(test.class_accuracies))
    return dataclasses.replace(
        found,
        warnings=warn_of_chance(int(test.correct.sum()), torch.bincount(labels).tolist(), opened.class_names),
        new_classes=dict(zip(task.names(new), map(shares.get, new), strict=True)),
    )


def _best_of_each_holdout(directory: RunDirectory, line: Sequence[int]) -> list[int]:
    """Return, for each holdout that versions of a line were measured on, the one with the fewest errors; newest first.

    A holdout to which examples were added since has other errors; the versions before are still the ones to match.
    """
    best: dict[str | None, int] = {}
    stages = directory.stages
    for version in line:
        stage = stages[version - 1]
        rival = best.setdefault(stage.test_fingerprint, version)
        if (stage.error_count or 0) < (stages[rival - 1].error_count or 0):
            best[stage.test_fingerprint] = version
    return list(best.values())


def _earlier(directory: RunDirectory, version: int, labels: Tensor) -> EarlierVersion:
    """Return a version with what it got right of those of today's holdout examples that it was judged on."""
    stage = directory.stages[version - 1]
    correct = directory.versions.read_hits(stage)
    if correct is None:
        raise InputError(f"{directory.path} lacks what version {version} got right of the holdout")
    among = torch.arange(len(labels)) < len(correct)
    if stage.num_classes is not None:
        among &= labels < stage.num_classes
    if bool(among.all()):
        return EarlierVersion(version=version, correct=correct)
    return EarlierVersion(version=version, correct=correct[among[: len(correct)]], among=among)


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return (len(labels) - error_count(logits, labels)) / len(labels)
