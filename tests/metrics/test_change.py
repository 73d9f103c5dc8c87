import pytest
import torch

from lure.errors import InputError
from lure.metrics import class_change, weight_change


def test_weights_worked_example():
    before = {"a": torch.tensor([[3.0, 0.0], [0.0, 4.0]]), "count": torch.tensor(7), "zero": torch.zeros(2)}
    after = {"a": torch.tensor([[0.0, 0.0], [0.0, 8.0]]), "count": torch.tensor(9), "zero": torch.ones(2)}
    rows = weight_change(before, after)
    assert rows == [
        {"name": "a", "entries": 4, "changed_fraction": 0.5, "relative_distance": 1.0, "cosine": 0.8},
        {"name": "zero", "entries": 2, "changed_fraction": 1.0, "relative_distance": None, "cosine": None},
    ]


def test_nothing_changed():
    weights = {"a": torch.randn(50, generator=torch.Generator().manual_seed(0), dtype=torch.bfloat16)}
    (row,) = weight_change(weights, {"a": weights["a"].clone()})
    assert row["changed_fraction"] == row["relative_distance"] == 0
    assert row["cosine"] == pytest.approx(1)


def test_different_networks_are_refused():
    with pytest.raises(InputError, match="only one of them has 'b'"):
        weight_change({"a": torch.zeros(1)}, {"a": torch.zeros(1), "b": torch.zeros(1)})
    with pytest.raises(InputError, match=r"'a' has shape \(1,\) and \(2,\)"):
        weight_change({"a": torch.zeros(1)}, {"a": torch.zeros(2)})


def test_predictions_worked_example():
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    before = torch.eye(4)[torch.tensor([0, 1, 2, 1, 0, 3])]
    after = torch.eye(4)[torch.tensor([1, 0, 1, 1, 1, 0])]
    rows = class_change(before, after, labels)
    assert [row["examples"] for row in rows] == [3, 2, 1, 0]
    assert [row["became_right"] for row in rows] == [1, 1, 0, 0]
    assert [row["became_wrong"] for row in rows] == [1, 0, 0, 0]
    assert [row["changed_answer"] for row in rows] == [3, 1, 1, 0]


def test_the_net_change_is_that_of_the_error_count():
    generator = torch.Generator().manual_seed(3)
    before, after = (torch.randn(200, 5, generator=generator) for _ in range(2))
    labels = torch.randint(5, (200,), generator=generator)
    rows = class_change(before, after, labels)
    gained = sum(row["became_right"] - row["became_wrong"] for row in rows)
    assert gained == int((after.argmax(1) == labels).sum() - (before.argmax(1) == labels).sum())
