"""Recipes: types and ranges, TOML there and back, precedence, and the options that bring released behaviour back."""

import dataclasses
import math
import pickle
import typing
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import lure.data.augmentation
import lure.recipe
from lure import BufferReplay, Examples, Experiment, InputError, LastReplay, Learner, Lure, Recipe, Scratch
from lure.recipe import Policy, differing_fields, load_experiment, policy_name, shipped_recipes, to_toml
from lure.training.fit import Epoch, fit
from lure.training.loader import Loader
from lure.training.schedule import build_optimizer, learning_rate

FIELDS = {field.name: field for field in dataclasses.fields(Experiment)}


def values_of(kind: Any, low: float | None, high: float | None, above: float | None = None) -> st.SearchStrategy[Any]:
    """Values of a field's type, in its range."""
    options = typing.get_args(kind)
    if type(None) in options:
        return st.none() | values_of(options[0], low, high, above)
    if typing.get_origin(kind) is typing.Literal:
        return st.sampled_from(options)
    if kind is bool:
        return st.booleans()
    if kind is int:
        return st.integers(int(low or 0), 10**9)
    if kind is float:
        least = low if above is None else math.nextafter(above, math.inf)
        return st.floats(least, high, allow_nan=False, allow_infinity=False)
    if typing.get_origin(kind) is tuple:
        return st.lists(values_of(options[0], low, high), max_size=3, unique=options[0] is str).map(tuple)
    if kind is str:  # lists of names: those of the regularizers
        return st.sampled_from(["ema", "parseval:strength=0.1"])
    raise AssertionError(kind)


HINTS = typing.get_type_hints(Experiment)
NOTES = "departs_from"  # what a comparison writes
# Names are chosen from registries, three numbers belong together, and patience goes with a validation set.
FREE = [
    name
    for name in FIELDS
    if HINTS[name] is not str and name not in ("imbalance", "order", "label_noise", "patience", NOTES)
]
experiments = st.fixed_dictionaries(
    {},
    optional={
        name: values_of(HINTS[name], **{key: FIELDS[name].metadata[key] for key in ("low", "high", "above")})
        for name in FREE
    },
).map(lambda values: Experiment(**values))


@given(experiment=experiments)
@settings(max_examples=100, deadline=None)
def test_toml_there_and_back(experiment: Experiment) -> None:
    assert Experiment.from_toml(to_toml(experiment), "text") == experiment


@pytest.mark.parametrize("text", ['quote " back \\ slash', "umlaut ü, sign é", "new\nline"])
def test_text_survives_toml(text: str) -> None:
    assert Experiment.from_toml(to_toml(Experiment(dataset=text)), "text").dataset == text


def test_a_recipe_offers_every_augmentation_that_there_is() -> None:
    """The names stand twice, because recipes import without torch."""
    assert set(typing.get_args(lure.recipe.Augmentation)) == set(typing.get_args(lure.data.augmentation.Augmentation))


def test_every_field_says_what_it_means() -> None:
    text = to_toml(Experiment())
    for name, field in FIELDS.items():
        assert field.metadata["meaning"]
        assert f"# {field.metadata['meaning']}\n{name} = " in text or getattr(Experiment(), name) is None


def test_flag_before_file_before_default() -> None:
    recipe = Recipe.from_toml("epochs = 3\nlr = 0.5", "file", {"lr": "0.25"})
    assert (recipe.epochs, recipe.lr, recipe.batch_size) == (3, 0.25, 64)


def test_text_of_a_flag_is_read_by_the_type_of_its_field() -> None:
    experiment = Experiment(milestones="20,40", later_lr="none", carry_optimizer="true", shots="7", lr=1)  # type: ignore[arg-type]
    assert (experiment.milestones, experiment.later_lr, experiment.carry_optimizer) == ((20, 40), None, True)
    assert (experiment.shots, experiment.lr, type(experiment.lr)) == (7, 1.0, float)


BAD_VALUES = {
    "epochs": (0, "epochs must be at least 1, got 0"),
    "batch_size": ("many", "batch_size must be a whole number, got 'many'"),
    "lr": (-0.1, "lr must be at least 0, got -0.1"),
    "later_lr": (-1, "later_lr must be at least 0, got -1"),
    "momentum": (1.5, r"momentum must lie in \[0, 1\], got 1.5"),
    "milestones": ([0], "milestones must be at least 1, got 0"),
    "carry_optimizer": (1, "carry_optimizer must be true or false, got 1"),
    "tf32": ("maybe", "tf32 must be true or false, got 'maybe'"),
    "seed": (1.5, "seed must be a whole number, got 1.5"),
    "keep": ("worst", "unknown value of keep 'worst'"),
    "precision": (16, r"precision cannot be 16 \(int\)"),
    "unlearner": ("lurre", "unknown unlearner 'lurre': did you mean 'lure'"),
    "replay": ("buffer:capacity=0", "capacity must be at least 1, got 0"),
    "validation_fraction": (float("nan"), r"validation_fraction must lie in \[0, 0.9\], got nan"),
    "imbalance": ((5.0, 2.0), "imbalance must be largest,smallest,gamma, got 5.0,2.0"),
}


