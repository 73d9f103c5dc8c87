"""Epochs, learning rates and the ends of a fit, as functions of recipe, stage and step."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from lure import Examples, InputError, Recipe
from lure.training.fit import Progress, fit
from lure.training.loader import Loader
from lure.training.schedule import learning_rate

STEPS = 5  # in an epoch


def rates(recipe: Recipe, stage: int = 2) -> list[float]:
    epochs = range(1, recipe.epochs_of(stage) + 1)
    return [learning_rate(recipe, epoch, step, STEPS, stage) for epoch in epochs for step in range(1, STEPS + 1)]


@pytest.mark.parametrize(("epochs", "budget", "expected"), [(20, 0.1, 2), (20, 1, 20), (3, 0.01, 1), (5, 0.3, 2)])
def test_a_budget_counts_from_stage_2_on_and_leaves_at_least_one_epoch(
    epochs: int, budget: float, expected: int
) -> None:
    recipe = Recipe(epochs=epochs, budget=budget)
    assert [recipe.epochs_of(stage) for stage in (1, 2, 9)] == [epochs, expected, expected]


def test_milestones_scale_with_the_budget_inside_an_epoch_too() -> None:
    recipe = Recipe(lr=1.0, epochs=20, budget=0.1, milestones=(8, 16), gamma=0.1)
    # 8 of 20 epochs are 0.8 of 2: four of ten steps; 16 are 1.6 of 2: eight of ten.
    assert rates(recipe) == pytest.approx([1.0] * 4 + [0.1] * 4 + [0.01] * 2)
    whole = dataclasses.replace(recipe, budget=1.0)
    assert rates(whole) == pytest.approx([1.0] * 40 + [0.1] * 40 + [0.01] * 20)
    assert rates(recipe, stage=1) == rates(whole)


def test_warm_up_scales_with_the_budget() -> None:
    recipe = Recipe(lr=1.0, epochs=10, budget=0.2, milestones=(), warmup=5)
    assert rates(recipe) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0] + [1.0] * 5)


def test_a_cosine_falls_from_the_rate_to_zero_at_any_budget() -> None:
    for budget in (1.0, 0.2):
        recipe = Recipe(lr=0.5, epochs=10, budget=budget, schedule="cosine")
        total = recipe.epochs_of(2) * STEPS
        expected = [0.25 * (1 + math.cos(math.pi * step / total)) for step in range(total)]
        assert rates(recipe) == pytest.approx(expected)


def test_a_cooldown_is_constant_and_then_falls_in_a_line_to_zero() -> None:
    recipe = Recipe(lr=1.0, epochs=4, schedule="cooldown", cooldown=0.25)
    assert rates(recipe) == pytest.approx([1.0] * 15 + [1.0, 0.8, 0.6, 0.4, 0.2])
    assert rates(Recipe(lr=1.0, epochs=2, schedule="constant", milestones=(1,))) == [1.0] * 10


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


def examples(count: int) -> Examples:
    generator = torch.Generator().manual_seed(count)
    return Examples(torch.randn(count, 1, 4, 4, generator=generator), torch.arange(count) % 3)


def loader(count: int) -> Loader:
    return Loader(examples(count), torch.device("cpu"), False, 0)


def test_patience_stops_after_so_many_epochs_without_a_rise_and_keeps_the_best() -> None:
    recipe = Recipe(epochs=50, patience=3, lr=0.1, milestones=(), batch_size=8)
    model, seen = network(), []
    state = fit(model, loader(24), loader(9), recipe, on_epoch=lambda epoch: seen.append(epoch.validation_accuracy))
    assert state.stopped_by == "patience"
    assert state.epoch == state.kept_epoch + 3 < 50
    assert state.kept_epoch == 1 + seen.index(max(seen))
    assert max(seen[state.kept_epoch :]) <= seen[state.kept_epoch - 1]
    kept = fit(network(), loader(24), loader(9), dataclasses.replace(recipe, patience=None, epochs=state.kept_epoch))
    assert kept.kept_epoch == state.kept_epoch


def test_patience_needs_something_to_validate_on() -> None:
    for fields, given in (({"keep": "last"}, "keep = last"), ({"validation_fraction": 0}, "validation_fraction = 0")):
        with pytest.raises(InputError, match=f"patience keeps the epoch .* it cannot go with {given}"):
            Recipe(patience=1, **fields)
    with pytest.raises(InputError, match="patience needs validation examples, and stage 1 has none"):
        fit(network(), loader(8), loader(0), Recipe(patience=1))


def test_a_long_gradient_is_cut_to_the_norm_and_a_short_one_is_left_alone() -> None:
    plain = Recipe(epochs=1, batch_size=24, lr=1.0, momentum=0.0, weight_decay=0.0, milestones=(), keep="last")
    moved = {}
    for norm in (None, 1e-3, 1e6):
        model, before = network(), network()
        fit(model, loader(24), loader(0), dataclasses.replace(plain, clip_norm=norm))
        differences = [
            (one - other).detach() for one, other in zip(model.parameters(), before.parameters(), strict=True)
        ]
        moved[norm] = float(torch.cat([difference.flatten() for difference in differences]).norm())
    assert moved[1e-3] == pytest.approx(1e-3, rel=1e-2)
    assert moved[1e6] == moved[None] > 0.1


def test_label_smoothing_trains_towards_the_smoothed_targets() -> None:
    recipe = Recipe(epochs=1, batch_size=24, lr=1.0, momentum=0.0, weight_decay=0.0, milestones=(), keep="last")
    model, twin, data = network(), network(), examples(24)
    fit(model, loader(24), loader(0), dataclasses.replace(recipe, label_smoothing=0.3))
    targets = 0.7 * nn.functional.one_hot(data.labels, 3) + 0.1
    loss = -(targets * twin(data.inputs).log_softmax(1)).sum(1).mean()
    loss.backward()
    for weight, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(weight, other - other.grad)


def test_progress_bars_know_the_epochs_of_the_stage() -> None:
    recipe, shown = Recipe(epochs=10, budget=0.2, batch_size=8), list[Progress]()
    for stage in (1, 2):
        fit(network(), loader(8), loader(0), recipe, stage=stage, watch=shown.append)
    assert {(moment.stage, moment.epochs) for moment in shown} == {(1, 10), (2, 2)}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"budget": 0}, "budget must be above 0 and at most 1, got 0"),
        ({"budget": 1.5}, "budget must be above 0 and at most 1, got 1.5"),
        ({"budget": math.nan}, "budget must be above 0 and at most 1, got nan"),
        ({"clip_norm": 0}, "clip_norm must be above 0, got 0"),
        ({"cooldown": 0}, "cooldown must be above 0 and at most 1, got 0"),
        ({"patience": 0}, "patience must be at least 1, got 0"),
        ({"label_smoothing": -0.1}, r"label_smoothing must lie in \[0, 1\], got -0.1"),
        ({"schedule": "cosin"}, "unknown value of schedule 'cosin': did you mean 'cosine'"),
    ],
)
def test_values_out_of_range_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Recipe(**fields)
