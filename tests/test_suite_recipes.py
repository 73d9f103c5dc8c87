"""The recipes of the suite that judges: found by their folder's name, alike in what the protocol fixes, and sound."""

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest
from miniatures import write_cifar10_binary, write_mnist

from lure.cli import main
from lure.errors import InputError
from lure.experiment.run import Placement, run
from lure.recipe import load_experiment, shipped_recipes

ROOT = Path(__file__).parent.parent
SUITE = [name for name in shipped_recipes() if name.startswith("suite/")]


def test_a_recipe_in_a_folder_is_shipped_and_called_by_both_names() -> None:
    assert len(SUITE) == 12
    shipped = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]
    assert {"recipes/*.toml", "recipes/suite/*.toml"} <= set(shipped["lure"])
    assert (ROOT / "recipes" / f"{SUITE[0]}.toml").is_file()


def test_an_unknown_name_in_the_folder_is_told_what_is_near() -> None:
    with pytest.raises(InputError, match=r"^unknown recipe 'suite/cifar1': did you mean 'suite/cifar10'\?"):
        load_experiment("suite/cifar1")
    with pytest.raises(InputError, match=r"^there is no recipe file other/cifar10$"):
        load_experiment("other/cifar10")


def test_the_list_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("suite/")] == SUITE


@pytest.mark.parametrize("name", SUITE)
def test_what_the_protocol_fixes_is_alike_everywhere(name: str) -> None:
    experiment = load_experiment(name)
    assert (experiment.schedule, experiment.regularizers, experiment.threads) == ("cosine", ("ema",), 1)
    assert (experiment.validation_fraction, experiment.keep) == (0.1, "best")
    assert (experiment.seed, experiment.budget, experiment.patience) == (0, 1, None)
    role = "Choosing" if "/choose-" in name else "Judging"
    assert shipped_recipes()[name].startswith(f"# {role} setting: ")


def test_no_two_settings_are_the_same_and_none_chooses_on_what_judges() -> None:
    texts = [shipped_recipes()[name].partition("\n")[2] for name in SUITE]
    assert len(set(texts)) == 12
    judging = [load_experiment(name) for name in SUITE if "/choose-" not in name]
    for name in SUITE:
        if "/choose-" in name:
            chosen = load_experiment(name)
            same = ("dataset", "model", "num_mega_batches", "mega_batch_size")
            assert all(any(getattr(chosen, key) != getattr(other, key) for key in same) for other in judging)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_cifar10_binary(folder)
    for name in ("mnist", "fashion-mnist"):
        write_mnist(folder / name, train=60)
    return folder


@pytest.mark.parametrize("name", SUITE)
def test_every_setting_runs_in_the_layout_of_its_data(name: str, data: Path, tmp_path: Path) -> None:
    full = load_experiment(name)
    model = re.sub(":(width|heads)=[0-9]+", "", full.model) + (":width=4" + ":heads=2" * full.model.startswith("vit"))
    experiment = dataclasses.replace(
        full,
        model=model,
        num_mega_batches=2,
        mega_batch_size=10,
        imbalance=(6, 2, 1) if full.imbalance else (),
        epochs=1,
        batch_size=8,
    )
    stages = run(experiment, tmp_path / "run", placement=Placement(data=data, device="cpu"))
    assert [stage.validation_examples for stage in stages] == [1, 2]
    assert stages[1].cumulative_errors is not None
