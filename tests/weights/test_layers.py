"""Which parameters may be forgotten, in layers of every kind; the head; the order of depth; hidden layers."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from lure.errors import InputError
from lure.weights.layers import (
    dense_weights,
    find_head,
    forgettable,
    hidden_layers,
    layer_parameters,
    owner,
    snapshot,
    suits_channels_last,
    trainable,
    unwrap,
    weight_layers,
)
from lure.weights.modes import differentiable_in_eval, evaluating


class Block(nn.Module):
    """A layer of the user's own with a scale, a bias table and a free parameter beside its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.ones(3, 4))
        self.scale = nn.Parameter(torch.ones(4))
        self.bias_table = nn.Parameter(torch.ones(3, 4))

    def reset_parameters(self) -> None:
        nn.init.ones_(self.kernel)


class Free(nn.Module):
    """A parameter that no layer knows how to initialise."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.ones(2, 3))


@pytest.mark.parametrize(
    ("layer", "weights"),
    [
        (nn.Linear(2, 3), ["weight"]),
        (nn.Bilinear(2, 3, 4), ["weight"]),
        (nn.Conv1d(2, 3, 2), ["weight"]),
        (nn.Conv2d(2, 4, 2, groups=2), ["weight"]),
        (nn.Conv3d(2, 3, 2), ["weight"]),
        (nn.ConvTranspose1d(2, 3, 2), ["weight"]),
        (nn.ConvTranspose2d(2, 3, 2), ["weight"]),
        (nn.ConvTranspose3d(2, 3, 2), ["weight"]),
        (nn.Embedding(5, 3), ["weight"]),
        (nn.EmbeddingBag(5, 3), ["weight"]),
        (nn.MultiheadAttention(4, 2), ["in_proj_weight", "out_proj.weight"]),
        (
            nn.MultiheadAttention(4, 2, kdim=3, vdim=5),
            ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"],
        ),
        (nn.GRU(2, 3), ["weight_ih_l0", "weight_hh_l0"]),
        (nn.LSTMCell(2, 3), ["weight_ih", "weight_hh"]),
        (nn.BatchNorm2d(3), []),
        (nn.InstanceNorm2d(3, affine=True), []),
        (nn.GroupNorm(1, 3), []),
        (nn.LayerNorm([2, 3]), []),
        (nn.RMSNorm([2, 3]), []),
        (nn.PReLU(3), []),
        pytest.param(nn.Embedding(0, 3), [], id="empty"),
        (Block(), ["kernel"]),
        (Free(), []),
        (parametrizations.weight_norm(nn.Linear(2, 3)), ["parametrizations.weight.original1"]),
        (parametrizations.spectral_norm(nn.Linear(2, 3)), ["parametrizations.weight.original"]),
        (parametrizations.orthogonal(nn.Linear(3, 3)), ["parametrizations.weight.original"]),
        (parametrizations.weight_norm(nn.Linear(2, 3), "bias", dim=None), ["weight"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_weights_are_forgettable_and_scales_and_biases_are_not(layer: nn.Module, weights: list[str]) -> None:
    if weights:
        assert list(forgettable(layer)) == weights
        assert list(forgettable(nn.Sequential(nn.ReLU(), layer))) == [f"1.{name}" for name in weights]
    else:
        with pytest.raises(InputError, match="no trainable weight to forget"):
            forgettable(layer)
    assert list(forgettable(layer, "all")) == [name for name, _ in layer.named_parameters()]


def test_the_scale_of_the_older_weight_norm_stays() -> None:
    with pytest.warns(FutureWarning):
        layer = torch.nn.utils.weight_norm(nn.Linear(2, 3))
    assert list(forgettable(layer)) == ["weight_v"]


def test_asking_does_not_move_the_buffers_of_spectral_norm() -> None:
    layer = parametrizations.spectral_norm(nn.Linear(4, 3))
    before = [buffer.clone() for buffer in layer.buffers()]
    forgettable(layer)
    assert all(torch.equal(buffer, old) for buffer, old in zip(layer.buffers(), before, strict=True))


def test_tied_tensors_count_once_and_frozen_ones_never() -> None:
    net = nn.ModuleDict({"first": nn.Linear(3, 3), "second": nn.Linear(3, 3), "frozen": nn.Linear(3, 3)})
    net["second"].weight = net["first"].weight
    net["frozen"].requires_grad_(False)
    assert list(forgettable(net)) == ["first.weight"]
    assert list(trainable(net)) == ["first.weight", "first.bias", "second.bias"]


def test_what_has_no_storage_is_refused() -> None:
    with pytest.raises(InputError, match=r"'0.weight' is on the meta device: .*to_empty"):
        forgettable(nn.Sequential(nn.Linear(2, 2, device="meta")))
    with pytest.raises(InputError, match="'weight' has no shape yet: run one batch"):
        forgettable(nn.LazyLinear(2))


def test_wrappers_are_stripped() -> None:
    inner = nn.Linear(2, 2)
    assert unwrap(nn.DataParallel(nn.DataParallel(inner))) is inner
    assert unwrap(torch.compile(inner, backend="eager")) is inner
    assert list(trainable(torch.compile(nn.DataParallel(inner), backend="eager"))) == ["weight", "bias"]


def test_distributed_wrappers_are_stripped(tmp_path: object) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        inner = nn.Linear(2, 2)
        assert unwrap(nn.parallel.DistributedDataParallel(inner)) is inner
    finally:
        torch.distributed.destroy_process_group()


def test_owner_of_plain_and_parametrised_tensors() -> None:
    net = nn.Sequential(parametrizations.weight_norm(nn.Linear(2, 3)))
    assert owner(net, "0.bias") == (net[0], "0", "bias")
    assert owner(net, "0.parametrizations.weight.original1") == (net[0], "0", "weight")
    assert owner(net[0], "parametrizations.weight.original0") == (net[0], "", "weight")


def test_depth_is_the_order_of_registration() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.MultiheadAttention(4, 2), nn.Linear(2, 2))
    assert weight_layers(net) == [
        ("0", ["0.weight"]),
        ("2", ["2.in_proj_weight"]),
        ("2.out_proj", ["2.out_proj.weight"]),
        ("3", ["3.weight"]),
    ]
    assert layer_parameters(net, "3") == ["3.weight", "3.bias"]


def test_the_head_is_the_last_linear_layer_with_a_weight_of_its_own() -> None:
    net = nn.ModuleDict({"embed": nn.Embedding(5, 3), "head": nn.Linear(3, 2), "decoder": nn.Linear(3, 5)})
    net["decoder"].weight = net["embed"].weight
    assert find_head(net) == "head"
    assert find_head(net, "embed") == "embed"
    net["head"].weight.requires_grad_(False)
    with pytest.raises(InputError, match="no Linear layer with a trainable weight of its own: name the head"):
        find_head(net)
    assert find_head(nn.Sequential(nn.Linear(2, 2), parametrizations.weight_norm(nn.Linear(2, 2)), nn.ReLU())) == "1"
    assert find_head(nn.Linear(2, 2)) == ""


def test_a_head_that_is_none_is_refused() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with pytest.raises(InputError, match="no layer named 'classifier'"):
        find_head(net, "classifier")
    with pytest.raises(InputError, match="'1' has no parameters"):
        find_head(net, "1")


def test_dense_weights_leave_out_tables_and_transposed_layers() -> None:
    net = nn.Sequential(
        nn.Conv3d(1, 2, 3), nn.ConvTranspose2d(1, 2, 3), nn.Embedding(3, 4), nn.GRU(4, 4), nn.Linear(4, 4), Block()
    )
    assert dense_weights(net) == {"0.weight": 1, "4.weight": 1}
    assert dense_weights(nn.MultiheadAttention(4, 2, add_bias_kv=True)) == {"in_proj_weight": 3, "out_proj.weight": 1}


def test_modes_come_back_layer_by_layer() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2).eval())
    with evaluating(net):
        assert not any(layer.training for layer in net.modules())
    assert [layer.training for layer in net.modules()] == [True, True, False]
    with pytest.raises(InputError), evaluating(net):
        find_head(net, "an error inside the block")
    assert [layer.training for layer in net.modules()] == [True, True, False]


def test_recurrent_layers_run_without_cudnn() -> None:
    before = torch.backends.cudnn.enabled
    with differentiable_in_eval(nn.Sequential(nn.GRU(2, 2))):
        assert not torch.backends.cudnn.enabled
    assert torch.backends.cudnn.enabled == before
    with differentiable_in_eval(nn.Linear(2, 2)):
        assert torch.backends.cudnn.enabled == before


def test_a_snapshot_shares_no_memory() -> None:
    net = nn.Linear(2, 2)
    copied = snapshot(nn.DataParallel(net))
    net.weight.data.zero_()
    assert copied["weight"].count_nonzero() == 4
    assert not copied["weight"].requires_grad


class Branches(nn.Module):
    """Every way in which a layer's units can fail to go to exactly one other layer, and two in which they do not."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)  # feeds the block and the sum
        self.inside = nn.Conv2d(4, 6, 3, padding=1)  # hidden
        self.norm = nn.BatchNorm2d(6)
        self.outside = nn.Conv2d(6, 4, 3, padding=1)  # meets the stem in a sum
        self.flat = nn.Conv2d(4, 5, 3)  # hidden behind pooling and flattening
        self.wide = nn.Linear(5 * 4, 7)  # feeds two heads
        self.first_head = nn.Linear(7, 3)
        self.second_head = nn.Linear(7, 3)

    def forward(self, images: Tensor) -> Tensor:
        trunk = self.stem(images)
        trunk = trunk + self.outside(torch.relu(self.norm(self.inside(torch.relu(trunk)))))
        pooled = torch.relu_(nn.functional.max_pool2d(self.flat(trunk), 2)).flatten(1)
        wide = torch.relu(self.wide(pooled))
        return self.first_head(wide) + self.second_head(wide)


