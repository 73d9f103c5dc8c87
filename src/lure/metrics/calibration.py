"""Calibration: whether a model's confidence matches its accuracy; and the temperature that corrects it.

The confidence of a prediction is the largest softmax probability. When a calibrated model is 80 % confident, it is
right in 80 % of the cases. Everything is computed in float64 from the logits, so that a confidence just below 1 is not
rounded to 1 and the logarithm of a small probability is not lost.
"""

import math
from typing import Literal, TypedDict

import torch
from torch import Tensor

from lure.errors import InputError, require_within
from lure.metrics.classification import checked_logits

Bins = Literal["equal_width", "equal_mass"]

TEMPERATURE_RANGE = (1e-3, 1e3)  # that is searched
LOWEST_TEMPERATURE = 0.05  # to sharpen without bound would make one later mistake cost without bound


class ReliabilityBin(TypedDict):
    """One bin of a reliability diagram: its edges, size, mean confidence and accuracy."""

    low: float
    high: float
    examples: int
    confidence: float
    accuracy: float


def reliability(
    logits: Tensor, labels: Tensor, num_bins: int = 15, *, bins: Bins = "equal_width"
) -> list[ReliabilityBin]:
    """Return the data of a reliability diagram: mean confidence and accuracy of each bin.

    Equal width: bin m holds (m-1)/M < confidence <= m/M, so a confidence of exactly 1 belongs to the last bin. Equal
    mass: the examples are sorted by confidence and cut into M groups whose sizes differ by at most one; examples of
    equal confidence stay together, so the result does not depend on the order of the examples.

    Args:
        logits: (N, classes), any type.
        labels: (N,) integers in [0, classes).
        num_bins: M, at least 1.
        bins: "equal_width" or "equal_mass".

    Returns:
        the bins that hold examples, by increasing confidence. `low` and `high` are the edges (with equal mass, the
        lowest and highest confidence), `confidence` and `accuracy` the means over its `examples`.

    Raises:
        InputError: if shapes or labels do not match, a logit is NaN or plus infinity, or the bins are invalid.

    Example:
        >>> logits = torch.tensor([[3.0, 0.0], [0.1, 0.0]])
        >>> [(bin["examples"], round(bin["confidence"], 3), bin["accuracy"])
        ...  for bin in reliability(logits, torch.tensor([0, 1]))]
        [(1, 0.525, 0.0), (1, 0.953, 1.0)]

    Reference:
        Niculescu-Mizil, Caruana, "Predicting Good Probabilities with Supervised Learning", ICML 2005; equal mass:
        Nixon et al., "Measuring Calibration in Deep Learning", CVPR Workshops 2019.
    """
    require_within("num_bins", num_bins, 1)
    logits, labels = checked_logits(logits, labels)
    confidence, guesses = torch.softmax(logits, dim=1).max(dim=1)
    if bins == "equal_width":
        numbers = torch.ceil(confidence * num_bins).long() - 1
    elif bins == "equal_mass":
        numbers = _equal_mass_numbers(confidence, num_bins)
    else:
        raise InputError(f"bins must be equal_width or equal_mass, got {bins!r}")
    sizes = torch.bincount(numbers, minlength=num_bins)
    confidences = torch.bincount(numbers, weights=confidence, minlength=num_bins)
    hits = torch.bincount(numbers, weights=(guesses == labels).double(), minlength=num_bins)
    found = []
    for number in torch.nonzero(sizes).flatten().tolist():
        size = int(sizes[number])
        inside = confidence[numbers == number]
        equal_width = bins == "equal_width"
        found.append(
            ReliabilityBin(
                low=number / num_bins if equal_width else float(inside.min()),
                high=(number + 1) / num_bins if equal_width else float(inside.max()),
                examples=size,
                confidence=float(confidences[number]) / size,
                accuracy=float(hits[number]) / size,
            )
        )
    return found


def _equal_mass_numbers(confidence: Tensor, num_bins: int) -> Tensor:
    ordered = confidence.sort().values
    size, larger = divmod(len(ordered), num_bins)
    ends = [number * size + min(number, larger) for number in range(1, num_bins)]
    upper = ordered[[end - 1 for end in ends]]
    return torch.searchsorted(upper, confidence, right=False)


def expected_calibration_error(
    logits: Tensor, labels: Tensor, num_bins: int = 15, *, bins: Bins = "equal_width"
) -> float:
    """Return the expected calibration error (ECE): the mean gap between confidence and accuracy.

    ECE = sum over bins of (examples in the bin / N) * |accuracy - mean confidence|. See `reliability` for the bins.

    Args:
        logits: (N, classes), any type.
        labels: (N,) integers in [0, classes).
        num_bins: number of bins, at least 1.
        bins: "equal_width" (the usual definition) or "equal_mass".

    Returns:
        a share in [0, 1]; lower is better.

    Raises:
        InputError: if shapes or labels do not match, a logit is NaN or plus infinity, or the bins are invalid.

    Example:
        >>> logits = torch.tensor([[40.0, 0.0]] * 4)  # certain, and right three times out of four
        >>> expected_calibration_error(logits, torch.tensor([0, 0, 0, 1]))
        0.25

    Reference:
        Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
    """
    gaps = [
        bin_["examples"] * abs(bin_["accuracy"] - bin_["confidence"])
        for bin_ in reliability(logits, labels, num_bins, bins=bins)
    ]
    return math.fsum(gaps) / len(labels)


