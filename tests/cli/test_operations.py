"""The operations page: its commands run, its script does what it says, and it explains every field of the ledger."""

import dataclasses
import json
import random
import re
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lure.cli import main
from lure.learner.arrival import Arrival
from lure.learner.gate import Comparison, Decision, Gate
from lure.learner.production import status, verify
from lure.store.ledger import EVENTS, read_ledger
from lure.store.stage import Stage

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SCRIPT = next(block for block in BLOCKS if block.startswith("#!"))
COMMANDS = [line for block in BLOCKS if block is not SCRIPT for line in block.splitlines()]


def save(path: str, seed: int, count: int = 150, shift: int = 0) -> None:
    """Three clouds of points; with a shift every label is wrong."""
    generator, labels = np.random.default_rng(seed), np.arange(count) % 3
    inputs = 3 * np.eye(4)[labels] + generator.normal(size=(count, 4))
    np.savez(path, inputs=inputs.astype(np.float32), labels=(labels + shift) % 3)


def save_table(path: str, seed: int, count: int) -> None:
    """Customers with a name, an age that is sometimes missing, and a plan."""
    draw = random.Random(seed)
    lines = ["customer,name,age,plan,calls,left"]
    for number in range(count):
        age, plan = draw.randint(18, 80), draw.choice(["basic", "family", "business"])
        known = age if draw.random() < 0.9 else ""
        left = "yes" if age < 50 and plan == "basic" else "no"
        lines.append(f"{seed}-{number},N. {number},{known},{plan},{draw.random():.6f},{left}")
    Path(path).write_text("\n".join(lines))


@pytest.fixture(autouse=True)
def _with_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("holdout", "test", "monday", "wednesday", "new")):
        save(f"{name}.npz", seed, 300)
    save("tuesday.npz", 9, 600, shift=1)
    for seed, name in enumerate(("customers", "april", "leads")):
        save_table(f"{name}.csv", seed, 400)
    for seed, name, every in ((20, "thursday", 4), (21, "more", 1)):  # a fourth class arrives
        save(f"{name}.npz", seed, 400)
        with np.load(f"{name}.npz") as arrays:
            inputs, labels = arrays["inputs"], arrays["labels"]
        inputs[::every] = 9 * np.eye(4)[3] + np.random.default_rng(seed).normal(size=(len(inputs[::every]), 4))
        labels[::every] = 3
        np.savez(f"{name}.npz", inputs=inputs, labels=labels)


@pytest.mark.filterwarnings("ignore")  # torch.export warns of its own parts
def test_the_commands_run_in_their_order_and_end_as_they_say(capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("datasets")
    for line in COMMANDS:
        command, _, comment = line.partition("#")
        expected = re.search(r"exit code (\d)", comment)
        words = shlex.split(command)
        if words[0] == "lure":
            words, _, output = (words[1:], "", "") if ">" not in words else (words[1:-2], "", words[-1])
            code = main(words)
            said = capsys.readouterr()
            if output:
                Path(output).write_text(said.out)
            assert code == int(expected[1] if expected else 0), (line, said.err)
        else:
            subprocess.run(words, check=True)
    answers = [str(json.loads(line)["prediction"]) for line in Path("served.jsonl").read_text().splitlines()]
    for program in PROGRAMS:
        exec(program, {})
        said = capsys.readouterr().out.splitlines()
        assert re.findall(r"\d+", said[-1]) == answers
    (shown,) = re.findall(r"print\(facts.*# (.*)", PAGE)
    assert shown == said[0]
    assert len(Path("predictions.csv").read_text().splitlines()) == 301
    assert Path("answers.csv").read_text().startswith("row,id,prediction,no,yes\n0,2-0,")
    assert len(Path("predictions.jsonl").read_text().splitlines()) == 300
    assert {event["event"] for event in read_ledger(Path("model"))} >= {"stage", "accept", "rollback"}


@pytest.mark.skipif(not (shutil.which("bash") and shutil.which("flock")), reason="needs bash and flock")
def test_the_script_takes_in_what_lies_there_and_keeps_a_copy() -> None:
    flags = ["--epochs", "5", "--threads", "1"]
    assert main(["init", "model", "--holdout", "holdout.npz", "--model", "mlp", *flags]) == 0
    for folder in ("bin", "inbox"):
        Path(folder).mkdir()
    for number, name in enumerate(("monday", "tuesday")):
        Path(f"{name}.npz").rename(f"inbox/{number}.npz")
    Path("inbox/2.npz").write_bytes(b"no archive")
    Path("wednesday.npz").rename("inbox/3.npz")
    for path, text in (
        ("bin/update-model", SCRIPT),
        ("bin/lure", f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m lure "$@"\n'),
    ):
        Path(path).write_text(text)
        Path(path).chmod(stat.S_IRWXU)
    ran = subprocess.run(
        ["bash", "-c", 'PATH="$PWD/bin:$PATH" exec update-model "$PWD"'], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (2, "")
    assert ran.stdout.startswith("inbox/1.npz was refused: see lure status ")
    assert "inbox/2.npz: exit code 2\nerror: cannot read inbox/2.npz" in ran.stdout
    assert [p.name for folder in ("done", "refused", "inbox") for p in sorted(Path(folder).iterdir())] == [
        "0.npz",
        "1.npz",
        "2.npz",
        "3.npz",
    ]
    (copy,) = Path("backup").iterdir()
    assert list(verify(copy)) == []
    assert [version["status"] for version in status(copy)["versions"]] == ["in use", "refused"]


def test_every_event_and_field_of_the_ledger_and_every_rule_of_the_gate_is_explained() -> None:
    names = [*EVENTS, "line_sha256", "committed_at", "becomes_current", "from_version", "versions", "reason"]
    for record in (Stage, Arrival, Decision, Comparison):
        names += [field.name for field in dataclasses.fields(record)]
    for name in names:
        assert f"`{name}`" in PAGE, name
    for field in dataclasses.fields(Gate):
        assert f"`--{field.name.replace('_', '-')}`" in PAGE, field.name
