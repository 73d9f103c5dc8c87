"""How many test examples a model gets right: overall, class by class, and with every class counting the same.

All functions read logits (N, classes) of any type beside labels (N,), and answer in plain Python numbers. What can be
wrong with such a pair is checked here, once, for all metrics.
"""

from typing import TypedDict

import torch
from torch import Tensor

from lure.errors import InputError
from lure.words import dtype_name


class ClassResult(TypedDict):
    """One row of the per-class table."""

    label: int
    examples: int
    accuracy: float | None
    predicted: int
    precision: float | None


def checked_logits(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pair on the CPU, the logits in float64 and the labels in int64, after checking it.

    Raises:
        InputError: unless logits are (N, classes) and labels (N,) integers in [0, classes), with N at least 1, and no
            logit is NaN or plus infinity (minus infinity, a class ruled out, is allowed if another class is left).
    """
    logits, labels = torch.as_tensor(logits), torch.as_tensor(labels)
    if logits.dim() != 2 or labels.dim() != 1 or len(logits) != len(labels):
        raise InputError(
            f"logits must be (N, classes) and labels (N,), got shapes {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    if logits.numel() == 0:
        raise InputError(f"there must be at least one example and one class, got logits of shape {tuple(logits.shape)}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InputError(f"labels must be integers, got {dtype_name(labels.dtype)}")
    # Float64 does not exist on every accelerator, so the conversion follows the move.
    logits, labels = logits.detach().cpu().to(torch.float64), labels.detach().cpu().to(torch.int64)
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= logits.shape[1]:
        wrong = low if low < 0 else high
        raise InputError(f"labels must lie in [0, {logits.shape[1] - 1}], the classes of the logits, got {wrong}")
    if not bool(torch.isfinite(logits.amax(dim=1)).all()):
        raise InputError("the logits hold NaN or infinity: the model is not finite")
    return logits, labels


def error_count(logits: Tensor, labels: Tensor) -> int:
    """Return how many examples are misclassified: the e_t of the cumulative error.

    The predicted class is the one with the largest logit; the first of them where several are equal.

    Args:
        logits: (N, classes), any type.
        labels: (N,) integers in [0, classes).

    Returns:
        a count in [0, N].

    Raises:
        InputError: if shapes or labels do not fit, or a logit is not finite.

    Example:
        >>> error_count(torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]]), torch.tensor([0, 1, 1]))
        1
    """
    logits, labels = checked_logits(logits, labels)
    return int((logits.argmax(dim=1) != labels).sum())


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the share of examples that are classified correctly.

    Args:
        logits: (N, classes), any type.
        labels: (N,) integers in [0, classes).

    Returns:
        a share in [0, 1].

    Raises:
        InputError: if shapes or labels do not fit, or a logit is not finite.

    Example:
        >>> accuracy(torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0], [5.0, 0.0]]), torch.tensor([0, 1, 1, 0]))
        0.75
    """
    return (len(labels) - error_count(logits, labels)) / len(labels)


def per_class(logits: Tensor, labels: Tensor) -> list[ClassResult]:
    """Return one row for each class: how many examples it has, how many it was predicted for, and how often rightly.

    Args:
        logits: (N, classes), any type.
        labels: (N,) integers in [0, classes).

    Returns:
        one dict for each class in order: `label`; `examples`, how many bear it; `accuracy`, the share of those that
        were recognised (recall), in [0, 1], None without examples; `predicted`, how many were given it; `precision`,
        the share of those that were right, in [0, 1], None where it was never predicted.

    Raises:
        InputError: if shapes or labels do not fit, or a logit is not finite.

    Example:
        >>> rows = per_class(torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]]), torch.tensor([0, 1, 1]))
        >>> rows[1]
        {'label': 1, 'examples': 2, 'accuracy': 0.5, 'predicted': 1, 'precision': 1.0}
    """
    logits, labels = checked_logits(logits, labels)
    num_classes = logits.shape[1]
    guesses = logits.argmax(dim=1)
    held = torch.bincount(labels, minlength=num_classes).tolist()
    guessed = torch.bincount(guesses, minlength=num_classes).tolist()
    right = torch.bincount(labels[guesses == labels], minlength=num_classes).tolist()
    return [
        ClassResult(
            label=label,
            examples=held[label],
            accuracy=right[label] / held[label] if held[label] else None,
            predicted=guessed[label],
            precision=right[label] / guessed[label] if guessed[label] else None,
        )
        for label in range(num_classes)
    ]


def class_balanced_accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the mean over classes of the share recognised, so that rare classes count as much as frequent ones.

    Classes without an example are left out of the mean.

    Args:
        logits: (N, classes), any type.
        labels: (N,) integers in [0, classes).

    Returns:
        a share in [0, 1]; equal to `accuracy` where all classes have as many examples.

    Raises:
        InputError: if shapes or labels do not fit, or a logit is not finite.

    Example:
        >>> logits = torch.tensor([[2.0, 1.0, 0.0]] * 4)  # always class 0
        >>> class_balanced_accuracy(logits, torch.tensor([0, 0, 0, 1]))
        0.5

    Reference:
        Brodersen, Ong, Stephan, Buhmann, "The Balanced Accuracy and Its Posterior Distribution", ICPR 2010.
    """
    shares = [row["accuracy"] for row in per_class(logits, labels) if row["accuracy"] is not None]
    return sum(shares) / len(shares)
