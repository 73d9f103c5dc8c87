"""Anytime metrics: how good a model was after every stage, not only after the last.

A model that is in use while its data arrive is judged by all the mistakes that it makes on the way. With e_t the number
of misclassified test examples after stage t, and n the size of the test set, CER = e_1 + ... + e_B and
ARE_t = (e_t - e_{t-1}) / n.
"""

import itertools
from collections.abc import Sequence

from lure.errors import InputError


def cumulative_error(error_counts: Sequence[int]) -> int:
    """Return the cumulative error (CER): the sum over stages of the misclassified test examples.

    Args:
        error_counts: e_1 ... e_B, one count per stage.

    Returns:
        a count, at least 0; lower is better.

    Raises:
        InputError: if there is no stage, or a count is negative.

    Example:
        >>> cumulative_error([40, 30, 25])
        95

    Reference:
        Caccia, Xu, Ott, Ranzato, Denoyer, "On Anytime Learning at Macroscale", CoLLAs 2022.
    """
    return sum(_checked(error_counts))


def mean_error_rate(error_counts: Sequence[int], num_test: int) -> float:
    """Return the mean over stages of the error rate e_t / n.

    Args:
        error_counts: e_1 ... e_B, one count per stage.
        num_test: n, the size of the test set.

    Returns:
        a share in [0, 1]; lower is better.

    Raises:
        InputError: if there is no stage, or a count does not lie in [0, n].

    Example:
        >>> mean_error_rate([40, 30, 20], num_test=100)
        0.3
    """
    counts = _checked(error_counts, num_test)
    return sum(counts) / (len(counts) * num_test)


def anytime_relative_error(error_counts: Sequence[int], num_test: int) -> list[float]:
    """Return the anytime relative error (ARE): the change of the error rate in each stage from the second on.

    ARE_t = (e_t - e_{t-1}) / n. The released code of LURE always divides by 10,000; this divides by the size of the
    test set.

    Args:
        error_counts: e_1 ... e_B, one count per stage.
        num_test: n, the size of the test set.

    Returns:
        B - 1 differences in [-1, 1]; negative if the stage improved the model.

    Raises:
        InputError: if there is no stage, or a count does not lie in [0, n].

    Example:
        >>> anytime_relative_error([40, 30, 35], num_test=100)
        [-0.1, 0.05]
    """
    counts = _checked(error_counts, num_test)
    return [(later - earlier) / num_test for earlier, later in itertools.pairwise(counts)]


def _checked(error_counts: Sequence[int], num_test: int | None = None) -> list[int]:
    counts = [int(count) for count in error_counts]
    if not counts:
        raise InputError("the error count of at least one stage is needed")
    for stage, count in enumerate(counts, start=1):
        if count < 0 or (num_test is not None and count > num_test):
            most = "" if num_test is None else f" and at most the {num_test} test examples"
            raise InputError(f"the error count of stage {stage} must be at least 0{most}, got {count}")
    return counts
