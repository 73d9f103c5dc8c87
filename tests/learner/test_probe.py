"""The probe of a stage: what it trains on, what judges it, what it counts, and what it leaves alone."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lure.learner.probe
from lure import Examples, Recipe
from lure.learner.probe import MOST_READ, StageProbe
from lure.learner.record import Offered
from lure.training.fit import fit
from lure.training.loader import Loader
from lure.unlearners import Probed

RECIPE = Recipe(model="mlp", epochs=10, batch_size=8, lr=0.05, threads=1, seed=5, unlearner="auto")


def examples(seed: int, count: int) -> Examples:
    """Random inputs, of which the first number is the place, so that a model knows which rows it sees."""
    inputs = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    inputs[:, 0] = 1000 * seed + torch.arange(count)
    return Examples(inputs, torch.arange(count) % 3)


def offered(train: int = 40, validation: int = 20) -> Offered:
    sets = [Loader(examples(seed, count), "cpu") for seed, count in ((1, train), (2, validation))]
    return Offered(*sets, None, [1], (train,))


class Watching(nn.Module):
    """A network that notes which rows it saw in training, and which in eval mode."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        layers = [nn.Linear(3, 6), nn.Dropout(0.2), *([nn.BatchNorm1d(6)] if norm else []), nn.Linear(6, 3)]
        self.layers = nn.Sequential(*layers)
        self.seen: dict[bool, list[int]] = {True: [], False: []}

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen[self.training] += inputs[:, 0].int().tolist()
        logits: Tensor = self.layers(inputs[:, 1:])
        return logits


def network(norm: bool = False) -> Watching:
    torch.manual_seed(0)
    return Watching(norm)


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    """The recipes that probes train by."""
    seen: list[Recipe] = []

    def watched(model: nn.Module, train: Loader, validation: Loader, recipe: Recipe, **given: Any) -> Any:
        seen.append(recipe)
        return fit(model, train, validation, recipe, **given)

    monkeypatch.setattr(lure.learner.probe, "fit", watched)
    return seen


def test_it_trains_for_its_share_of_the_steps_and_counts_what_it_read() -> None:
    model = network()
    probed = StageProbe(RECIPE, offered(), 2)(model, 0.1)  # 10 epochs of 5 steps of 8
    assert (probed.trained, probed.read) == (40, 20)
    assert len(model.seen[True]) == 40
    assert sorted(model.seen[False]) == [2000 + row for row in range(20)]
    assert math.isfinite(probed.loss)
    assert StageProbe(RECIPE, offered(), 2)(network(), 0.3).trained == 120
    assert StageProbe(RECIPE, offered(), 2)(network(), 0.001).trained == 8  # one step at least
    assert StageProbe(RECIPE, offered(), 1)(network(), 0.1).trained == 40
    shorter = dataclasses.replace(RECIPE, budget=0.2)
    assert StageProbe(shorter, offered(), 2)(network(), 0.5).trained == 40  # half of two epochs
    few = dataclasses.replace(RECIPE, max_steps=20)
    assert StageProbe(few, offered(), 2)(network(), 0.1).trained == 16  # a tenth of the steps that the stage takes


def test_the_loss_is_that_of_the_weights_that_stay_in_the_model() -> None:
    model = network(norm=True)
    offers = offered()
    probed = StageProbe(RECIPE, offers, 2)(model, 0.1)
    inputs, labels = next(offers.validation.batches(None, 20))
    with torch.no_grad():
        expected = nn.functional.cross_entropy(model.eval()(inputs), labels)
    assert probed.loss == pytest.approx(float(expected), rel=1e-5)


def test_at_most_some_validation_examples_judge_and_always_the_same() -> None:
    probe = StageProbe(RECIPE, offered(validation=MOST_READ + 50), 2)
    models = [network(), network()]
    for model in models:
        assert probe(model, 0.02).read == MOST_READ
    assert sorted(models[0].seen[False]) == sorted(models[1].seen[False])
    assert len(set(models[0].seen[False])) == MOST_READ


@pytest.mark.parametrize(("train", "judges"), [(40, 4), (5, 1), (4000, MOST_READ)])
def test_without_validation_a_tenth_is_kept_back_and_not_trained_on(train: int, judges: int) -> None:
    model = network()
    probe = StageProbe(dataclasses.replace(RECIPE, batch_size=64, epochs=20), offered(train, 0), 2)
    assert probe(model, 0.1).read == judges
    assert len(model.seen[False]) == judges
    assert not set(model.seen[True]) & set(model.seen[False])
    assert set(model.seen[True]) | set(model.seen[False]) == {1000 + row for row in range(train)}


