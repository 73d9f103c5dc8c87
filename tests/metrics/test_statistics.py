"""The tests and intervals against slow twins: sums over all outcomes, and scipy.stats."""

import math
import statistics

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lure.errors import InputError
from lure.metrics import mcnemar, paired_seeds
from lure.metrics.statistics import homogeneity, mcnemar_of_hits, mean_interval, spread, worse_p_value


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


def naive_p_value(lost: int, won: int) -> float:
    """Count the outcomes of lost + won coin throws one by one."""
    throws = lost + won
    return sum(math.comb(throws, heads) for heads in range(lost, throws + 1)) / 2**throws


@given(lost=st.integers(0, 60), won=st.integers(0, 60))
def test_the_exact_test_agrees_with_counting(lost: int, won: int) -> None:
    assert worse_p_value(lost, won) == pytest.approx(naive_p_value(lost, won), rel=1e-9)


def test_the_p_value_of_a_worked_example() -> None:
    # Ten examples changed side, nine of them for the worse: (10 + 1) / 1024.
    assert worse_p_value(lost=9, won=1) == pytest.approx(11 / 1024)


@pytest.mark.parametrize(
    ("accuracy", "chunk", "holdout"), [(0.995, 20, 2000), (0.99, 40, 1000), (0.9, 20, 1000), (0.5, 60, 300)]
)
def test_small_counts_raise_no_more_false_alarms_than_large_ones(accuracy: float, chunk: int, holdout: int) -> None:
    generator = np.random.default_rng(1)
    hits = zip(*(generator.binomial(count, accuracy, 200).tolist() for count in (chunk, holdout)), strict=True)
    alarms = sum(homogeneity([a, chunk - a], [b, holdout - b]) < 0.01 for a, b in hits)
    assert alarms <= 8  # more than 1 % of 200 by chance once in ten thousand; the bare approximation raises 15


def test_homogeneity_of_small_counts_is_that_of_all_tables_with_the_same_totals() -> None:
    # Of the C(10, 3) = 120 ways to place three errors on three of ten examples, one has all of them in the first row.
    assert homogeneity([0, 3], [7, 0]) == pytest.approx(1 / 120, abs=0.006)
    # Eight of the ten in one class: drawing both of the other two into the first row of two happens in 1 of 45 tables.
    assert homogeneity([0, 2], [8, 0]) == pytest.approx(1 / 45, abs=0.012)


@pytest.mark.filterwarnings("error")
def test_homogeneity_at_its_edges() -> None:
    assert homogeneity([5, 0], [7, 0]) == 1  # one class only
    assert homogeneity([0, 0], [7, 3]) == 1  # nothing to compare
    assert homogeneity([30, 10], [60, 20]) == pytest.approx(1)
    # A worked example: expected counts are 25 everywhere, so the statistic is 4 * 5^2 / 25 = 4 with one degree.
    assert homogeneity([30, 20], [20, 30]) == pytest.approx(0.0455, abs=1e-4)


@given(st.lists(st.tuples(st.integers(5, 400), st.integers(5, 400)), min_size=2, max_size=6))
def test_homogeneity_of_large_counts_is_the_chi_squared_test(table: list[tuple[int, int]]) -> None:
    first, second = ([column[row] for column in table] for row in (0, 1))
    expected = stats.chi2_contingency([first, second], correction=False)
    if expected.expected_freq.min() >= 5:
        assert homogeneity(first, second) == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)


@given(st.lists(st.booleans(), min_size=1, max_size=200), st.randoms(use_true_random=False))
def test_two_sided_mcnemar_is_the_binomial_test(first: list[bool], random) -> None:
    second = [random.random() < 0.7 for _ in first]
    result = mcnemar_of_hits(np.array(first), np.array(second))
    pairs = list(zip(first, second, strict=True))
    ahead, behind = pairs.count((True, False)), pairs.count((False, True))
    assert (result["only_first_right"], result["only_second_right"]) == (ahead, behind)
    if ahead + behind:
        assert result["p_value"] == pytest.approx(stats.binomtest(ahead, ahead + behind).pvalue, rel=1e-9)
        one_sided = stats.binomtest(ahead, ahead + behind, alternative="greater").pvalue
        assert worse_p_value(lost=ahead, won=behind) == pytest.approx(one_sided, rel=1e-9)


def test_hits_of_other_examples_are_refused() -> None:
    with pytest.raises(InputError, match="different numbers of examples: 3 and 2"):
        mcnemar_of_hits(np.array([True] * 3), np.array([True] * 2))


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=10), st.sampled_from([0.5, 0.9, 0.95]))
def test_the_interval_is_that_of_a_t_test(values: list[float], confidence: float) -> None:
    deviation = statistics.stdev(values)
    ours = mean_interval(values, confidence)
    assert ours.mean == statistics.fmean(values)
    if deviation > 1e-6:
        low, high = stats.ttest_1samp(values, 0).confidence_interval(confidence)
        assert (ours.low, ours.high) == pytest.approx((low, high), rel=1e-6, abs=1e-9)


def test_a_spread_below_the_resolution_is_not_believed() -> None:
    half = 6.3138 * 0.01 / math.sqrt(2)
    assert mean_interval([0.0, 0.0], 0.9, resolution=0.01).high == pytest.approx(half, rel=1e-4)
    assert mean_interval([0.0, 0.1], 0.9, resolution=0.01) == mean_interval([0.0, 0.1], 0.9)


def test_spread_is_mean_and_sample_standard_deviation() -> None:
    known = [0.2, 0.5, 0.9, 0.4]
    value = spread([None, *known, None])
    assert value is not None
    assert (value.mean, value.deviation, value.count) == pytest.approx((np.mean(known), np.std(known, ddof=1), 4))
    assert spread([None]) is None
    single = spread([0.5])
    assert single is not None
    assert single.deviation is None
