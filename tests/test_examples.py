"""The programs in examples/ run as they stand, without warnings, and print what they promise."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"

# program -> what it must have printed: the effect that it is there to show
SHOWN = {
    "one_line.py": r"before chunk 3: \d+\.\d% of the parameters were redrawn\nafter chunk 3: test accuracy [6-9]\d",
    "keep_current.py": r"npz: version 4, 720 trained on, 9(.|\n)*chunk-3.npz: learned before\na point of class 1",
    "my_unlearner.py": r"kept   4 of 16 and 1 of 4 units are fresh, nothing else moved",
    "production_cycle.py": r"version 1: \d+\.\d%, accepted; version 2: \d+\.\d%, in use|"
    r"version 1: \d+\.\d%, in use; version 2: \d+\.\d%, accepted\npredictions: \[0, 1, 2, [0-2], 1\] labels",
    "customer_table.py": r"age \(\d\d\.\d+\)\n.*plan \(basic, business, family\)\n  8 inputs in all\n"
    r"  warnings: \[\"column 'month' is 4 in all 500(.|\n)*may: [89]\d.*\nrow,id,prediction,no,yes\n0,9-000,(no|yes),",
    "compare_policies.py": r"lure, seed 0: done\n(.|\n)*price(.|\n)*retraining: final accuracies \d+\.\d%"
    r"(.|\n)*version 5, 500 examples",
}


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == SHOWN.keys()


@pytest.mark.parametrize("name", SHOWN)
def test_an_example_shows_what_it_says(name: str, tmp_path: Path) -> None:
    if name == "customer_table.py":
        pytest.importorskip("datasets")
    ran = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert re.search(SHOWN[name], ran.stdout), ran.stdout
    assert not list(tmp_path.iterdir()), "an example leaves nothing behind where it is run"


@pytest.mark.parametrize("name", SHOWN)
def test_an_example_is_short_and_says_how_it_is_run(name: str) -> None:
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    assert text.startswith('"""')
    assert f"python examples/{name}" in text
    assert len(text.splitlines()) <= 65
