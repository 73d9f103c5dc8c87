"""The shipped recipes: what each protocol says, how the variants differ, that each runs in the layout of its data."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from miniatures import write_cifar10_binary, write_cifar100_python, write_restricted_imagenet

from lure.experiment.run import Placement, run
from lure.recipe import Experiment, differing_fields, load_experiment, shipped_recipes
from lure.unlearners import Lure, build_unlearner

RECIPES = sorted(name for name in shipped_recipes() if "/" not in name)  # the suite has tests of its own
AS_RELEASED = {
    "order",
    "validation_augmented",
    "unlearner",
    "sample_augmented",
    "carry_optimizer",
    "carry_as_released",
    "later_lr",
}
# Variant -> the recipe that it is a variant of, and the fields that make the difference.
VARIANTS = {
    "cifar10-no-replay": ("cifar10", {"replay"}),
    "cifar10-buffer": ("cifar10", {"replay"}),
    "cifar10-as-released": ("cifar10", AS_RELEASED),
    "cifar10-no-replay-as-released": ("cifar10-as-released", {"replay"}),
    "cifar10-buffer-as-released": ("cifar10-as-released", {"replay", "unlearner"}),
    "cifar100": ("cifar10", {"dataset"}),
    "cifar100-no-replay": ("cifar10-no-replay", {"dataset"}),
    "cifar100-buffer": ("cifar10-buffer", {"dataset"}),
    "cifar100-as-released": ("cifar10-as-released", {"dataset"}),
    "cifar100-no-replay-as-released": ("cifar10-no-replay-as-released", {"dataset"}),
    "restricted-imagenet": (
        "cifar10",
        {"dataset", "num_mega_batches", "mega_batch_size", "model", "batch_size", "augment"},
    ),
    "restricted-imagenet-53": ("restricted-imagenet", {"num_mega_batches", "mega_batch_size"}),
    "restricted-imagenet-no-replay": ("restricted-imagenet", {"replay"}),
    "restricted-imagenet-buffer": ("restricted-imagenet", {"replay"}),
    "restricted-imagenet-as-released": ("restricted-imagenet", AS_RELEASED | {"dataset", "model"}),
    **{
        f"restricted-imagenet-few-shot-{count}": (
            "restricted-imagenet",
            {"shots", "num_mega_batches", "mega_batch_size"},
        )
        for count in (10, 30, 70)
    },
    "restricted-imagenet-few-shot-10-as-released": (
        "restricted-imagenet-as-released",
        {"shots", "num_mega_batches", "mega_batch_size"},
    ),
}


def changed(first: str, second: str) -> set[str]:
    differences = differing_fields(load_experiment(first), load_experiment(second))
    return {difference.partition(":")[0] for difference in differences}


def test_cifar10_is_the_protocol_of_the_paper() -> None:
    assert load_experiment("cifar10") == Experiment(
        dataset="cifar10",
        num_mega_batches=8,
        mega_batch_size=6250,
        validation_fraction=0.1,
        keep="best",
        model="resnet18",
        unlearner="lure:forget_fraction=0.2",
        replay="full",
        epochs=50,
        batch_size=64,
        optimizer="sgd",
        lr=0.1,
        momentum=0.9,
        weight_decay=1e-4,
        milestones=(20, 40),
        gamma=0.1,
        augment="crop-flip",
    )


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_differs_where_its_name_says(name: str) -> None:
    base, fields = VARIANTS[name]
    assert changed(base, name) == fields


def test_every_recipe_of_the_paper_is_in_the_table() -> None:
    assert set(RECIPES) - set(VARIANTS) == {"cifar10", "cifar10-small", "demo", "own-data"}


def test_the_streams_of_restricted_imagenet() -> None:
    sizes = {
        name: (load_experiment(name).num_mega_batches, load_experiment(name).mega_batch_size)
        for name in RECIPES
        if name.startswith("restricted-imagenet")
    }
    assert sizes["restricted-imagenet"] == sizes["restricted-imagenet-as-released"] == (3, 29_839)
    assert sizes["restricted-imagenet-53"] == (53, 1689)
    for count in (10, 30, 70):
        number, size = sizes[f"restricted-imagenet-few-shot-{count}"]
        assert (number, size) == (count, 14 * 540 // count)


@pytest.mark.parametrize("name", [name for name in RECIPES if "as-released" in name])
def test_as_released_forgets_as_released(name: str) -> None:
    experiment = load_experiment(name)
    first_of = "new" if "buffer" in name else "all"
    expected = dataclasses.replace(Lure.as_released(0.2), sample=first_of)
    assert build_unlearner(experiment.unlearner) == expected


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_says_first_what_it_is(name: str) -> None:
    first = shipped_recipes()[name].splitlines()[0]
    assert first.startswith("# ")
    assert first.endswith(".")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_cifar10_binary(folder)
    write_cifar100_python(folder)
    write_restricted_imagenet(folder)
    generator = np.random.default_rng(0)
    for part, count in (("train", 60), ("test", 20)):
        inputs = generator.integers(0, 256, (count, 8, 8), dtype=np.uint8)
        np.savez(folder / f"{part}.npz", inputs=inputs, labels=np.arange(count) % 3)
    return folder


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_runs_in_the_layout_of_its_data(name: str, data: Path, tmp_path: Path) -> None:
    """One epoch of two mega-batches; the network is as deep as it should be, and narrow."""
    full = load_experiment(name)
    model = full.model if full.model.startswith("mlp") else full.model.replace(":width=16", "") + ":width=2"
    small = ":size=32" if full.dataset.startswith("restricted") else ""
    experiment = dataclasses.replace(
        full,
        dataset=full.dataset + small,
        model=model,
        num_mega_batches=2,
        mega_batch_size=20,
        epochs=1,
        batch_size=8,
        threads=1,
    )
    folder = None if full.dataset == "fashion-mnist-sample" else data
    stages = run(experiment, tmp_path / "run", placement=Placement(data=folder, device="cpu"))
    held_out = 2 if full.validation_fraction else 0
    seen = [20, 20] if full.replay == "none" else [20, 40]
    assert [stage.train_examples + stage.validation_examples for stage in stages] == seen
    assert stages[0].validation_examples == held_out
    assert (stages[1].changed_fraction > 0.1) == (full.unlearner != "warm-start")
    assert stages[1].cumulative_errors is not None
