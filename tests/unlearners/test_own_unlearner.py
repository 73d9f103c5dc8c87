"""An unlearner that is not registered is chosen by its path, from Python, recipes and the command line."""

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lure import Context, InputError, Learner, Recipe, unlearn_
from lure.cli import main
from lure.recipe import load_experiment
from lure.unlearners import build_unlearner, name_unlearner

MODULE = """
import os
from dataclasses import dataclass, field
from torch import nn
from lure import Context
from lure.settings import check_settings, setting

os.makedirs("imported", exist_ok=True)

@dataclass(frozen=True, kw_only=True)
class Scaled:
    factor: float = setting(0.5, "factor of every weight", 0, 1)

    def __post_init__(self) -> None:
        check_settings(self)

    def __call__(self, model: nn.Module, context: Context) -> None:
        for parameter in model.parameters():
            parameter.data.mul_(self.factor)

@dataclass(frozen=True, kw_only=True)
class Mute:
    factor: float = 1.0

@dataclass(kw_only=True)
class Thawed:
    factor: float = 1.0

@dataclass(frozen=True)
class Positional:
    factor: float = 1.0

@dataclass(frozen=True, kw_only=True)
class Bare:
    factor: float

@dataclass(frozen=True, kw_only=True)
class Fussy:
    factor: float = 1.0

    def __post_init__(self) -> None:
        raise RuntimeError("not today")

@dataclass(frozen=True, kw_only=True)
class Failing:
    def __call__(self, model: nn.Module, context: Context) -> None:
        raise RuntimeError("no such layer")

def function(model, context):
    pass
"""
OWN = "my_resets:Scaled:factor=0.25"
FLAGS = ["--model", "mlp:width=4:depth=1", "--epochs", "1", "--batch-size", "32", "--milestones", "", "--threads", "1"]


@pytest.fixture(autouse=True)
def _own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    Path("my_resets.py").write_text(MODULE)
    Path("a_script.py").write_text("raise SystemExit(0)\n")
    yield
    sys.modules.pop("my_resets", None)


def was_imported() -> bool:
    """Tell whether the module was imported since this was last asked."""
    found = Path("imported").exists()
    shutil.rmtree("imported", ignore_errors=True)
    sys.modules.pop("my_resets", None)
    return found


def test_its_path_chooses_it_and_names_it() -> None:
    unlearner = build_unlearner("my_resets:Scaled", factor=0.25)
    assert name_unlearner(unlearner) == OWN
    assert build_unlearner(OWN) == unlearner
    net = nn.Linear(2, 2)
    before = net.weight.detach().clone()
    assert unlearn_(net, None, OWN).method == OWN
    torch.testing.assert_close(net.weight.detach(), 0.25 * before)


@dataclass(frozen=True, kw_only=True)
class InAModule:
    """Its module can be imported."""

    factor: float = 1.0

    def __call__(self, model: nn.Module, context: Context) -> None:
        """Do nothing."""


def test_what_another_process_would_not_find_cannot_be_written_to_a_recipe() -> None:
    assert Recipe(unlearner=name_unlearner(InAModule(factor=2.0))).method == InAModule(factor=2.0)

    @dataclass(frozen=True, kw_only=True)
    class Local:
        def __call__(self, model: nn.Module, context: Context) -> None:
            pass

    with pytest.raises(InputError, match="Local is not registered, and cannot be named by its path: cannot import"):
        name_unlearner(Local())
    assert unlearn_(nn.Linear(2, 2), None, lambda model, _: model.weight.data.zero_()).method == "<lambda>"


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("no_such_module:Scaled", "cannot import unlearner no_such_module:Scaled: ModuleNotFoundError: No module"),
        ("a_script:Scaled", "cannot import unlearner a_script:Scaled: SystemExit: 0"),
        ("my_resets:Absent", "cannot import unlearner my_resets:Absent: module my_resets has no class or function"),
        ("my_resets:OWN:Scaled", "module my_resets has no class or function 'OWN:Scaled'"),
        ("my_resets:function", r"my_resets:function must be a class under @dataclass\(frozen=True, kw_only=True\)"),
        ("my_resets:Thawed", "my_resets:Thawed must be a class under"),
        ("my_resets:Positional", "my_resets:Positional must be a class under"),
        ("my_resets:Bare", "unlearner my_resets:Bare needs a default for its field 'factor'"),
        ("my_resets:Mute", r"unlearner my_resets:Mute cannot be called: give its class __call__\(self, model, context"),
        ("my_resets:Fussy", "unlearner my_resets:Fussy cannot be constructed: RuntimeError: not today"),
        ("my_resets:Scaled:facter=1", "unknown option of my_resets:Scaled 'facter': did you mean 'factor'"),
        ("my_resets:Scaled:factor=x", "my_resets:Scaled:factor must be a number, got 'x'"),
        ("my_resets:Scaled:factor=2", r"factor must lie in \[0, 1\], got 2.0"),
        ("lure:forget_fraction:0.3", "unknown unlearner 'lure:forget_fraction:0.3'"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    choice: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=message):
        build_unlearner(choice)
    was_imported()
    shutil.rmtree("__pycache__", ignore_errors=True)
    before = sorted(Path().rglob("*"))
    small = ["--train-limit", "40", "--test-limit", "20", "--out", "out", *FLAGS]
    for words in (["run", "--unlearner", choice, *small], ["compare", "--unlearners", f"lure,{choice}", *small]):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        was_imported()
        shutil.rmtree("__pycache__", ignore_errors=True)
        assert sorted(Path().rglob("*")) == before


