"""L2 towards the initial weights: value, gradient, and where weights go that nothing else holds."""

import copy

import pytest
import torch
from torch import nn

from lure.errors import InputError
from lure.training.regularizers.l2_init import l2_init_penalty


def test_value_and_gradient_are_those_of_the_formula() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    model[0].bias.requires_grad_(False)
    initial = {name: torch.randn_like(tensor) for name, tensor in model.state_dict().items()}
    penalty = l2_init_penalty(nn.DataParallel(model), initial, 0.3)
    penalty.backward()
    expected = 0.0
    for name, parameter in model.named_parameters():
        difference = (parameter - initial[name]).detach()
        if name == "0.bias":
            assert parameter.grad is None
            continue
        expected += 0.3 * float((difference**2).sum())
        torch.testing.assert_close(parameter.grad, 0.6 * difference)
    assert penalty.item() == pytest.approx(expected, rel=1e-5)


def test_weights_return_to_where_they_began() -> None:
    model = nn.Linear(3, 2)
    initial = copy.deepcopy(model.state_dict())
    for parameter in model.parameters():
        nn.init.constant_(parameter, 5.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        l2_init_penalty(model, initial, 1.0).backward()
        optimizer.step()
    torch.testing.assert_close(dict(model.state_dict()), dict(initial))


def test_mistakes_are_refused() -> None:
    model = nn.Linear(3, 2)
    with pytest.raises(InputError, match=r"initial weight of 'weight', of shape \(2, 3\), is missing"):
        l2_init_penalty(model, {}, 1.0)
    with pytest.raises(InputError, match=r"is of shape \(3, 2\)"):
        l2_init_penalty(model, {"weight": torch.zeros(3, 2), "bias": torch.zeros(2)}, 1.0)
    with pytest.raises(InputError, match="strength must be at least 0, got -1"):
        l2_init_penalty(model, dict(model.state_dict()), -1.0)
