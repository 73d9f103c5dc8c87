"""Measuring a stage: the outputs on every set, read once, and what the gate makes of them."""

import dataclasses

import torch
from torch import Tensor

from lure.learner.gate import Decision, EarlierVersion, decide, warn_of_chance
from lure.learner.opening import Opened
from lure.learner.record import Measured, Offered, SetMeasures
from lure.learner.state import WorkingState
from lure.metrics.calibration import expected_calibration_error, negative_log_likelihood
from lure.metrics.classification import error_count, per_class
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
    if len(offered.validation):
        validation_accuracy = _accuracy(*predict(model, offered.validation, recipe))
    return Measured(
        train_accuracy=train_accuracy,
        validation_accuracy=validation_accuracy,
        test=None if offered.test is None else measure_set(*predict(model, offered.test, recipe)),
        independent=None if independent is None else measure_set(*predict(model, state.place(independent), recipe)),
    )


def measure_set(logits: Tensor, labels: Tensor) -> SetMeasures:
    """Return what the outputs on one set of examples say; logits (N, classes), labels (N,)."""
    return SetMeasures(
        examples=len(labels),
        error_count=error_count(logits, labels),
        expected_calibration_error=expected_calibration_error(logits, labels),
        negative_log_likelihood=negative_log_likelihood(logits, labels),
        correct=logits.argmax(1) == labels,
        class_accuracies=[row["accuracy"] for row in per_class(logits, labels)],
    )


def decide_version(opened: Opened, measured: Measured) -> Decision | None:
    """Let the gate compare a new version with the one in use, and with the best of its line; None without a gate."""
    directory, test = opened.directory, measured.test
    if opened.gate is None or test is None:
        return None
    current = best = None
    if line := directory.standing.lineage:
        stages = directory.stages
        errors = [stages[version - 1].error_count or 0 for version in line]
        fewest_errors = line[errors.index(min(errors))]
        current, best = (
            EarlierVersion(version=version, correct=directory.versions.read_hits(stages[version - 1]))
            for version in (line[0], fewest_errors)
        )
    found = decide(opened.gate, test.correct, current, best, test.class_accuracies, test.expected_calibration_error)
    counts = torch.bincount(opened.test.labels).tolist() if opened.test is not None else []
    return dataclasses.replace(found, warnings=warn_of_chance(int(test.correct.sum()), counts, opened.class_names))


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return (len(labels) - error_count(logits, labels)) / len(labels)
