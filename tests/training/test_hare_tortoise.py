"""Hare & Tortoise against the formula written out, and its way through checkpoints."""

import copy

import pytest
import torch
from torch import nn

from lure.errors import InputError
from lure.training.regularizers.hare_tortoise import HareTortoise
from lure.weights.growth import grow_head_


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def train(model: nn.Module, steps: range, tortoise: HareTortoise | None = None) -> list[bool]:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    resets = []
    for step in steps:
        inputs = torch.randn(6, 3, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), torch.tensor([0, 1] * 3)).backward()
        optimizer.step()
        if tortoise is not None:
            resets.append(tortoise.step(model))
    return resets


def test_the_average_is_the_formula_and_the_hare_is_set_back_to_it() -> None:
    model, twin = network(), network()
    tortoise = HareTortoise(model, decay=0.8, interval=3)
    slow = copy.deepcopy(twin.state_dict())
    resets = train(model, range(7), tortoise)
    for step in range(7):
        train(twin, range(step, step + 1))
        for name, fast in twin.state_dict().items():
            if fast.is_floating_point():
                slow[name] = 0.8 * slow[name] + 0.2 * fast
                if step % 3 == 2:
                    fast.copy_(slow[name])
    assert resets == [False, False, True, False, False, True, False]
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, twin.state_dict()[name])
    tortoise.copy_to_(model)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, slow[name])
    assert model[1].num_batches_tracked == 7


def test_without_an_interval_the_model_is_left_alone() -> None:
    model, twin = network(), network()
    assert not any(train(model, range(5), HareTortoise(model, decay=0.5)))
    train(twin, range(5))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_frozen_parameters_stay() -> None:
    model = network()
    model[0].requires_grad_(False)
    tortoise = HareTortoise(model, decay=0.0, interval=1)
    nn.init.zeros_(model[0].weight)
    tortoise.copy_to_(model)
    assert model[0].weight.count_nonzero() == 0


def test_low_precision_is_averaged_in_float32() -> None:
    model = nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    nn.init.ones_(model.weight)
    tortoise = HareTortoise(model, decay=0.999)
    nn.init.constant_(model.weight, 2.0)
    for _ in range(1000):
        tortoise.step(model)
    tortoise.copy_to_(model)
    assert model.weight.item() == pytest.approx(2 - 0.999**1000, rel=1e-2)


def test_a_checkpoint_goes_on_exactly() -> None:
    straight, first = network(), network()
    train(straight, range(6), HareTortoise(straight, decay=0.7, interval=2))
    before = HareTortoise(first, decay=0.7, interval=2)
    train(first, range(3), before)
    saved = copy.deepcopy((first.state_dict(), before.state_dict()))
    second = network()
    after = HareTortoise(second, decay=0.7, interval=2)
    second.load_state_dict(saved[0])
    after.load_state_dict(saved[1])
    train(second, range(3, 6), after)
    for name, tensor in straight.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


def test_weights_that_were_not_there_from_the_start_are_refused() -> None:
    model = network()
    model[0].requires_grad_(False)
    tortoise = HareTortoise(model, interval=1)
    model[0].requires_grad_(True)
    for call in (tortoise.step, tortoise.copy_to_):
        with pytest.raises(InputError, match=r"no '0.weight' of shape \(4, 3\): begin a new one"):
            call(model)
    with pytest.raises(InputError, match=r"no 'weight' of shape \(2, 2\)"):
        tortoise.step(nn.Linear(2, 2))
    assert tortoise.num_steps == 0


def test_a_model_that_cannot_be_copied_has_an_average_all_the_same() -> None:
    model = network()
    model.handle = (number for number in range(3))  # a generator cannot be copied
    tortoise = HareTortoise(model, decay=0.5)
    before = model[0].weight.detach().clone()
    nn.init.zeros_(model[0].weight)
    tortoise.step(model)
    tortoise.copy_to_(model)
    assert torch.equal(model[0].weight, before / 2)


def test_mistakes_are_refused() -> None:
    with pytest.raises(InputError, match=r"decay must lie in \[0, 1\], got 1.5"):
        HareTortoise(network(), decay=1.5)
    with pytest.raises(InputError, match="interval must be at least 1, got 0"):
        HareTortoise(network(), interval=0)
    with pytest.raises(InputError, match="of another model"):
        HareTortoise(network()).load_state_dict(HareTortoise(nn.Linear(2, 2)).state_dict())


def test_an_average_takes_up_the_rows_that_a_head_has_gained() -> None:
    model = network()
    tortoise = HareTortoise(model, decay=0.8, interval=3)
    train(model, range(4), tortoise)
    before = tortoise.state_dict()
    grow_head_(model, 3)
    with pytest.raises(InputError, match=r"the average holds no '2\.weight' of shape"):
        tortoise.step(model)
    tortoise.grow_(model)
    after, fast = tortoise.state_dict(), model.state_dict()
    assert after["num_steps"] == before["num_steps"] == 4
    for name, slow in before.items():
        assert torch.equal(after[name][: len(slow)] if slow.dim() else after[name], slow), name
    assert torch.equal(after["slow.2.weight"][2:], fast["2.weight"][2:])
    slow = after["slow.2.weight"].clone()
    train(model, range(4, 5), tortoise)
    expected = 0.8 * slow + 0.2 * model.state_dict()["2.weight"]
    assert torch.allclose(tortoise.state_dict()["slow.2.weight"], expected)
    with pytest.raises(InputError, match="begin a new one"):
        tortoise.grow_(nn.Linear(3, 4))
