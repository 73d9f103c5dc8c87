"""The contract that every unlearner keeps, on every kind of network. To be in the registry is to be tested."""

import copy
import dataclasses
import inspect
import math
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from sample_networks import NETWORKS, Network, trained
from torch import Tensor, nn

from lure.errors import InputError
from lure.unlearners import UNLEARNERS, Context, LureAsReleased, Probed, build_unlearner, name_unlearner

VARIANTS = [
    "scratch:reload=true",
    "lure:scope=all:sample=all:sample_size=10",
    "lure:scope=released:law=kaiming-uniform:sample=all:sample_size=10:ties=all",
    "dash:alpha=0:biases=false:shrink_floor=0:sample=new",
    "dash:ema=chunk",
    "dash:shrink_floor=0.05:shuffled=256",
]
# Dead units, so that there is something for ReDo to do, come with a threshold that takes half of them.
CHOICES = [*UNLEARNERS, *VARIANTS, "redo:tau=0.8"]
# Matrices as small as these are often ill-conditioned; FIRE says so.
pytestmark = pytest.mark.filterwarnings("ignore:fire left")
# What FIRE refuses, auto refuses where it probes: FIRE is one of its candidates.
REFUSED = {(name, "normalised-weights") for name in ("auto", "dash", "fire")}


@pytest.fixture(params=CHOICES)
def choice(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=NETWORKS)
def network_name(request: pytest.FixtureRequest, choice: str) -> str:
    if (choice.partition(":")[0], request.param) in REFUSED:
        pytest.skip("refused: see test_auto, test_dash and test_fire")
    return request.param


@pytest.fixture
def network(network_name: str) -> Network:
    return NETWORKS[network_name]


def context_for(network: Network, seed: int = 0) -> Context:
    batches = [network.batch(1), network.batch(2)]
    return Context(
        batches=batches[1:],
        all_batches=batches,
        chunks=[[batch] for batch in batches],
        shuffled=lambda size, generator: [batches[i] for i in torch.randperm(len(batches), generator=generator)],
        initial={name: tensor.clone() for name, tensor in trained(network, seed=7).state_dict().items()},
        draw=network.build if network.needs_draw else None,
        generator=torch.Generator().manual_seed(seed),
        loss=lambda model, batch: nn.functional.cross_entropy(model(batch[0]).float(), batch[1]),
        probe=lambda model, share: Probed(sum(float(p.detach().abs().sum()) for p in model.parameters()), 0, 0),
        train_accuracy=1.0,
    )


