"""In production: a chunk in, the gate decides, people overrule; and everything can be read, checked and exported."""

import csv
import dataclasses
import io
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from miniatures import write_image
from torch import Tensor, nn

import lure.learner.record
import lure.learner.version
from lure import Examples, InputError, Learner, Recipe
from lure.cli import main
from lure.experiment.evaluate import evaluate_version
from lure.learner.gate import Gate
from lure.learner.production import accept, init, prune, rollback, status, update, verify
from lure.learner.version import Version, write_predictions
from lure.metrics import fit_temperature
from lure.store.ledger import Ledger, read_ledger
from lure.training.fit import Progress

RECIPE = Recipe(
    model="mlp:width=16:depth=1",
    unlearner="shrink-perturb",
    epochs=4,
    batch_size=16,
    optimizer="adam",
    lr=0.02,
    milestones=(),
    validation_fraction=0.1,
    threads=1,
)
FLAGS = ["--model", "mlp:width=16:depth=1", "--batch-size", "16", "--threads", "1"]
CENTRES = torch.tensor([[2.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 2.0, 0]])


def points(seed: int, count: int = 60, noise: float = 0.0) -> tuple[Tensor, Tensor]:
    """Three clouds around three centres; `noise` is the share of labels that are drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    inputs = CENTRES[labels] + torch.randn(count, 4, generator=generator)
    struck = torch.rand(count, generator=generator) < noise
    return inputs, torch.where(struck, torch.randint(3, (count,), generator=generator), labels)


def save(path: Path, seed: int, count: int = 60, noise: float = 0.0, shift: int = 0) -> Path:
    inputs, labels = points(seed, count, noise)
    np.savez(path, inputs=inputs.numpy(), labels=((labels + shift) % 3).numpy())
    return path


def load(path: Path) -> Examples:
    with np.load(path) as arrays:
        return Examples(torch.from_numpy(arrays["inputs"]), torch.from_numpy(arrays["labels"]))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("holdout.npz"), 100, 300)
    save(Path("test.npz"), 101, 90)
    for number in range(1, 5):
        save(Path(f"good{number}.npz"), number)
    save(Path("bad.npz"), 50, 400, shift=1)  # every label is wrong


def begin(path: str = "run", recipe: Recipe = RECIPE, **rules: float) -> None:
    # Rules that chance never breaks here, and wrong labels always do.
    gate = Gate(**{"significance": 1e-6, "margin": 0.3} | rules)
    init(path, "holdout.npz", independent="test.npz", recipe=recipe, gate=gate)


def weights(path: str, version: int) -> bytes:
    return Path(path, "versions", f"{version:04d}", "model.safetensors").read_bytes()


def tree(path: Path | str = ".") -> dict[str, bytes]:
    return {str(p): p.read_bytes() if p.is_file() else b"" for p in sorted(Path(path).rglob("*")) if p.name != ".lock"}


# Init


def test_init_fixes_what_decides_and_trains_nothing() -> None:
    begin()
    assert sorted(os.listdir("run")) == [".lock", "chunks", "production.json", "recipe.toml"]
    facts = status("run")
    assert facts["current_version"] is None
    assert facts["versions"] == []
    assert (facts["holdout"]["examples"], facts["independent"]["examples"], facts["holdout_uses"]) == (300, 90, 0)
    with pytest.raises(InputError, match="has no version yet"):
        Version.load("run")


def test_init_again_changes_nothing_and_other_settings_are_refused() -> None:
    begin()
    before = tree()
    begin()
    for message, attempt in (
        (r"another recipe \(epochs: 4 -> 9\)", lambda: begin(recipe=dataclasses.replace(RECIPE, epochs=9))),
        ("another gate", lambda: begin(margin=0.5)),
        ("another holdout set", lambda: init("run", "good1.npz", independent="test.npz", recipe=RECIPE)),
        ("another independent set", lambda: init("run", "holdout.npz", independent="good1.npz", recipe=RECIPE)),
    ):
        with pytest.raises(InputError, match=message):
            attempt()
    assert tree() == before


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"model": "resnet18"}, r"a ResNet takes images .*, got inputs of shape \(4,\)"),
        ({"augment": "crop-flip"}, "augment = crop-flip needs images"),
    ],
)
def test_init_refuses_what_cannot_work_and_leaves_nothing(recipe: dict[str, Any], message: str) -> None:
    before = tree()
    with pytest.raises(InputError, match=message):
        begin(recipe=dataclasses.replace(RECIPE, **recipe))
    assert tree() == before


def test_init_does_not_mix_with_other_files() -> None:
    Path("run").mkdir()
    Path("run/thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"run holds other files \(thesis.txt\)"):
        begin()
    assert sorted(os.listdir("run")) == ["thesis.txt"]


# Update


def test_an_update_records_what_arrived_what_was_decided_and_what_it_cost() -> None:
    begin()
    seen = []
    first, is_new = update("run", "good1.npz", on_arrival=seen.append)
    assert is_new
    assert first.accepted
    assert first.arrival["prequential_accuracy"] is None
    second, _ = update("run", "good2.npz", on_arrival=seen.append)
    assert [arrival.examples for arrival in seen] == [60, 60]
    assert (second.version, second.parent, second.taken_in) == (2, 1, [2])
    assert second.arrival["class_counts"] == [20, 20, 20]
    model = Version.load("run", 1)
    right = torch.cat(list(model.logits(load(Path("good2.npz"))))).argmax(1) == load(Path("good2.npz")).labels
    assert second.arrival["prequential_accuracy"] == pytest.approx(float(right.double().mean()))
    assert second.test_examples == 300
    assert second.independent["examples"] == 90
    assert second.decision["comparisons"][0]["version"] == 1
    assert (second.stopped_by, second.exact, second.data_stored) == ("epochs", True, True)
    assert status("run")["holdout_uses"] == 2


def test_the_first_mega_batches_of_one_run_and_one_update_each_are_the_same_bits(capsys: pytest.CaptureFixture) -> None:
    inputs, labels = points(7, 180)
    flags = [*FLAGS, "--unlearner", "lure", "--epochs", "3", "--seed", "4"]
    assert main(["init", "many", "--holdout", "holdout.npz", *flags, "--significance", "0", "--margin", "1"]) == 0
    chunks = [Examples(inputs[rows : rows + 60], labels[rows : rows + 60]) for rows in (0, 60, 120)]
    for number, chunk in enumerate(chunks):
        np.savez(f"chunk{number}.npz", inputs=chunk.inputs.numpy(), labels=chunk.labels.numpy())
        assert main(["update", "many", f"chunk{number}.npz"]) == 0
    recipe, task, holdout = Version.load("many").recipe, Version.load("many").task, load(Path("holdout.npz"))
    given = {"test": holdout, "normalization": (task.mean, task.std), "stream": chunks}
    with Learner.open("one", recipe=recipe, **given) as learner:
        for chunk in chunks:
            learner.learn(chunk)
    assert [weights("one", v) for v in (1, 2, 3)] == [weights("many", v) for v in (1, 2, 3)]
    ledgers = [[json.loads(line) for line in Path(d, "ledger.jsonl").read_text().splitlines()] for d in ("one", "many")]
    same = ["accuracy", "error_count", "data_fingerprint", "changed_fraction", "cumulative_errors", "kept_epoch"]
    assert [[line[key] for key in same] for line in ledgers[0]] == [[line[key] for key in same] for line in ledgers[1]]
    capsys.readouterr()


def test_a_chunk_that_is_committed_changes_nothing_unless_it_is_meant() -> None:
    begin()
    update("run", "good1.npz")
    before = tree("run")
    Path("copy.npz").write_bytes(Path("good1.npz").read_bytes())
    stage, is_new = update("run", "copy.npz")
    assert (stage.version, is_new) == (1, False)
    assert tree("run") == before
    stage, is_new = update("run", "copy.npz", again=True)
    assert (stage.version, is_new, stage.train_examples) == (2, True, 108)
    assert stage.arrival["in_earlier_chunks"] == 60


def test_a_chunk_that_was_refused_gives_the_same_exit_code_until_it_is_accepted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    begin()
    assert [main(["update", "run", "good1.npz"]) for _ in range(2)] == [0, 0]
    assert [main(["update", "run", "bad.npz"]) for _ in range(2)] == [3, 3]  # as after a kill behind the commit
    assert "committed already, as version 2 (refused)" in capsys.readouterr().out
    assert [main(["update", "run", name]) for name in ("good2.npz", "bad.npz")] == [0, 3]
    accept("run", 2)
    assert main(["update", "run", "bad.npz"]) == 0
    assert "committed already, as version 2 (accepted)" in capsys.readouterr().out


def test_training_again_is_done_once_however_often_the_command_is_given() -> None:
    begin()
    update("run", "good1.npz")
    assert update("run", "good1.npz", again=True)[1]
    before = tree("run")
    for _ in range(2):
        stage, is_new = update("run", "good1.npz", again=True)
        assert (stage.version, is_new) == (2, False)
    assert tree("run") == before
    rollback("run", 1)  # whatever comes between, it is another command
    assert [update("run", "good1.npz", again=True)[1] for _ in range(2)] == [True, False]
    update("run", "good2.npz")
    assert [update("run", "good1.npz", again=True)[1] for _ in range(2)] == [True, False]
    # As after a kill behind the commit, on a chunk that never came before.
    assert [update("run", "good3.npz", again=True)[1] for _ in range(2)] == [True, False]


def test_a_ledger_that_does_not_say_who_asked_is_read_as_before() -> None:
    begin()
    for again in (False, True):
        update("run", "good1.npz", again=again)
    events = [dict(event) for event in read_ledger(Path("run"))]
    assert ["again" in event for event in events] == [False, True]
    for name in ("ledger.jsonl", "ledger.seal"):
        Path("run", name).unlink()
    for event in events:
        event.pop("again", None)
        Ledger(Path("run")).append(event)
    assert not update("run", "good1.npz", again=True)[1]


def test_a_worse_version_is_kept_marked_and_not_used() -> None:
    begin()
    update("run", "good1.npz")
    update("run", "good2.npz")
    before = Version.load("run").logits(load(Path("good3.npz")))
    refused, _ = update("run", "bad.npz")
    assert not refused.accepted
    assert refused.decision["reasons"][0].startswith("significantly worse than version 2 on the holdout: ")
    assert any("do both come from one distribution?" in text for text in refused.arrival["warnings"])
    assert (
        refused.cumulative_errors
        == sum(s["error_count"] for s in status("run")["versions"][:2]) + (status("run")["versions"][1]["error_count"])
    )
    facts = status("run")
    assert [version["status"] for version in facts["versions"]] == ["accepted", "in use", "refused"]
    assert torch.equal(torch.cat(list(before)), torch.cat(list(Version.load("run").logits(load(Path("good3.npz"))))))
    assert Path("run/versions/0003/model.safetensors").exists()
    # The next one goes on from version 2, and is not trained on the chunk that was put aside.
    after, _ = update("run", "good3.npz")
    assert (after.version, after.parent, after.accepted) == (4, 2, True)
    assert after.train_examples == 3 * 54


def test_a_refused_chunk_leaves_no_trace_in_what_follows() -> None:
    begin("with")
    begin("without")
    for chunk in ("good1.npz", "good2.npz"):
        update("with", chunk)
        update("without", chunk)
    assert not update("with", "bad.npz")[0].accepted
    # The stage's number names the random numbers, so the twin must count the same.
    assert not update("without", "bad.npz")[0].accepted
    with Learner.open("with") as learner:
        assert not learner.learn(load(save(Path("worse.npz"), 51, 400, shift=2))).accepted
        mine = learner.learn(load(Path("good3.npz")))  # in the process that was refused twice
    assert not update("without", "worse.npz")[0].accepted
    theirs, _ = update("without", "good3.npz")  # each in a new one
    assert mine.accuracy == theirs.accuracy
    assert weights("with", 5) == weights("without", 5)


def test_accepting_the_last_refused_version_puts_it_to_use_with_its_chunk() -> None:
    begin()
    update("run", "good1.npz")
    assert not update("run", "bad.npz")[0].accepted
    assert accept("run", 2, "the labels were right after all") == "version 2 is accepted and in use"
    facts = status("run")
    assert facts["current_version"] == 2
    assert facts["events"][0]["reason"] == "the labels were right after all"
    before = tree("run")
    assert "is accepted already" in accept("run", 2)
    assert tree("run") == before
    stage, _ = update("run", "good2.npz")
    assert (stage.parent, stage.train_examples) == (2, 54 + 360 + 54)


def test_accepting_a_version_that_was_overtaken_lets_its_chunk_into_the_next_update() -> None:
    begin(minimum_class_accuracy=0.0)
    update("run", "good1.npz")
    assert not update("run", "bad.npz")[0].accepted
    update("run", "good2.npz")
    sentence = accept("run", 2)
    assert "the next update takes its chunk in; version 3, which is not trained from it, stays in use" in sentence
    facts = status("run")
    assert facts["current_version"] == 3
    assert facts["waiting_chunks"] == [facts["versions"][1]["data_fingerprint"]]
    stage, _ = update("run", "good3.npz")
    assert stage.taken_in == [2, 4]
    assert stage.train_examples == 3 * 54 + 360
    assert not stage.accepted  # the bad chunk is in it, and waits on
    stage, _ = update("run", "good4.npz")
    assert stage.taken_in == [2, 5]
    rollback("run", 3)  # the way back from that
    stage, _ = update("run", save(Path("good5.npz"), 5))
    assert stage.taken_in == [6]
    assert stage.accepted


def test_rollback_is_a_new_line_and_takes_back_weights_and_memory() -> None:
    begin()
    for number in (1, 2, 3):
        update("run", f"good{number}.npz")
    ledger = Path("run/ledger.jsonl").read_bytes()
    assert "version 1 is in use" in rollback("run", 1, "version 2 was too slow")
    assert Path("run/ledger.jsonl").read_bytes().startswith(ledger)
    assert status("run")["current_version"] == 1
    assert "in use already" in rollback("run", 1)
    begin("twin")
    update("twin", "good1.npz")
    assert torch.equal(*(next(Version.load(d).logits(load(Path("test.npz")))) for d in ("run", "twin")))
    stage, _ = update("run", "good4.npz")
    assert (stage.version, stage.parent, stage.train_examples) == (4, 1, 108)
    assert [c["version"] for c in stage.decision["comparisons"]] == [1]
    assert "version 3 is in use" in rollback("run", 3)  # forward again
    assert status("run")["current_version"] == 3
    stage, is_new = update("run", "good4.npz", again=True)
    assert (stage.train_examples, is_new) == (216, True)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (lambda: rollback("run", 3), "version 3 was refused: accept it first"),
        (lambda: rollback("run", 9), "run has no version 9: it has 1 to 3"),
        (lambda: rollback("run", 0), "run has no version 0"),
        (lambda: accept("run", 4), "run has no version 4"),
        (lambda: accept("elsewhere", 1), "there is no directory elsewhere"),
        (lambda: update("elsewhere", "good1.npz"), "there is no directory elsewhere"),
        (lambda: prune("run", 0), "keep must be at least 1, got 0"),
        (lambda: update("run", "lost.npz"), "there is nothing at lost.npz"),
        (lambda: update("run", "wide.npz"), r"holds inputs of shape \(5,\), the model takes \(4,\)"),
        (lambda: update("run", "fourth.npz"), r"'3' \(2 examples\); it knows 0, 1, 2; if they are new, let"),
        (lambda: update("run", "empty.npz"), "inputs"),
        (lambda: update("run", "nan.npz"), "inputs hold NaN"),
        (lambda: Version.load("run", 7), "has no version 7"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_changes_nothing(command: Any, message: str) -> None:
    begin()
    for chunk in ("good1.npz", "good2.npz", "bad.npz"):
        update("run", chunk)
    np.savez("wide.npz", inputs=np.zeros((6, 5), np.float32), labels=[0, 1, 2] * 2)
    np.savez("fourth.npz", inputs=np.zeros((6, 4), np.float32), labels=[0, 1, 3] * 2)
    np.savez("empty.npz", inputs=np.zeros((0, 4), np.float32), labels=np.zeros(0, np.int64))
    np.savez("nan.npz", inputs=np.full((6, 4), np.nan, np.float32), labels=[0, 1, 2] * 2)
    before = tree()
    with pytest.raises(InputError, match=message) as error:
        command()
    assert "\n" not in str(error.value)
    assert tree() == before


def test_a_loss_that_becomes_nan_changes_nothing_and_the_learner_goes_on() -> None:
    huge = Examples(torch.full((60, 4), 1e19), torch.arange(60) % 3)
    for path in ("run", "twin"):
        begin(path, dataclasses.replace(RECIPE, optimizer="sgd"))
    with Learner.open("run") as learner:
        learner.learn(load(Path("good1.npz")))
        before = tree("run")
        with pytest.raises(InputError, match="loss became"):
            learner.learn(huge)
        assert tree("run") == before
        learner.learn(load(Path("good2.npz")))
    for number in (1, 2):
        update("twin", f"good{number}.npz")
    assert weights("run", 2) == weights("twin", 2)


def update_until(path: str, chunk: str, stop: Callable[[Progress], None], checkpoint_share: float) -> None:
    """Update as `update` does, with another share of the time for checkpoints."""
    with pytest.raises(KeyboardInterrupt), Learner.open(path, checkpoint_share=checkpoint_share) as learner:
        learner.learn(load(Path(chunk)), stop)


def test_a_checkpoint_of_another_chunk_or_another_start_is_not_taken_up() -> None:
    def stop(moment: Progress) -> None:
        if moment.epoch == 3:
            raise KeyboardInterrupt

    begin("run")
    begin("twin")
    for path in ("run", "twin"):
        update(path, "good1.npz")
        update(path, "good2.npz")
    update_until("run", "good3.npz", stop, checkpoint_share=float("inf"))  # a checkpoint after every epoch
    assert status("run")["running"] == {"stage": 3, "epochs_done": 2}
    update("run", "good4.npz")
    update("twin", "good4.npz")
    assert weights("run", 3) == weights("twin", 3)
    update_until("run", "good3.npz", stop, checkpoint_share=float("inf"))
    for path in ("run", "twin"):
        rollback(path, 1)
        update(path, "good3.npz")
    assert weights("run", 4) == weights("twin", 4)


def test_an_interrupt_saves_the_last_finished_epoch() -> None:
    def stop(moment: Progress) -> None:
        if moment.epoch == 4:
            raise KeyboardInterrupt

    begin("run")
    begin("twin")
    update_until("run", "good1.npz", stop, checkpoint_share=1e-9)  # none is worth its time after the first
    assert status("run")["running"] == {"stage": 1, "epochs_done": 3}
    epochs = []
    update("run", "good1.npz", watch=lambda moment: epochs.append(moment.epoch))
    assert epochs == [4]
    update("twin", "good1.npz")
    assert weights("run", 1) == weights("twin", 1)


# Budgets


def test_budgets_end_a_stage_and_the_ledger_says_which() -> None:
    for name, value, expected in (
        ("max_steps", 6, ("max_steps", 2, 6 * 16 - 10)),  # 54 examples: 16, 16, 16 and 6 a pass; then two steps more
        ("target_accuracy", 0.5, ("target_accuracy", None, None)),
        ("max_seconds", 1e-6, ("max_seconds", 1, 16)),
    ):
        begin(name, dataclasses.replace(RECIPE, epochs=50, **{name: value}))
        stage, _ = update(name, "good1.npz")
        assert stage.stopped_by == expected[0]
        assert stage.exact is (name != "max_seconds")
        if expected[1]:
            assert (stage.epochs_run, stage.examples_seen) == expected[1:]
        assert 1 <= stage.epochs_run < 50
        assert stage.train_flops == stage.examples_seen * (stage.train_flops // stage.examples_seen)


def test_a_budget_that_does_not_bind_changes_no_bit() -> None:
    begin("free")
    begin("bound", dataclasses.replace(RECIPE, max_steps=10_000, max_seconds=1e6, target_accuracy=1.0, epochs=4))
    for path in ("free", "bound"):
        update(path, "good1.npz")
    if status("bound")["versions"][0]["stopped_by"] == "epochs":
        assert weights("free", 1) == weights("bound", 1)


# Data whose labels or columns mean something else


def test_named_classes_do_not_fit_a_holdout_that_numbers_them(capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("PIL")
    from PIL import Image  # an extra, so not imported above

    for name in ("dog", "fox"):  # without the first of three classes, so the numbers would be other ones
        Path("folder", name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(f"folder/{name}/1.png")
    np.savez("images.npz", inputs=np.zeros((6, 4, 4, 3), np.uint8), labels=[0, 1, 2] * 2)
    message = "folder names its classes (dog, fox), and the holdout numbers them"
    assert main(["init", "images", "--holdout", "images.npz", "--test", "folder", *FLAGS]) == 2
    assert message in capsys.readouterr().err
    assert main(["init", "images", "--holdout", "images.npz", *FLAGS]) == 0
    before = tree()
    assert main(["update", "images", "folder"]) == 2
    assert message in capsys.readouterr().err
    assert tree() == before


@pytest.mark.filterwarnings("ignore")
def test_columns_of_a_table_are_taken_by_their_names(capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("datasets")
    from pyarrow import parquet, table  # an extra, so not imported above

    def write(path: str, seed: int, names: str, count: int = 60) -> None:
        inputs, labels = points(seed, count)
        columns = dict(zip("abcd", inputs.T.numpy(), strict=True)) | {"label": labels.numpy()}
        columns["z"] = columns["d"]
        parquet.write_table(table({name: columns[name] for name in [*names, "label"]}), path)

    write("holdout.parquet", 100, "abcd", 300)
    write("chunk.parquet", 1, "abcd")
    write("turned.parquet", 1, "dacb")
    write("other.parquet", 2, "abcz")
    assert main(["init", "table", "--holdout", "holdout.parquet", *FLAGS, "--epochs", "2"]) == 0
    assert main(["update", "table", "chunk.parquet"]) == 0
    capsys.readouterr()
    assert main(["update", "table", "turned.parquet"]) == 0
    assert "this chunk is committed already, as version 1" in capsys.readouterr().out
    guesses = []
    for name in ("chunk", "turned"):
        assert main(["predict", "table", f"{name}.parquet"]) == 0
        guesses.append(capsys.readouterr().out)
    assert guesses[0] == guesses[1]
    assert main(["export", "table", "net.safetensors"]) == 0
    for words in (
        ["update", "table", "other.parquet"],
        ["predict", "table", "other.parquet"],
        ["predict", "net.safetensors", "other.parquet"],
        ["init", "more", "--holdout", "holdout.parquet", "--test", "other.parquet", *FLAGS],
    ):
        assert main(words) == 2
        message = "other.parquet lacks the columns d and has the unknown columns z; the model takes 4 columns"
        assert message in capsys.readouterr().err


# Python, with the user's own network


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.body(inputs)


def test_a_module_of_ones_own_from_python_with_a_gate() -> None:
    holdout = Examples(*points(100, 300))
    for seed in (1, 2):
        with Learner.open("own", recipe=RECIPE, model=Own, test=holdout, gate=Gate()) as learner:
            assert learner.learn(Examples(*points(seed))).accepted
            logits = learner.predict(points(9)[0])
    with Learner.open("own", model=Own) as learner:
        assert learner.opened.gate == Gate()
        assert torch.equal(learner.predict(points(9)[0]), logits)
        assert not learner.learn(Examples(points(50, 400)[0], (points(50, 400)[1] + 1) % 3)).accepted
        assert torch.equal(learner.predict(points(9)[0]), logits)
    with pytest.raises(InputError, match=r"holds a network of your own code: give it again \(--model .*:Own\)"):
        Learner.open("own")
    with pytest.raises(InputError, match=r"another recipe \(model: .*:Own -> .*:points"):
        Learner.open("own", model=points)
    with pytest.raises(InputError, match="another holdout set"):
        Learner.open("own", model=Own, test=Examples(*points(3)))


def test_a_gate_cannot_be_added_to_a_plain_run() -> None:
    with Learner.open("plain", recipe=RECIPE) as learner:
        learner.learn(Examples(*points(1)))
    with pytest.raises(InputError, match="was begun without a gate"):
        Learner.open("plain", gate=Gate(), test=Examples(*points(2)))
    with pytest.raises(InputError, match="has no holdout to decide by"):
        update("plain", "good2.npz")


# Predict and export


@pytest.fixture
def served() -> Version:
    begin()
    update("run", "good1.npz")
    return Version.load("run")


def test_predictions_as_csv_and_json_lines(served: Version) -> None:
    examples = load(Path("test.npz"))
    shares = torch.softmax(torch.cat(list(served.logits(examples))).double(), dim=1)
    table, lines = io.StringIO(), io.StringIO()
    write_predictions(served, examples, table, "csv")
    write_predictions(served, examples, lines, "jsonl")
    rows = list(csv.DictReader(table.getvalue().splitlines()))
    assert list(rows[0]) == ["row", "prediction", "0", "1", "2"]
    assert [int(row["prediction"]) for row in rows] == shares.argmax(1).tolist()
    assert [[float(row[c]) for c in "012"] for row in rows] == [pytest.approx(share) for share in shares.tolist()]
    values = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [value["row"] for value in values] == list(range(90))
    assert [value["prediction"] for value in values] == shares.argmax(1).tolist()
    assert values[5]["probabilities"] == pytest.approx(dict(zip("012", shares[5].tolist(), strict=True)))
    with pytest.raises(InputError, match="format must be csv or jsonl, got 'xml'"):
        write_predictions(served, examples, lines, "xml")  # type: ignore[arg-type]


def test_predictions_of_images_name_their_files(capsys: pytest.CaptureFixture[str]) -> None:
    for part, count in (("holdout", 4), ("first", 8)):
        for number in range(count):
            write_image(Path(part, ("cat", "dog")[number % 2], f"{number}.png"), number)
    write_image(Path("new", "b.png"), 1)
    write_image(Path("new", "a.png"), 2)
    init("run", "holdout", recipe=Recipe(model="convnet:width=2", epochs=1, batch_size=4, lr=0.01, threads=1))
    update("run", "first")
    capsys.readouterr()
    assert main(["predict", "run", "new"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["row"], row["file"]) for row in rows] == [("0", "a.png"), ("1", "b.png")]
    assert main(["predict", "run", "new", "--format", "jsonl"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["file"] for line in lines] == ["a.png", "b.png"]
    assert {line["prediction"] for line in lines} <= {"cat", "dog"}


def test_predictions_stream(served: Version, monkeypatch: pytest.MonkeyPatch) -> None:
    many = Examples(torch.zeros(5000, 4), torch.zeros(5000, dtype=torch.int64))
    assert [len(piece) for piece in served.logits(many)] == [512] * 9 + [392]


def test_a_version_is_exported_as_weights_with_its_recipe_beside_it(served: Version) -> None:
    assert main(["export", "run", "net.safetensors"]) == 0
    stored = safetensors.torch.load_file("net.safetensors")
    assert {name: tensor.tolist() for name, tensor in stored.items()} == {
        name: tensor.tolist() for name, tensor in served.model.state_dict().items()
    }
    assert Recipe.from_toml(Path("net.toml").read_text(), "net.toml") == RECIPE
    facts = json.loads(Path("net.json").read_text())
    assert facts["task"]["num_classes"] == 3
    assert facts["stage"]["version"] == 1
    again = Version.load("net.safetensors", device="cpu")
    assert (again.stage, again.recipe, again.task) == (served.stage, served.recipe, served.task)
    inputs = load(Path("test.npz"))
    assert torch.equal(torch.cat(list(again.logits(inputs))), torch.cat(list(served.logits(inputs))))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("net.json", r"net\.safetensors needs net\.json beside it"),
        ("net.toml", r"net\.toml is not what was exported"),
        ("net.safetensors", r"net\.safetensors is not what was exported"),
    ],
)
def test_an_exported_version_that_was_changed_is_refused(served: Version, name: str, message: str) -> None:
    main(["export", "run", "net.safetensors"])
    if name == "net.json":
        Path(name).unlink()
    else:
        Path(name).write_bytes(Path(name).read_bytes().replace(b"0", b"1", 1))
    with pytest.raises(InputError, match=message):
        Version.load("net.safetensors")


def test_the_facts_beside_an_export_have_a_checksum_and_verify_checks_them_all(
    served: Version, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["export", "run", "net.safetensors"])
    main(["export", "run", "net.pt2"])
    for name in ("net.safetensors", "net.pt2"):
        assert main(["verify", name]) == 0
    assert "every checksum" in capsys.readouterr().out
    for name, other in (("net.json", ": 3"), ("net.toml", "0"), ("net.safetensors", "\0"), ("net.pt2", "\0")):
        whole = Path(name).read_bytes()
        Path(name).write_bytes(
            whole.replace(other.encode(), b"\x38" * len(other), 1)
            if name != "net.json"
            else whole.replace(b'"num_classes": 3', b'"num_classes": 4')
        )
        assert main(["verify", "net.safetensors"]) == 2
        assert f"{name} is not what was exported" in capsys.readouterr().out
        if name != "net.pt2":
            with pytest.raises(InputError, match=f"{name} is not what was exported"):
                Version.load("net.safetensors")
        Path(name).write_bytes(whole)
    facts = json.loads(Path("net.json").read_text())
    del facts["sha256"]["net.json"]  # as an earlier version of lure wrote it
    Path("net.json").write_text(json.dumps(facts))
    assert list(verify("net.safetensors")) == []
    assert Version.load("net.safetensors").stage.version == 1


def test_an_evaluation_that_was_changed_is_named_by_verify_and_refused_by_the_report(
    served: Version, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "run", "--json"]) == 0
    assert "sha256" not in json.loads(capsys.readouterr().out)
    file = Path("run/evaluations/1.json")
    assert list(verify("run")) == []
    assert main(["report", "run", "--json"]) == 0
    assert '"sha256"' not in capsys.readouterr().out
    evaluation = json.loads(file.read_text())
    file.write_text(json.dumps(evaluation | {"accuracy": 1.0}))
    assert [str(file) in complaint for complaint in verify("run")] == [True]
    assert main(["report", "run", "--json"]) == 2
    assert f"{file} is damaged" in capsys.readouterr().err
    del evaluation["sha256"]  # as an earlier version of lure wrote it
    file.write_text(json.dumps(evaluation))
    assert list(verify("run")) == []
    assert main(["report", "run", "--json"]) == 0
    for content in (b"[1]", b"[" * 100_000, b"\xff"):
        file.write_bytes(content)
        assert [str(file) in complaint for complaint in verify("run")] == [True]
        assert main(["report", "run", "--json"]) == 2
        assert f"{file} is damaged" in capsys.readouterr().err
        assert main(["evaluate", "run"]) == 0
        assert list(verify("run")) == []


def test_an_exported_network_of_ones_own_runs_only_by_consent(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine.py").write_text("from torch import nn\ndef net(num_classes):\n    return nn.Linear(4, num_classes)\n")
    model = ["--model", "mine:net"]
    assert main(["init", "own", "--holdout", "holdout.npz", *model, "--epochs", "1"]) == 0
    assert main(["update", "own", "good1.npz", *model]) == 0
    assert main(["export", "own", "net.safetensors", *model]) == 0
    monkeypatch.setitem(sys.modules, "mine", None)
    for given in (None, "other:net"):
        with pytest.raises(InputError, match=r"holds a network of your own code: give it again \(--model mine:net\)"):
            Version.load("net.safetensors", model=given)
    monkeypatch.delitem(sys.modules, "mine")
    assert Version.load("net.safetensors", model="mine:net").stage.version == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_version_is_exported_as_a_program_that_computes_the_same(served: Version) -> None:
    assert main(["export", "run", "net.pt2"]) == 0
    program = torch.export.load("net.pt2").module()
    for count in (1, 3, 90):
        inputs = load(Path("test.npz")).inputs[:count]
        assert torch.allclose(program(inputs), served.model(inputs), atol=1e-6)
    with pytest.raises(RuntimeError, match="dtype mismatch"):
        program(inputs.double())
    assert json.loads(Path("net.json").read_text())["program"] == {
        "takes": {"dtype": "float32", "shape": ["batch", 4], "range": None},
        "gives": {"dtype": "float32", "shape": ["batch", 3], "meaning": "logits"},
    }


@pytest.mark.filterwarnings("ignore")
def test_an_exported_program_takes_images_as_they_are_stored_and_refuses_all_else() -> None:
    random = np.random.default_rng(0)
    for name in ("pictures", "more"):
        np.savez(name, inputs=random.integers(0, 256, (40, 3, 8, 8), dtype=np.uint8), labels=np.arange(40) % 4)
    init("run", "pictures.npz", recipe=Recipe(model="convnet:width=2", epochs=1, batch_size=16, lr=0.05, threads=1))
    update("run", "more.npz")
    assert main(["export", "run", "net.pt2"]) == 0
    program, stored = torch.export.load("net.pt2").module(), load(Path("pictures.npz"))
    expected = torch.cat(list(Version.load("run", device="cpu").logits(stored)))
    assert torch.allclose(program(stored.inputs), expected, atol=1e-5)
    for wrong in (stored.inputs / 255, stored.inputs.float(), stored.inputs.long(), stored.inputs[..., :4]):
        with pytest.raises((RuntimeError, AssertionError)):
            program(wrong)
    assert json.loads(Path("net.json").read_text())["program"]["takes"] == {
        "dtype": "uint8",
        "shape": ["batch", 3, 8, 8],
        "range": [0, 255],
    }


def test_an_export_of_an_earlier_version_of_lure_is_read_and_replaced(served: Version) -> None:
    assert main(["export", "run", "net.safetensors"]) == 0
    facts = json.loads(Path("net.json").read_text())
    del facts["program"], facts["sha256"]["net.json"]  # as lure 0.1.0 wrote it
    Path("net.json").write_text(json.dumps(facts))
    assert list(verify("net.safetensors")) == []
    assert Version.load("net.safetensors").stage == served.stage
    assert main(["export", "run", "net.safetensors"]) == 0
    assert "program" in json.loads(Path("net.json").read_text())


def test_both_kinds_of_export_bear_one_name_and_no_other_file_is_replaced(
    served: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lure.learner.version, "export_program", lambda version: b"a program")
    for _ in range(2):  # a job that is done again replaces what it wrote
        for ending in ("safetensors", "pt2"):
            assert main(["export", "run", f"net.{ending}"]) == 0
            assert Version.load("net.safetensors").stage == served.stage
    assert sorted(json.loads(Path("net.json").read_text())["sha256"]) == [
        *("net.json", "net.pt2", "net.safetensors", "net.toml")
    ]
    update("run", "good2.npz")
    assert main(["export", "run", "net.pt2"]) == 0
    with pytest.raises(InputError, match=r"net\.safetensors is not what was exported"):  # it is of version 1
        Version.load("net.safetensors")
    for name in ("mine.toml", "mine.json", "mine.safetensors"):
        Path(name).write_text("{}")
        with pytest.raises(InputError, match=f"{name} is there and no export of lure; choose another name"):
            lure.learner.version.export(served, Path("mine.safetensors"))
        assert Path(name).read_text() == "{}"
        Path(name).unlink()


@pytest.mark.parametrize(
    ("file", "message"), [("net.bin", "must be .safetensors or .pt2"), ("no/net.pt2", "there is no folder no")]
)
def test_an_export_that_cannot_be_is_one_line(served: Version, file: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        lure.learner.version.export(served, Path(file))


# Verify and prune


def test_verify_names_damage_in_every_kind_of_file() -> None:
    begin()
    update("run", "good1.npz")
    update("run", "good2.npz")
    assert list(verify("run")) == []
    files = [path for path in sorted(Path("run").rglob("*")) if path.is_file() and path.name != ".lock"]
    kinds = {"recipe.toml", "production.json", "ledger.jsonl", "ledger.seal", "initial.safetensors", "inputs.npy"}
    kinds |= {
        "labels.npy",
        "row_digests.npy",
        "model.safetensors",
        "state.safetensors",
        "state.json",
        "holdout.safetensors",
    }
    assert {path.name for path in files} == kinds
    for path in files:
        whole = path.read_bytes()
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 4
        for damaged in (bytes(flipped), whole[: len(whole) // 2], whole[:-1], b"", None):
            path.unlink()
            if damaged is not None:
                path.write_bytes(damaged)
            complaints = list(verify("run"))
            if path.name == "row_digests.npy" and damaged is None:
                assert complaints == []  # as an earlier version of lure left it
                continue
            # A chunk is named by its folder.
            name = path.parent.name if path.suffix == ".npy" else path.name
            assert any(name in complaint for complaint in complaints), (path, damaged)
        path.write_bytes(whole)
    assert list(verify("run")) == []


def test_damage_is_never_used() -> None:
    begin()
    update("run", "good1.npz")
    update("run", "good2.npz")
    used = {
        "versions/0002/model.safetensors": "is damaged",
        "versions/0002/state.safetensors": "is damaged",
        "versions/0002/state.json": "is damaged",
        "versions/0002/holdout.safetensors": "is damaged",
        "initial.safetensors": "is damaged",
        "ledger.jsonl": "is damaged",
        "production.json": "is damaged",
        f"chunks/{load(Path('good1.npz')).fingerprint}/inputs.npy": "is damaged",
        f"chunks/{load(Path('holdout.npz')).fingerprint}/labels.npy": "is damaged",
    }
    for name, message in used.items():
        path = Path("run", name)
        whole = path.read_bytes()
        path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        before = tree("run")
        with pytest.raises(InputError, match=message):
            update("run", "good3.npz")
        assert tree("run") == before
        path.write_bytes(whole)
    assert update("run", "good3.npz")[0].accepted


@pytest.mark.parametrize("name", ["recipe.toml", "production.json"])
def test_a_directory_that_lost_what_it_was_begun_with_is_damaged_and_not_new(name: str) -> None:
    begin()
    update("run", "good1.npz")
    Path("run", name).unlink()
    before = tree()
    for attempt in (
        lambda: Learner.open("run"),
        lambda: Learner.open("run", recipe=dataclasses.replace(RECIPE, epochs=9)),
        lambda: update("run", "good2.npz"),
        lambda: status("run"),
    ):
        with pytest.raises(InputError, match=f"cannot read run/{name}: No such file|run/{name} is missing, but ledger"):
            attempt()
    (complaint,) = verify("run")
    assert f"run/{name}" in complaint
    assert tree() == before


def test_another_record_of_the_beginning_is_not_taken_for_the_one_that_was_agreed() -> None:
    begin("run")
    begin("lax", margin=1)
    update("run", "good1.npz")
    Path("run/production.json").write_bytes(Path("lax/production.json").read_bytes())
    with pytest.raises(InputError, match=r"run/production\.json is damaged"):
        update("run", "good2.npz")


def test_a_lost_ledger_is_not_begun_again_over_the_versions() -> None:
    begin()
    for number in (1, 2):
        update("run", f"good{number}.npz")
    for name in ("ledger.jsonl", "ledger.seal"):
        Path("run", name).unlink()
    before = tree()
    with pytest.raises(InputError, match=r"versions/0002 stands there, but .*ledger\.jsonl has 0 stages: restore"):
        update("run", "good3.npz")
    assert tree() == before
    assert any("which lost its end: restore the ledger" in complaint for complaint in verify("run"))


def test_prune_removes_weights_and_never_the_version_in_use() -> None:
    begin()
    for number in (1, 2, 3, 4):
        update("run", f"good{number}.npz")
    rollback("run", 1)
    assert prune("run", 2) == [2]
    assert prune("run", 2) == []
    assert not Path("run/versions/0002/model.safetensors").exists()
    assert Path("run/versions/0001/model.safetensors").exists()
    assert list(verify("run")) == []
    assert [version["status"] for version in status("run")["versions"]] == [
        "in use",
        "accepted, pruned",
        "accepted",
        "accepted",
    ]
    for attempt in (lambda: rollback("run", 2), lambda: Version.load("run", 2)):
        with pytest.raises(InputError, match="version 2 of run was pruned: its weights are gone"):
            attempt()
    assert update("run", save(Path("good5.npz"), 5))[0].accepted
    rollback("run", 4)
    assert prune("run", 1) == [1, 3]


def test_a_pruned_version_still_sets_the_mark() -> None:
    begin()
    for number in (1, 2, 3):
        update("run", f"good{number}.npz")
    prune("run", 1)
    stage, _ = update("run", "bad.npz")
    best = min(status("run")["versions"][:3], key=lambda version: version["error_count"])["version"]
    assert best in [comparison["version"] for comparison in stage.decision["comparisons"]]


# What changes between updates


def test_a_recipe_that_was_edited_is_refused_with_the_fields() -> None:
    begin()
    update("run", "good1.npz")
    path = Path("run/recipe.toml")
    original = path.read_text()
    path.write_text(
        original.replace("epochs = 4", "epochs = 5").replace('unlearner = "shrink-perturb"', 'unlearner = "lure"')
    )
    before = tree()
    with pytest.raises(
        InputError, match=r"edited after lure init \(unlearner: shrink-perturb -> lure; epochs: 4 -> 5\)"
    ):
        update("run", "good2.npz")
    assert tree() == before
    path.write_text(original + "# a comment\n")
    with pytest.raises(InputError, match="was edited after the first stage"):
        update("run", "good2.npz")
    path.write_text(original)
    update("run", "good2.npz")


def test_another_torch_is_allowed_recorded_and_no_longer_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    begin()
    assert update("run", "good1.npz")[0].exact
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "9.9.9")
        stage, _ = update("run", "good2.npz")
    assert stage.environment["torch"] == "9.9.9"
    assert not stage.exact
    assert not update("run", "good3.npz")[0].exact


def test_a_clock_that_goes_back_changes_nothing_but_the_date(monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import UTC, datetime

    class Back(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime(1971, 1, 1, tzinfo=UTC)

    begin("run")
    begin("twin")
    for path in ("run", "twin"):
        update(path, "good1.npz")
    with monkeypatch.context() as patch:
        patch.setattr(lure.learner.record, "datetime", Back)
        stage, _ = update("run", "good2.npz")
    update("twin", "good2.npz")
    assert stage.committed_at == "1971-01-01T00:00:00+00:00"
    assert weights("run", 2) == weights("twin", 2)
    rollback("run", 1)
    assert status("run")["current_version"] == 1


def test_lure_run_does_not_touch_a_directory_of_production(capsys: pytest.CaptureFixture) -> None:
    begin()
    before = tree()
    assert main(["run", "--out", "run", "--epochs", "1"]) == 2
    assert "run was not begun by lure run" in capsys.readouterr().err
    assert tree() == before


# Status


def test_status_says_which_file_was_refused_and_when(capsys: pytest.CaptureFixture) -> None:
    odd = os.fsdecode(b"week-2 of the month of november \xff\x1b[2J.npz")
    Path("bad.npz").rename(odd)
    begin()
    update("run", "good1.npz")
    update("run", Path(odd).absolute())
    with Learner.open("run") as learner:  # examples without a file go by their fingerprint, as in earlier ledgers
        nameless = learner.learn(load(Path("good2.npz")))
    shown = r"week-2 of the month of november \udcff\x1b[2J.npz"
    versions = status("run")["versions"]
    assert [version["arrival"]["name"] for version in versions] == ["good1.npz", shown, None]
    accept("run", 2)
    prune("run", 1)  # "refused, pruned" is the longest status
    assert main(["status", "run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = lines[: next(number for number, line in enumerate(lines) if line.startswith("in use"))]
    assert max(map(len, table)) <= 80
    text = "\n".join(table)
    assert "…" not in text
    assert "good1.npz" in text
    assert nameless.data_fingerprint[:8] in text
    days = [version["committed_at"][:10] for version in versions]
    assert all(day in text for day in days)
    assert any(line.startswith(f"version 2 ({shown}, {days[1]}) was refused: ") for line in lines)
    assert "\x1b" not in text


def test_status_says_what_the_last_update_chose(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lure.unlearners.auto.WORTH_A_PROBE", 0)  # however little so small a model has memorised
    begin(recipe=dataclasses.replace(RECIPE, unlearner="auto:probe_share=0.25"))
    for number in (1, 2):
        update("run", f"good{number}.npz")
        assert main(["status", "run"]) == 0
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("chose")]
        assert len(lines) == number - 1, "the first update has nothing to choose"
    last = status("run")["versions"][-1]
    assert [choice["candidate"] for choice in last["choices"][1:]][1] == "fire"
    assert re.fullmatch(
        r"chose for version 2: (fire|shrink-perturb:shrink=\S+:perturb=\S+) \(validation loss \d\.\d\d after a probe; "
        rf"\S+ \d\.\d\d\), {100 * last['unlearn_flops'] / last['train_flops']:.0f} % of the training cost",
        lines[0],
    )


# The command line


def test_the_commands_their_output_and_their_exit_codes(capsys: pytest.CaptureFixture) -> None:
    def said(*words: str, code: int = 0) -> str:
        assert main(list(words)) == code
        captured = capsys.readouterr()
        return captured.out + captured.err

    flags = [*FLAGS, "--unlearner", "shrink-perturb", "--epochs", "4", "--optimizer", "adam", "--lr", "0.02"]
    rules = ["--significance", "1e-6", "--margin", "0.3"]
    assert "run is ready" in said("init", "run", "--holdout", "holdout.npz", "--test", "test.npz", *flags, *rules)
    assert "version 1 accepted" in said("update", "run", "good1.npz")
    assert "committed already, as version 1 (accepted)" in said("update", "run", "good1.npz")
    refused = said("update", "run", "bad.npz", code=3)
    assert "version 2 refused" in refused
    assert "lure accept run 2 --reason TEXT" in refused
    assert "warning: the version in use gets" in refused
    assert "version 2 (refused)" in said("update", "run", "bad.npz", code=3)  # a retried job hears the same
    facts = json.loads(said("status", "run", "--json"))
    assert facts["current_version"] == 1
    assert facts["holdout_uses"] == 2
    shown = said("status", "run")
    assert "refused" in shown
    assert "holdout: 300 examples, used 2 times" in shown
    assert json.loads(said("update", "run", "good2.npz", "--json"))["accepted"] is True
    assert "the next update takes its chunk in" in said("accept", "run", "2", "--reason", "reviewed")
    assert "version 1 is in use" in said("rollback", "run", "1", "--reason", "a\n\x1b[2J[red]")
    assert r"rollback 1 (a\n\x1b[2J[red])" in said("status", "run")
    assert said("predict", "run", "test.npz").startswith("row,prediction,0,1,2\n0,")
    assert json.loads(said("predict", "run", "test.npz", "--format", "jsonl").splitlines()[0])["row"] == 0
    assert "every checksum and every reference is right" in said("verify", "run")
    assert "weights removed of versions: 2" in said("prune", "run", "--keep", "1")
    Path("run/versions/0001/model.safetensors").write_bytes(b"")
    damage = said("verify", "run", code=2)
    assert "model.safetensors is damaged" in damage
    assert damage.endswith("error: run: 1 thing is wrong, as listed\n")
    assert "error: the following arguments are required: --holdout" in said("init", "more", code=2)
    assert "minimum_accuracy must lie in [0, 1], got 7" in said(
        "init", "more", "--holdout", "holdout.npz", "--minimum-accuracy", "7", code=2
    )


def test_the_temperature_is_fitted_on_what_the_chunks_behind_a_version_held_out() -> None:
    begin()
    for number in (1, 2, 3):
        update("run", f"good{number}.npz")
    rollback("run", 1)
    update("run", "good4.npz")
    with Learner.open("run") as learner:
        held = [learner.state.recall(learner.stages[number - 1]).validation for number in (1, 4)]
    version = Version.load("run")
    assert version.stage.parent == 1
    logits = torch.cat([torch.cat(list(version.logits(examples))) for examples in held])
    expected = fit_temperature(logits, torch.cat([examples.labels for examples in held]))
    for file in (None, Path("holdout.npz")):
        scaled = evaluate_version("run", file=file)["temperature_scaling"]
        assert scaled["validation_examples"] == sum(map(len, held)) == 12
        assert scaled["temperature"] == pytest.approx(expected)