def save(name: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    np.savez(name, inputs=generator.normal(size=(30, 4)).astype(np.float32), labels=np.arange(30) % 3)


def test_an_unlearner_that_fails_is_told_before_any_training(capsys: pytest.CaptureFixture[str]) -> None:
    save("holdout.npz", 0)
    assert main(["init", "run", "--holdout", "holdout.npz", "--unlearner", "my_resets:Failing", *FLAGS]) == 2
    message = "error: the unlearner my_resets:Failing failed on two examples: RuntimeError: no such layer\n"
    assert capsys.readouterr().err == message


def test_a_directory_kept_current_runs_it_only_if_it_is_named_again(capsys: pytest.CaptureFixture[str]) -> None:
    for seed, name in enumerate(("holdout.npz", "one.npz", "two.npz")):
        save(name, seed)
    assert main(["init", "run", "--holdout", "holdout.npz", "--unlearner", OWN, *FLAGS]) == 0
    assert main(["update", "run", "one.npz", "--unlearner", OWN]) == 0
    assert was_imported()
    capsys.readouterr()
    for flags, message in (
        ([], rf"run holds an unlearner of your own code: give it again (--unlearner {OWN}) to run it"),
        (["--unlearner", "my_resets:Scaled"], f"unlearner: {OWN} -> my_resets:Scaled"),
    ):
        assert main(["update", "run", "two.npz", *flags]) == 2
        assert message in capsys.readouterr().err
        assert not was_imported()
    with pytest.raises(InputError, match="give it again"):
        Learner.open("run")

    # What does not unlearn neither asks for it nor needs the module.
    Path("my_resets.py").rename("elsewhere.py")
    for words in (["status"], ["verify"], ["predict", "two.npz"], ["evaluate"], ["report"], ["export", "net.pt2"]):
        assert main([words[0], "run", *words[1:]]) == 0, capsys.readouterr().err
    assert OWN in capsys.readouterr().out

    assert main(["update", "run", "two.npz", "--unlearner", OWN]) == 2
    assert "cannot import unlearner" in capsys.readouterr().err
    Path("elsewhere.py").rename("my_resets.py")
    assert main(["update", "run", "two.npz", "--unlearner", OWN, "--json"]) in (0, 3)
    stage = json.loads(capsys.readouterr().out)
    assert (stage["unlearner"], stage["changed_fraction"]) == (OWN, 1.0)
    with Learner.open("run", unlearner=OWN) as learner:
        assert len(learner.stages) == 2


def test_a_recipe_file_runs_it_only_if_the_command_line_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ['model = "mlp:width=4:depth=1"', "epochs = 1", "milestones = []", "num_mega_batches = 2", "threads = 1"]
    lines += ["train_limit = 40", "test_limit = 20", f'unlearner = "{OWN}"']
    Path("plan.toml").write_text("\n".join(lines))
    assert main(["run", "plan.toml", "--out", "a"]) == 2
    expected = f"error: plan.toml names code to run: give it on the command line, too (--unlearner {OWN})\n"
    assert capsys.readouterr().err == expected
    with pytest.raises(InputError, match="names code to run"):
        load_experiment("plan.toml")
    assert not was_imported()
    assert not Path("a").exists()
    assert main(["run", "plan.toml", "--unlearner", OWN, "--out", "a"]) == 0
    assert was_imported()
    # In a comparison the recipe's own unlearner takes no part.
    assert main(["compare", "plan.toml", "--unlearners", "warm-start", "--seeds", "0", "--out", "b"]) == 0
    assert not was_imported()
    assert main(["compare", "plan.toml", "--unlearners", OWN, "--seeds", "0", "--out", "b"]) == 0
    assert (Path("b") / "my_resets.Scaled+factor=0.25" / "seed-0" / "result.json").exists()


def test_a_policy_of_a_recipe_file_runs_it_only_if_the_command_line_names_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = ['model = "mlp:width=4:depth=1"', "epochs = 1", "milestones = []", "num_mega_batches = 2", "threads = 1"]
    lines += ["train_limit = 40", "test_limit = 20", f'unlearner = "{OWN}"', "[policies.plain]", "lr = 0.05"]
    Path("plain.toml").write_text("\n".join(lines))
    Path("own.toml").write_text("\n".join([*lines, "[policies.own]", f'unlearner = "{OWN}"', "batch_size = 32"]))
    flags = ["--seeds", "0", "--out", "out"]
    for recipe, said in (("plain.toml", "plain.toml"), ("own.toml", "own.toml: policy own")):
        for consent in ([], ["--own-code", "my_resets:Scaled"]):
            assert main(["compare", recipe, *flags, *consent]) == 2
            expected = f"error: {said} names code to run: give it on the command line, too (--own-code {OWN})\n"
            assert capsys.readouterr().err == expected
            assert not was_imported()
            assert not Path("out").exists()
    assert main(["compare", "own.toml", *flags, "--own-code", OWN]) == 0
    assert was_imported()
    assert sorted(path.name for path in Path("out").glob("*/")) == ["own", "plain"]
    Path("none.toml").write_text("\n".join(lines[:-3]))
    assert main(["compare", "none.toml", "--policy", f"named=unlearner={OWN}", "--seeds", "0", "--out", "p"]) == 0
    assert was_imported()
