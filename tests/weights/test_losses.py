"""The loss of a batch: what cross-entropy cannot take is refused in words; an error of the user's own is explained."""

import traceback
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lure import InputError, unlearn_

INPUTS = torch.rand(6, 4)
CLASSES = torch.arange(6) % 3


class Wrapped(nn.Module):
    def __init__(self, wrap: Any, outputs: int = 3) -> None:
        super().__init__()
        self.layer, self.wrap = nn.Linear(4, outputs), wrap

    def forward(self, inputs: Tensor) -> Any:
        return self.wrap(self.layer(inputs))


@pytest.mark.parametrize(
    ("batch", "outputs", "message"),
    [
        ((INPUTS, CLASSES, CLASSES), 3, "a batch must be a pair .* got a tuple of 3"),
        (INPUTS, 3, "a batch must be a pair .* got Tensor"),
        ((INPUTS, CLASSES.tolist()), 3, "the labels are a list"),
        ((INPUTS, CLASSES % 2), 1, "the model has one output .*binary_cross_entropy_with_logits"),
        ((INPUTS, (CLASSES % 2).float()), 1, "the labels are numbers, not classes"),
        ((INPUTS, torch.tensor([[1.0, 1.0, 0.0]] * 6)), 3, "several classes .*binary_cross_entropy_with_logits"),
        ((INPUTS, torch.tensor([[1, 1, 0]] * 6)), 3, r"labels of shape \(6, 3\)"),
        ((INPUTS, torch.tensor([[True, True, False]] * 6)), 3, "labels are bool"),
        ((INPUTS, CLASSES > 0), 3, "labels are bool"),
        ((INPUTS, CLASSES[:, None]), 3, r"labels of shape \(6, 1\)"),
        ((INPUTS, CLASSES[:4]), 3, r"labels of shape \(4,\)"),
        ((INPUTS, CLASSES + 1), 3, r"label 3 .*0 to 2"),
        ((INPUTS, CLASSES - 1), 3, r"label -1 .*0 to 2"),
        ((INPUTS, torch.rand(6, 5)), 3, r"labels of shape \(6, 5\)"),
        ((INPUTS, CLASSES.to(torch.complex64)), 3, "labels are complex64"),
    ],
)
def test_what_cross_entropy_cannot_take_is_refused_in_words(batch: Any, outputs: int, message: str) -> None:
    model = nn.Linear(4, outputs)
    before = model.weight.detach().clone()
    with pytest.raises(InputError, match=message) as error:
        unlearn_(model, [batch], "lure")
    assert "loss=" in str(error.value)
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize(
    "labels",
    [
        CLASSES.to(torch.int32),
        CLASSES.to(torch.uint8),
        F.one_hot(CLASSES, 3).float(),
        torch.full((6, 3), 1 / 3),
        torch.where(CLASSES == 0, -100, CLASSES),
    ],
    ids=["int32", "uint8", "one-hot", "soft", "ignored"],
)
def test_what_it_can_take_is_taken(labels: Tensor) -> None:
    assert unlearn_(nn.Linear(4, 3), [(INPUTS, labels)], "lure").changed_count == 2


def test_labels_of_every_pixel_are_taken() -> None:
    images, labels = torch.rand(2, 1, 5, 5), torch.zeros(2, 5, 5, dtype=torch.int64)
    assert unlearn_(nn.Conv2d(1, 3, 3, padding=1), [(images, labels)], "lure").changed_count > 0


@pytest.mark.parametrize("wrap", [lambda o: SimpleNamespace(logits=o, loss=None)])
def test_outputs_with_logits_are_read(wrap: Any) -> None:
    assert unlearn_(Wrapped(wrap), [(INPUTS, CLASSES)], "lure").changed_count == 2


@pytest.mark.parametrize("wrap", [lambda o: (o, o), lambda o: [o], lambda o: {"scores": o}, lambda o: None])
def test_other_outputs_are_refused_in_words(wrap: Any) -> None:
    with pytest.raises(InputError, match=r"the model returns a (tuple|list|dict|NoneType).* loss="):
        unlearn_(Wrapped(wrap), [(INPUTS, CLASSES)], "lure")


class TwoWays(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Any:
        outputs = self.layer(inputs)
        return {"outputs": outputs} if self.training else outputs


def test_an_error_of_the_users_own_loss_says_that_the_model_was_in_eval_mode() -> None:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(model(batch[0])["outputs"], batch[1])

    with pytest.raises(IndexError) as caught:  # as the user's code raises it
        unlearn_(TwoWays(), [(INPUTS, CLASSES)], "lure", loss=loss)
    assert "the model was in eval mode" in "".join(traceback.format_exception(caught.value))
