"""A table as it comes, from `lure init` to `lure predict`: what is fixed once is repeated by every command."""

import csv
import io
import json
import random

import pytest

from lure.cli import main
from lure.store.durable import seal, unseal
from lure.store.run_directory import RunDirectory

pytest.importorskip("datasets")

NAMES = ["customer", "name", "age", "plan", "use", "week", "churned"]
WORDS = ["--model", "mlp:width=4", "--epochs", "1", "--threads", "1", "--validation-fraction", "0"]
COLUMNS = ["--label", "churned", "--id", "customer", "--ignore", "name"]


def save(path, seed, count=60, week=None, names=NAMES, **more):
    """People of whom those on the plan "pro" leave; without `week` they come from all weeks of a year."""
    draw = random.Random(seed)
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, names, extrasaction="ignore")
        table.writeheader()
        for row in range(count):
            plan = draw.choice(["basic", "pro", "team"])
            person = {"customer": f"{seed}{row:03}", "name": f"N{seed}-{row}", "age": draw.choice([20, 40, ""])}
            person["use"] = draw.random()
            person |= {
                "plan": plan,
                "week": week or draw.randint(1, 52),
                "churned": "leaves" if plan == "pro" else "stays",
            }
            table.writerow(person | more)
    return str(path)


@pytest.fixture
def model(tmp_path, capsys):
    model = str(tmp_path / "model")
    assert main(["init", model, "--holdout", save(tmp_path / "holdout.csv", 1), *COLUMNS, *WORDS]) == 0
    return model


def refused(model, command, capsys):
    """The one line that a command ends with; nothing on disk has changed."""
    files = {path: path.stat().st_mtime_ns for path in RunDirectory(model).path.rglob("*") if path.name != ".lock"}
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert files == {p: p.stat().st_mtime_ns for p in RunDirectory(model).path.rglob("*") if p.name != ".lock"}
    return line


def test_init_says_what_becomes_of_each_column(model, capsys):
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("holdout.csv shows 2 of 2 classes: leaves (16), stays (44)")
    assert lines[1:9] == [
        "of its columns, now and in all data to come:",
        "  label: churned",
        "  id, carried through to predictions: customer",
        "  left out: name",
        "  numbers: use, week",
        "  may be missing; then the mean, and an input that says so: age (30.26)",
        "  text, an input for each of these and one for any other: plan (basic, pro, team)",
        "  8 inputs in all",
    ]


def test_columns_are_used_as_at_first(model, tmp_path, capsys):
    holdout = str(tmp_path / "holdout.csv")
    assert main(["init", model, "--holdout", holdout, *COLUMNS, *WORDS]) == 0
    capsys.readouterr()
    line = refused(
        model, ["init", model, "--holdout", holdout, *COLUMNS[:2], "--ignore", "name,customer", *WORDS], capsys
    )
    assert "was begun with another use of columns (id: 'customer', not None)" in line


@pytest.mark.filterwarnings("default::UserWarning")
def test_later_commands_need_not_be_told_again(model, tmp_path, capsys):
    monday, new = save(tmp_path / "monday.csv", 2), save(tmp_path / "new.csv", 3, 4, names=NAMES[:-1])
    assert main(["update", model, monday]) == 0
    assert main(["evaluate", model, "--on", monday, "--json"]) == 0
    assert "warning" not in capsys.readouterr().err
    assert main(["predict", model, new]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["id"] for row in rows] == ["3000", "3001", "3002", "3003"]
    assert list(rows[0]) == ["row", "id", "prediction", "leaves", "stays"]
    assert main(["predict", model, new, "--format", "jsonl"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[3])["id"] == "3003"
    # The same rows with their columns in another order, and with another id.
    other = save(tmp_path / "other.csv", 3, 4, names=["name", "use", "week", "plan", "age"], plan="none")
    assert "unknown column 'customer'" in refused(model, ["predict", model, other], capsys)
    assert main(["predict", model, other, "--id", "name", "--ignore", "customer"]) == 0
    said = capsys.readouterr()
    assert "'none'" in said.err
    assert "\n0,N3-0," in said.out


def test_an_export_holds_what_becomes_of_columns(model, tmp_path, capsys):
    assert main(["update", model, save(tmp_path / "monday.csv", 2)]) == 0
    export = str(tmp_path / "champion.safetensors")
    assert main(["export", model, export]) == 0
    table = json.loads((tmp_path / "champion.json").read_text())["task"]["table"]
    assert table == RunDirectory(model).agreement().table
    assert table["inputs"] == [
        *("age", "age is missing", "plan = basic", "plan = pro", "plan = team", "plan is another", "use", "week")
    ]
    new = save(tmp_path / "new.csv", 3, 4)
    capsys.readouterr()
    outputs = []
    for place in (model, export):
        assert main(["predict", place, new]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]


def test_a_column_that_names_the_chunk_is_warned_of(model, tmp_path, capsys):
    assert main(["update", model, save(tmp_path / "monday.csv", 2, week=31)]) == 0
    said = capsys.readouterr().err
    assert "warning: column 'week' is 31 in all 60 examples, and has 36 values in the holdout" in said
    assert "lure init --ignore week" in said
    assert said.count("warning") == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"customer": "7"}, "column 'customer': the id '7' is that of row 0 (line 2) and of row 1 (line 3)"),
        ({"churned": "leavse"}, "did you mean 'leaves'"),
        ({"use": ""}, "column 'use': inputs hold NaN or infinity at row 0 (line 2)"),
        ({"age": "old"}, "line 2: column 'age' should hold numbers, got 'old'"),
        ({"names": [*NAMES, "extra"]}, "has the unknown columns extra"),
        ({"names": NAMES[1:-1]}, "has no label column (churned)"),
    ],
)
def test_a_chunk_that_does_not_fit_changes_nothing(model, tmp_path, capsys, more, message):
    capsys.readouterr()
    chunk = save(tmp_path / "monday.csv", 2, **more)
    line = refused(model, ["update", model, chunk], capsys)
    assert line.startswith(f"error: {chunk}")
    assert message in line


