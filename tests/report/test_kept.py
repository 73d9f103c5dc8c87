import base64
import dataclasses
import json
import re
from functools import partial

import numpy as np
import pytest
from report.pages import EVIL, read_page

from lure.cli import main
from lure.report.kept import answer, decisions_by_hand, flips, in_use_since, read_kept, steps, waits
from lure.report.kept_plots import balance_classes, draw_balance, draw_flips, draw_update_cost, draw_versions
from lure.report.numbers import page_data
from lure.report.page import write_page
from lure.report.plots import paint
from lure.report.records import read_run
from lure.store.agreement import Agreement
from lure.store.durable import seal

ACCURACIES = [0.8, 0.9, 0.2, 0.91, 0.93]
NAMES = ["bag", "boot", "coat"]
HELD = "a" * 64


def agreement(**fields):
    values = {"holdout": HELD, "independent": None, "class_names": NAMES, "columns": [], "normalization": None}
    return Agreement(**values | {"gate": {"margin": 0.01, "minimum_accuracy": None}, "recipe": {}} | fields)


@pytest.fixture
def keep(write_run, change_ledger):
    """Return keep(events, ...) -> directory of a model with five versions, the third refused, and what was decided."""

    def make(events=(), accuracies=ACCURACIES, policy="lure", names=NAMES, said="", **fields):
        directory = write_run(policy, 0, accuracies, result=False, name=fields.pop("name", None))

        def tell(lines):
            for line in lines:
                number = line["version"]
                refused = number == 3
                line["accepted"] = not refused
                line["parent"] = number - 1 - (number == 4)  # the fourth goes on from the second
                line["committed_at"] = f"2026-03-{number:02}T03:15:00+00:00"
                line["data_examples"] = 100
                line["arrival"] = {
                    "examples": 100,
                    "class_counts": [50 - 5 * number, 20 + 5 * number, 30],
                    "prequential_accuracy": None if number == 1 else 0.7,
                    "warnings": [f"odd{said}"] if number == 5 else [],
                    "name": f"week-{number}.npz{said}",
                }
                compared = {"version": line["parent"], "accuracy": 0.8, "lost": 7, "won": 17, "p_value": 0.1}
                line["decision"] = {
                    "accepted": not refused,
                    "reasons": [f"far worse{said}"] if refused else [],
                    "comparisons": [] if number == 1 else [compared],
                }
                line |= fields
                line["negative_flips_by_class"] = {} if number == 1 else {f"boot{said}": 5, "coat": 2}
            return [*lines, *events]

        change_ledger(directory, tell)
        (directory / "production.json").write_bytes(agreement(class_names=names).to_bytes())
        held = directory / "chunks" / HELD
        held.mkdir(parents=True)
        np.save(held / "inputs.npy", np.zeros((10, 2), np.float32))
        np.save(held / "labels.npy", np.array([0] * 5 + [1] * 2 + [2] * 3))
        return directory

    return make


def event(kind, version, day, **fields):
    return {"event": kind, "version": version, "committed_at": f"2026-04-{day:02}T00:00:00+00:00", **fields}


ACCEPT = event("accept", 3, 2, becomes_current=False, taken_in=[3], reason="checked")
ROLLBACK = event("rollback", 2, 1, from_version=5, reason="a mistake")


def model_of(directory):
    return read_kept(read_run(directory))


def test_a_plain_run_is_no_kept_model(write_run):
    assert read_kept(read_run(write_run("lure", 0, [0.5]))) is None


def test_the_line_of_the_version_in_use_follows_every_decision(keep):
    model = model_of(keep([ROLLBACK, {"event": "prune", "versions": [1]}, ACCEPT]))
    found = [(round(step.place, 2), step.version, step.event, step.subject) for step in steps(model)]
    assert found == [
        (1, 1, "stage", 1),
        (2, 2, "stage", 2),
        (3, 2, "stage", 3),
        (4, 4, "stage", 4),
        (5, 5, "stage", 5),
        (5.33, 2, "rollback", 2),
        (5.67, 2, "accept", 3),
    ]
    assert in_use_since(model) == "2026-04-01"
    assert [model.word_for(version) for version in range(1, 6)] == [
        "accepted, pruned",
        "in use",
        "accepted by hand",
        "accepted",
        "accepted",
    ]


