"""Metrics: functions of (logits, labels), or of (model, examples), that answer in plain Python numbers."""

from lure.metrics.accuracy import accuracy, class_balanced_accuracy, error_count, per_class
from lure.metrics.adversarial import adversarial_accuracy, fgsm, pgd
from lure.metrics.anytime import anytime_relative_error, cumulative_error, mean_error_rate
from lure.metrics.calibration import (
    brier_score,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability,
)
from lure.metrics.change import class_change, weight_change
from lure.metrics.corruptions.corruptions import corrupt, read_corrupted
from lure.metrics.evaluation import compare_versions, corruption_accuracy, evaluate
from lure.metrics.statistics import mcnemar, paired_seeds

__all__ = [
    "accuracy",
    "adversarial_accuracy",
    "anytime_relative_error",
    "brier_score",
    "class_balanced_accuracy",
    "class_change",
    "compare_versions",
    "corrupt",
    "corruption_accuracy",
    "cumulative_error",
    "error_count",
    "evaluate",
    "expected_calibration_error",
    "fgsm",
    "fit_temperature",
    "mcnemar",
    "mean_error_rate",
    "negative_log_likelihood",
    "paired_seeds",
    "per_class",
    "pgd",
    "read_corrupted",
    "reliability",
    "weight_change",
]
