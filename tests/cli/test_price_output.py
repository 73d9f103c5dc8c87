"""What `lure compare` and `lure report` say about prices, end to end on tiny runs."""

import csv
import json
from pathlib import Path

import pytest

from lure.cli import main
from lure.recommended import WHY

QUICK = "--num-mega-batches 2 --mega-batch-size 20 --epochs 4 --test-limit 50 --threads 1 --model mlp:width=4".split()  # noqa: SIM905


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_comparison_over_budgets_ends_in_the_price(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", *QUICK, "--unlearners", "warm-start,scratch", "--budgets", "0.5,1", "--seeds", "0,1,2"]
    assert main([*words, "--out", "all"]) == 0
    compared = capsys.readouterr().out
    assert WHY not in compared, "your own data have decided"
    assert compared.startswith("plot: all/accuracy_over_stages.png\nplot: all/price.png\n")
    assert Path("all/price.png").read_bytes().startswith(b"\x89PNG")
    assert main(["report", "all", "--csv", "rows.csv"]) == 0
    out, said = capsys.readouterr()
    assert out.strip() in compared
    assert said == "table: rows.csv\n"
    assert main(["report", "all", "--json"]) == 0
    (group,) = json.loads(capsys.readouterr().out)["groups"]
    assert out.splitlines()[-1] == group["price_sentence"]
    assert [(row["policy"], row["budget"]) for row in group["price"]] == [
        (policy, budget) for policy in ("warm-start", "scratch") for budget in (0.5, 1)
    ]
    assert [row["cost"] for row in group["price"]] == [0.5, 1, 0.5, 1]
    with Path("rows.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2 * 2 * 3 * 2
    ends = {(row["policy"], float(row["budget"]), row["seed"]): float(row["accuracy"]) for row in rows}
    mean = sum(ends["warm-start", 0.5, seed] - ends["scratch", 1.0, seed] for seed in "012") / 3
    assert group["price"][0]["mean"] == pytest.approx(mean)


def test_without_retraining_the_last_line_says_what_to_add(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", *QUICK, "--unlearners", "warm-start", "--budgets", "0.5,1", "--seeds", "0", "--out", "all"]
    assert main(words) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith("add scratch at budget 1 (--unlearners scratch,... --budgets 0.5,1).")
    assert not Path("all/price.png").exists()


def test_at_one_budget_the_verdict_stays_last(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", *QUICK, "--unlearners", "warm-start,scratch", "--seeds", "0", "--out", "all"]
    assert main(words) == 0
    out = capsys.readouterr().out
    answer, hint = out.splitlines()[-2:]
    assert answer.startswith("One seed does not decide which policy to take")
    assert hint.startswith("Until your data decide: unlearner ")
    assert hint.endswith(f", schedule cosine, regularizers ema; {WHY}.")
    assert "Nothing cheaper than retraining was tried: add --budgets 0.1,0.3,1." in " ".join(out.split())


def test_a_table_that_cannot_be_written_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *QUICK, "--out", "here"]) == 0
    capsys.readouterr()
    assert main(["report", "here", "--csv", "nowhere/rows.csv"]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error == "error: cannot write the table nowhere/rows.csv: No such file or directory\n"