@pytest.mark.parametrize("name", BAD_VALUES)
def test_bad_values_are_refused_with_field_and_value(name: str) -> None:
    value, message = BAD_VALUES[name]
    with pytest.raises(InputError, match=message):
        Experiment(**{name: value})


@pytest.mark.parametrize("other", [{"label_noise": 0.3}, {"imbalance": (50, 5, 1)}])
def test_the_released_order_has_no_noise_and_no_imbalance(other: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="order = released has neither imbalance nor label noise"):
        Experiment(order="released", **other)


def test_what_the_schedule_does_not_read_is_refused_where_it_was_asked_for() -> None:
    cosine = 'schedule = "cosine"\nmilestones = [3]\n'
    assert Experiment.from_toml(cosine, "a file").milestones == (3,), "a complete recipe holds every field"
    assert Experiment.from_toml(cosine, "a file", {"milestones": ""}).milestones == ()
    assert Experiment.from_toml(cosine, "a file", {"milestones": "5", "schedule": "steps"}).milestones == (5,)
    with pytest.raises(
        InputError, match=r"^a file: milestones have no effect in schedule = cosine: .* schedule = steps$"
    ):
        Experiment.from_toml(cosine, "a file", {"milestones": "5"})
    with pytest.raises(InputError, match=r"^a file: gamma has no effect in schedule = constant: leave it out, or set "):
        Experiment.from_toml("epochs = 3", "a file", {"gamma": "0.5", "schedule": "constant"})
    with pytest.raises(InputError, match=r"^policy late: cooldown has no effect in schedule = steps: .* = cooldown$"):
        Policy.read("late=unlearner=dash cooldown=0.5").applied_to(Experiment())
    assert Policy.read("late=schedule=cooldown cooldown=0.5").applied_to(Experiment()).cooldown == 0.5


def test_bad_files_are_named() -> None:
    with pytest.raises(InputError, match=r"^my.toml: unknown recipe field 'epoch': did you mean 'epochs'\?$"):
        Recipe.from_toml("epoch = 3", "my.toml")
    with pytest.raises(InputError, match=r"^my.toml is not valid TOML: "):
        Recipe.from_toml("epochs = = 3", "my.toml")
    with pytest.raises(InputError, match=r"^my.toml: epochs must be a whole number, got 'a'$"):
        Recipe.from_toml('epochs = "a"', "my.toml")


def test_recipes_are_found_by_name_and_by_file(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text("epochs = 4\n")
    assert load_experiment(str(file)).epochs == 4
    assert load_experiment("cifar10").epochs == 50
    assert "demo" in shipped_recipes()
    with pytest.raises(InputError, match=r"there is no recipe file .*missing\.toml"):
        load_experiment(str(tmp_path / "missing.toml"))
    with pytest.raises(InputError, match="unknown recipe 'cifar11': did you mean"):
        load_experiment("cifar11")
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot read recipe"):
        load_experiment(str(file))


def test_differences_are_named() -> None:
    assert differing_fields(Recipe(), Recipe()) == []
    found = differing_fields(Recipe(milestones=(3,)), Recipe(milestones=(3, 4), later_lr=0.1))
    assert found == ["later_lr: none -> 0.1", "milestones: 3 -> 3,4"]


def test_policy_names_are_safe_for_folders() -> None:
    name = policy_name("lure:forget_fraction=0.3:scope=all")
    assert name == "lure+forget_fraction=0.3+scope=all"
    assert not set(name) & set('<>:"/\\|?*')


# What brings released behaviour back


def noise_images(count: int, seed: int) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    return Examples(
        torch.randint(256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator), torch.arange(count) % 3
    )


def net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 3))


SMALL = Recipe(epochs=4, batch_size=8, lr=0.1, milestones=(3,), gamma=0.5, threads=1)


def test_later_stages_can_begin_with_another_learning_rate() -> None:
    recipe = dataclasses.replace(SMALL, lr=0.4, later_lr=0.1)
    for stage, expected in ((1, [0.4, 0.4, 0.4, 0.2]), (2, [0.1, 0.1, 0.1, 0.05]), (5, [0.1, 0.1, 0.1, 0.05])):
        epochs: list[Epoch] = []
        train, empty = Loader(noise_images(24, 0), "cpu"), Loader(noise_images(0, 0), "cpu")
        fit(net(), train, empty, recipe, stage=stage, on_epoch=epochs.append)
        assert [epoch.learning_rate for epoch in epochs] == pytest.approx(expected)
        assert [(epoch.stage, epoch.epoch) for epoch in epochs] == [(stage, number) for number in (1, 2, 3, 4)]
    assert learning_rate(SMALL, 1, 1, 3, stage=2) == SMALL.lr


