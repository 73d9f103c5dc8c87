"""The README's Python runs as it stands, its commands are commands of ours, and all figures are those of results/.

The figures are those of README.md and docs/results.md. Links and `lure` commands are tested for all documents alike, in
test_docs.py.
"""

import functools
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from lure.recommended import COMPARED
from lure.report.numbers import page_data
from lure.report.records import read_runs
from lure.unlearners import UNLEARNERS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
BASH = [
    line.split("  #")[0] for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) for line in block.splitlines()
]
ROWS = {
    name: [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| `")]
    for name, text in (("README.md", README), ("docs/results.md", RESULTS))
}


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_python_blocks_run(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(PYTHON[number], f"README block {number}", "exec"), {})


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [line.split()[1] for line in BASH if line.startswith("make ")]
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_make_clean_leaves_what_was_trained() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "runs" not in makefile.split("\nclean:")[1].split()


def test_every_policy_is_named_and_in_the_table() -> None:
    for name in UNLEARNERS:
        assert f"`{name}`" in README
        # `auto` is judged by the suite, on docs/suite.md: this table is of a demonstration older than it.
        assert name == "auto" or name in [row[0].strip("`") for row in ROWS["docs/results.md"] if len(row) == 4]


def test_the_readme_stays_short() -> None:
    assert len(README.splitlines()) <= 200


def test_no_placeholder_is_left() -> None:
    assert not re.findall(r"\b(?:RESULTS|TODO|FIXME)_?[A-Z]*\b", README + RESULTS)


def test_adapters_exist() -> None:
    adapters = set(re.findall(r"lure\.adapters\.\w+", README))
    assert len(adapters) == 3
    assert all(find_spec(adapter) for adapter in adapters)


def test_the_demonstration_compares_as_many_policies_as_it_says() -> None:
    words = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight"]
    number = len(COMPARED)
    assert f"compares {words[number]} policies on an embedded sample" in README


@functools.cache
def group(folder: str) -> dict[str, Any]:
    """What `lure report` finds in a folder of results."""
    (found,) = page_data(read_runs([ROOT / "results" / folder]))["groups"]
    return found


def figure(folder: str, policy: str, measure: str) -> str:
    """A number over the seeds, as the tables write it: percent with its deviation, FLOPs, points from scratch, a price.

    "final_accuracy, budget 0.1" is that at a budget.
    """
    if measure == "price":
        (found,) = [answer for answer in group(folder)["price_answers"] if answer["policy"] == policy]
        words = {"dearer than retraining": "dearer", "not decided by these seeds": "open"}
        at_most = "≤ " if found["at_most"] else ""
        return words.get(found["answer"]) or f"{at_most}{100 * found['cost']:.0f} %"
    measure, _, budget = measure.partition(", ")
    data = group(folder)["policies"][f"{policy}, {budget}" if budget else policy]
    if measure == "flops":
        return f"{data['measures']['flops']['mean'] / 1e9:.0f} G"
    if measure == "difference_from_scratch":
        paired = data[measure]
        if paired is None:
            return "-"
        return f"{100 * paired['mean_difference']:+.1f} ± {100 * paired['standard_deviation']:.1f}"
    spread = data["measures"][measure]
    return f"{100 * spread['mean']:.1f} ± {100 * spread['standard_deviation']:.1f}"


PRICES = dict(
    enumerate(
        (
            ("demo", "final_accuracy, budget 0.1"),
            ("demo", "final_accuracy, budget 0.3"),
            ("demo", "final_accuracy"),
            ("demo", "price"),
        ),
        start=1,
    )
)
# (page, number of columns) -> column -> where its figures come from
TABLES = {
    ("README.md", 5): PRICES,
    ("docs/results.md", 6): {**PRICES, 5: ("demo", "mean_error_rate, budget 0.1")},
    ("docs/results.md", 7): {
        1: ("demo-last-epoch", "final_accuracy"),
        2: ("demo-last-epoch", "mean_error_rate"),
        3: ("demo-last-epoch", "expected_calibration_error"),
        4: ("demo-last-epoch", "flops"),
        5: ("demo-last-epoch", "difference_from_scratch"),
        6: ("demo-best-epoch", "final_accuracy"),
    },
    ("docs/results.md", 4): {3: ("rivals", "final_accuracy")},
    ("docs/results.md", 5): {
        1: ("cifar10-small/plain", "final_accuracy"),
        2: ("cifar10-small/plain", "mean_error_rate"),
        3: ("cifar10-small/augmented", "final_accuracy"),
        4: ("cifar10-small/augmented", "mean_error_rate"),
    },
    ("docs/results.md", 9): {
        column + first: (f"cifar10-budgets/{setting}", measure)
        for first, setting in ((1, "plain"), (5, "augmented"))
        for column, measure in enumerate(
            ("final_accuracy, budget 0.1", "final_accuracy, budget 0.3", "final_accuracy", "price")
        )
    },
}


def test_no_table_is_left_unchecked() -> None:
    assert {(page, len(row)) for page, rows in ROWS.items() for row in rows} == TABLES.keys()


@pytest.mark.parametrize(("page", "num_columns"), TABLES)
def test_tables_are_those_of_the_ledgers(page: str, num_columns: int) -> None:
    rows = [row for row in ROWS[page] if len(row) == num_columns]
    assert rows
    for row in rows:
        for column, (folder, measure) in TABLES[page, num_columns].items():
            assert row[column] == figure(folder, row[0].strip("`"), measure), row[0]


def test_settings_outside_the_table_are_those_of_the_ledgers() -> None:
    quoted = re.findall(r"`([\w-]+:[^`]+)`\s+(\d+\.\d ± \d+\.\d)", README + RESULTS)
    assert len(quoted) == 3
    for policy, said in quoted:
        assert said == figure("rivals", policy, "final_accuracy"), policy


def test_every_folder_of_results_says_how_it_was_made() -> None:
    said = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
    comparisons = {path.parent.parent.parent for path in (ROOT / "results").rglob("ledger.jsonl")}
    for comparison in comparisons:
        assert f"| {comparison.relative_to(ROOT / 'results').as_posix()} |" in said
