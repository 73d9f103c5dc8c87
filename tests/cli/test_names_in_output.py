"""What names in somebody's data hold for a terminal or a spreadsheet acts on neither."""

import csv
import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from lure.cli import main
from lure.report.console import empty_table, report_console
from lure.report.progress import StageProgress
from lure.training.fit import Progress

CLASSES = ("=cmd|' C'!A0", "+1;@SUM(A1)", "-2", "cat \x1b]0;mine\x07", "dog \x9b2J", "gnu \u202e:cat: [red]")
FILE = "@\x1b[2J.png"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Return a directory with one version, whose classes have such names; leave out what the commands printed."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for folder in ("holdout", "chunk \x1b[2J"):
        for name in CLASSES:
            Path(folder, name).mkdir(parents=True)
            for file in ("1.png", FILE):
                Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(Path(folder, name, file))
    flags = ["--model", "mlp:width=4", "--epochs", "1", "--milestones", "", "--threads", "1"]
    assert main(["init", "run", "--holdout", "holdout", *flags]) == 0
    assert main(["update", "run", "chunk \x1b[2J"]) == 0
    return "run"


def test_nothing_that_is_printed_acts_on_the_terminal(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["status", run],
        ["status", run, "--json"],
        ["evaluate", run],
        ["evaluate", run, "--json"],
        ["predict", run, "holdout"],
        ["predict", run, "holdout", "--format", "jsonl"],
        ["update", run, "chunk \x1b[2J"],
        ["update", run, "chunk \x1b[2J", "--json"],
        ["export", run, "\x1b[2J.safetensors"],
        ["report", run],
        ["report", run, "--json"],
        ["verify", run],
    ):
        assert main(words) == 0, words
        said = capsys.readouterr()
        for line in (said.out + said.err).split("\n"):
            assert line.isprintable(), (words, line)
        if "json" in words[-1]:
            assert json.loads(said.out.split("\n")[0] if words[-1] == "jsonl" else said.out)


def test_tables_show_names_as_they_are(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["evaluate", run]) == 0
    out = capsys.readouterr().out
    assert r"gnu \u202e:cat: [red]" in out
    assert r"cat \u001b]0;mine\u0007" in out


def test_json_lines_keep_every_name(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["predict", run, "holdout", "--format", "jsonl"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.split("\n") if line]
    assert set(lines[0]["probabilities"]) == set(CLASSES)
    assert {line["file"] for line in lines} == {f"{name}/{file}" for name in CLASSES for file in ("1.png", FILE)}


def test_no_cell_of_a_table_is_a_formula(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["predict", run, "holdout"]) == 0
    header, *rows = csv.reader(io.StringIO(capsys.readouterr().out))
    assert "'=cmd|' C'!A0" in header
    assert "'+1;'@SUM(A1)" in header
    assert "-2" in header, "a number is no formula, and programs read it"
    for row in (header, *rows):
        for cell in row:
            assert cell == "-2" or not cell.startswith(("=", "+", "-", "@")), cell


def test_a_terminal_gets_the_styles_of_tables_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    table, stream = empty_table(), Terminal()
    table.add_column("name")
    table.add_row("\x1b[2J")
    report_console(stream).print(table)
    assert "\x1b[1m" in stream.getvalue(), "headings are bold"
    assert "\x1b[2J" not in stream.getvalue()
    assert "\\u001b[2J" in stream.getvalue()


def test_a_policys_name_does_not_act_through_the_lines_of_progress() -> None:
    stream = io.StringIO()
    stage = SimpleNamespace(stage=1, train_examples=3, accuracy=0.5, unlearn_seconds=0.0, train_seconds=1.0)
    with StageProgress(Console(file=stream)) as progress:
        progress.stage_done("mine \x1b[2J [red]", stage)  # type: ignore[arg-type]
    assert stream.getvalue() == "mine \\x1b[2J [red], stage 1: 3 examples, test accuracy 50.0 %, 1.0 seconds\n"
    terminal = io.StringIO()
    with StageProgress(Console(file=terminal, force_terminal=True, width=200, color_system=None)) as progress:
        progress.show("mine \x1b[2J [red]", Progress(1, 1, 2, 1, 2, None))
    assert "mine \\x1b[2J [red], stage 1" in terminal.getvalue()
