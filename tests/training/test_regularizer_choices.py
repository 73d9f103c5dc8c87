"""Regularizers in recipes and commands: names, older fields, what is refused, checkpoints of an older lure."""

import dataclasses
import json
import math
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lure import (
    REGULARIZERS,
    Distill,
    Ema,
    Examples,
    Experiment,
    FitContext,
    HareAndTortoise,
    InputError,
    L2Init,
    Learner,
    Parseval,
    Recipe,
    run,
)
from lure.cli import main
from lure.experiment.run import Placement
from lure.recipe import differing_fields, to_toml
from lure.store.progress import Progress as StoredProgress
from lure.store.undo import UndoList
from lure.training.fit import Progress
from lure.training.regularizers import RunningRegularizer

CHUNKS = [
    Examples(
        torch.randint(256, (20, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)),
        torch.arange(20) % 2,
    )
    for seed in range(2)
]
RECIPE = Recipe(model="convnet:width=4", epochs=3, batch_size=8, lr=0.05, milestones=(), threads=1)
QUICK = ["--epochs", "1", "--num-mega-batches", "2", "--mega-batch-size", "40", "--test-limit", "30", "--threads", "1"]


def test_a_recipe_builds_them_once() -> None:
    recipe = Recipe(regularizers=("ema:decay=0.5", "parseval", "distill:focal=true"))
    assert recipe.acting == {"ema": Ema(decay=0.5), "parseval": Parseval(), "distill": Distill(focal=True)}
    assert recipe.acting is recipe.acting
    assert Recipe().acting == {}
    assert Recipe.from_toml(to_toml(recipe), "text") == recipe
    assert Recipe(regularizers="ema, parseval:scale=2").regularizers == ("ema", "parseval:scale=2")  # type: ignore[arg-type]


def test_the_older_fields_name_the_same() -> None:
    recipe = Recipe(l2_init=0.1, average_interval=7, average_decay=0.5, regularizers=("ema",))
    assert recipe.acting == {
        "l2-init": L2Init(strength=0.1),
        "hare-tortoise": HareAndTortoise(interval=7, decay=0.5),
        "ema": Ema(),
    }
    text = to_toml(Recipe(l2_init=0.1))
    older = re.sub(r"# [^\n]*\nregularizers = [^\n]*\n", "", text)
    assert older != text
    assert differing_fields(Recipe.from_toml(older, "text"), Recipe(l2_init=0.1)) == []


REFUSED = {
    ("ema:decay=1",): r"decay must lie in [0, 1), got 1",
    ("emma",): "unknown regularizer 'emma': did you mean 'ema'?",
    ("ema:speed=1",): "unknown option of ema 'speed'",
    ("distill:focal=yes",): "distill:focal must be true or false, got 'yes'",
    ("distill:temperature=0",): "temperature must be above 0, got 0",
    ("ema:decay=0.5", "ema"): "regularizers names ema twice: leave one out",
}


