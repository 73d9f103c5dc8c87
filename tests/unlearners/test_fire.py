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
from lure.unlearn import unlearn_
from lure.unlearners import Context, Dash, Fire, Unlearner, build_unlearner, name_unlearner
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


# Where the steps start, and how far from orthogonal they end


def stretched(values: list[float], rows: int = 8) -> nn.Linear:
    """A linear layer with these singular values."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(size, size, generator=generator))[0] for size in (rows, len(values)))
    net = nn.Linear(len(values), rows, bias=False)
    with torch.no_grad():
        net.weight.copy_(left[:, : len(values)] @ torch.diag(torch.tensor(values)) @ right)
    return net


def steps(value: float, count: int) -> float:
    for _ in range(count):
        value = 1.5 * value - 0.5 * value**3
    return value


@pytest.mark.filterwarnings("ignore:fire left")
@pytest.mark.parametrize("start", ["spectral", "frobenius"])
def test_singular_values_begin_at_their_share_of_the_norm(start: str) -> None:
    values = [5.0, 4.0, 3.0, 0.05]
    net = stretched(values)
    Fire(start=start)(net, NOTHING)
    norm = 5.0 if start == "spectral" else math.hypot(*values)
    expected = torch.tensor(sorted((steps(value / norm, 10) for value in values), reverse=True)) * math.sqrt(8 / 4)
    torch.testing.assert_close(torch.linalg.svdvals(net.weight.detach()), expected, rtol=1e-3, atol=1e-4)


def test_a_fresh_matrix_ends_nearer_from_the_spectral_norm_and_does_not_warn() -> None:
    torch.manual_seed(0)
    weight = nn.Linear(128, 128).weight.detach()
    identity = torch.eye(128)
    distances = []
    for start in ("spectral", "frobenius"):
        factor = polar_factor(weight[None], 10, start)[0]
        distances.append(float((factor.mT @ factor - identity).norm() / identity.norm()))
    assert distances[0] < 0.2 < distances[1]
    net = nn.Linear(128, 128)
    Fire()(net, NOTHING)


def test_what_ends_far_from_orthogonal_is_told_in_one_line() -> None:
    bad, worse = [1.0, 1.0, 1.0, 1e-3], [1.0, 1.0, 1e-3, 1e-3]
    net = nn.Sequential(stretched([1.0] * 4), stretched(bad), stretched(worse))
    residual = math.sqrt(2 * (1 - steps(1e-3, 10) ** 2) ** 2 / 4)
    message = (
        rf"^fire left 2 of 3 weights far from orthogonal, 2.weight furthest \(\|\|X'X - I\|\| / \|\|I\|\| = "
        rf"{residual:.2f} after 10 steps\): take more steps \(fire:iterations=20\), which cannot bring back what a "
        rf"matrix has lost in rank$"
    )
    with pytest.warns(UserWarning, match=message):
        Fire()(net, NOTHING)
    net = nn.Sequential(stretched(bad), stretched(worse))
    Fire(iterations=30)(net, NOTHING)  # no warning: enough steps
    for layer in net:
        torch.testing.assert_close(torch.linalg.svdvals(layer.weight.detach()), torch.full((4,), math.sqrt(2.0)))


def test_matrices_of_zeros_do_not_count_as_far() -> None:
    torch.manual_seed(0)
    net = nn.Conv2d(4, 64, 3)
    with torch.no_grad():
        net.weight[:, :, 0] = 0
    Fire()(net, NOTHING)
    assert net.weight[:, :, 0].count_nonzero() == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_weight_that_is_not_finite_is_refused(bad: float) -> None:
    net = nn.Linear(3, 3)
    with torch.no_grad():
        net.weight[0, 0] = bad
    with pytest.raises(InputError, match="'weight' holds a number that is not finite"):
        unlearn_(net, None, "fire")


# Which layers


class Attention(nn.Module):
    """Projections under the names of several libraries."""

    def __init__(self) -> None:
        super().__init__()
        self.torch_packed = nn.MultiheadAttention(4, 2)
        self.torch_apart = nn.MultiheadAttention(4, 2, kdim=6, vdim=6)
        self.blocks = nn.ModuleList([nn.ModuleDict({"qkv": nn.Linear(4, 12), "proj": nn.Linear(4, 4)})])
        self.c_attn = nn.Linear(4, 12, bias=False)
        self.to_q, self.to_k, self.to_v = (nn.Linear(4, 4) for _ in range(3))
        self.query, self.key, self.value = (nn.Linear(4, 4) for _ in range(3))
        self.fc = nn.Linear(4, 4)


@pytest.mark.filterwarnings("ignore:fire left")
def test_only_query_and_key_projections_if_asked_for() -> None:
    torch.manual_seed(0)
    model = Attention()
    before = copy.deepcopy(model.state_dict())
    unlearn_(model, None, "fire:layers=query-key:iterations=60")
    parts = {
        "torch_packed.in_proj_weight": 2,
        "torch_apart.q_proj_weight": 1,
        "torch_apart.k_proj_weight": 1,
        "blocks.0.qkv.weight": 2,
        "c_attn.weight": 2,
        **{f"{name}.weight": 1 for name in ("to_q", "to_k", "query", "key")},
    }
    for name, after in model.state_dict().items():
        pieces = list(zip(after.split(4), before[name].split(4), strict=True))
        for piece, old in pieces[: parts.get(name, 0)]:
            expected = by_decomposition(old) * math.sqrt(old.shape[0] / old.shape[1])
            torch.testing.assert_close(piece, expected, rtol=1e-3, atol=1e-4)
        assert all(torch.equal(piece, old) for piece, old in pieces[parts.get(name, 0) :]), name


@pytest.mark.filterwarnings("ignore:fire left")
def test_packed_projections_are_three_matrices_whoever_wrote_them() -> None:
    torch.manual_seed(0)
    model = Attention()
    before = copy.deepcopy(model.state_dict())
    Fire(iterations=60)(model, NOTHING)
    for name in ("torch_packed.in_proj_weight", "blocks.0.qkv.weight", "c_attn.weight"):
        for piece, old in zip(model.state_dict()[name].chunk(3), before[name].chunk(3), strict=True):
            torch.testing.assert_close(piece, by_decomposition(old), rtol=1e-3, atol=1e-4)


def test_a_model_without_attention_has_no_query_and_key() -> None:
    with pytest.raises(InputError, match=r"no query or key projection that is known by its name .*ask for layers=all"):
        Fire(layers="query-key")(nn.Linear(2, 2), NOTHING)


def test_every_preset_is_a_setting() -> None:
    assert [name_unlearner(build_unlearner(preset)) for preset in Fire.presets] == list(Fire.presets)
