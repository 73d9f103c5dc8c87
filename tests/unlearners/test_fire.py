"""FIRE against the polar factor by singular value decomposition."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_networks import NETWORKS, trained
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from lure.errors import InputError
from lure.unlearners import Context, Dash, Fire, Unlearner
from lure.unlearners.fire import polar_factor

NOTHING = Context(batches=[])


def by_decomposition(matrix: Tensor) -> Tensor:
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    return left @ right


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 100), st.sampled_from([1e-3, 1.0, 1e3]))
def test_the_polar_factor_agrees_with_the_decomposition(rows: int, columns: int, seed: int, size: float) -> None:
    matrix = size * torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    # A singular value of r times the norm needs some log(1/r) / log(1.5) steps.
    torch.testing.assert_close(polar_factor(matrix[None], 100)[0], by_decomposition(matrix), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [1e-30, 1e-25, 1e20, 1e30])
def test_the_size_of_a_matrix_does_not_matter(size: float) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(6, 4)
    # The second one, of common size, is not to be touched by the care for the first.
    factors = polar_factor(torch.stack([size * matrix, matrix]), 40)
    torch.testing.assert_close(factors[0], by_decomposition(matrix), rtol=1e-4, atol=1e-5)
    assert torch.equal(factors[1], polar_factor(matrix[None], 40)[0])


def test_weights_are_the_scaled_factors_position_by_position() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(4, 6, 3), nn.Conv1d(3, 2, 5), nn.Linear(7, 5), nn.MultiheadAttention(4, 2))
    before = copy.deepcopy(net)
    Fire(iterations=100)(net, NOTHING)
    for row in range(3):
        for column in range(3):
            expected = by_decomposition(before[0].weight.detach()[:, :, row, column]) * math.sqrt(6 / 4) / 9
            torch.testing.assert_close(net[0].weight.detach()[:, :, row, column], expected, rtol=1e-3, atol=1e-4)
    for position in range(5):
        expected = by_decomposition(before[1].weight.detach()[:, :, position]) * math.sqrt(2 / 3) / 5
        torch.testing.assert_close(net[1].weight.detach()[:, :, position], expected, rtol=1e-3, atol=1e-4)
    expected = by_decomposition(before[2].weight.detach()) * math.sqrt(5 / 7)
    torch.testing.assert_close(net[2].weight.detach(), expected, rtol=1e-3, atol=1e-4)
    for packed, old in zip(net[3].in_proj_weight.chunk(3), before[3].in_proj_weight.chunk(3), strict=True):
        torch.testing.assert_close(packed.detach(), by_decomposition(old.detach()), rtol=1e-3, atol=1e-4)
    assert all(torch.equal(layer.bias, old.bias) for layer, old in zip(net[:3], before[:3], strict=True))


def test_ten_steps_are_near_an_isometry() -> None:
    torch.manual_seed(0)
    net = nn.Linear(64, 256)
    Fire()(net, NOTHING)
    values = torch.linalg.svdvals(net.weight.detach()) / 2  # sqrt(256 / 64)
    assert 0.99 < float(values.min()) <= float(values.max()) < 1.001


def test_a_matrix_of_zeros_stays() -> None:
    net = nn.Linear(3, 3)
    nn.init.zeros_(net.weight)
    Fire()(net, NOTHING)
    assert net.weight.count_nonzero() == 0


def test_what_is_no_dense_weight_stays() -> None:
    model = trained(NETWORKS["encoder"])
    before = copy.deepcopy(model)
    Fire()(model, NOTHING)
    assert torch.equal(model.tokens.weight, before.tokens.weight)
    assert torch.equal(model.positions, before.positions)
    assert torch.equal(model.norm.weight, before.norm.weight)
    assert not torch.equal(model.head.weight, before.head.weight)


def test_low_precision_is_computed_in_float32() -> None:
    torch.manual_seed(0)
    net = nn.Linear(64, 64, dtype=torch.bfloat16)
    expected = by_decomposition(net.weight.detach().float())
    Fire(iterations=40)(net, NOTHING)
    torch.testing.assert_close(net.weight.detach().float(), expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("network", ["weight norm", "spectral norm", "weight norm by hooks", "spectral norm by hooks"])
@pytest.mark.parametrize("unlearner", [Fire(), Dash(sample="new")], ids=["fire", "dash"])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_computed_weights_are_refused(network: str, unlearner: Unlearner) -> None:
    makers = {
        "weight norm": parametrizations.weight_norm,
        "spectral norm": parametrizations.spectral_norm,
        "weight norm by hooks": nn.utils.weight_norm,
        "spectral norm by hooks": nn.utils.spectral_norm,
    }
    model = nn.Sequential(makers[network](nn.Linear(4, 3)))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with pytest.raises(InputError, match="is computed by a parametrisation"):
        unlearner(model, Context(batches=[(torch.rand(2, 4), torch.tensor([0, 1]))]))
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(InputError, match="no trainable linear, convolution or attention weight"):
        Fire()(nn.Embedding(3, 4), NOTHING)
    with pytest.raises(InputError, match="iterations must be at least 1, got 0"):
        Fire(iterations=0)