def same(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and first.dtype == second.dtype and torch.equal(first, second)


def test_the_model_keeps_its_form(choice: str, network: Network) -> None:
    model = trained(network)
    next(p for p in model.parameters() if p.requires_grad).grad = None
    last = [p for p in model.parameters() if p.requires_grad][-1]
    last.grad = torch.full_like(last, 2.0)
    modes = {name: layer.training for name, layer in model.named_modules()}
    hooks = {name: (len(m._forward_hooks), len(m._forward_pre_hooks)) for name, m in model.named_modules()}
    identities = {name: id(p) for name, p in model.named_parameters(remove_duplicate=False)}
    kinds = {name: (p.shape, p.dtype, p.stride(), p.requires_grad) for name, p in model.named_parameters()}
    build_unlearner(choice)(model, context_for(network))
    assert {name: layer.training for name, layer in model.named_modules()} == modes
    assert {name: (len(m._forward_hooks), len(m._forward_pre_hooks)) for name, m in model.named_modules()} == hooks
    assert {name: id(p) for name, p in model.named_parameters(remove_duplicate=False)} == identities
    assert {name: (p.shape, p.dtype, p.stride(), p.requires_grad) for name, p in model.named_parameters()} == kinds
    assert all(p.grad is None for p in model.parameters() if p is not last)
    assert torch.equal(last.grad, torch.full_like(last, 2.0))
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert all(p.is_leaf for p in model.parameters())


def test_it_changes_weights_and_neither_what_is_frozen_nor_buffers(choice: str, network: Network) -> None:
    model = trained(network)
    before = copy.deepcopy(model)
    build_unlearner(choice)(model, context_for(network))
    pairs = dict(zip(model.parameters(), before.parameters(), strict=True))
    changed = sum(int((p != old).sum()) for p, old in pairs.items())
    # Only a warm start leaves all as it is, and ReDo where no unit is dormant.
    assert (changed > 0) == (choice != "warm-start") or choice == "redo"
    assert all(same(p, old) for p, old in pairs.items() if not p.requires_grad)
    if not choice.startswith("scratch"):
        for (name, buffer), old in zip(model.named_buffers(), before.buffers(), strict=True):
            assert same(buffer, old), name


def test_the_same_seed_gives_the_same_weights(choice: str, network: Network) -> None:
    models = [trained(network), trained(network)]
    for model in models:
        build_unlearner(choice)(model, context_for(network, seed=3))
        torch.rand(7)  # the global random state has no part in it
    for first, second in zip(models[0].state_dict().values(), models[1].state_dict().values(), strict=True):
        assert same(first, second)


def test_what_is_around_it_stays(choice: str, network: Network) -> None:
    model, context = trained(network), context_for(network)
    given = copy.deepcopy([context.batches, context.all_batches, context.initial])
    torch.manual_seed(11)
    state = torch.get_rng_state()
    grad_enabled = torch.is_grad_enabled()
    build_unlearner(choice)(model, context)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled() == grad_enabled
    for batch, old in zip([*context.batches, *context.all_batches], [*given[0], *given[1]], strict=True):
        assert all(same(part, part_before) for part, part_before in zip(batch, old, strict=True))
    assert all(same(context.initial[name], tensor) for name, tensor in given[2].items())


def test_it_works_without_a_generator_and_under_no_grad(choice: str) -> None:
    network = NETWORKS["mlp"]
    models = [trained(network), trained(network)]
    context = dataclasses.replace(context_for(network), generator=None)
    build_unlearner(choice)(models[0], context)
    with torch.no_grad():
        build_unlearner(choice)(models[1], context)
    for first, second in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("name", UNLEARNERS)
def test_hyperparameters_are_fields_with_defaults(name: str) -> None:
    kind = UNLEARNERS[name]
    assert dataclasses.is_dataclass(kind)
    unlearner = kind()
    for parameter in inspect.signature(kind).parameters.values():
        assert parameter.kind is parameter.KEYWORD_ONLY
    fields = dataclasses.fields(kind)
    if fields:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(unlearner, fields[0].name, 0.5)
    assert name_unlearner(unlearner) == name
    assert kind.__doc__ is not None
    for part in (">>>", "Reference:"):
        assert part in kind.__doc__
    for field in fields:
        assert f"{field.name}: " in kind.__doc__, f"{field.name} is not explained"


def test_a_choice_survives_the_round_trip_through_text(choice: str) -> None:
    unlearner = build_unlearner(choice)
    assert build_unlearner(name_unlearner(unlearner)) == unlearner


@pytest.mark.parametrize("name", UNLEARNERS)
@pytest.mark.parametrize("bad", [float("nan"), -0.5, 1.5])
def test_shares_outside_the_unit_interval_are_refused(name: str, bad: float) -> None:
    for field in dataclasses.fields(UNLEARNERS[name]):
        if field.type in (float, "float") and field.metadata["high"] == 1:
            with pytest.raises(InputError, match=f"{field.name} must lie in \\[0, 1\\], got {bad}"):
                UNLEARNERS[name](**{field.name: bad})


@pytest.mark.parametrize("name", UNLEARNERS)
def test_a_value_that_is_none_of_the_names_is_refused(name: str) -> None:
    for field, kind in get_type_hints(UNLEARNERS[name]).items():
        if get_origin(kind) is Literal:
            with pytest.raises(InputError, match=f"unknown value of {field} 'nonsense'.*valid: {min(get_args(kind))}"):
                UNLEARNERS[name](**{field: "nonsense"})


@pytest.mark.parametrize("name", UNLEARNERS)
def test_a_value_of_another_kind_is_refused(name: str) -> None:
    for field, kind in get_type_hints(UNLEARNERS[name]).items():
        if kind is float:
            with pytest.raises(InputError, match=f"{field} must be a number, got '0.3'"):
                UNLEARNERS[name](**{field: "0.3"})
        if int in (kind, *get_args(kind)):
            with pytest.raises(InputError, match=f"{field} must be a whole number, got 2.5"):
                UNLEARNERS[name](**{field: 2.5})
        if kind is bool:
            with pytest.raises(InputError, match=f"{field} must be true or false, got 1"):
                UNLEARNERS[name](**{field: 1})
        if str in (kind, *get_args(kind)):
            with pytest.raises(InputError, match=f"{field} must be text, got 3"):
                UNLEARNERS[name](**{field: 3})


@pytest.mark.parametrize("kind", [*UNLEARNERS.values(), LureAsReleased])
def test_every_hyperparameter_has_a_meaning_and_its_range_is_enforced(kind: type) -> None:
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        assert field.metadata["meaning"], f"{field.name} has no meaning: declare it with setting(...)"
        if not {int, float} & {hints[field.name], *get_args(hints[field.name])}:
            continue
        low, high = field.metadata["low"], field.metadata["high"]
        bad = [math.nan, math.inf, *([] if low is None else [low - 1]), *([] if high is None else [high + 1])]
        for value in bad:
            with pytest.raises(InputError, match=rf"{field.name} must .*, got {value}"):
                kind(**{field.name: value})
        for end in {low, high} - {None}:
            assert getattr(kind(**{field.name: end}), field.name) == end


@pytest.mark.parametrize("name", ["lure", "fisher-reset", "dash", "redo", "auto"])
def test_a_method_that_reads_data_says_when_there_are_none(name: str) -> None:
    model = trained(NETWORKS["mlp"])
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(InputError, match="pass a loader with at least one"):
        build_unlearner(name)(model, Context(batches=[], all_batches=[], chunks=[[]]))
    assert all(same(tensor, before[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", UNLEARNERS)
def test_a_model_of_which_nothing_may_move_is_refused(name: str) -> None:
    model = trained(NETWORKS["mlp"]).requires_grad_(False)
    if name == "warm-start":
        build_unlearner(name)(model, context_for(NETWORKS["mlp"]))
        return
    with pytest.raises(InputError):
        build_unlearner(name)(model, context_for(NETWORKS["mlp"]))


def test_what_cannot_be_redrawn_is_an_error() -> None:
    network = NETWORKS["encoder"]
    for name in ("scratch", "shrink-perturb"):
        with pytest.raises(InputError, match=r"cannot redraw 'positions'.*pass draw="):
            build_unlearner(name)(trained(network), dataclasses.replace(context_for(network), draw=None))


def test_an_unlearner_works_through_a_wrapper(choice: str) -> None:
    network = NETWORKS["convolutions"]
    plain, inner = trained(network), trained(network)
    build_unlearner(choice)(plain, context_for(network))
    build_unlearner(choice)(nn.DataParallel(inner), context_for(network))
    for first, second in zip(plain.parameters(), inner.parameters(), strict=True):
        assert torch.equal(first, second)