def test_the_answer_says_what_is_in_use_and_what_became_of_updates(keep):
    assert answer(model_of(keep())) == (
        "Version 5 is in use since 2026-03-05. It gets 93.0 % of the holdout right (1000 examples); that is 13.0 "
        "points above version 1. 5 updates: 4 accepted by the gate, 1 refused."
    )
    tested = {"examples": 50, "accuracy": 0.88}
    said = answer(model_of(keep([ROLLBACK, ACCEPT], independent=tested)))
    assert "and 88.0 % of the test set, which decides nothing; that is 10.0 points above version 1." in said
    assert said.endswith("5 updates: 4 accepted by the gate, 1 by hand, and 1 rollback.")
    # Versions that were measured on different holdouts are not subtracted.
    *others, last = model_of(keep()).run.stages
    model = model_of(keep())
    stages = (*others, dataclasses.replace(last, test_fingerprint="grown"))
    assert "above version 1" not in answer(
        dataclasses.replace(model, run=dataclasses.replace(model.run, stages=stages))
    )


def test_what_waits(keep):
    refused = "Version 3 is refused, and its chunk is quarantined until lure accept says otherwise."
    assert waits(model_of(keep())) == [refused]
    directory = keep([ACCEPT])
    (directory / "progress").mkdir()
    record = {"stage": 6, "epoch": 2, "file": "x", "sha256": "y"}
    (directory / "progress" / "progress.json").write_bytes(seal(record))
    assert waits(model_of(directory)) == [
        "Update 6 was interrupted after 2 epochs: the same command goes on with it.",
        "The chunk of version 3 (week-3.npz) was accepted by hand after the model had moved on: the next update trains "
        "on it, too.",
    ]
    (directory / "progress" / "progress.json").write_bytes(seal(record | {"stage": 5}))  # committed; not tidied up
    assert len(waits(model_of(directory))) == 1


def test_flips_are_counted_from_the_version_that_was_in_use(keep):
    stages = model_of(keep()).run.stages
    assert [flips(stage) for stage in stages] == [None, (7, 17), (7, 17), (7, 17), (7, 17)]
    best_alone = stages[1].decision["comparisons"][0] | {"version": 99}
    object.__setattr__(stages[1], "decision", stages[1].decision | {"comparisons": [best_alone]})
    assert flips(stages[1]) is None


def test_the_page_shows_one_model_and_compares_nothing(keep, tmp_path):
    directory = keep([ROLLBACK, ACCEPT], name="shop")
    text, loads = read_page([read_run(directory)], tmp_path / "page.html")
    model = model_of(directory)
    places = [
        text.index(words)
        for words in (
            "shop: a model that is kept current",
            answer(model),
            "What waits",
            "The chunk of version 3 (week-3.npz)",
            "the line goes through the versions in use",
            "before training on it, beside its accuracy on the holdout",
            "Share of each class in each chunk, and in the holdout before them.",
            "Holdout examples that each version has right",
            "What each update cost",
            "5, accepted 2026-03-05 week-5.npz 4 100 2500 70.0 93.0 7 17",
            "2, in use ★ 2026-03-02 week-2.npz",
            "5 updates took",
            "Who loses",
            "boot 5 5 5 5 coat 2 2 2 2",
            "inspection said",
            "Warning: odd",
            "Refused: far worse",
            "What somebody decided",
            "2026-04-02: version 3 accepted, for the next update to use: checked",
            "2026-04-01: back to version 2, from version 5: a mistake",
            "Rules of the gate margin 0.01",
            "What was run",
            "Terms holdout labelled data",
        )
    ]
    assert places == sorted(places)
    assert len(loads) == 5
    for word in ("one policy", "compare", "Which policy", "retraining", "first seed"):
        assert word not in text, word


def test_refused_versions_are_hollow(keep, tmp_path):
    write_page([read_run(keep())], tmp_path / "page.html")
    rows = re.findall(r"<tr>?.*?</tr>", (tmp_path / "page.html").read_text())
    hollow = [row for row in rows if 'fill="#fff"' in row and "week-" in row]
    assert len(hollow) == 1
    assert "3, refused" in hollow[0]


def test_no_string_of_a_kept_model_becomes_markup(keep, tmp_path):
    directory = keep(
        [ROLLBACK | {"reason": f"why{EVIL}"}],
        names=[f"bag{EVIL}", "boot", "coat"],
        said=EVIL,
        new_classes=[f"new{EVIL}"],
    )
    text, loads = read_page([read_run(directory)], tmp_path / "page.html")
    content = (tmp_path / "page.html").read_text()
    assert "<img src=x" not in content
    assert len(re.findall("<img ", content)) == len(loads)
    for place in ("far worse", "odd", "week-3.npz", "why", "boot", "new"):
        assert f"{place}{EVIL}" in text, place


def test_a_copy_of_the_ledger_alone_is_shown_without_what_chunks_know(keep, tmp_path):
    directory = keep()
    for file in (directory / "chunks" / HELD).iterdir():
        file.unlink()
    (directory / "chunks" / HELD).rmdir()
    text, loads = read_page([read_run(directory)], tmp_path / "page.html")
    assert len(loads) == 5
    assert "Version 5 is in use" in text


