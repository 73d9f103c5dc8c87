"""Every test and interval of the project: whether one model, policy or version is really better than another.

Counts, sequences of numbers and numpy arrays go in, plain numbers come out. torch is not imported, so that a report
starts fast; for the same reason `scipy.special` stands here instead of `scipy.stats`, which takes a second to import.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import numpy.typing as npt
from scipy import special

from lure.errors import InputError

LEAST_EXPECTED = 5  # below this expected count the chi-squared approximation raises many false alarms
NUM_SIMULATED = 1999
# Differences that are equal up to rounding would give an interval of no width, and a certainty that is not there.
NO_SPREAD = 1e-9


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


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and sample standard deviation of one number over `count` seeds; no deviation where there is one seed."""

    mean: float
    deviation: float | None
    count: int


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the confidence interval around it."""

    mean: float
    low: float
    high: float


def mcnemar_of_hits(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> McNemar:
    """Test whether two models err equally often, from the examples on which only one of them is right.

    If they were equally good, each such example would fall to either with equal chance: the exact binomial test. The
    result holds for these two trained models on this kind of test data, not for models trained with another seed.

    Args:
        first: (N,) which examples the first model has right.
        second: (N,) the same for the second model, on the same examples in the same order.

    Returns:
        `only_first_right` and `only_second_right`, counts; `changed_side`, their sum; `p_value`, two-sided and exact.

    Raises:
        InputError: if the two differ in length.

    Example:
        >>> mcnemar_of_hits(np.array([True] * 6), np.array([False] * 6))
        {'only_first_right': 6, 'only_second_right': 0, 'changed_side': 6, 'p_value': 0.03125}

    Reference:
        McNemar, "Note on the Sampling Error of the Difference between Correlated Proportions or Percentages",
        Psychometrika 12, 1947.
    """
    if first.shape != second.shape:
        raise InputError(f"the two models saw different numbers of examples: {len(first)} and {len(second)}")
    ahead, behind = int((first & ~second).sum()), int((second & ~first).sum())
    tail = float(special.bdtr(min(ahead, behind), ahead + behind, 0.5)) if ahead + behind else 1.0
    p_value = min(1.0, 2 * tail)
    return McNemar(only_first_right=ahead, only_second_right=behind, changed_side=ahead + behind, p_value=p_value)


def worse_p_value(lost: int, won: int) -> float:
    """Return the p-value of the one-sided exact McNemar test that the newer of two models is worse.

    P(X >= lost) for X binomial with lost + won throws of a fair coin.

    Args:
        lost: examples that only the older model has right.
        won: examples that only the newer model has right.

    Returns:
        a probability in (0, 1]; 1 where no example changed side.

    Example:
        >>> round(worse_p_value(lost=9, won=1), 4), worse_p_value(0, 0)
        (0.0107, 1.0)

    Reference:
        see `mcnemar_of_hits`.
    """
    return float(special.bdtrc(lost - 1, lost + won, 0.5)) if lost else 1.0


def spread(values: Iterable[float | None]) -> Spread | None:
    """Return mean and sample standard deviation of the values that are known; None if none is.

    Example:
        >>> spread([1.0, None, 2.0, 3.0])
        Spread(mean=2.0, deviation=1.0, count=3)
    """
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Spread(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None, len(known))


def mean_interval(values: Sequence[float], confidence: float, resolution: float = 0.0) -> Interval:
    """Return mean and confidence interval of some numbers, by Student's t.

    mean -+ t * s / sqrt(n), with t the quantile (1 + confidence) / 2 of Student's distribution with n - 1 degrees of
    freedom, and s the sample standard deviation.

    Args:
        values: at least two, such as one difference for each seed.
        confidence: in (0, 1); 0.9 leaves out 5 % on either side.
        resolution: the smallest standard deviation that is believed, such as 1 / (number of test examples).

    Example:
        >>> interval = mean_interval([0.02, 0.03, 0.04], confidence=0.9)
        >>> round(interval.low, 4), round(interval.high, 4)  # 0.03 -+ 2.92 * 0.01 / sqrt(3)
        (0.0131, 0.0469)
    """
    count, mean = len(values), statistics.fmean(values)
    error = max(statistics.stdev(values), resolution) / math.sqrt(count)
    half = float(special.stdtrit(count - 1, (1 + confidence) / 2)) * error
    return Interval(mean, mean - half, mean + half)


def paired_seeds(first: Sequence[float], second: Sequence[float]) -> PairedSeeds:
    """Test whether two policies differ, from one number per seed for each: Student's paired t.

    Args:
        first: one number for each seed, such as final accuracies.
        second: the same of the other policy, seeds in the same order.

    Returns:
        `seeds`; `mean_difference` (first minus second) and its `standard_deviation` over seeds; `low` and `high`, the
        95 % interval of the mean difference; `p_value`, two-sided. With one seed all but the first two are None. The
        last three are None where all differences are equal, because there is no spread to judge by.

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
        deviation = result["standard_deviation"] = statistics.stdev(differences)
        if deviation > NO_SPREAD:
            interval = mean_interval(differences, 0.95)
            result["low"], result["high"] = interval.low, interval.high
            result["p_value"] = float(2 * special.stdtr(count - 1, -abs(mean) / (deviation / math.sqrt(count))))
    return result


def homogeneity(first: Sequence[int], second: Sequence[int]) -> float:
    """Return the p-value of the chi-squared test that two rows of counts come from one distribution.

    Columns that are empty in both rows say nothing and are left out. Where an expected count is below 5, the p-value
    comes from 1999 simulated tables with the same totals (always the same ones), and is at least 0.0005.

    Args:
        first: counts, one for each column.
        second: as many counts.

    Returns:
        a probability in (0, 1]; 1 where there is only one column, or a row is empty.

    Example:
        >>> round(homogeneity([50, 50], [52, 48]), 2), homogeneity([100, 0], [10, 90]) < 1e-9
        (0.78, True)
        >>> homogeneity([19, 1], [1990, 10]) > 0.01  # one error in twenty is no surprise at one in two hundred
        True
    """
    table = np.array([first, second])
    table = table[:, table.sum(axis=0) > 0]
    columns, rows = table.sum(axis=0), table.sum(axis=1)
    if table.shape[1] < 2 or not rows.all():
        return 1.0
    expected = np.outer(rows, columns) / rows.sum()
    weights = (1 / expected).sum(axis=0)  # both rows depart from what is expected by as much, one up and one down

    def statistic(first_rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        departure: npt.NDArray[np.float64] = ((first_rows - expected[0]) ** 2 * weights).sum(axis=-1)
        return departure

    observed = statistic(table[0])
    if expected.min() >= LEAST_EXPECTED:
        return float(special.chdtrc(len(columns) - 1, observed))
    generator, threshold = np.random.default_rng(0), observed - 1e-9
    piece, reached = max(1, 2**20 // len(columns)), 0
    for start in range(0, NUM_SIMULATED, piece):
        draws = generator.multivariate_hypergeometric(columns, rows[0], min(piece, NUM_SIMULATED - start))
        reached += int((statistic(draws) >= threshold).sum())
    return (1 + reached) / (1 + NUM_SIMULATED)
