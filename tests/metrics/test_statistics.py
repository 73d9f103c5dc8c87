import math

import pytest
import torch
from scipy import stats

from lure.errors import InputError
from lure.metrics import mcnemar, paired_seeds


def logits_of(hits):
    """Two-class logits for labels of zero: right where `hits` is true."""
    return torch.tensor([[1.0, 0.0] if hit else [0.0, 1.0] for hit in hits])


def test_mcnemar_worked_example():
    # Right in both 2, only first 7, only second 1, neither 3: p = 2 * (1 + 8) / 2^8.
    first = [1, 1] + [1] * 7 + [0] + [0] * 3
    second = [1, 1] + [0] * 7 + [1] + [0] * 3
    result = mcnemar(logits_of(first), logits_of(second), torch.zeros(13, dtype=torch.int64))
    assert (result["only_first_right"], result["only_second_right"], result["changed_side"]) == (7, 1, 8)
    assert result["p_value"] == pytest.approx(2 * 9 / 256)


def test_mcnemar_agrees_with_the_sum_of_binomials():
    for ahead, behind in ((3, 3), (10, 2), (0, 5), (40, 25)):
        first, second = [1] * ahead + [0] * behind, [0] * ahead + [1] * behind
        count = ahead + behind
        tail = sum(math.comb(count, k) for k in range(min(ahead, behind) + 1)) / 2**count
        result = mcnemar(logits_of(first), logits_of(second), torch.zeros(count, dtype=torch.int64))
        assert result["p_value"] == pytest.approx(min(1.0, 2 * tail))


def test_equal_models_do_not_differ():
    logits = logits_of([1, 0, 1])
    assert mcnemar(logits, logits, torch.zeros(3, dtype=torch.int64))["p_value"] == 1.0


def test_mcnemar_needs_the_same_examples():
    with pytest.raises(InputError, match="shapes"):
        mcnemar(logits_of([1, 0]), logits_of([1]), torch.zeros(2, dtype=torch.int64))


def test_paired_seeds_is_the_paired_t_test():
    first, second = [0.75, 0.76, 0.71, 0.80], [0.73, 0.75, 0.72, 0.74]
    result = paired_seeds(first, second)
    expected = stats.ttest_rel(first, second)
    interval = expected.confidence_interval(0.95)
    assert result["p_value"] == pytest.approx(expected.pvalue)
    assert (result["low"], result["high"]) == pytest.approx((interval.low, interval.high))
    assert result["mean_difference"] == pytest.approx(0.02)
    assert result["seeds"] == 4


def test_one_seed_or_no_spread_gives_no_p_value():
    single = paired_seeds([0.8], [0.7])
    assert single["mean_difference"] == pytest.approx(0.1)
    assert [single[key] for key in ("standard_deviation", "low", "high", "p_value")] == [None] * 4
    flat = paired_seeds([0.8, 0.9], [0.7, 0.8])
    assert flat["standard_deviation"] == pytest.approx(0, abs=1e-12)
    assert flat["p_value"] is None


def test_unequal_numbers_are_refused():
    with pytest.raises(InputError, match="as many on both sides"):
        paired_seeds([0.8, 0.9], [0.7])
    with pytest.raises(InputError, match="at least one"):
        paired_seeds([], [])
