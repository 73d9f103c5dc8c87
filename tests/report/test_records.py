import json

import pytest

from lure.errors import InputError
from lure.report.comparison import totals
from lure.report.numbers import page_data
from lure.report.records import read_run, read_runs


def test_a_run_is_read_as_it_was_written(write_run):
    run = read_run(write_run("lure:forget_fraction=0.3", 7, [0.5, 0.6]))
    assert (run.policy, run.seed) == ("lure:forget_fraction=0.3", 7)
    assert [stage.error_count for stage in run.stages] == [500, 400]
    assert run.recipe["epochs"] == 20
    assert run.result["status"] == "complete"


def test_a_running_run_has_no_result_yet(write_run):
    assert read_run(write_run("lure", 0, [0.5], result=False)).result == {}


def test_a_half_written_last_line_was_never_committed(write_run):
    directory = write_run("lure", 0, [0.5, 0.6])
    with (directory / "ledger.jsonl").open("a") as ledger:
        ledger.write('{"stage": 3, "acc')
    assert len(read_run(directory).stages) == 2


def test_lines_that_are_not_stages_are_skipped(write_run, change_ledger):
    directory = write_run("lure", 0, [0.5, 0.6])
    rollback = {"event": "rollback", "version": 1}
    change_ledger(directory, lambda lines: [lines[0], rollback, lines[1]])
    assert [stage.stage for stage in read_run(directory).stages] == [1, 2]


def test_a_run_without_a_test_set_has_no_accuracy(write_run):
    assert [stage.accuracy for stage in read_run(write_run("lure", 0, [None, None])).stages] == [None, None]


def test_evaluations_are_read_by_version(write_run):
    directory = write_run("lure", 0, [0.5, 0.6])
    assert read_run(directory).evaluations == {}
    (directory / "evaluations").mkdir()
    (directory / "evaluations" / "0002.json").write_text('{"accuracy": 0.6}')
    assert read_run(directory).evaluations == {2: {"accuracy": 0.6}}
    (directory / "evaluations" / "0001.json").write_text("[")
    with pytest.raises(InputError, match=r"0001\.json is damaged"):
        read_run(directory)


def test_runs_are_found_at_any_depth_and_read_once(write_run, tmp_path):
    first = write_run("lure", 0, [0.5], folder="compare/lure")
    write_run("lure", 1, [0.5], folder="compare/lure")
    write_run("scratch", 0, [0.5], folder="other/deeper/still")
    assert [run.seed for run in read_runs([tmp_path / "compare"])] == [0, 1]
    assert len(read_runs([first, tmp_path / "compare", tmp_path])) == 3


def test_below_a_directory_what_has_no_ledger_is_passed_over(write_run, tmp_path):
    write_run("lure", 0, [0.5], folder="compare")
    started = tmp_path / "compare" / "started"
    started.mkdir()
    (started / "recipe.toml").write_text("seed = 1\n")
    assert len(read_runs([tmp_path / "compare"])) == 1


def set_line(directory, number, text):
    lines = (directory / "ledger.jsonl").read_text().splitlines()
    lines[number - 1 : number] = [] if text is None else [text]
    (directory / "ledger.jsonl").write_text("".join(line + "\n" for line in lines))


@pytest.mark.parametrize("line", ['{"stage": 2, "acc', "[1, 2]", "{}", "", None])
def test_a_damaged_line_is_named(write_run, line):
    directory = write_run("lure", 0, [0.5, 0.6, 0.7])
    set_line(directory, 2, line)
    with pytest.raises(InputError, match=r"ledger.jsonl, line 2 is damaged: restore the file from a backup") as caught:
        read_run(directory)
    assert str(directory) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("accuracy", 0.61),
        ("accuracy", "high"),
        ("train_flops", None),
        ("seed", True),
        ("unlearner", "dash"),
        ("unlearner", 3),
        ("stage", 1),
        ("accepted", False),
    ],
)
def test_an_edited_field_is_found(write_run, field, value):
    directory = write_run("lure", 0, [0.5, 0.6])
    stage = json.loads((directory / "ledger.jsonl").read_text().splitlines()[1])
    set_line(directory, 2, json.dumps(stage))
    read_run(directory)  # written anew, but with the same values
    set_line(directory, 2, json.dumps(stage | {field: value}))
    with pytest.raises(InputError, match="line 2 is damaged"):
        read_run(directory)


