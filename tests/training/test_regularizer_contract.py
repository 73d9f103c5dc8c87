"""The contract that every regularizer keeps. To be in the registry is to be tested."""

import copy
import dataclasses
import inspect
import math
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
from torch import Tensor, nn
from unlearners.sample_networks import NETWORKS, Network, trained

from lure import Examples, InputError, Learner, Recipe
from lure.settings import format_choice
from lure.training.fit import Progress, fit
from lure.training.loader import Loader
from lure.training.regularizers import REGULARIZERS, FitContext, Regularizers, build_regularizers
from lure.training.schedule import build_optimizer
from lure.training.state import FitState, restore_training, training_tensors

# name -> the setting at which it does nothing, and one at which a few steps show it
SETTINGS = {
    "l2-init": ("l2-init:strength=0", "l2-init:strength=0.5"),
    "hare-tortoise": ("hare-tortoise:interval=none", "hare-tortoise:interval=2:decay=0.7"),
    "ema": ("ema:decay=0", "ema:decay=0.9"),
    "distill": ("distill:strength=0", "distill:focal=true:temperature=2"),
    "parseval": ("parseval:strength=0", "parseval:strength=0.1:scale=2"),
}
ACTIVE = [active for _, active in SETTINGS.values()]
# Examples hold no half precision, and parseval refuses weights that are computed.
FITTED = [name for name in NETWORKS if name not in ("low-precision", "normalised-weights")]
RECIPE = Recipe(
    epochs=3, batch_size=4, lr=0.05, momentum=0.9, milestones=(), threads=1, validation_fraction=0.5, clip_norm=5.0
)


def context_for(network: Network, previous: nn.Module | None = None) -> FitContext:
    initial = {name: tensor.clone() for name, tensor in trained(network, seed=7).state_dict().items()}
    return FitContext(initial=initial, previous=previous or trained(network, seed=8))


def loader_of(network: Network, seed: int) -> Loader:
    inputs, labels = network.batch(seed)
    return Loader(Examples(inputs[:11], labels[:11]), "cpu")


