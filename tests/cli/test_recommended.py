"""What `lure init` takes for what nobody has set, and that it says so."""

import tomllib
from pathlib import Path

import numpy as np
import pytest

from lure import Recipe
from lure.cli import main
from lure.learner import production
from lure.recipe import load_experiment
from lure.recommended import RECOMMENDED, WHY, WHY_IN_PART

WORDS = ["init", "model", "--holdout", "holdout.npz", "--epochs", "3"]


@pytest.fixture(autouse=True)
def _a_holdout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    inputs = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    np.savez("holdout.npz", inputs=inputs, labels=np.arange(20) % 2)


def stored() -> dict[str, object]:
    recipe = tomllib.loads(Path("model/recipe.toml").read_text(encoding="utf-8"))
    return {name: recipe[name] for name in ("unlearner", "schedule", "regularizers")}


@pytest.mark.parametrize(
    ("flags", "given"),
    [
        ([], {}),
        (["--unlearner", "dash"], {"unlearner": "dash"}),
        (["--regularizers", ""], {"regularizers": []}),
        # Only the schedule of steps has milestones.
        (["--milestones", "2"], {"schedule": "steps"}),
        (["--gamma", "0.5"], {"schedule": "steps"}),
        (["--cooldown", "0.5", "--schedule", "cooldown"], {"schedule": "cooldown"}),
    ],
)
def test_what_is_left_open_is_taken_as_recommended(
    flags: list[str], given: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*WORDS, *flags]) == 0
    assert stored() == dict(RECOMMENDED) | {"regularizers": [RECOMMENDED["regularizers"]]} | given
    chosen = ", ".join(f"{name} {value}" for name, value in RECOMMENDED.items() if name not in given)
    why = WHY_IN_PART if given else WHY  # its figures are those of all three together
    assert capsys.readouterr().out.splitlines()[1:3] == [f"chosen for you: {chosen}", f"why: {why}"]


def test_the_recipe_for_own_data_is_what_is_recommended() -> None:
    recipe = load_experiment("own-data")
    assert recipe == load_experiment("own-data", RECOMMENDED)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--milestones", "2", "--schedule", "constant"], "milestones have no effect in schedule = constant: "),
        (["--cooldown", "0.5"], "cooldown has no effect in schedule = steps: leave it out, or set schedule = cooldown"),
    ],
)
def test_what_contradicts_is_refused(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, *flags]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert not Path("model").exists()


def test_the_help_shows_what_is_recommended(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["init", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name, value in RECOMMENDED.items():
        after = text.split(f"--{name} ")[-1]
        assert f"(default {value})" in after.split(" --")[0]


def test_nothing_is_chosen_where_all_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--unlearner", "lure", "--schedule", "steps", "--regularizers", "ema"]
    assert main([*WORDS, *flags]) == 0
    assert "chosen" not in capsys.readouterr().out


def test_a_directory_that_was_begun_keeps_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    production.init("model", "holdout.npz", recipe=Recipe(epochs=3))  # as an earlier version did
    before = stored()
    assert main(WORDS) == 0
    assert stored() == before == {"unlearner": "lure", "schedule": "steps", "regularizers": []}
    assert "chosen" not in capsys.readouterr().out
    assert main([*WORDS, "--unlearner", "dash"]) == 2
    assert "unlearner: lure -> dash" in capsys.readouterr().err
