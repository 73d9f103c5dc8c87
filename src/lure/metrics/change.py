"""What an update changed: tensor by tensor in the weights, and class by class in the predictions."""

from collections.abc import Mapping
from typing import TypedDict

import torch
from torch import Tensor

from lure.errors import InputError
from lure.metrics.classification import checked_logits
from lure.metrics.statistics import McNemar, mcnemar_of_hits


class TensorChange(TypedDict):
    """How far one tensor moved."""

    name: str
    entries: int
    changed_fraction: float
    relative_distance: float | None
    cosine: float | None


class ClassChange(TypedDict):
    """How the predictions for one class changed."""

    label: int
    examples: int
    became_right: int
    became_wrong: int
    changed_answer: int


def weight_change(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[TensorChange]:
    """Return how far each floating tensor of a state dict moved.

    Args:
        before: state dict of the older version.
        after: state dict of the newer version, with the same names and shapes.

    Returns:
        in the order of `before`: `name`; `entries`; `changed_fraction`, the share of entries whose value differs;
        `relative_distance`, |after - before| / |before|; `cosine` between the two. The last two are None if a norm is
        zero. Tensors of other types, such as counters, are left out.

    Raises:
        InputError: if names or shapes differ.

    Example:
        >>> weight_change({"w": torch.tensor([3.0, 4.0])}, {"w": torch.tensor([3.0, 0.0])})[0]
        {'name': 'w', 'entries': 2, 'changed_fraction': 0.5, 'relative_distance': 0.8, 'cosine': 0.6}
    """
    if before.keys() != after.keys():
        other = sorted(before.keys() ^ after.keys())
        raise InputError(f"the two versions are of different networks: only one of them has {other[0]!r}")
    changes = []
    for name, old in before.items():
        new = after[name]
        if old.shape != new.shape:
            raise InputError(
                f"the two versions are of different networks: {name!r} has shape {tuple(old.shape)} "
                f"and {tuple(new.shape)}"
            )
        if not old.is_floating_point() or not old.numel():
            continue
        old, new = (tensor.detach().cpu().double().flatten() for tensor in (old, new))
        length, other_length = float(old.norm()), float(new.norm())
        changes.append(
            TensorChange(
                name=name,
                entries=old.numel(),
                changed_fraction=float((old != new).double().mean()),
                relative_distance=float((new - old).norm()) / length if length else None,
                cosine=float(old @ new) / (length * other_length) if length and other_length else None,
            )
        )
    return changes


def class_change(before: Tensor, after: Tensor, labels: Tensor) -> list[ClassChange]:
    """Return, for each class, how many examples became right or wrong from one version to the next.

    Args:
        before: logits (N, classes) of the older version.
        after: logits (N, classes) of the newer version, on the same examples in the same order.
        labels: (N,) integers in [0, classes).

    Returns:
        one dict per class, in order: `label`; `examples`; `became_right`, wrong before and right after; `became_wrong`,
        right before and wrong after; `changed_answer`, predicted as another class than before, right or wrong.

    Raises:
        InputError: if shapes or labels do not match, or a logit is NaN or plus infinity.

    Example:
        >>> before, after = torch.eye(3)[[0, 0, 2]], torch.eye(3)[[0, 1, 1]]
        >>> class_change(before, after, torch.tensor([0, 1, 2]))[1]
        {'label': 1, 'examples': 1, 'became_right': 1, 'became_wrong': 0, 'changed_answer': 1}
    """
    before, labels = checked_logits(before, labels)
    after, _ = checked_logits(after, labels)
    old, new = before.argmax(dim=1), after.argmax(dim=1)
    count = before.shape[1]

    def tally(chosen: Tensor) -> list[int]:
        counts: list[int] = torch.bincount(labels[chosen], minlength=count).tolist()
        return counts

    held = tally(torch.ones_like(labels, dtype=torch.bool))
    right, wrong = tally((old != labels) & (new == labels)), tally((old == labels) & (new != labels))
    moved = tally(old != new)
    return [
        ClassChange(
            label=label,
            examples=held[label],
            became_right=right[label],
            became_wrong=wrong[label],
            changed_answer=moved[label],
        )
        for label in range(count)
    ]


def mcnemar(first: Tensor, second: Tensor, labels: Tensor) -> McNemar:
    """Test whether two models err equally often, from their logits; see `lure.metrics.statistics.mcnemar_of_hits`.

    Args:
        first: logits (N, classes) of the first model.
        second: logits (N, classes) of the second model, on the same examples in the same order.
        labels: (N,) integers in [0, classes).

    Returns:
        `only_first_right` and `only_second_right`, counts; `changed_side`, their sum; `p_value`, two-sided and exact.

    Raises:
        InputError: if shapes or labels do not fit, or a logit is not finite.

    Example:
        >>> labels = torch.zeros(6, dtype=torch.int64)
        >>> right, wrong = torch.tensor([[1.0, 0.0]]).repeat(6, 1), torch.tensor([[0.0, 1.0]]).repeat(6, 1)
        >>> mcnemar(right, wrong, labels)
        {'only_first_right': 6, 'only_second_right': 0, 'changed_side': 6, 'p_value': 0.03125}
    """
    first, labels = checked_logits(first, labels)
    second, _ = checked_logits(second, labels)
    return mcnemar_of_hits(*((logits.argmax(dim=1) == labels).numpy() for logits in (first, second)))
