"""Is one model really better than another? Tests that use that both saw the same examples, or the same seeds."""

import math
import statistics
from collections.abc import Sequence
from typing import TypedDict

from scipy import special
from torch import Tensor

from lure.errors import InputError
from lure.metrics.accuracy import checked_logits


class McNemar(TypedDict):
    """How two models differ on one test set."""

    only_first_right: int
    only_second_right: int
    changed_side: int
    p_value: float


class PairedSeeds(TypedDict):
    """How two policies differ over seeds."""

    seeds: int
    mean_difference: float
    standard_deviation: float | None
    low: float | None
    high: float | None
    p_value: float | None


def mcnemar(first: Tensor, second: Tensor, labels: Tensor) -> McNemar:
    """Test whether two models err equally often, from the examples on which only one of them is right.

    Were they equally good, each such example would fall to either with equal chance: the exact binomial test. It speaks
    of these two trained models on this kind of test data, not of what another seed would have given.

    Args:
        first: logits (N, classes) of the first model.
        second: logits (N, classes) of the second model, on the same examples in the same order.
        labels: (N,) integers in [0, classes).

    Returns:
        `only_first_right` and `only_second_right`, counts; `changed_side`, their sum; `p_value`, two-sided and exact.

    Raises:
        InputError: if shapes or labels do not fit, or a logit is not finite.

    Example:
        >>> import torch
        >>> labels = torch.zeros(6, dtype=torch.int64)
        >>> right, wrong = torch.tensor([[1.0, 0.0]]).repeat(6, 1), torch.tensor([[0.0, 1.0]]).repeat(6, 1)
        >>> mcnemar(right, wrong, labels)
        {'only_first_right': 6, 'only_second_right': 0, 'changed_side': 6, 'p_value': 0.03125}

    Reference:
        McNemar, "Note on the Sampling Error of the Difference between Correlated Proportions or Percentages",
        Psychometrika 12, 1947.
    """
    first, labels = checked_logits(first, labels)
    second, _ = checked_logits(second, labels)
    return mcnemar_of_hits(first.argmax(dim=1) == labels, second.argmax(dim=1) == labels)


def mcnemar_of_hits(first: Tensor, second: Tensor) -> McNemar:
    """Return the same from which examples each model had right: two bool vectors (N,).

    Raises:
        InputError: if the two differ in length.
    """
    if first.shape != second.shape:
        raise InputError(f"the two models saw different numbers of examples: {len(first)} and {len(second)}")
    ahead, behind = int((first & ~second).sum()), int((second & ~first).sum())
    tail = float(special.bdtr(min(ahead, behind), ahead + behind, 0.5)) if ahead + behind else 1.0
    p_value = min(1.0, 2 * tail)
    return McNemar(only_first_right=ahead, only_second_right=behind, changed_side=ahead + behind, p_value=p_value)


def paired_seeds(first: Sequence[float], second: Sequence[float]) -> PairedSeeds:
    """Test whether two policies differ, from one number a seed for each: Student's paired t.

    Args:
        first: one number for each seed, such as final accuracies.
        second: the same of the other policy, seeds in the same order.

    Returns:
        `seeds`; `mean_difference` (first minus second) and its `standard_deviation` over seeds; `low` and `high`, the
        95 % interval of the mean difference; `p_value`, two-sided. What needs two seeds is None with one, and the last
        three are None where all differences are equal, for there is no spread to judge by.

    Raises:
        InputError: if the two differ in length, or are empty.

    Example:
        >>> result = paired_seeds([0.75, 0.76, 0.74], [0.73, 0.73, 0.73])
        >>> round(result["mean_difference"], 3), round(result["low"], 4), round(result["p_value"], 4)
        (0.02, -0.0048, 0.0742)
    """
    if len(first) != len(second) or not first:
        raise InputError(f"paired numbers must be as many on both sides, at least one, got {len(first)}, {len(second)}")
    differences = [a - b for a, b in zip(first, second, strict=True)]
    count, mean = len(differences), statistics.fmean(differences)
    result = PairedSeeds(seeds=count, mean_difference=mean, standard_deviation=None, low=None, high=None, p_value=None)
    if count > 1:
        deviation = statistics.stdev(differences)
        result["standard_deviation"] = deviation
        # Differences that are equal up to rounding would give an interval of no width and a certainty that is none.
        if deviation > 1e-9:
            error = deviation / math.sqrt(count)
            half = float(special.stdtrit(count - 1, 0.975)) * error
            result["low"], result["high"] = mean - half, mean + half
            result["p_value"] = float(2 * special.stdtr(count - 1, -abs(mean) / error))
    return result
