"""How many test examples a model gets right: overall, per class, and with equal weight for every class.

All functions take logits (N, classes) of any type and labels (N,), and return plain Python numbers. `checked_logits`
checks such a pair for all metrics.
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
    """Check logits and labels; return them on the CPU, as float64 and int64.

    Raises:
        InputError: unless logits are (N, classes) and labels (N,) integers in [0, classes), with N at least 1, and no
            logit is NaN or plus infinity. Minus infinity rules a class out, which is allowed for all classes but one.
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
    # Not every accelerator has float64, so move to the CPU before converting.
    logits, labels = logits.detach().cpu().to(torch.float64), labels.detach().cpu().to(torch.int64)
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= logits.shape[1]:
        wrong = low if low < 0 else high
        raise InputError(f"labels must lie in [0, {logits.shape[1] - 1}], the classes of the logits, got {wrong}")
    if not bool(torch.isfinite(logits.amax(dim=1)).all()):
        raise InputError("the logits hold NaN or infinity: the model is not finite")
    return logits, labels


def error_count(logits: Tensor, labels: Tensor) -> int:
    """Return the number of misclassified examples: the e_t of the cumulative error.

    The predicted class is the one with the largest logit; the first of them in a tie.

    Args:
        logits: (N, classes), any type.
        labels: (N,) integers in [0, classes).

    Returns:
        a count in [0, N].

    Raises:
        InputError: if shapes or labels do not match, or a logit is NaN or plus infinity.

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
        InputError: if shapes or labels do not match, or a logit is NaN or plus infinity.

    Example:
        >>> accuracy(torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0], [5.0, 0.0]]), torch.tensor([0, 1, 1, 0]))
        0.75
    """
    return (len(labels) - error_count(logits, labels)) / len(labels)


def per_class(logits: Tensor, labels: Tensor) -> list[ClassResult]:
    """Return one row per class: its examples, its predictions, and how many of each are correct.

    Args:
        logits: (N, classes), any type.
        labels: (N,) integers in [0, classes).

    Returns:
        one dict per class, in order: `label`; `examples`, the number with this label; `accuracy`, the share of them
        that is classified correctly (recall), in [0, 1], None without examples; `predicted`, the number of predictions
        of this class; `precision`, the share of them that is correct, in [0, 1], None if it was never predicted.

    Raises:
        InputError: if shapes or labels do not match, or a logit is NaN or plus infinity.

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
    """Return the mean over classes of the accuracy on each class, so rare classes count as much as frequent ones.

    Classes without examples are left out of the mean.

    Args:
        logits: (N, classes), any type.
        labels: (N,) integers in [0, classes).

    Returns:
        a share in [0, 1]; equal to `accuracy` if all classes have the same number of examples.

    Raises:
        InputError: if shapes or labels do not match, or a logit is NaN or plus infinity.

    Example:
        >>> logits = torch.tensor([[2.0, 1.0, 0.0]] * 4)  # always class 0
        >>> class_balanced_accuracy(logits, torch.tensor([0, 0, 0, 1]))
        0.5

    Reference:
        Brodersen, Ong, Stephan, Buhmann, "The Balanced Accuracy and Its Posterior Distribution", ICPR 2010.
    """
    shares = [row["accuracy"] for row in per_class(logits, labels) if row["accuracy"] is not None]
    return sum(shares) / len(shares)
