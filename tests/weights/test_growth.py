"""A head that grows: old outputs bit for bit, new rows by the redraw law, state that grows along, and refusals."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrizations, prune
from unlearners.sample_networks import NETWORKS, Network, trained

import lure
from lure import InputError, grow_head_
from lure.models import build_model
from lure.weights.grown_layers import GrownLinear

HEADED = {name: network for name, network in NETWORKS.items() if name != "tied"}


def outputs(model: nn.Module, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return model.eval()(inputs)


def small(*, bias: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3, bias=bias))


@pytest.mark.parametrize("network", HEADED.values(), ids=HEADED.keys())
def test_old_outputs_are_the_same_bits_and_nothing_else_moves(network: Network) -> None:
    model = trained(network)
    inputs, _ = network.batch(1)
    before, state = outputs(model, inputs), copy.deepcopy(model.state_dict())
    random = torch.get_rng_state()
    grow_head_(model, 7)
    assert torch.equal(torch.get_rng_state(), random)
    after = outputs(model, inputs)
    assert after.shape == (12, 7)
    assert torch.equal(after[:, :3], before)
    grown = {name for name, tensor in model.state_dict().items() if tensor.shape != state[name].shape}
    assert {name.split(".")[0] for name in grown} <= {"head", *"0123456789", "12"}
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor[:3] if name in grown else tensor, state[name]), name


@pytest.mark.parametrize(
    "choice",
    ["mlp:width=8", "convnet:width=4", "resnet18:width=4", "resnet50:width=4", "resnet20s", "vgg16_bn:width=4"],
)
def test_a_network_of_each_family_grows_from_its_builder(choice: str) -> None:
    def draw(num_classes: int) -> nn.Module:
        return build_model(choice, num_classes, (3, 32, 32))

    model, inputs = draw(5), torch.rand(2, 3, 32, 32)
    before = outputs(model, inputs)
    grow_head_(model, 6, draw=draw)
    assert torch.equal(outputs(model, inputs)[:, :5], before)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("old", "new"), [(1, 2), (3, 4), (10, 12), (10, 20), (2, 100)])
@pytest.mark.parametrize("features", [1, 3, 8, 64])
def test_no_size_of_head_or_batch_rounds_otherwise(features: int, old: int, new: int, bias: bool) -> None:
    for rows in (1, 3, 8, 33):
        head, inputs = nn.Linear(features, old, bias=bias), torch.randn(rows, features)
        before = outputs(head, inputs)
        grow_head_(head, new)
        grow_head_(head, new + 2)
        assert torch.equal(outputs(head, inputs)[:, :old], before), rows


def test_new_rows_are_those_of_the_layers_own_reset() -> None:
    model = nn.Sequential(nn.Linear(4, 400), nn.ReLU(), nn.Linear(400, 3))
    grow_head_(model, 1003)
    fresh, bound = model[2].weight.detach()[3:], 400**-0.5
    assert float(fresh.abs().max()) <= bound
    assert float(fresh.std()) == pytest.approx(bound / 3**0.5, rel=0.01)
    assert float(model[2].bias.detach()[3:].abs().max()) <= bound


def test_a_builder_is_told_how_many_classes_and_its_rows_are_taken() -> None:
    def draw(num_classes: int) -> nn.Module:
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, num_classes))
        nn.init.constant_(model[2].weight, 7.0)
        return model

    for builder in (draw, lambda: draw(5)):
        model = small()
        grow_head_(model, 5, draw=builder)
        assert model[2].weight.detach()[3:].tolist() == [[7.0] * 8] * 2
        assert model[2].weight.detach()[0, 0] != 7


def test_a_builder_also_says_which_tensors_grow() -> None:
    class Two(nn.Module):
        """The head is registered first, there is a second one, and what follows counts classes, too."""

        def __init__(self, num_classes: int) -> None:
            super().__init__()
            self.num_classes = num_classes
            self.head = nn.Linear(6, num_classes)
            self.norm = nn.BatchNorm1d(num_classes)
            self.second = nn.Linear(6, num_classes, bias=False)
            self.body = nn.Linear(4, 6)

        def forward(self, inputs: Tensor) -> Tensor:
            hidden = torch.relu(self.body(inputs))
            return self.norm(self.head(hidden)) + self.second(hidden)

    model, inputs = Two(3), torch.rand(5, 4)
    before = outputs(model, inputs)
    grow_head_(model, 4, draw=Two)
    assert torch.equal(outputs(model, inputs)[:, :3], before)
    assert (model.num_classes, model.head.out_features, model.norm.num_features) == (4, 4, 4)
    assert model.norm.running_var.tolist() == [1.0] * 4


def test_the_same_generator_draws_the_same_rows() -> None:
    models = [small() for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        grow_head_(model, 5, generator=torch.Generator().manual_seed(seed))
    one, same, other = (model[2].weight for model in models)
    assert torch.equal(one, same)
    assert not torch.equal(one[3:], other[3:])


@pytest.mark.parametrize(
    ("maker", "begin"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), {"momentum_buffer": 0.0}),
        (lambda p: torch.optim.Adam(p, lr=0.1, amsgrad=True), dict.fromkeys(["exp_avg", "max_exp_avg_sq"], 0.0)),
        (lambda p: torch.optim.Adagrad(p, lr=0.1, initial_accumulator_value=0.5), {"sum": 0.5}),
        (lambda p: torch.optim.Rprop(p, lr=0.1), {"step_size": 0.1, "prev": 0.0}),
    ],
)
def test_the_optimisers_state_grows_along(maker: Callable[..., Any], begin: dict[str, float]) -> None:
    model, inputs = small(), torch.rand(6, 4)
    optimizer = maker(model.parameters())
    for step in range(4):
        loss = model(inputs).square().sum()  # kept alive beyond the growth, as in anybody's loop
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step == 1:
            old = {key: value.clone() for key, value in optimizer.state[model[2].weight].items()}
            others = copy.deepcopy(optimizer.state[model[0].weight])
            grow_head_(model, 5, optimizer)
            state = optimizer.state[model[2].weight]
            for key, value in begin.items():
                assert torch.equal(state[key][:3], old[key])
                assert torch.allclose(state[key][3:], torch.tensor(value))
            assert state["step" if "step" in old else key] is not None
            assert all(torch.equal(optimizer.state[model[0].weight][key], others[key]) for key in others)
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in model.parameters()}
    assert len(optimizer.state) == 4


def test_a_grown_network_trains_copies_saves_and_compiles() -> None:
    model, inputs = small(bias=False), torch.rand(6, 4)
    compiled = torch.compile(model, backend="eager")
    assert compiled(inputs).shape == (6, 3)
    grow_head_(compiled, 4)
    assert torch.equal(compiled(inputs), model(inputs))
    head = model[2]
    assert isinstance(head, nn.Linear)
    assert (list(model.state_dict()), head.out_features) == (["0.weight", "0.bias", "2.weight"], 4)
    again = copy.deepcopy(model)
    assert torch.equal(again(inputs), model(inputs))
    again(inputs).sum().backward()
    assert again[2].weight.grad.shape == (4, 8)
    plain = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4, bias=False))
    plain.load_state_dict(model.state_dict())
    assert torch.allclose(plain(inputs), model(inputs))
    assert isinstance(again[2], GrownLinear)


def test_what_was_noted_on_a_parameter_stays_and_a_frozen_one_stays_frozen() -> None:
    model = small()
    model[2].weight.decays = False
    model[2].bias.requires_grad_(False)
    grow_head_(model, 4)
    assert model[2].weight.decays is False
    assert [p.requires_grad for p in model.parameters()] == [True, True, True, False]


def test_a_named_convolution_grows() -> None:
    model, inputs = nn.Sequential(nn.Linear(8, 8), nn.Conv2d(2, 3, 1)), torch.rand(2, 2, 8, 8)
    before = outputs(model, inputs)
    grow_head_(model, 5, head="1")
    assert torch.equal(outputs(model, inputs)[:, :3], before)
    assert outputs(model, inputs).shape == (2, 5, 8, 8)


def test_under_weight_norm_the_rows_stay_and_the_outputs_agree() -> None:
    model, inputs = nn.Sequential(nn.Linear(4, 8), parametrizations.weight_norm(nn.Linear(8, 3))), torch.rand(6, 4)
    before, rows = outputs(model, inputs), model[1].parametrizations.weight.original1.detach().clone()
    grow_head_(model, 5)
    assert torch.equal(model[1].parametrizations.weight.original1[:3], rows)
    assert torch.allclose(outputs(model, inputs)[:, :3], before)


def test_a_transformer_from_the_library_grows_and_its_configuration_follows() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, num_labels=3
    )
    model = transformers.BertForSequenceClassification(config).eval()
    tokens, labels = torch.randint(20, (4, 6)), torch.tensor([0, 1, 2, 3])
    before = model(tokens).logits
    grow_head_(model, 4)
    assert torch.equal(model(tokens).logits[:, :3], before)
    assert (model.num_labels, model.config.num_labels) == (4, 4)
    assert torch.isfinite(model(tokens, labels=labels).loss)
    # The library draws its heads with a standard deviation of 0.02, and not by reset_parameters.
    grow_head_(model, 2000)
    assert float(model.classifier.weight.detach()[4:].std()) == pytest.approx(0.02, rel=0.05)


def test_an_unlearner_finds_a_grown_head() -> None:
    model = small()
    grow_head_(model, 5)
    before = model[2].weight.detach().clone()
    loader = [(torch.rand(6, 4), torch.randint(5, (6,)))]
    lure.unlearn_(model, loader, "head-reset", seed=1)
    assert bool((model[2].weight != before).all())


def test_as_many_classes_as_now_changes_nothing() -> None:
    model = small()
    parameters = list(model.parameters())
    grow_head_(model, 3)
    grow_head_(model, 3, draw=small)
    assert [id(p) for p in model.parameters()] == [id(p) for p in parameters]
    assert type(model[2]) is nn.Linear


def pruned() -> nn.Module:
    model = small()
    prune.random_unstructured(model[2], "weight", 0.5)
    return model


def with_frozen_head() -> nn.Module:
    model = small()
    model[2].requires_grad_(False)
    return model


def tied() -> nn.Module:
    return NETWORKS["tied"].build()


def wrapped() -> nn.Module:
    model = object.__new__(DistributedDataParallel)  # without a process group, which only its constructor needs
    nn.Module.__init__(model)
    model.module = small()
    return model


def fails() -> nn.Module:
    raise InputError("no network today")


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (small, {"num_classes": 2}, "the model has 3 classes, and a head only grows: num_classes cannot be 2"),
        (small, {"head": "7"}, "no layer named '7'"),
        (small, {"head": "1"}, "layer '1' has no parameters"),
        (lambda: nn.Sequential(nn.LSTM(2, 3)), {"head": "0"}, r"layer '0' \(LSTM\) cannot grow"),
        (lambda: nn.Sequential(nn.Conv2d(1, 2, 3)), {}, "no Linear layer"),
        (tied, {}, "'decoder' shares its weight with another layer: a tied head cannot grow"),
        (tied, {"head": "decoder"}, "a tied head cannot grow"),
        (with_frozen_head, {}, "layer '2' has no trainable weight of its own: name the head"),
        (pruned, {"head": "2"}, "holds 'weight_mask' of shape"),
        (lambda: parametrizations.spectral_norm(nn.Linear(2, 3)), {}, "cannot grow, for it holds"),
        (wrapped, {}, "wrap the model then"),
        (small, {"draw": small}, "draw builds 3 outputs, as there are, and not 5"),
        (small, {"draw": small()}, "draw must be a function"),
        (small, {"draw": lambda: nn.Linear(4, 5)}, "draw builds another architecture: only one of the two networks"),
        (small, {"draw": lambda: nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 5))}, "only the first"),
        (small, {"draw": fails}, "no network today"),
    ],
)
def test_what_cannot_grow_is_refused_and_left_alone(
    build: Callable[[], nn.Module], options: dict[str, Any], message: str
) -> None:
    model = build()
    parameters = {name: (id(value), value.detach().clone()) for name, value in model.named_parameters()}
    with pytest.raises(InputError, match=message):
        grow_head_(model, **{"num_classes": 5} | options)
    assert {name: id(value) for name, value in model.named_parameters()} == {
        n: key for n, (key, _) in parameters.items()
    }
    assert all(torch.equal(value, parameters[name][1]) for name, value in model.named_parameters())


def test_a_layer_that_no_reset_reaches_is_left_as_it_was() -> None:
    class Stubborn(nn.Linear):
        def reset_parameters(self) -> None:
            pass

    model = nn.Sequential(nn.Linear(4, 8), Stubborn(8, 3))
    nn.init.ones_(model[1].weight)
    with pytest.raises(InputError, match="does not reset it; pass draw="):
        grow_head_(model, 5)
    assert model[1].weight.shape == (3, 8)
    assert model[1].out_features == 3


def test_an_optimiser_whose_state_is_not_by_entries_is_refused_first() -> None:
    model = small()
    optimizer = torch.optim.LBFGS(model.parameters())
    inputs = torch.rand(6, 4)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(inputs).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with pytest.raises(InputError, match="cannot be cleared entry by entry"):
        grow_head_(model, 5, optimizer)
    assert model[2].out_features == 3