@pytest.mark.parametrize("choices", REFUSED)
def test_what_is_refused(choices: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert main(["run", *QUICK, "--out", str(out), "--regularizers", ",".join(choices)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: recipe demo: ")
    assert printed.err.count("\n") == 1
    assert REFUSED[choices] in printed.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("older", "choice"), [({"l2_init": 0.1}, "l2-init:strength=0.2"), ({"average_interval": 3}, "hare-tortoise")]
)
def test_the_same_by_both_fields_is_refused(older: dict[str, float], choice: str) -> None:
    (field,), name = older, choice.partition(":")[0]
    with pytest.raises(InputError, match=f"{field} is the regularizer {name}, which regularizers names, too"):
        Recipe(regularizers=(choice,), **older)  # type: ignore[arg-type]


def test_distillation_in_the_first_stage_only_is_refused(tmp_path: Path) -> None:
    message = "regularizer distill could never act: it needs an earlier version, and the stream has one mega-batch"
    with pytest.raises(InputError, match=message):
        Experiment(num_mega_batches=1, regularizers=("distill",))
    whole = Experiment(mega_batch_size=100, train_limit=100, epochs=1, threads=1, regularizers=("distill",))
    with pytest.raises(InputError, match=message):
        run(whole, tmp_path / "run", placement=Placement(device="cpu"))
    assert not (tmp_path / "run").exists()
    assert Experiment(num_mega_batches=1, regularizers=("ema",)).acting
    assert Experiment(num_mega_batches=2, regularizers=("distill",)).acting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picky:
    """Cannot begin in stages 2 and later."""

    reads_previous = True

    def start(self, model: torch.nn.Module, context: FitContext) -> RunningRegularizer:
        if context.previous is not None:
            raise InputError("this will not do")
        return RunningRegularizer()


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("parseval", "no trainable linear, convolution or attention weight but its classifier"),
        ("picky", "this will not do"),
    ],
)
def test_what_cannot_begin_fails_before_any_training(
    choice: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(REGULARIZERS, "picky", Picky)
    experiment = Experiment(model="mlp:depth=0", epochs=1, threads=1, test_limit=30, regularizers=(choice,))
    with pytest.raises(InputError, match=message):
        run(experiment, tmp_path / "run", placement=Placement(device="cpu"))
    assert not (tmp_path / "run").exists()


def test_the_pull_needs_the_initial_weights() -> None:
    with pytest.raises(InputError, match="l2-init needs the initial weights: pass initial="):
        L2Init().start(torch.nn.Linear(2, 2), FitContext())


def learn(directory: Path, recipe: Recipe, stop: tuple[int, int] | None = None) -> None:
    def watch(moment: Progress) -> None:
        if stop == (moment.stage, moment.epoch):
            raise KeyboardInterrupt

    with Learner.open(directory, recipe=recipe, test=CHUNKS[0], checkpoint_share=math.inf) as learner:
        for chunk in CHUNKS[len(learner.stages) :]:
            learner.learn(chunk, watch)


def test_the_field_and_the_name_give_the_same_bits(tmp_path: Path) -> None:
    older = dataclasses.replace(RECIPE, l2_init=0.01, average_interval=3, average_decay=0.5)
    newer = dataclasses.replace(RECIPE, regularizers=("hare-tortoise:interval=3:decay=0.5", "l2-init:strength=0.01"))
    learn(tmp_path / "older", older)
    learn(tmp_path / "newer", newer)
    for version in (1, 2):
        first, second = (
            load_file(tmp_path / n / f"versions/000{version}/model.safetensors") for n in ("older", "newer")
        )
        assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_a_checkpoint_of_an_older_lure_is_gone_on_from(tmp_path: Path) -> None:
    """It has the average under another name, and knows nothing of passes forward."""
    recipe = dataclasses.replace(RECIPE, average_interval=4, average_decay=0.5, keep="last")
    learn(tmp_path / "straight", recipe)
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path / "stopped", recipe, (1, 3))
    stored = StoredProgress(tmp_path / "stopped" / "progress", UndoList())
    found = stored.read()
    assert found is not None
    tensors, record = found
    older = {name.replace("regularizers.hare-tortoise/", "average."): tensor for name, tensor in tensors.items()}
    assert older.keys() != tensors.keys()
    del record["forwards"], record["regularizers"]
    stored.save(older, {**record, "average": {}})
    learn(tmp_path / "stopped", recipe)
    for version in (1, 2):
        files = [tmp_path / n / f"versions/000{version}/model.safetensors" for n in ("straight", "stopped")]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_the_command_line_takes_a_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert main(["run", *QUICK, "--out", str(out), "--regularizers", "ema:decay=0.9,distill"]) == 0
    assert 'regularizers = ["ema:decay=0.9", "distill"]\n' in (out / "recipe.toml").read_text()
    first, second = [json.loads(line) for line in (out / "ledger.jsonl").read_text().splitlines()]
    per_example = first["train_flops"] / first["examples_seen"]
    assert second["train_flops"] / second["examples_seen"] == pytest.approx(per_example * 4 / 3)
    capsys.readouterr()
    assert main(["list", "regularizers"]) == 0
    listed = capsys.readouterr().out
    for words in ("decay=0.99  share of the average", "[0,\n            1)", "focal=false", "strength=0.001"):
        assert words in listed