def fit_network(
    name: str, choices: list[str], model: nn.Module | None = None, state: FitState | None = None, **options: Any
) -> tuple[nn.Module, dict[str, Tensor], FitState]:
    """Train a sample network by a recipe; return it, all tensors of it and its optimiser, and where the fit ended."""
    network = NETWORKS[name]
    recipe = dataclasses.replace(RECIPE, regularizers=tuple(choices))
    model = model or trained(network)
    optimizer = options.pop("optimizer", None) or build_optimizer(model, recipe)
    context = context_for(network)
    state = fit(
        *(model, loader_of(network, 1), loader_of(network, 2), recipe),
        stage=2,
        optimizer=optimizer,
        state=state,
        initial=context.initial,
        previous=context.previous,
        **options,
    )
    return model, training_tensors(model, optimizer), state


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Equal to the last bit, signs of zero included."""
    return first.keys() == second.keys() and all(
        a.dtype == second[name].dtype
        and torch.equal(a, second[name])
        and torch.equal(a.signbit(), second[name].signbit())
        for name, a in first.items()
    )


def test_every_regularizer_is_tested() -> None:
    assert SETTINGS.keys() == REGULARIZERS.keys()


@pytest.mark.parametrize("name", FITTED)
def test_at_strength_zero_a_fit_is_the_plain_fit(name: str) -> None:
    _, plain, ended = fit_network(name, [])
    for neutral, active in SETTINGS.values():
        _, tensors, state = fit_network(name, [neutral])
        assert same(tensors, plain), neutral
        assert (state.kept_epoch, state.kept_accuracy, state.forwards) == (
            *(ended.kept_epoch, ended.kept_accuracy, 0),
        ), neutral
        if name == "convolutions":
            assert not same(fit_network(name, [active])[1], plain), active


@pytest.mark.parametrize("choice", [*ACTIVE, "+".join(ACTIVE)])
@pytest.mark.parametrize("name", ["mlp", "convolutions", "tied", "frozen"])
def test_a_fit_goes_on_exactly_after_any_epoch(choice: str, name: str) -> None:
    choices, stops = choice.split("+"), []

    def remember(state: FitState) -> None:
        stops.append((training_tensors(model, optimizer), copy.deepcopy(state)))

    recipe = dataclasses.replace(RECIPE, regularizers=tuple(choices))
    model = trained(NETWORKS[name])
    optimizer = build_optimizer(model, recipe)
    _, straight, ended = fit_network(name, choices, model, optimizer=optimizer, checkpoint=remember)
    assert len(stops) == 3
    for tensors, state in stops:
        again = trained(NETWORKS[name], seed=5)
        frozen = {n: p for n, p in trained(NETWORKS[name]).named_parameters() if not p.requires_grad}
        fresh = build_optimizer(again, recipe)
        restore_training(again, fresh, tensors)
        assert all(torch.equal(dict(again.named_parameters())[n], p) for n, p in frozen.items())
        _, resumed, reached = fit_network(name, choices, again, state, optimizer=fresh)
        assert same(resumed, straight), f"after epoch {state.epoch}"
        assert dataclasses.replace(reached, seconds=0) == dataclasses.replace(ended, seconds=0)


@pytest.mark.parametrize("choice", [*ACTIVE, "parseval:head=true", "distill"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_leaves_everything_else_alone(choice: str, name: str) -> None:
    if choice.startswith("parseval") and name == "normalised-weights":
        pytest.skip("refused: see test_parseval")
    network = NETWORKS[name]
    model, previous = trained(network), trained(network, seed=8).train()
    context = context_for(network, previous)
    before, given = copy.deepcopy(model), copy.deepcopy((previous, context.initial))
    last = [p for p in model.parameters() if p.requires_grad][-1]
    last.grad = torch.full_like(last, 2.0)
    modes = {n: layer.training for n, layer in model.named_modules()}
    hooks = {n: (len(m._forward_hooks), len(m._forward_pre_hooks)) for n, m in model.named_modules()}
    identities = {n: id(p) for n, p in model.named_parameters(remove_duplicate=False)}
    torch.manual_seed(11)
    rng = torch.get_rng_state()
    inputs, labels = network.batch(3)
    logits = trained(network)(inputs) if name == "recurrent" else trained(network).eval()(inputs)
    (running,) = [r.start(model, context) for r in build_regularizers([choice]).values()]
    running.loss_term(inputs, logits.detach(), labels)
    running.after_step()
    running.state_dict()
    with running.serving():
        pass
    assert torch.equal(torch.get_rng_state(), rng)
    assert {n: layer.training for n, layer in model.named_modules()} == modes
    assert {n: (len(m._forward_hooks), len(m._forward_pre_hooks)) for n, m in model.named_modules()} == hooks
    assert {n: id(p) for n, p in model.named_parameters(remove_duplicate=False)} == identities
    assert all(p.grad is None for p in model.parameters() if p is not last)
    assert torch.equal(last.grad, torch.full_like(last, 2.0))
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), before.state_dict().values(), strict=True)
    )
    assert all(
        p.requires_grad == q.requires_grad for p, q in zip(previous.parameters(), given[0].parameters(), strict=True)
    )
    assert all(m.training == n.training for m, n in zip(previous.modules(), given[0].modules(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(previous.buffers(), given[0].buffers(), strict=True))
    assert all(torch.equal(context.initial[n], tensor) for n, tensor in given[1].items())


@pytest.mark.parametrize("choice", ACTIVE)
@pytest.mark.parametrize("name", NETWORKS)
def test_frozen_weights_stay_and_gradients_are_finite(choice: str, name: str) -> None:
    if choice.startswith("parseval") and name == "normalised-weights":
        pytest.skip("refused: see test_parseval")
    network = NETWORKS[name]
    model = trained(network)
    before = copy.deepcopy(model)
    acting = Regularizers(build_regularizers([choice]), model, context_for(network), {})
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    for seed in (1, 2):
        inputs, labels = network.batch(seed)
        logits = model(inputs)
        optimizer.zero_grad()
        acting.add_terms(nn.functional.cross_entropy(logits.float(), labels), inputs, logits, labels).backward()
        optimizer.step()
        acting.after_step()
    acting.serve()
    for parameter, old in zip(model.parameters(), before.parameters(), strict=True):
        assert parameter.dtype == old.dtype
        assert torch.isfinite(parameter).all()
        assert parameter.requires_grad or torch.equal(parameter, old)


@pytest.mark.parametrize("neutral", [neutral for neutral, _ in SETTINGS.values()])
def test_in_a_loop_of_ones_own_strength_zero_adds_zero(neutral: str) -> None:
    network = NETWORKS["mlp"]
    model = trained(network)
    (running,) = [r.start(model, context_for(network)) for r in build_regularizers([neutral]).values()]
    assert running.loss_term(*network.batch(1), None).item() == 0
    assert running.state_dict() == {}


@pytest.mark.parametrize("choice", ACTIVE)
def test_shares_of_a_batch_add_up_to_the_gradient_of_the_whole(choice: str) -> None:
    """As `fit` weighs what several processes compute on their shares: rows times processes over rows of the batch."""
    network = NETWORKS["mlp"]
    inputs, labels = network.batch(1)

    def gradients(rows: slice, weight: float) -> list[Tensor]:
        model = trained(network).eval()
        acting = Regularizers(build_regularizers([choice]), model, context_for(network), {})
        logits = model(inputs[rows])
        loss = nn.functional.cross_entropy(logits, labels[rows])
        (weight * acting.add_terms(loss, inputs[rows], logits, labels[rows])).backward()
        return [p.grad for p in model.parameters()]

    shares = gradients(slice(0, 12, 3), 3 * 4 / 12), gradients(slice(1, 12, 3), 1.0), gradients(slice(2, 12, 3), 1.0)
    for whole, *parts in zip(gradients(slice(None), 1.0), *shares, strict=True):
        torch.testing.assert_close(sum(parts) / 3, whole)
    uneven = gradients(slice(0, 5), 2 * 5 / 12), gradients(slice(5, 12), 2 * 7 / 12)
    for whole, *parts in zip(gradients(slice(None), 1.0), *uneven, strict=True):
        torch.testing.assert_close(sum(parts) / 2, whole)


CHUNKS = [
    Examples(
        torch.randint(256, (24, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)),
        torch.arange(24) % 3,
    )
    for seed in range(2)
]


@pytest.mark.parametrize("choice", [*ACTIVE, "+".join(ACTIVE)])
def test_a_learner_goes_on_exactly_after_any_epoch(choice: str, tmp_path: Path) -> None:
    recipe = Recipe(
        model="convnet:width=4", epochs=2, batch_size=8, lr=0.05, threads=1, regularizers=tuple(choice.split("+"))
    )

    def learn(directory: Path, stop: tuple[int, int] | None) -> None:
        def watch(moment: Progress) -> None:
            if stop == (moment.stage, moment.epoch):
                raise KeyboardInterrupt

        with Learner.open(directory, recipe=recipe, test=CHUNKS[0], checkpoint_share=math.inf) as learner:
            for chunk in CHUNKS[len(learner.stages) :]:
                learner.learn(chunk, watch)

    learn(tmp_path / "straight", None)
    for stop in ((1, 1), (1, 2), (2, 1), (2, 2)):
        with pytest.raises(KeyboardInterrupt):
            learn(tmp_path / "stopped", stop)
    learn(tmp_path / "stopped", None)
    for file in sorted((tmp_path / "straight" / "versions").rglob("*.safetensors")):
        assert file.read_bytes() == (tmp_path / "stopped" / file.relative_to(tmp_path / "straight")).read_bytes()


@pytest.mark.parametrize("name", REGULARIZERS)
def test_hyperparameters_are_fields_with_defaults_ranges_and_meanings(name: str) -> None:
    kind = REGULARIZERS[name]
    assert dataclasses.is_dataclass(kind)
    assert all(p.kind is p.KEYWORD_ONLY for p in inspect.signature(kind).parameters.values())
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(kind(), dataclasses.fields(kind)[0].name, 0.5)
    assert format_choice(kind(), REGULARIZERS) == name
    assert kind.__doc__ is not None
    for part in (">>>", "Reference:", *(f"{field.name}: " for field in dataclasses.fields(kind))):
        assert part in kind.__doc__, f"{part} is missing"
    for field in dataclasses.fields(kind):
        assert field.metadata["meaning"]
        number = {int, float} & {get_type_hints(kind)[field.name], *get_args(get_type_hints(kind)[field.name])}
        low, high, above, below = (field.metadata[end] for end in ("low", "high", "above", "below"))
        past = [low is not None and low - 1, high is not None and high + 1, above, below]
        bad = [end for end in past if end is not None and end is not False] if number else []
        for value in (*bad, *([math.nan, math.inf] if number else [])):
            with pytest.raises(InputError, match=rf"{field.name} must .*, got {value:g}"):
                kind(**{field.name: value})
        with pytest.raises(InputError, match=f"{field.name} must be .*, got 'x'"):
            kind(**{field.name: "x"})


@pytest.mark.parametrize("choice", [choice for pair in SETTINGS.values() for choice in pair])
def test_a_choice_survives_the_round_trip_through_text(choice: str) -> None:
    (built,) = build_regularizers([choice]).values()
    assert build_regularizers([format_choice(built, REGULARIZERS)]) == {choice.partition(":")[0]: built}


def test_a_wrapper_changes_nothing() -> None:
    network = NETWORKS["convolutions"]
    inputs, labels = network.batch(1)
    for choice in ACTIVE:
        found = []
        for wrap in (nn.Identity, nn.DataParallel):
            inner = trained(network)
            wrapped = inner if wrap is nn.Identity else wrap(inner)
            acting = Regularizers(build_regularizers([choice]), wrapped, context_for(network), {})
            logits = wrapped(inputs)
            loss = acting.add_terms(nn.functional.cross_entropy(logits, labels), inputs, logits, labels)
            loss.backward()
            with torch.no_grad():
                for parameter in inner.parameters():
                    parameter -= 0.1 * parameter.grad
            acting.after_step()
            acting.serve()
            found.append(inner.state_dict())
        assert same(*found), choice
