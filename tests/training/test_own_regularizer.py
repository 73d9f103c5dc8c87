"""A regularizer that is not registered is chosen by its path, and what was stored runs only if it is named again."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lure import Experiment, InputError, Learner, Recipe
from lure.cli import main
from lure.training.regularizers import build_regularizers

MODULE = """
import os
from dataclasses import dataclass
from lure.settings import check_settings, setting
from lure.training.regularizers import RunningRegularizer

os.makedirs("imported", exist_ok=True)

@dataclass(frozen=True, kw_only=True)
class SmallLogits:
    strength: float = setting(1.0, "factor", 0)

    def __post_init__(self):
        check_settings(self)

    def start(self, model, context):
        return RunningRegularizer(loss_term=lambda inputs, logits, labels: self.strength * logits.square().mean())

@dataclass(frozen=True, kw_only=True)
class Mute:
    strength: float = 1.0

@dataclass(frozen=True, kw_only=True)
class Failing:
    def start(self, model, context):
        return RunningRegularizer(loss_term=lambda *_: {}["no such layer"])
"""
OWN = "my_terms:SmallLogits:strength=0.5,ema:decay=0.5"
FLAGS = ["--model", "mlp:width=4:depth=1", "--epochs", "2", "--batch-size", "16", "--milestones", "", "--threads", "1"]
SMALL = [*FLAGS, "--train-limit", "60", "--test-limit", "20", "--num-mega-batches", "2", "--mega-batch-size", "30"]


@pytest.fixture(autouse=True)
def _own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    Path("my_terms.py").write_text(MODULE)
    yield
    sys.modules.pop("my_terms", None)


def was_imported() -> bool:
    """Tell whether the module was imported since this was last asked."""
    found = Path("imported").exists()
    shutil.rmtree("imported", ignore_errors=True)
    sys.modules.pop("my_terms", None)
    return found


def test_its_path_chooses_it() -> None:
    recipe = Recipe(regularizers=tuple(OWN.split(",")))
    assert not was_imported()  # a recipe may have been stored
    assert list(recipe.acting) == ["my_terms:SmallLogits", "ema"]
    assert was_imported()
    Experiment(num_mega_batches=1, regularizers=recipe.regularizers)
    assert not was_imported()


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("no_such_module:Term", "cannot import regularizer no_such_module:Term: ModuleNotFoundError"),
        ("my_terms:Mute", r"regularizer my_terms:Mute cannot start: give its class start\(self, model, context\)"),
        ("my_terms:SmallLogits:strength=-1", "strength must be at least 0, got -1.0"),
        ("my_terms:Failing", "regularizers my_terms:Failing failed on two examples: KeyError: 'no such layer'"),
        ("my_terms:SmallLogits,my_terms:SmallLogits", "regularizers names my_terms:SmallLogits twice"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    choice: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "Failing" not in choice:
        with pytest.raises(InputError, match=message):
            build_regularizers(choice.split(","))
    for words in (["run"], ["compare", "--unlearners", "warm-start"]):
        assert main([*words, "--regularizers", choice, *SMALL, "--out", "out"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert message.replace("\\", "") in error
        assert error.count("\n") == 1
        assert not list(Path().glob("out/**/recipe.toml"))


def test_a_run_takes_it_and_its_file_asks_for_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--regularizers", OWN, *SMALL, "--out", "a"]) == 0
    assert main(["run", *SMALL, "--regularizers", "ema:decay=0.5", "--out", "b"]) == 0
    weights = [Path(name, "versions/0001/model.safetensors").read_bytes() for name in ("a", "b")]
    assert weights[0] != weights[1]
    capsys.readouterr()
    assert was_imported()
    assert main(["run", "a/recipe.toml", "--out", "c"]) == 2
    said = f"error: a/recipe.toml names code to run: give it on the command line, too (--regularizers {OWN})\n"
    assert capsys.readouterr().err == said
    assert not was_imported()
    assert not Path("c").exists()
    assert main(["run", "a/recipe.toml", "--regularizers", OWN, "--out", "c"]) == 0
    assert Path("c/versions/0001/model.safetensors").read_bytes() == weights[0]
    assert main(["compare", "a/recipe.toml", "--unlearners", "warm-start", "--seeds", "0", "--out", "d"]) == 2
    assert "--own-code" in capsys.readouterr().err
    assert main(["compare", "a/recipe.toml", "--unlearners", "warm-start", "--seeds", "0", "--own-code", OWN,
                 "--out", "d"]) == 0  # fmt: skip


def test_a_directory_kept_current_runs_it_only_if_it_is_named_again(capsys: pytest.CaptureFixture[str]) -> None:
    for seed, name in enumerate(("holdout.npz", "one.npz", "two.npz")):
        generator = np.random.default_rng(seed)
        np.savez(name, inputs=generator.normal(size=(30, 4)).astype(np.float32), labels=np.arange(30) % 3)
    assert main(["init", "run", "--holdout", "holdout.npz", "--regularizers", OWN, *FLAGS]) == 0
    assert main(["update", "run", "one.npz", "--regularizers", OWN]) == 0
    capsys.readouterr()
    assert was_imported()
    for flags, message in (
        ([], f"run holds regularizers of your own code: give it again (--regularizers {OWN}) to run it"),
        (["--regularizers", "ema"], f"regularizers: {OWN} -> ema"),
    ):
        assert main(["update", "run", "two.npz", *flags]) == 2
        assert message in capsys.readouterr().err
        assert not was_imported()
    with pytest.raises(InputError, match="give it again"):
        Learner.open("run")
    Path("my_terms.py").rename("elsewhere.py")
    for words in (["status"], ["verify"], ["predict", "two.npz"], ["evaluate"], ["report"]):
        assert main([words[0], "run", *words[1:]]) == 0, capsys.readouterr().err
    Path("elsewhere.py").rename("my_terms.py")
    assert main(["update", "run", "two.npz", "--regularizers", OWN]) in (0, 3)
    with Learner.open("run", regularizers=OWN.split(",")) as learner:
        assert len(learner.stages) == 2
