"""ReDo: which units are dormant, what is redrawn and what is silenced."""

import copy

import pytest
import torch
from sample_networks import NETWORKS, trained
from torch import nn

from lure.errors import InputError
from lure.unlearners import Context, Redo
from lure.unlearners.redo import mean_activities


def image_network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 5), nn.Linear(5, 2)
    )
    with torch.no_grad():
        net[0].bias.copy_(torch.tensor([1.0, -50, 1, 1]))  # unit 1 never fires, the others always do
        net[2].bias.copy_(torch.tensor([-50.0, 2, 2]))
    return net


BATCHES = [
    (torch.rand(size, 1, 6, 6, generator=torch.Generator().manual_seed(size)), torch.zeros(size, dtype=torch.int64))
    for size in (5, 3)
]


def test_activities_agree_with_the_network_run_by_hand() -> None:
    net = image_network()
    inputs = torch.cat([batch[0] for batch in BATCHES])
    first = net[:2](inputs).abs().mean((0, 2, 3))
    second = net[:4](inputs).abs().mean((0, 2, 3))
    third = net[:6](inputs).abs().mean(0)
    found = mean_activities(net, Context(batches=iter(BATCHES)))
    assert [layer.weight for layer, _ in found] == ["0.weight", "2.weight", "5.weight"]
    for (_, activity), expected in zip(found, (first, second, third), strict=True):
        torch.testing.assert_close(activity, expected.detach())


def test_dormant_units_are_redrawn_and_silenced_and_nothing_else_moves() -> None:
    net = image_network()
    before = copy.deepcopy(net)
    Redo(tau=0.0)(net, Context(batches=BATCHES))
    moved = {name: parameter != before.get_parameter(name) for name, parameter in net.named_parameters()}
    assert moved["0.weight"].flatten(1).all(1).tolist() == [False, True, False, False]
    assert moved["0.bias"].tolist() == [False, True, False, False]
    assert (net[2].weight[:, 1] == 0).all()  # read the first layer's unit 1
    assert (net[5].weight[:, :4] == 0).all()  # read the second layer's unit 0 at four positions
    assert moved["2.bias"].tolist() == [True, False, False]
    assert moved["2.weight"][1:, [0, 2, 3]].sum() == 0
    assert moved["5.weight"][:, 4:].sum() == 0
    assert not any(moved[name].any() for name in ("5.bias", "6.weight", "6.bias"))


def test_recycling_units_that_never_fire_keeps_the_function() -> None:
    net = image_network()
    before = net(BATCHES[0][0])
    Redo(tau=0.0)(net, Context(batches=BATCHES))
    torch.testing.assert_close(net(BATCHES[0][0]), before)


def test_the_threshold_is_relative_to_the_layer() -> None:
    net = nn.Sequential(nn.Linear(1, 3, bias=False), nn.ReLU(), nn.Linear(3, 2))
    batch = torch.ones(2, 1), torch.tensor([0, 1])
    for scale, tau, dormant in [(1e-3, 0.101, True), (1e3, 0.101, True), (1e-3, 0.099, False), (1e3, 0.099, False)]:
        with torch.no_grad():
            net[0].weight.copy_(scale * torch.tensor([[0.1], [1.9], [1.0]]))  # the mean is 1
            net[2].weight.fill_(1)
        Redo(tau=tau)(net, Context(batches=[batch]))
        assert (net[2].weight == 0).all(0).tolist() == [dormant, False, False]


def test_a_silent_layer_is_recycled_as_a_whole() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        net[0].bias.fill_(-50)
    Redo()(net, Context(batches=[(torch.rand(4, 2), torch.tensor([0, 1, 0, 1]))]))
    assert (net[0].bias > -2).all()
    assert net[2].weight.count_nonzero() == 0


def test_in_a_residual_network_only_the_inner_layer_takes_part() -> None:
    network = NETWORKS["residual"]
    model = trained(network)
    before = copy.deepcopy(model)
    Redo(tau=100.0)(model, Context(batches=[network.batch(0)]))
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before.get_parameter(name))}
    assert moved == {"inner.weight", "inner.bias", "outer.weight"}


def test_a_network_without_hidden_layers_is_refused() -> None:
    with pytest.raises(InputError, match="no units to recycle"):
        Redo()(nn.Linear(2, 2), Context(batches=[(torch.rand(1, 2), torch.tensor([0]))]))
    with pytest.raises(InputError, match="tau must be at least 0, got -1"):
        Redo(tau=-1)
