import pytest
import torch

from lure.errors import InputError
from lure.metrics import accuracy, class_balanced_accuracy, error_count, per_class

# Predictions 0 1 1 2 0 2 for the labels 0 1 0 2 2 2: four right; class by class 1 of 2, 1 of 1, 2 of 3.
GUESSES = torch.tensor([0, 1, 1, 2, 0, 2])
LABELS = torch.tensor([0, 1, 0, 2, 2, 2])
LOGITS = torch.nn.functional.one_hot(GUESSES, 4).float()


def test_worked_example():
    assert error_count(LOGITS, LABELS) == 2
    assert accuracy(LOGITS, LABELS) == pytest.approx(4 / 6)
    assert class_balanced_accuracy(LOGITS, LABELS) == pytest.approx((1 / 2 + 1 + 2 / 3) / 3)


def test_per_class_counts_examples_and_predictions():
    rows = per_class(LOGITS, LABELS)
    assert [row["examples"] for row in rows] == [2, 1, 3, 0]
    assert [row["predicted"] for row in rows] == [2, 2, 2, 0]
    assert [row["accuracy"] for row in rows] == [0.5, 1.0, pytest.approx(2 / 3), None]
    assert [row["precision"] for row in rows] == [0.5, 0.5, 1.0, None]


def test_agrees_with_a_python_loop():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(300, 7, generator=generator)
    labels = torch.randint(7, (300,), generator=generator)
    wrong, right_of, held = 0, [0] * 7, [0] * 7
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        hit = row.index(max(row)) == label
        wrong += not hit
        right_of[label] += hit
        held[label] += 1
    assert error_count(logits, labels) == wrong
    assert class_balanced_accuracy(logits, labels) == pytest.approx(
        sum(r / h for r, h in zip(right_of, held, strict=True)) / 7
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64])
def test_any_type_of_logits(dtype):
    assert error_count(LOGITS.to(dtype), LABELS.to(torch.uint8)) == 2


def test_a_tie_counts_for_the_first_class():
    assert error_count(torch.zeros(2, 3), torch.tensor([0, 1])) == 1


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (LOGITS, LABELS[:3], r"got shapes \(6, 4\) and \(3,\)"),
        (LOGITS[:0], LABELS[:0], "at least one example"),
        (LOGITS, LABELS + 2, r"must lie in \[0, 3\].* got 4"),
        (LOGITS, LABELS - 1, r"must lie in \[0, 3\].* got -1"),
        (LOGITS, LABELS.float(), "must be integers, got float32"),
        (LOGITS * float("nan"), LABELS, "not finite"),
        (LOGITS.masked_fill(LOGITS == 1, float("inf")), LABELS, "not finite"),
    ],
)
def test_logits_and_labels_that_do_not_match_are_refused(logits, labels, message):
    with pytest.raises(InputError, match=message) as caught:
        accuracy(logits, labels)
    assert "\n" not in str(caught.value)
