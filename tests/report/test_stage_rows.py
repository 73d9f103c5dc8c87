"""The CSV of `lure report`: read back by the csv module, as pandas would."""

import csv
import dataclasses

import pytest

from lure.errors import InputError
from lure.report.records import read_run
from lure.report.stage_rows import write_csv
from lure.store.stage import Stage


def read_rows(runs, file):
    write_csv(runs, file)
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_a_row_for_each_run_and_stage(write_run, tmp_path):
    done = read_run(write_run("lure", 3, [0.5, 0.75], recipe={"budget": 0.1}))
    short = read_run(write_run("scratch", 4, [None]))
    rows = read_rows([done, short], tmp_path / "rows.csv")
    assert [(row["policy"], row["budget"], row["seed"], row["stage"]) for row in rows] == [
        ("lure", "0.1", "3", "1"),
        ("lure", "0.1", "3", "2"),
        ("scratch", "1.0", "4", "1"),
    ]
    second = rows[1]
    assert second["directory"] == str(done.directory)
    assert (second["accuracy"], second["train_flops"], second["examples_seen"]) == ("0.75", "2000000000000.0", "20000")
    assert float(second["cumulative_flops"]) == 3e12 + 2e9
    assert float(second["cumulative_seconds"]) == 2.0 + 4.0 + 2 * 0.5
    assert second["cumulative_examples_seen"] == "30000"
    assert rows[2]["accuracy"] == ""
    plain = {field.name for field in dataclasses.fields(Stage) if field.type in (int, float, bool)}
    assert plain <= second.keys()
    assert "epochs" not in second


def test_recipes_are_told_apart(write_run, tmp_path):
    runs = [read_run(write_run("lure", 0, [0.5], recipe={"epochs": epochs})) for epochs in (2, 20)]
    assert [row["epochs"] for row in read_rows(runs, tmp_path / "rows.csv")] == ["2", "20"]


def test_no_name_is_a_formula(write_run, tmp_path):
    run = read_run(write_run("=cmd|' /C calc'!A0", 0, [0.5], name="folder", recipe={"model": "+x"}))
    other = read_run(write_run("lure", 0, [0.5], recipe={"model": "-y"}))
    first, second = read_rows([run, other], tmp_path / "rows.csv")
    assert first["policy"] == "'=cmd|' /C calc'!A0"
    assert (first["model"], second["model"]) == ("'+x", "'-y")


def test_an_impossible_file_is_refused(write_run, tmp_path):
    with pytest.raises(InputError, match="cannot write the table"):
        write_csv([read_run(write_run("lure", 0, [0.5]))], tmp_path / "nowhere" / "rows.csv")
    with pytest.raises(InputError, match="no run"):
        write_csv([], tmp_path / "rows.csv")