def test_an_id_that_repeats_is_refused_from_the_beginning(tmp_path, capsys):
    holdout = save(tmp_path / "holdout.csv", 1, customer="7")
    assert main(["init", str(tmp_path / "model"), "--holdout", holdout, *COLUMNS, *WORDS]) == 2
    assert "the id '7' is that of row 0" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_arrays_have_no_columns_to_name(tmp_path, capsys):
    import numpy as np

    np.savez(tmp_path / "holdout.npz", inputs=np.zeros((4, 3), np.float32), labels=[0, 1, 0, 1])
    command = ["init", str(tmp_path / "model"), "--holdout", str(tmp_path / "holdout.npz"), "--ignore", "a"]
    assert main(command) == 2
    assert "is no table, so it has no columns to name" in capsys.readouterr().err


def test_a_directory_from_before_goes_on(tmp_path, capsys):
    names = ["age", "use", "label"]
    holdout = save(tmp_path / "holdout.csv", 1, names=names, age=5, label=1)
    model = tmp_path / "model"
    save(tmp_path / "chunk.csv", 2, names=names, age=6, label=0)
    with open(holdout, "a", encoding="utf-8") as file:
        file.write("5,5,0\n")  # of the second class
    assert main(["init", str(model), "--holdout", holdout, *WORDS]) == 0
    record = unseal((model / "production.json").read_bytes())
    del record["table"]
    (model / "production.json").write_bytes(seal(record))
    assert main(["update", str(model), str(tmp_path / "chunk.csv")]) == 0
    assert main(["predict", str(model), str(tmp_path / "chunk.csv")]) == 0
    capsys.readouterr()
    bad = save(tmp_path / "bad.csv", 2, names=names, age="", label=0)
    assert "column 'age'" in refused(str(model), ["update", str(model), bad], capsys)


def test_a_name_that_a_recipe_cannot_hold_is_named(tmp_path, capsys):
    assert main(["run", "own-data", "--data", str(tmp_path), "--ignore", "a:b"]) == 2
    assert "error: --ignore: a recipe cannot hold a column whose name has a colon" in capsys.readouterr().err


@pytest.mark.filterwarnings("always::UserWarning")
def test_a_comparison_says_that_the_training_table_decides(tmp_path, capsys):
    save(tmp_path / "train.csv", 1)
    save(tmp_path / "test.csv", 2, 20)
    out = str(tmp_path / "out")
    words = ["--data", str(tmp_path), "--num-mega-batches", "1", "--unlearners", "scratch,lure", "--seeds", "0"]
    assert main(["compare", "own-data", "--out", out, *words, *COLUMNS, *WORDS]) == 0
    said = capsys.readouterr().err
    assert said.count("fixes what becomes of columns") == 1
    assert "left out: name; numbers: use, week; may be missing" in said
    recipe = (tmp_path / "out" / "lure" / "seed-0" / "recipe.toml").read_text()
    assert 'dataset = "file:label=churned:id=customer:ignore=name"' in recipe
    assert main(["predict", f"{out}/lure/seed-0", save(tmp_path / "new.csv", 3, 2, names=NAMES[:-1])]) == 0
    assert "\n0,3000," in capsys.readouterr().out
