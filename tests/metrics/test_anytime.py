import pytest

from lure.errors import InputError
from lure.metrics import anytime_relative_error, cumulative_error, mean_error_rate


def test_worked_example():
    counts = [400, 300, 350, 200]
    assert cumulative_error(counts) == 1250
    assert mean_error_rate(counts, 1000) == pytest.approx(0.3125)
    assert anytime_relative_error(counts, 1000) == pytest.approx([-0.1, 0.05, -0.15])


def test_relative_errors_add_up_to_the_whole_change():
    counts = [17, 5, 11, 11, 2]
    assert sum(anytime_relative_error(counts, 20)) == pytest.approx((2 - 17) / 20)


def test_one_stage_has_no_relative_error():
    assert anytime_relative_error([3], 10) == []


def test_the_divisor_is_the_size_of_the_test_set():
    assert anytime_relative_error([4, 2], 8) == [-0.25]


@pytest.mark.parametrize(
    ("counts", "message"), [([], "at least one stage"), ([3, -1], "stage 2"), ([3, 11], "at most the 10 test examples")]
)
def test_bad_counts_are_refused(counts, message):
    with pytest.raises(InputError, match=message):
        mean_error_rate(counts, 10)