def outcome(probe: StageProbe, norm: bool = True) -> tuple[Probed, list[Tensor]]:
    model = network(norm)
    return probe(model, 0.1), [tensor.clone() for tensor in model.state_dict().values()]


def test_equal_arguments_give_equal_bits_and_the_global_state_is_left_alone() -> None:
    probe = StageProbe(RECIPE, offered(), 2)
    first = outcome(probe)
    torch.manual_seed(77)
    state = torch.get_rng_state()
    model = network(norm=True)
    torch.set_rng_state(state)
    probed = probe(model, 0.1)
    assert torch.equal(torch.get_rng_state(), state)
    for other in ((probed, [*model.state_dict().values()]), outcome(StageProbe(RECIPE, offered(), 2))):
        assert first[0] == other[0]
        assert all(torch.equal(one, two) for one, two in zip(first[1], other[1], strict=True))
    for another in (StageProbe(RECIPE, offered(), 3), StageProbe(dataclasses.replace(RECIPE, seed=6), offered(), 2)):
        assert outcome(another)[0].loss != first[0].loss


def test_the_statistics_of_norm_layers_are_taken_anew() -> None:
    model = network(norm=True)
    norm = model.layers[2]
    nn.init.constant_(norm.running_mean, 1e6)  # what remains of these would show
    probed = StageProbe(RECIPE, offered(train=400), 2)(model, 0.01)
    assert probed.read == 20 + MOST_READ // 2
    assert float(norm.running_mean.abs().max()) < 10
    assert norm.momentum == 0.1
    assert torch.isfinite(norm.running_var).all()


def test_it_trains_at_a_constant_rate_without_what_ends_or_reads_more(recipes: list[Recipe]) -> None:
    recipe = dataclasses.replace(
        RECIPE,
        **{"schedule": "cosine", "warmup": 2, "patience": 3, "max_seconds": 0.001, "target_accuracy": 0.1},
        **{"budget": 0.5, "validation_fraction": 0.1, "weight_decay": 0.01, "label_smoothing": 0.1},
    )
    StageProbe(recipe, offered(), 2)(network(), 0.2)
    assert len(recipes) == 1
    used = recipes[0]
    fixed = (used.schedule, used.warmup, used.keep, used.patience, used.max_seconds, used.target_accuracy, used.budget)
    assert fixed == ("constant", 0, "last", None, None, None, 1.0)
    assert (used.weight_decay, used.label_smoothing, used.lr) == (0.01, 0.1, 0.05)
    assert used.seed != recipe.seed  # another order than the fit's


@pytest.mark.parametrize(
    ("regularizers", "expected"),
    [
        ((), ("ema",)),
        (("ema:decay=0.5",), ("ema:decay=0.5",)),
        (("distill", "parseval"), ("parseval", "ema")),
        (("distill:focal=true", "ema:decay=0.9"), ("ema:decay=0.9",)),
    ],
)
def test_an_average_acts_once_and_what_reads_the_previous_version_does_not(
    regularizers: tuple[str, ...], expected: tuple[str, ...], recipes: list[Recipe]
) -> None:
    StageProbe(dataclasses.replace(RECIPE, regularizers=regularizers), offered(), 2)(network(), 0.1)
    assert [recipe.regularizers for recipe in recipes] == [expected]


@pytest.mark.parametrize("pulling", [{"l2_init": 10.0}, {"regularizers": ("l2-init:strength=10",)}])
def test_what_pulls_towards_the_first_weights_has_them(pulling: dict[str, Any]) -> None:
    recipe = dataclasses.replace(RECIPE, lr=0.01, **pulling)
    initial = {name: torch.zeros_like(tensor) for name, tensor in network().state_dict().items()}
    pulled, free = network(), network()
    StageProbe(recipe, offered(), 2, initial)(pulled, 0.2)
    StageProbe(dataclasses.replace(RECIPE, lr=0.01), offered(), 2)(free, 0.2)
    pulled_size, free_size = (
        sum(float(p.detach().square().sum()) for p in model.parameters()) for model in (pulled, free)
    )
    assert pulled_size < 0.5 * free_size


def test_an_average_with_a_slow_twin_goes_with_the_probe() -> None:
    recipe = dataclasses.replace(RECIPE, average_interval=3, average_decay=0.5)
    assert math.isfinite(StageProbe(recipe, offered(), 2)(network(), 0.1).loss)
