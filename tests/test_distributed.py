"""Two processes that train one model: the step of the whole batch, one mask, one redraw, one writer."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from lure.distributed import in_parallel, my_share, process_group, share_weight
from lure.recipe import Experiment, to_toml
from lure.training.loader import cut_batches

EXPERIMENT = Experiment(
    num_mega_batches=2,
    mega_batch_size=70,
    test_limit=100,
    model="mlp:width=16",
    epochs=3,
    batch_size=16,
    lr=0.05,
    milestones=(),
    validation_fraction=0.0,
    threads=1,
)


def launch(count: int, experiment: Experiment, out: Path) -> subprocess.CompletedProcess[str]:
    recipe = out.with_suffix(".toml")
    recipe.write_text(to_toml(experiment))
    words = ["-m", "lure", "run", str(recipe), "--device", "cpu", "--out", str(out)]
    if count > 1:
        words = ["-m", "torch.distributed.run", f"--nproc-per-node={count}", "--standalone", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment, timeout=300)


def weights(out: Path, version: int) -> dict[str, torch.Tensor]:
    return safetensors.torch.load((out / f"versions/{version:04d}/model.safetensors").read_bytes())


def test_alone_nothing_is_shared(tmp_path: Path) -> None:
    rows = torch.arange(5)
    model = torch.nn.Linear(2, 2)
    assert torch.equal(my_share(rows), rows)
    assert share_weight(rows) == 1
    assert in_parallel(model) is model
    with process_group("auto", tmp_path) as given:
        assert given == ("auto", tmp_path)


def test_a_last_batch_too_small_to_share_joins_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lure.training.loader.number_of_processes", lambda: 2)
    assert [len(piece) for piece in cut_batches(torch.arange(11), 4)] == [4, 7]
    assert [len(piece) for piece in cut_batches(torch.arange(12), 4)] == [4, 4, 4]


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for count, out in ((1, one), (2, two)):
        done = launch(count, EXPERIMENT, out)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("saved in") == 1
    for version in (1, 2):
        alone, together = weights(one, version), weights(two, version)
        for name, value in alone.items():
            # Sums in another order: equal but for rounding, which training carries on.
            assert torch.allclose(value, together[name], atol=1e-4), name
    ledgers = [[json.loads(line) for line in (out / "ledger.jsonl").read_text().splitlines()] for out in (one, two)]
    for alone_stage, together_stage in zip(*ledgers, strict=True):
        for key in ("train_examples", "examples_seen", "train_flops", "unlearn_flops", "changed_fraction"):
            assert alone_stage[key] == together_stage[key], key


@pytest.mark.slow
def test_two_processes_regularize_as_one(tmp_path: Path) -> None:
    every = ("l2-init", "hare-tortoise:interval=3:decay=0.9", "ema:decay=0.9", "distill:focal=true", "parseval")
    experiment = dataclasses.replace(EXPERIMENT, regularizers=every, mega_batch_size=71, clip_norm=1.0)
    for count, name in ((1, "one"), (2, "two")):
        done = launch(count, experiment, tmp_path / name)
        assert done.returncode == 0, done.stderr
    for version in (1, 2):
        together = weights(tmp_path / "two", version)
        for name, value in weights(tmp_path / "one", version).items():
            assert torch.allclose(value, together[name], atol=1e-4), name
    flops = [[json.loads(line)["train_flops"] for line in (tmp_path / name / "ledger.jsonl").read_text().splitlines()]
             for name in ("one", "two")]  # fmt: skip
    assert flops[0] == flops[1]


@pytest.mark.slow
def test_batchnorm_and_dropout_leave_the_processes_alike_and_a_run_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    experiment = dataclasses.replace(
        EXPERIMENT, model="convnet:width=4", augment="crop-flip", regularizers=("ema", "distill")
    )
    experiment = dataclasses.replace(experiment, validation_fraction=0.2, keep="best")
    done = launch(2, experiment, out)
    assert done.returncode == 0, done.stderr
    assert (out / "result.json").exists()
    again = launch(2, experiment, out)
    assert again.returncode == 0, again.stderr
    assert again.stdout == done.stdout


@pytest.mark.slow
def test_what_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    done = launch(2, dataclasses.replace(EXPERIMENT, batch_size=3), tmp_path / "run")
    assert done.returncode != 0
    assert "error: batch_size = 3 is too small for 2 processes" in done.stderr