class Recording(Loader):
    """A loader that notes how its batches were augmented, and what came out."""

    def batches(self, order: Any, batch_size: int, augmentation: str = "none", generator: Any = None) -> Any:
        for inputs, labels in super().batches(order, batch_size, augmentation, generator):
            self.seen = [*getattr(self, "seen", []), (augmentation, inputs)]
            yield inputs, labels


@pytest.mark.parametrize("augmented", [False, True])
def test_validation_images_can_be_augmented_anew_each_epoch(augmented: bool) -> None:
    recipe = dataclasses.replace(SMALL, augment="crop-flip", validation_augmented=augmented)
    validation = Recording(noise_images(12, 1), "cpu")
    fit(net(), Loader(noise_images(24, 0), "cpu"), validation, recipe)
    assert [kind for kind, _ in validation.seen] == ["crop-flip" if augmented else "none"] * 4
    drawn: list[Tensor] = [images for _, images in validation.seen]
    assert torch.equal(drawn[0], drawn[1]) == (not augmented)


def test_the_result_of_an_epoch_is_reported() -> None:
    epochs: list[Epoch] = []
    train, validation = Loader(noise_images(24, 0), "cpu"), Loader(noise_images(12, 1), "cpu")
    state = fit(net(), train, validation, SMALL, on_epoch=epochs.append)
    assert max(epoch.validation_accuracy or 0 for epoch in epochs) == state.kept_accuracy
    assert epochs[-1].train_accuracy == state.train_accuracy
    assert epochs[-1].train_loss < epochs[0].train_loss < 3
    epochs.clear()
    fit(net(), train, validation, dataclasses.replace(SMALL, keep="last"), on_epoch=epochs.append)
    assert {epoch.validation_accuracy for epoch in epochs} == {None}


def momenta(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [optimizer.state[p]["momentum_buffer"].clone() for p in model.parameters()]


def test_the_optimiser_can_be_carried_as_the_last_epoch_left_it() -> None:
    train, validation = Loader(noise_images(24, 0), "cpu"), Loader(noise_images(12, 4), "cpu")
    outcome = {}
    for name, changes in {
        "last": {"keep": "last"},
        "kept": {},
        "as released": {"carry_as_released": True},
    }.items():
        recipe, model = dataclasses.replace(SMALL, **changes), net()  # type: ignore[arg-type]
        optimizer = build_optimizer(model, recipe)
        state = fit(model, train, validation, recipe, optimizer=optimizer)
        outcome[name] = state.kept_epoch, momenta(model, optimizer), [p.detach().clone() for p in model.parameters()]
    assert outcome["kept"][0] == outcome["as released"][0] < 4
    for last, kept, released in zip(*(outcome[name][1] for name in ("last", "kept", "as released")), strict=True):
        assert torch.equal(last, released)
        assert not torch.equal(kept, released)
    for kept, released in zip(outcome["kept"][2], outcome["as released"][2], strict=True):
        assert torch.equal(kept, released)


def test_redrawn_weights_can_keep_their_momentum(tmp_path: Path) -> None:
    """A carried optimiser, cleared where weights were redrawn, is a new one after `scratch`; as released it is not."""
    weights = {}
    for name, changes in {
        "new": {},
        "cleared": {"carry_optimizer": True},
        "as released": {"carry_optimizer": True, "carry_as_released": True},
    }.items():
        recipe = dataclasses.replace(SMALL, unlearner="scratch", **changes)  # type: ignore[arg-type]
        with Learner.open(tmp_path / name, recipe=recipe, model=net) as learner:
            learner.learn(noise_images(24, 0))
            learner.learn(noise_images(24, 1))
            assert learner.model is not None
            weights[name] = torch.cat([p.detach().flatten() for p in learner.model.parameters()])
    assert torch.equal(weights["new"], weights["cleared"])
    assert not torch.equal(weights["new"], weights["as released"])


def test_a_recipe_reads_its_choices_once_and_holds_what_they_name() -> None:
    recipe = Recipe(unlearner="lure:forget_fraction=0.3", replay="buffer:capacity=7")
    assert recipe.method is recipe.method
    assert recipe.method == Lure(forget_fraction=0.3)
    first, second = recipe.new_replay(), recipe.new_replay()
    assert first == second == BufferReplay(capacity=7)
    assert first is not second
    # What a recipe holds plays no part in its fields.
    assert recipe == Recipe(unlearner="lure:forget_fraction=0.3", replay="buffer:capacity=7")
    assert hash(recipe) == hash(dataclasses.replace(recipe))
    assert dataclasses.asdict(recipe).keys() == {field.name for field in dataclasses.fields(Recipe)}
    assert recipe != Recipe(unlearner="lure:forget_fraction=0.30", replay="buffer:capacity=7")  # the text counts
    changed = dataclasses.replace(recipe, unlearner="scratch", replay="last")
    assert (changed.method, changed.new_replay()) == (Scratch(), LastReplay())
    assert pickle.loads(pickle.dumps(recipe)) == recipe