def negative_log_likelihood(logits: Tensor, labels: Tensor) -> float:
    """Return the mean over examples of -log of the probability given to the true class.

    Args:
        logits: (N, classes), any type.
        labels: (N,) integers in [0, classes).

    Returns:
        nats, at least 0; infinite if a true class was ruled out. Lower is better.

    Raises:
        InputError: if shapes or labels do not match, or a logit is NaN or plus infinity.

    Example:
        >>> round(negative_log_likelihood(torch.zeros(3, 10), torch.tensor([0, 4, 9])), 4)  # log 10
        2.3026
    """
    logits, labels = checked_logits(logits, labels)
    return float(-torch.log_softmax(logits, dim=1).gather(1, labels[:, None]).mean()) + 0.0


def brier_score(logits: Tensor, labels: Tensor) -> float:
    """Return the Brier score: the mean squared distance of the probabilities from the one-hot labels.

    The sum is over all classes: (1/N) * sum_i sum_k (p_ik - y_ik)^2. For two classes this is twice the form that uses
    one class only.

    Args:
        logits: (N, classes), any type.
        labels: (N,) integers in [0, classes).

    Returns:
        a number in [0, 2]; lower is better.

    Raises:
        InputError: if shapes or labels do not match, or a logit is NaN or plus infinity.

    Example:
        >>> brier_score(torch.zeros(2, 2), torch.tensor([0, 1]))
        0.5

    Reference:
        Brier, "Verification of Forecasts Expressed in Terms of Probability", Monthly Weather Review 78, 1950.
    """
    logits, labels = checked_logits(logits, labels)
    distance = torch.softmax(logits, dim=1)
    distance[torch.arange(len(labels)), labels] -= 1
    return float(distance.square().sum(dim=1).mean())


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature T that maximises the likelihood of softmax(logits / T) on these examples.

    Dividing all logits by T changes the confidence but no prediction; T > 1 softens an overconfident model. Fit it on
    validation data, never on the test set. The log-likelihood is concave in 1/T, so its optimum is where the slope, the
    mean of (logit of the true class - expected logit), is zero; bisection finds it, in [0.05, 1000]. Where there is no
    optimum (`undetermined_temperature`), the answer is 1, which leaves the confidence as it is.

    Args:
        logits: (N, classes) of validation examples, any type.
        labels: (N,) integers in [0, classes).

    Returns:
        T in [0.05, 1000].

    Raises:
        InputError: if shapes or labels do not match, a logit is NaN or plus infinity, or a true class was ruled out.

    Example:
        >>> logits = torch.tensor([[6.0, 0.0]] * 4)  # right three times out of four: the calibrated logit is log 3
        >>> labels = torch.tensor([0, 0, 0, 1])
        >>> temperature = fit_temperature(logits, labels)
        >>> round(temperature, 3), round(expected_calibration_error(logits / temperature, labels), 3)
        (5.461, 0.0)

    Reference:
        Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
    """
    logits, labels = checked_logits(logits, labels)
    if not math.isfinite(negative_log_likelihood(logits, labels)):
        raise InputError("no temperature fits: the logit of a true class is minus infinity")

    if undetermined_temperature(logits, labels) is not None:
        return 1.0
    ruled_out = torch.isneginf(logits)
    given = logits.gather(1, labels[:, None])[:, 0]

    def too_high(log_temperature: float) -> bool:
        weights = torch.softmax(logits / math.exp(log_temperature), dim=1)
        expected = (weights * logits.masked_fill(ruled_out, 0)).sum(dim=1)
        return float((given - expected).mean()) >= 0

    low, high = map(math.log, TEMPERATURE_RANGE)
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (low, middle) if too_high(middle) else (middle, high)
    return max(math.exp(low), LOWEST_TEMPERATURE)


def undetermined_temperature(logits: Tensor, labels: Tensor) -> str | None:
    """Return why no temperature is the best on these examples; None where one is.

    Where every example is right, the likelihood grows for ever as T falls; where the true classes have no larger logits
    than the average class, it grows for ever with T.

    Args:
        logits: (N, classes), any type.
        labels: (N,) integers in [0, classes).

    Raises:
        InputError: if shapes or labels do not match, or a logit is NaN or plus infinity.

    Example:
        >>> undetermined_temperature(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1]))
        'every example is right'
    """
    logits, labels = checked_logits(logits, labels)
    given = logits.gather(1, labels[:, None])[:, 0]
    if bool((given == logits.amax(dim=1)).all()):
        return "every example is right"
    possible = ~torch.isneginf(logits)
    average = logits.masked_fill(~possible, 0).sum(dim=1) / possible.sum(dim=1)
    if float((given - average).mean()) <= 0:
        return "the logits say nothing about the classes"
    return None
