"""The short form of `oracle.py`: a few numbers of each case, which a refactor leaves as they are.

Whoever changes one explains it, and measures anew over several seeds: `python tests/oracle.py --write` writes the file.
Counts are exact. What is computed in floating point may differ in the third digit on another processor; another data
order, another random stream or another formula shows in the first two.
"""

import json
from pathlib import Path

import pytest
from oracle import CASES, SHORT_FORM, run_case, short_form

EXPECTED = json.loads(SHORT_FORM.read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("oracle")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_a_short_run_comes_out_as_ever(name: str, folder: Path) -> None:
    *measured, examples_seen, train_flops = short_form(run_case(folder, name))
    *expected, expected_examples, expected_flops = EXPECTED[name]
    assert (examples_seen, train_flops) == (expected_examples, expected_flops)
    assert measured == pytest.approx(expected, rel=0.02 if name == "bf16" else 5e-3, abs=1e-4)


def test_every_case_has_its_numbers() -> None:
    assert EXPECTED.keys() == CASES.keys()
