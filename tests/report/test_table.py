import io

import pytest
from rich.console import Console
from rich.table import Table

from lure.report.console import report_console
from lure.report.records import read_run
from lure.report.table import comparison_table, price_table, run_table, settings_tables, short_number


def show(table, width):
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(table)
    return console.file.getvalue()


@pytest.fixture
def runs(write_run):
    accuracies = {"warm-start": (0.6, 0.62), "scratch": (0.7, 0.71), "lure:forget_fraction=0.3": (0.72, 0.75)}
    return [
        read_run(write_run(policy, seed, [0.5, value]))
        for policy, values in accuracies.items()
        for seed, value in enumerate(values)
    ]


def row(text, policy):
    return next(line for line in text.splitlines() if line.strip().startswith(policy)).split()


def test_a_row_holds_every_number(runs):
    text = show(comparison_table(runs), 100)
    # Final 60 and 62, error rates (50 + 40) / 2 and (50 + 38) / 2, counts 900 and 880, from scratch -10 and -9.
    assert row(text, "warm-start")[1:] == [
        "61.0±1.4", "44.5±0.7", "890±14", "20.0", "7.0", "30k", "3T", "-9.5±0.7",
    ]  # fmt: skip
    assert row(text, "scratch")[-1] == "-"
    assert "Mean ± standard deviation over 2 seeds." in text


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_line_is_too_long_and_no_number_is_cut(runs, width):
    text = show(comparison_table(runs, width), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for number in ("61.0", "±1.4", "-9.5", "73.5", "+3.0"):
        assert number in text


def test_deviations_stand_below_the_means_where_it_is_narrow(runs):
    assert "61.0±1.4" in show(comparison_table(runs, 100), 100)
    assert "61.0±1.4" not in show(comparison_table(runs, 80), 80)


def test_names_get_the_room_of_the_examples_seen_where_it_is_narrow_and_flops_are_known(runs):
    assert "30k" in show(comparison_table(runs, 100), 100)
    narrow = show(comparison_table(runs, 80), 80)
    assert "30k" not in narrow
    assert "3T" in narrow


def test_one_seed_has_no_deviation_and_unequal_numbers_of_seeds_are_shown(runs):
    single = [run for run in runs if run.seed == 0]
    assert "±" not in show(comparison_table(single), 100)
    assert "One seed each." in show(comparison_table(single), 100)
    assert "scratch (2)" in show(comparison_table(runs[1:]), 100)


def test_without_scratch_there_is_no_column_of_points_from_it(runs):
    assert "scratch" in show(comparison_table([run for run in runs if run.policy != "warm-start"]), 100)
    text = show(comparison_table([run for run in runs if run.policy != "scratch"]), 100)
    assert "points" not in text
    assert row(text, "warm-start")[-1] == "3T"


def test_points_from_scratch_stand_where_one_group_has_it(runs, write_run):
    other = read_run(write_run("lure", 5, [0.1, 0.9], recipe={"epochs": 3}))
    text = show(comparison_table([*runs, other]), 100)
    assert "points" in text
    assert row(text, "lure ")[-1] == "-"


def test_recipes_are_not_averaged_and_unfinished_runs_are_named(runs, write_run):
    other = read_run(write_run("warm-start", 5, [0.1, 0.9], recipe={"epochs": 3}))
    short = read_run(write_run("scratch", 9, [0.1]))
    text = show(comparison_table([*runs, other, short]), 160)
    assert "epochs = 20" in text
    assert "epochs = 3" in text
    assert "61.0±1.4" in text
    assert "90.0" in text
    assert "2 different recipes" in text
    assert f"{short.directory} is left out: it has 1 of 2 stages." in " ".join(text.split())


@pytest.fixture
def budgets(write_budgets):
    """Return make(recipe) -> three policies at two budgets, over three seeds."""
    accuracies = {
        "scratch": (0.60, 0.70),
        "dash:shrink_floor=0.05": (0.70, 0.60),
        "shrink-perturb:shrink=0.2:perturb=0.8": (0.60, 0.60),
    }
    return lambda recipe=None: write_budgets(accuracies, recipe)


def test_each_budget_has_a_row_and_stands_under_the_name_where_it_is_narrow(budgets):
    wide = [line for line in show(comparison_table(budgets(), 140), 140).splitlines() if "budget" in line]
    assert [" ".join(line.split()[:3]) for line in wide[:2]] == ["scratch, budget 0.1", "scratch, budget 1"]
    narrow = show(comparison_table(budgets(), 80), 80)
    assert max(map(len, narrow.splitlines())) <= 80
    assert [line.strip().split("±")[0].strip() for line in narrow.splitlines() if "budget" in line][:2] == [
        "budget 0.1",
        "budget 1",
    ]
    first = [line.split()[0] for line in narrow.splitlines() if line.strip()]
    at = first.index("shrink-perturb:")
    assert first[at + 1] == "shrink=0.2:perturb=0.8", "a long name is broken where its options begin"


def test_the_price_table(budgets):
    text = show(price_table(budgets(), 80), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert row(text, "scratch") == ["scratch", "0.1", "10", "-10.0", "-10.2", "to", "-9.8", "no", "100", "%"]
    assert row(text, "dash")[1:] == ["0.1", "10", "+0.0", "-0.2", "to", "+0.2", "yes", "10", "%"]
    assert "dearer than retraining" in " ".join(text.split())
    assert "5 tests at 5 %" in " ".join(text.split())
    assert "Nothing cheaper" not in text
    wide = show(price_table(budgets()), 140)
    assert row(wide, "shrink-perturb")[-3:] == ["dearer", "than", "retraining"]
    assert "dearer:" not in wide


def test_a_price_table_needs_retraining_and_says_where_nothing_cheaper_was_tried(budgets, runs):
    assert price_table([run for run in budgets() if run.policy != "scratch"]) is None
    text = " ".join(show(price_table(runs, 80), 80).split())
    assert "Nothing cheaper than retraining was tried: add --budgets 0.1,0.3,1." in text
    assert "open: not decided by these seeds" in text


def test_settings_stand_side_by_side_and_break_where_it_is_narrow(budgets):
    assert settings_tables(budgets()) == []
    runs = [run for epochs in (2, 5, 9, 20) for run in budgets({"epochs": epochs})]
    (table,) = settings_tables(runs, 100)
    assert row(show(table, 100), "dash") == ["dash:shrink_floor=0.05", *["10", "%", "/", "0.0"] * 4]
    assert row(show(table, 100), "scratch") == ["scratch", *["100", "%", "/", "0.0"] * 4]
    tables = settings_tables(runs, 80)
    assert [len(table.columns) for table in tables] == [4, 2]
    assert all(len(line) <= 80 for table in tables for line in show(table, 80).splitlines())


def test_missing_numbers_are_a_dash(write_run):
    text = show(comparison_table([read_run(write_run("lure", 0, [0.5], expected_calibration_error=None))]), 100)
    assert row(text, "lure")[4] == "-"


def test_without_a_test_set_costs_are_left(write_run):
    run = read_run(write_run("lure", 0, [None]))
    assert row(show(comparison_table([run]), 100), "lure")[1:4] == ["-", "-", "-"]
    assert row(show(run_table(run), 80), "1")[2:5] == ["-", "95.0", "-"]


def test_stage_by_stage(write_run):
    run = read_run(write_run("lure", 3, [0.5, 0.75], train_accuracy=None))
    text = show(run_table(run), 80)
    assert "lure, seed 3" in text
    assert row(text, "2") == ["2", "1000", "75.0", "-", "750", "20.0", "20.0", "4.5", "2T"]
    assert "pass" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_stage_that_was_not_accepted_says_so(write_run, change_ledger):
    directory = write_run("lure", 3, [0.5, 0.6])
    change_ledger(directory, lambda lines: [lines[0], lines[1] | {"accepted": False}])
    text = show(run_table(read_run(directory)), 80)
    assert "pass" in text
    assert max(map(len, text.splitlines())) <= 80
    assert [row(text, stage)[-1] for stage in ("1", "2")] == ["yes", "no"]


def test_tables_on_a_pipe_are_eighty_columns_wide(runs):
    stream = io.StringIO()
    console = report_console(stream)
    console.print(comparison_table(runs, console.width))
    assert max(map(len, stream.getvalue().splitlines())) <= 80
    assert "…" not in stream.getvalue()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1, "1"), (999, "999"), (1000, "1k"), (1234, "1.23k"), (99_960, "100k"), (999_960, "1M"), (3e13, "30T"),
     (2.5e21, "2500E")],
)  # fmt: skip
def test_short_numbers(value, text):
    assert short_number(value) == text


def test_brackets_in_names_are_no_markup():
    stream = io.StringIO()
    table = Table("class")
    table.add_row("[/a] and [bold]b[/bold]")
    report_console(stream).print(table)
    assert "[/a] and [bold]b[/bold]" in stream.getvalue()


def test_negative_flips_stand_below_the_tables_where_they_are_known(write_run):
    by_class = {"cat": 4, "dog": 16}
    known = [
        read_run(write_run("lure", seed, [0.5, 0.6], negative_flips=20 + seed, negative_flips_by_class=by_class))
        for seed in (0, 10)
    ]
    text = show(comparison_table([*known, read_run(write_run("scratch", 0, [0.5, 0.7]))]), 100)
    assert "Negative flips a stage, in %: scratch -, lure 2.50±0.71." in text
    assert "Negative flips" not in show(comparison_table([read_run(write_run("scratch", 1, [0.5, 0.7]))]), 100)
    text = " ".join(show(run_table(known[0]), 80).split())
    assert (
        "Negative flips (right before, wrong then): 40 in 2 stages, most in stage 1: 20 of 1000 (dog 16, cat 4)."
        in text
    )
