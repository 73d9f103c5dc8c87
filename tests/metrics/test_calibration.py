import itertools
import math

import pytest
import torch

from lure.errors import InputError
from lure.metrics import (
    accuracy,
    brier_score,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability,
)
from lure.metrics.calibration import undetermined_temperature


def logits_of(confidences):
    """Two-class logits whose softmax gives these probabilities for class 0."""
    p = torch.tensor(confidences, dtype=torch.float64)
    return torch.stack([p.log(), (1 - p).log()], dim=1)


def random_case(num_classes=5, count=500, scale=3.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, num_classes, generator=generator) * scale
    return logits, torch.randint(num_classes, (count,), generator=generator)


def softmax_loop(row):
    top = max(row)
    weights = [math.exp(value - top) for value in row]
    return [weight / sum(weights) for weight in weights]


def error_loop(logits, labels, num_bins):
    """The definition of Guo et al., example by example and bin by bin."""
    cases = []
    for row, label in zip(logits.double().tolist(), labels.tolist(), strict=True):
        probabilities = softmax_loop(row)
        confidence = max(probabilities)
        cases.append((confidence, probabilities.index(confidence) == label))
    total = 0.0
    for number in range(num_bins):
        low, high = number / num_bins, (number + 1) / num_bins
        inside = [(confidence, hit) for confidence, hit in cases if low < confidence <= high]
        if inside:
            confidence = sum(case[0] for case in inside) / len(inside)
            right = sum(case[1] for case in inside) / len(inside)
            total += len(inside) / len(cases) * abs(right - confidence)
    return total


def test_worked_example():
    # Bins of a fifth. (0.6, 0.8]: 0.7 right, 0.8 wrong: accuracy 0.5, confidence 0.75. (0.8, 1]: 0.9 right: gap 0.1.
    logits, labels = logits_of([0.7, 0.8, 0.9]), torch.tensor([0, 1, 0])
    assert expected_calibration_error(logits, labels, num_bins=5) == pytest.approx(2 / 3 * 0.25 + 1 / 3 * 0.1)


@pytest.mark.parametrize("num_bins", [1, 7, 15, 100])
@pytest.mark.parametrize("scale", [0.3, 3.0, 30.0])
def test_agrees_with_a_python_loop(num_bins, scale):
    logits, labels = random_case(scale=scale)
    assert expected_calibration_error(logits, labels, num_bins) == pytest.approx(
        error_loop(logits, labels, num_bins), abs=1e-12
    )


def test_certainty_belongs_to_the_last_bin():
    logits = torch.tensor([[100.0, 0.0], [3.0, 0.0], [100.0, 0.0]])
    bins = reliability(logits, torch.tensor([0, 0, 1]), num_bins=15)
    assert len(bins) == 1
    assert (bins[0]["low"], bins[0]["high"], bins[0]["examples"]) == (14 / 15, 1.0, 3)


def test_certain_and_right_is_perfect_certain_and_wrong_is_the_worst():
    logits = torch.tensor([[200.0, 0.0]] * 3)
    assert expected_calibration_error(logits, torch.tensor([0, 0, 0])) == 0
    assert expected_calibration_error(logits, torch.tensor([1, 1, 1])) == 1


def test_equal_mass_bins_hold_the_same_number():
    logits, labels = random_case(count=103)
    bins = reliability(logits, labels, num_bins=10, bins="equal_mass")
    assert sorted(bin_["examples"] for bin_ in bins) == [10] * 7 + [11] * 3
    assert all(before["high"] <= after["low"] for before, after in itertools.pairwise(bins))


def test_equal_mass_worked_example():
    # Two bins of two: (0.6, 0.7) half right, gap 0.15; (0.8, 0.9) all right, gap 0.15.
    logits, labels = logits_of([0.9, 0.6, 0.8, 0.7]), torch.tensor([0, 1, 0, 0])
    error = expected_calibration_error(logits, labels, num_bins=2, bins="equal_mass")
    assert error == pytest.approx(0.5 * 0.15 + 0.5 * 0.15)