def test_hidden_layers_are_read_off_the_graph() -> None:
    net = Branches()
    found = hidden_layers(net, lambda: net(torch.rand(2, 1, 6, 6)).sum())
    assert [(layer.weight, layer.bias, layer.next_weight, layer.positions) for layer in found] == [
        ("inside.weight", "inside.bias", "outside.weight", 1),
        ("flat.weight", "flat.bias", "wide.weight", 4),
    ]
    assert [layer.unit_dimension for layer in found] == [-3, -1]


def pair_with(between: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), between, nn.Linear(4, 4))


class Gate(nn.Module):
    """Mixes units by a free matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.eye(4))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs @ self.mix


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.attention(inputs, inputs, inputs)[0]


@pytest.mark.parametrize(
    ("between", "hidden"),
    [
        (nn.ReLU(), ["0.weight"]),
        (nn.Sequential(nn.LayerNorm(4), nn.GELU()), ["0.weight"]),
        (nn.PReLU(4), ["0.weight"]),
        (Gate(), []),
        (Attention(), []),
        (nn.GRU(4, 4), []),
        (parametrizations.weight_norm(nn.Linear(4, 4)), []),
        (nn.Linear(4, 4).requires_grad_(False), []),
        (parametrizations.spectral_norm(nn.Linear(4, 4)).requires_grad_(False), []),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_mixes_units_on_the_way_hides_no_layer(between: nn.Module, hidden: list[str]) -> None:
    net = pair_with(between)

    def run() -> Tensor:
        output = torch.rand(3, 4)
        for layer in (net[0], net[1], net[2]):
            output = layer(output)
            output = output[0] if isinstance(output, tuple) else output
        return output.sum()

    assert [layer.weight for layer in hidden_layers(net, run)] == hidden
    assert not any(layer._forward_hooks for layer in net.modules())


def test_a_matrix_that_no_layer_holds_is_noticed() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net.mix = nn.Parameter(torch.eye(4))
    assert hidden_layers(net, lambda: net[1](net[0](torch.rand(2, 4)) @ net.mix).sum()) == []


def test_layers_that_are_used_twice_or_tied_are_not_hidden() -> None:
    shared = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)])
    inputs = torch.rand(2, 4)
    assert hidden_layers(shared, lambda: (shared[2](shared[0](inputs)) + shared[2](shared[1](inputs))).sum()) == []
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    assert hidden_layers(net, lambda: net(net(torch.rand(2, 4))).sum()) == []
    net[2].weight = net[0].weight
    assert hidden_layers(net, lambda: net(torch.rand(2, 4)).sum()) == []


@pytest.mark.parametrize(
    ("layer", "suits"),
    [
        (nn.Linear(4, 4), False),
        (nn.Conv1d(16, 16, 3), False),
        (nn.Conv2d(3, 8, 3, stride=2), True),
        (nn.Conv2d(16, 32, 1, stride=2), True),
        (nn.Conv2d(8, 32, 1), True),
        (nn.Conv2d(8, 32, 1, stride=2), False),
        (nn.Conv2d(64, 64, 1, stride=(1, 2), groups=8), False),
        (nn.ConvTranspose2d(32, 8, 1, stride=2), False),
    ],
)
def test_strided_pointwise_convolutions_of_few_channels_are_kept_from_the_layout_that_breaks_them(
    layer: nn.Module, suits: bool
) -> None:
    assert suits_channels_last(nn.Sequential(layer, nn.Flatten())) is suits
    assert suits_channels_last(layer.to("meta")) is any(parameter.dim() == 4 for parameter in layer.parameters())