def test_a_ledger_that_lost_its_end_is_refused(write_run):
    directory = write_run("lure", 0, [0.5, 0.6])
    set_line(directory, 2, None)
    with pytest.raises(InputError, match="was cut short: it had 2 lines and has 1"):
        read_run(directory)
    # As in results/, where only the ledger was kept: then a missing end cannot be known.
    (directory / "ledger.seal").unlink()
    assert len(read_run(directory).stages) == 1


def test_a_stage_of_an_earlier_version_of_lure_has_the_defaults(write_run, change_ledger):
    directory = write_run("lure", 0, [0.5])
    change_ledger(directory, lambda lines: [{k: lines[0][k] for k in lines[0] if k != "test_fingerprint"}])
    run = read_run(directory)
    assert run.stages[0].test_fingerprint is None
    assert "test_fingerprint" not in page_data([run])["groups"][0]["policies"]["lure"]["runs"][0]["stages"][0]
    change_ledger(directory, lambda lines: [lines[0] | {"of_the_future": 1}])
    with pytest.raises(InputError, match=r"was written by another version of lure.*of_the_future"):
        read_run(directory)


def test_the_numbers_hold_a_stage_as_it_is_stored(write_run):
    directory = write_run("lure", 0, [0.5, 0.6])
    stored = [json.loads(line) for line in (directory / "ledger.jsonl").read_text().splitlines()]
    given = page_data([read_run(directory)])["groups"][0]["policies"]["lure"]["runs"][0]["stages"]
    assert given == [{key: line[key] for key in line if key != "event"} for line in stored]
    assert given[1]["line_sha256"]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("recipe.toml", b"epochs = = 3", "recipe.toml is not valid TOML"),
        ("result.json", b'{"status": ', "result.json is damaged"),
        ("ledger.jsonl", b"", "was cut short: it had 1 lines and has 0"),
        ("ledger.jsonl", b"\xff\xfe\n", "ledger.jsonl, line 1 is damaged"),
        ("recipe.toml", b"\xff\xfe\n", "byte 0 is not UTF-8"),
    ],
)
def test_a_damaged_file_is_named(write_run, file, content, message):
    directory = write_run("lure", 0, [0.5])
    (directory / file).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_run(directory)
    assert "\n" not in str(caught.value)


def test_a_missing_recipe_is_named(write_run):
    directory = write_run("lure", 0, [0.5])
    (directory / "recipe.toml").unlink()
    with pytest.raises(InputError, match=r"recipe\.toml is missing"):
        read_run(directory)


def test_a_ledger_without_a_line_is_not_a_run_yet(write_run, change_ledger):
    directory = write_run("lure", 0, [0.5])
    change_ledger(directory, lambda lines: [])
    (directory / "ledger.jsonl").touch()
    with pytest.raises(InputError, match="holds no committed stage yet"):
        read_run(directory)


def test_what_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no directory"):
        read_runs([tmp_path / "nowhere"])
    with pytest.raises(InputError, match="there is no run with a committed stage"):
        read_runs([tmp_path])
    with pytest.raises(InputError, match="is not a run with a committed stage"):
        read_run(tmp_path)


def test_the_version_in_use_stands_for_a_run_whose_later_versions_were_refused(write_run, change_ledger):
    directory = write_run("lure", 0, [0.6, 0.9, 0.7])

    def read(*events, accepted=False):
        def change(lines):
            return [lines[0], *(line | {"accepted": accepted} for line in lines[1:3]), *events]

        change_ledger(directory, change)
        return read_run(directory)

    run = read()
    assert (run.current, totals(run)["final_accuracy"]) == (1, 0.6)
    assert run.note == f"{directory}: the gate refused version 2, 3; version 1 is in use."
    assert run.note in page_data([run])["groups"][0]["notes"]
    accept = {"event": "accept", "version": 3, "becomes_current": True, "taken_in": [3]}
    assert totals(read(accept))["final_accuracy"] == 0.7
    assert read(accept, {"event": "rollback", "version": 1}).current == 1
    with pytest.raises(InputError, match=r"ledger.jsonl is damaged \(there is no version 9 to rollback\)"):
        read({"event": "rollback", "version": 9})
    assert (read(accepted=True).current, read(accepted=True).note) == (3, "")
