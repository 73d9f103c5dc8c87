"""No command loads what it does not use: each runs in a process of its own, which then says what it has loaded."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lure.cli import main

ROOT = Path(__file__).parents[2]
HEAVY = "torch numpy scipy matplotlib PIL rich safetensors datasets accelerate wandb jinja2 pandas pyarrow".split()  # noqa: SIM905
PROBE = f"""
import runpy, sys
program, *words = sys.argv[1:]
sys.argv = [program, *words]
try:
    if program == "lure":
        from lure.cli import main
        code = main(words)
    else:
        runpy.run_path(program, run_name="__main__")
except SystemExit as leaving:
    code = leaving.code
print()
print(code, *[name for name in {HEAVY!r} if name in sys.modules])
"""
DEMO = "--epochs 1 --num-mega-batches 2 --mega-batch-size 40 --test-limit 50 --threads 1"


def loaded(words: str, code: int) -> set[str]:
    """Run a command that ends with an exit code; return the heavy modules that it loaded."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *shlex.split(words)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    ended, *names = done.stdout.splitlines()[-1].split()
    assert int(ended) == code, done.stderr
    return set(names)


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "run"
    assert main(["run", *DEMO.split(), "--out", str(directory)]) == 0
    return directory


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("lure --help", 0),
        ("lure --version", 0),
        ("lure", 2),
        ("lure lst", 2),
        ("lure --verbose", 2),
        *((f"lure {command} --help", 0) for command in ("report", "evaluate", "update", "status", "predict", "list")),
        ("lure status", 2),
        ("lure status DIR --jsn", 2),
        ("lure update DIR DATA --workers many", 2),
        ("lure list model", 2),
        (f"{ROOT / 'LURE_main.py'} --help", 0),
        (f"{ROOT / 'ALMA.py'} --epoch 3", 2),
    ],
)
def test_help_and_errors_in_usage_load_nothing(words: str, code: int) -> None:
    assert loaded(words, code) == set()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("lure run --help", 0),
        ("lure compare --help", 0),
        ("lure init --help", 0),
        ("lure run --epoch 3", 2),
        ("lure run --epochs 0", 2),
        ("lure list recipes", 0),
    ],
)
def test_what_reads_recipes_alone_needs_no_torch(words: str, code: int) -> None:
    assert loaded(words, code) == set()


@pytest.mark.parametrize(
    ("words", "used"),
    [
        ("status DIR --json", set()),
        ("status DIR", {"rich"}),
        ("verify DIR", set()),
        ("report DIR --json", {"scipy"}),
        ("report DIR", {"scipy", "rich"}),
    ],
)
def test_what_reads_a_run_directory_needs_no_torch(words: str, used: set[str], run_directory: Path) -> None:
    names = loaded(f"lure {words.replace('DIR', shlex.quote(str(run_directory)))}", 0)
    assert names <= used | {"numpy", "safetensors"}


def test_a_run_loads_nothing_that_draws_or_tracks(tmp_path: Path) -> None:
    names = loaded(f"lure run {DEMO} --out {shlex.quote(str(tmp_path / 'run'))}", 0)
    assert names & {"matplotlib", "datasets", "accelerate", "wandb", "jinja2", "pandas", "pyarrow"} == set()


def test_a_comparison_that_is_refused_has_not_loaded_the_plots() -> None:
    assert "matplotlib" not in loaded("lure compare --seeds x", 2)