def test_a_single_version_has_no_cost_over_time(keep, tmp_path):
    text, loads = read_page([read_run(keep(accuracies=[0.5]))], tmp_path / "page.html")
    assert "Version 1 is in use" in text
    assert len(loads) == 2


def test_several_models_have_a_part_each_and_are_compared_where_policies_differ(keep, tmp_path):
    runs = [read_run(keep(policy=policy, name=policy)) for policy in ("lure", "scratch")]
    text, _ = read_page(runs, tmp_path / "page.html")
    assert text.count("What waits") == 2
    assert text.index("What waits") < text.index("Which policy")
    text, _ = read_page(runs[:1], tmp_path / "page.html")
    assert "Which policy" not in text


def drawn(draw, model, file, shades=None):
    paint([("", partial(draw, model))], file, shades=shades)
    return file.read_text()


def test_a_version_that_is_far_worse_is_at_the_edge_with_its_number(keep, tmp_path):
    model = model_of(keep([ROLLBACK]))
    text = drawn(draw_versions, model, tmp_path / "a.svg", {"holdout": "#0072B2"})
    assert ">20</text>" in text  # 20 % right: no tick, for the axis begins far above
    assert ">back to 2</text>" in text
    assert ">40</text>" not in text
    assert ">4 Mar</text>" in text


def test_classes_that_varied_least_are_left_out(keep):
    model = model_of(keep())
    assert balance_classes(model) == [0, 1, 2]
    counts = [10, 10, 10, 10, 10, 10, 10, 10]
    for stage in model.run.stages:
        stage.arrival["class_counts"] = [*counts[:-1], 10 + 3 * stage.version]
    assert 7 in balance_classes(model)
    assert len(balance_classes(model)) == 6


def test_a_class_that_came_later_had_no_share_before(keep, tmp_path):
    model = model_of(keep())
    for stage in model.run.stages[3:]:
        stage.arrival["class_counts"] = [25, 25, 25, 25]
    text = drawn(
        draw_balance,
        model,
        tmp_path / "a.svg",
        {"bag": "#000000", "boot": "#000000", "coat": "#000000", "class 3": "#000000"},
    )
    assert ">class 3</text>" in text


def test_bars_of_refused_versions_are_hollow(keep, tmp_path):
    shades = {"wrong, then right": "#0072B2", "right, then wrong": "#B25A00"}
    for draw in (draw_flips, draw_update_cost):
        refused = drawn(draw, model_of(keep()), tmp_path / "a.svg", shades)
        assert re.search(r"fill: #ffffff; stroke: #0072b2", refused)
        fine = drawn(draw, model_of(keep(accuracies=[0.8, 0.9])), tmp_path / "b.svg", shades)
        assert not re.search(r"fill: #ffffff; stroke: #0072b2", fine)


def test_the_terminal_says_the_answer_first(keep, capsys):
    directory = keep([ROLLBACK, ACCEPT])
    assert main(["report", str(directory)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Version 2 is in use since 2026-04-01.")
    assert max(map(len, lines[1:20])) <= 80
    said = "\n".join(lines)
    assert "3, accepted" in said
    assert "The chunk of version 3 (week-3.npz) was accepted by hand" in said
    assert "Version 3 (week-3.npz) was refused: far worse" in said
    assert "policy" not in said


def test_the_numbers_of_a_kept_model_are_json(keep):
    (kept,) = page_data([read_run(keep([ROLLBACK]))])["kept"]
    assert json.loads(json.dumps(kept, allow_nan=False)) == kept
    assert kept["current_version"] == 2
    assert kept["holdout_class_counts"] == [5, 2, 3]
    assert kept["versions_in_use"][-1] == {"event": "rollback", "version": 2, "in_use": 2}
    assert kept["versions"][2]["status"] == "refused"
    assert kept["versions"][2]["negative_flips"] == 7


def test_decisions_are_told_newest_first(keep):
    told = decisions_by_hand(model_of(keep([ROLLBACK, ACCEPT, {"event": "prune", "versions": [1, 2]}])))
    assert [line.partition(":")[2].strip().split()[0] for line in told] == ["weights", "version", "back"]


def test_names_of_classes_may_be_anything(keep, tmp_path):
    """Dollars are no formula, letters that the font lacks no warning, and a long name leaves room for the picture."""
    names = ["$\\frac$", "靴", "x" * 80]
    model = model_of(keep(names=names))
    assert [model.class_name(label) for label in range(4)] == [*names[:2], f"{'x' * 18}… (2)", "class 3"]
    _, loads = read_page([model.run], tmp_path / "page.html")
    pictures = [base64.b64decode(load.partition(",")[2]).decode() for load in loads]
    assert ">$\\frac$</text>" in pictures[2]
    assert ">靴</text>" in pictures[2]
