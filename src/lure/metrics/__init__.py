"""Metrics: functions of (logits, labels), or of (model, examples), that return plain Python numbers.

Each is loaded when it is first used, so `from lure.metrics import expected_calibration_error` does not load the
corruptions and attacks, and a report, which needs `lure.metrics.statistics` only, does not load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lure.metrics.adversarial import adversarial_accuracy, fgsm, pgd
    from lure.metrics.anytime import anytime_relative_error, cumulative_error, mean_error_rate
    from lure.metrics.calibration import (
        brier_score,
        expected_calibration_error,
        fit_temperature,
        negative_log_likelihood,
        reliability,
    )
    from lure.metrics.change import class_change, mcnemar, weight_change
    from lure.metrics.classification import accuracy, class_balanced_accuracy, error_count, per_class
    from lure.metrics.corruptions import corrupt, read_corrupted
    from lure.metrics.evaluation import compare_versions, corruption_accuracy, evaluate
    from lure.metrics.statistics import paired_seeds

# No module here may have the name of a function: once imported, it would hide the function.
MODULES = {
    "accuracy": "classification",
    "adversarial_accuracy": "adversarial",
    "anytime_relative_error": "anytime",
    "brier_score": "calibration",
    "class_balanced_accuracy": "classification",
    "class_change": "change",
    "compare_versions": "evaluation",
    "corrupt": "corruptions",
    "corruption_accuracy": "evaluation",
    "cumulative_error": "anytime",
    "error_count": "classification",
    "evaluate": "evaluation",
    "expected_calibration_error": "calibration",
    "fgsm": "adversarial",
    "fit_temperature": "calibration",
    "mcnemar": "change",
    "mean_error_rate": "anytime",
    "negative_log_likelihood": "calibration",
    "paired_seeds": "statistics",
    "per_class": "classification",
    "pgd": "adversarial",
    "read_corrupted": "corruptions",
    "reliability": "calibration",
    "weight_change": "change",
}

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


def __getattr__(name: str) -> Any:
    """Return a metric from its module (PEP 562)."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