def test_equal_mass_does_not_depend_on_the_order_of_equal_confidences():
    logits = torch.tensor([[50.0, 0.0]] * 8 + [[1.0, 0.0]] * 4)
    labels = torch.tensor([0] * 4 + [1] * 4 + [0] * 4)
    turned = torch.arange(11, -1, -1)
    first = expected_calibration_error(logits, labels, 4, bins="equal_mass")
    assert first == expected_calibration_error(logits[turned], labels[turned], 4, bins="equal_mass")


def test_more_equal_mass_bins_than_examples():
    logits, labels = random_case(count=4)
    assert len(reliability(logits, labels, num_bins=15, bins="equal_mass")) == 4


def test_likelihood_and_brier_agree_with_a_python_loop():
    logits, labels = random_case()
    likelihood = brier = 0.0
    for row, label in zip(logits.double().tolist(), labels.tolist(), strict=True):
        probabilities = softmax_loop(row)
        likelihood -= math.log(probabilities[label])
        brier += sum((p - (k == label)) ** 2 for k, p in enumerate(probabilities))
    assert negative_log_likelihood(logits, labels) == pytest.approx(likelihood / len(labels))
    assert brier_score(logits, labels) == pytest.approx(brier / len(labels))


def test_half_precision_logits_are_summed_in_double():
    logits, labels = random_case(count=20000)
    half = logits.to(torch.bfloat16)
    assert negative_log_likelihood(half, labels) == negative_log_likelihood(half.double(), labels)
    assert expected_calibration_error(half, labels) == expected_calibration_error(half.double(), labels)


def test_the_likelihood_is_infinite_only_if_the_true_class_is_ruled_out():
    logits = torch.tensor([[0.0, -math.inf]])
    assert negative_log_likelihood(logits, torch.tensor([0])) == 0
    assert negative_log_likelihood(logits, torch.tensor([1])) == math.inf
    with pytest.raises(InputError, match="no temperature fits"):
        fit_temperature(logits, torch.tensor([1]))


def honest_case(factor):
    """Labels drawn from the softmax of logits that are then scaled: the factor is the right temperature."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(4000, 4, generator=generator, dtype=torch.float64) * 1.5
    labels = torch.multinomial(torch.softmax(logits, 1), 1, generator=generator).flatten()
    return logits * factor, labels


@pytest.mark.parametrize("factor", [0.2, 1.0, 6.0])
def test_temperature_undoes_a_scaling(factor):
    logits, labels = honest_case(factor)
    assert fit_temperature(logits, labels) == pytest.approx(factor, rel=0.05)


def test_temperature_is_the_optimum_of_the_likelihood():
    logits, labels = honest_case(5.0)
    best = fit_temperature(logits, labels)
    for other in (best * 0.99, best * 1.01):
        assert negative_log_likelihood(logits / best, labels) < negative_log_likelihood(logits / other, labels)


def test_temperature_improves_calibration_and_changes_no_prediction():
    logits, labels = honest_case(5.0)
    scaled = logits / fit_temperature(logits, labels)
    assert expected_calibration_error(scaled, labels) < 0.2 * expected_calibration_error(logits, labels)
    assert accuracy(scaled, labels) == accuracy(logits, labels)


def test_temperature_is_one_where_there_is_no_optimum():
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    assert fit_temperature(logits, torch.tensor([0, 1])) == 1
    assert undetermined_temperature(logits, torch.tensor([0, 1])) == "every example is right"
    assert fit_temperature(logits, torch.tensor([1, 0])) == 1
    assert undetermined_temperature(logits, torch.tensor([1, 0])) == "the logits say nothing about the classes"
    tied = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    assert fit_temperature(tied, torch.tensor([0, 1])) == 1


def test_temperature_is_bounded_below():
    """One example is wrong by next to nothing: the optimum would be so sharp that a later mistake costs hundreds."""
    logits = torch.tensor([[0.1, 0.0]] * 50 + [[1e-3, 0.0]])
    labels = torch.tensor([0] * 50 + [1])
    assert undetermined_temperature(logits, labels) is None
    assert fit_temperature(logits, labels) == pytest.approx(0.05)


def test_bad_binning_is_refused():
    logits, labels = random_case()
    with pytest.raises(InputError, match="num_bins must be at least 1, got 0"):
        expected_calibration_error(logits, labels, 0)
    with pytest.raises(InputError, match="equal_width or equal_mass, got 'quantile'"):
        expected_calibration_error(logits, labels, bins="quantile")
