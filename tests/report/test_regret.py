import io
import json
import math
import statistics

import pytest
from pages import read_page
from rich.console import Console

from lure.cli import main
from lure.comparison import Comparison
from lure.metrics.statistics import mean_interval
from lure.report.comparison import group_runs, setting_names
from lure.report.numbers import page_data
from lure.report.page import write_page
from lure.report.records import read_run
from lure.report.regret import cells, standings, standings_over_settings
from lure.report.regret_table import regret_tables

PLAIN, NOISY = {"label_noise": 0.0}, {"label_noise": 0.3}


@pytest.fixture
def write_setting(write_run):
    """Return write(folder, recipe, accuracies): policy -> budget -> final accuracies by seed, as comparisons lie."""

    def write(folder, recipe, accuracies, **fields):
        return [
            read_run(
                write_run(
                    policy,
                    seed,
                    [0.5, value],
                    recipe=recipe | {"budget": budget},
                    folder=f"{folder}/{policy}+budget={budget}",
                    name=f"seed-{seed}",
                    train_flops=fields.get("flops", {}).get(policy, 1000) * budget,
                    unlearn_flops=0,
                )
            )
            for policy, by_budget in accuracies.items()
            for budget, values in by_budget.items()
            for seed, value in enumerate(values)
        ]

    return write


@pytest.fixture
def runs(write_setting):
    """Two settings at two budgets: lure is never far behind, scratch wins once and fails once."""
    return [
        *write_setting(
            "plain",
            PLAIN,
            {
                "warm-start": {0.1: [0.70, 0.71, 0.72], 1.0: [0.60, 0.61, 0.62]},
                "scratch": {0.1: [0.48, 0.50, 0.49], 1.0: [0.80, 0.81, 0.82]},
                "lure": {0.1: [0.69, 0.70, 0.71], 1.0: [0.78, 0.79, 0.80]},
            },
            flops={"lure": 1100},
        ),
        *write_setting(
            "noisy",
            NOISY,
            {
                "warm-start": {0.1: [0.66, 0.67, 0.68], 1.0: [0.64, 0.65, 0.66]},
                "scratch": {0.1: [0.65, 0.66, 0.67], 1.0: [0.65, 0.66, 0.67]},
                "lure": {0.1: [0.66, 0.67, 0.68], 1.0: [0.65, 0.66, 0.67]},
            },
            flops={"lure": 1100},
        ),
    ]


def by_policy(runs):
    return {each.policy: each for each in standings(group_runs(runs))}


def test_regret_is_taken_at_equal_budget_and_the_worst_comes_first(runs):
    found = standings(group_runs(runs))
    assert [each.policy for each in found] == ["lure", "warm-start", "scratch"]
    lure, warm, scratch = found
    assert (lure.pairs, warm.pairs, scratch.pairs) == (4, 4, 4)
    assert lure.worst.regret == pytest.approx(0.02)
    assert (lure.worst.setting, lure.worst.budget) == ("label_noise = 0.0", 1.0)
    assert warm.worst.regret == pytest.approx(0.2)
    assert warm.mean == pytest.approx((0 + 0.2 + 0 + 0.01) / 4)
    assert warm.by_setting == pytest.approx({"label_noise = 0.0": 0.1, "label_noise = 0.3": 0.005})
    assert (scratch.worst.setting, scratch.worst.budget) == ("label_noise = 0.0", 0.1)


def test_the_profile_counts_pairs_up_to_its_limits(runs):
    found = by_policy(runs)
    assert found["lure"].within == {0.0: 0.5, 0.005: 0.5, 0.01: 0.75, 0.02: 1.0, 0.05: 1.0}
    assert found["warm-start"].within == {0.0: 0.5, 0.005: 0.5, 0.01: 0.75, 0.02: 0.75, 0.05: 0.75}


def test_worse_means_that_the_whole_interval_is_below_the_best_other(runs):
    found = by_policy(runs)
    assert found["scratch"].worse == 2  # the smallest budget of both settings
    assert found["warm-start"].worse == 2  # the largest budget of both
    (cell,) = [c for c in cells(group_runs(runs)) if (c.policy, c.setting, c.budget) == ("scratch", NAMES[0], 0.1)]
    expected = mean_interval([-0.22, -0.21, -0.23], 0.9)
    assert (cell.difference.mean, cell.difference.high) == pytest.approx((expected.mean, expected.high))


NAMES = ["label_noise = 0.0", "label_noise = 0.3"]


def test_the_best_other_over_all_is_the_one_of_the_lowest_mean_regret(runs):
    found = by_policy(runs)
    assert (found["lure"].rival, found["warm-start"].rival, found["scratch"].rival) == ("warm-start", "lure", "lure")
    by_pair = [
        (0.70, 0.71),
        (0.79, 0.61),
        (0.67, 0.67),
        (0.66, 0.65),
    ]  # lure and warm start, in each pair the middle seed
    assert found["lure"].difference.mean == pytest.approx(statistics.fmean(ours - theirs for ours, theirs in by_pair))
    # All seeds agree, so the spread is what one test example more or less would make.
    half = 2.92 * (1 / 1000) / math.sqrt(4) / math.sqrt(3)
    difference = found["lure"].difference
    assert difference.high - difference.mean == pytest.approx(half, rel=1e-3)


def test_only_the_seeds_that_all_policies_have_count(write_setting):
    runs = write_setting("one", PLAIN, {"lure": {1.0: [0.7, 0.7, 0.1]}, "scratch": {1.0: [0.6, 0.6]}})
    first, second = cells(group_runs(runs))
    assert {first.policy: first.regret, second.policy: second.regret} == {"scratch": pytest.approx(0.1), "lure": 0.0}
    assert (first.seeds, second.seeds) == (2, 2)
    assert {first.accuracy.count, second.accuracy.count} == {2, 3}  # what is shown is over all seeds


def test_two_seeds_show_nothing_to_be_worse(write_setting):
    runs = write_setting("one", PLAIN, {"lure": {1.0: [0.7, 0.7]}, "scratch": {1.0: [0.6, 0.6]}})
    assert [each.worse for each in standings(group_runs(runs))] == [0, 0]


def test_a_mean_below_the_best_is_not_yet_worse(write_setting):
    runs = write_setting("one", PLAIN, {"lure": {1.0: [0.70, 0.60, 0.80]}, "scratch": {1.0: [0.71, 0.72, 0.73]}})
    lure = next(each for each in standings(group_runs(runs)) if each.policy == "lure")
    assert (lure.worse, round(lure.mean, 4)) == (0, 0.02)


def test_the_worst_regret_sorts_and_not_the_mean(write_setting):
    steady, risky = {0.1: [0.75] * 3, 1.0: [0.75] * 3}, {0.1: [0.80] * 3, 1.0: [0.72] * 3}
    accuracies = {"lure": risky, "fire": steady, "redo": {0.1: [0.6] * 3, 1.0: [0.80] * 3}}
    found = standings(group_runs(write_setting("one", PLAIN, accuracies)))
    assert [each.policy for each in found] == ["fire", "lure", "redo"]
    assert found[1].mean < found[0].mean


def test_a_policy_that_ran_in_fewer_pairs_stands_below(runs, write_setting):
    extra = write_setting("noisy", NOISY, {"fire": {1.0: [0.9, 0.9, 0.9]}})
    found = standings(group_runs([*runs, *extra]))
    assert found[-1].policy == "fire"
    assert (found[-1].pairs, found[-1].worst.regret) == (1, 0.0)
    assert "fire" not in {each.rival for each in found}  # it would be compared on one pair only


def test_a_policy_that_is_alone_has_no_regret(write_setting):
    runs = write_setting("one", PLAIN, {"lure": {1.0: [0.7, 0.7]}})
    assert [cell.regret for cell in cells(group_runs(runs))] == [None]
    assert standings(group_runs(runs)) == []


def test_a_setting_without_a_test_set_is_left_out(runs, write_run):
    blind = [read_run(write_run(policy, 0, [None, None], recipe={"epochs": 3})) for policy in ("lure", "scratch")]
    assert len(standings(group_runs([*runs, *blind]))) == 3
    assert all(each.pairs == 4 for each in standings(group_runs([*runs, *blind])))


def test_extra_cost_is_beyond_the_cheapest_at_the_budget(runs):
    found = by_policy(runs)
    assert found["lure"].extra_cost == pytest.approx(0.1)
    assert found["warm-start"].extra_cost == pytest.approx(0)


def test_low_prices_are_counted_where_there_is_retraining(runs, write_setting):
    found = by_policy(runs)
    assert (found["warm-start"].cheap, found["warm-start"].priced) == (1, 2)  # in the noisy setting, at a tenth
    assert (found["lure"].cheap, found["lure"].priced) == (1, 2)
    third = write_setting("third", {"label_noise": 0.5}, {"lure": {1.0: [0.7, 0.7]}, "fire": {1.0: [0.6, 0.6]}})
    with_third = by_policy([*runs, *third])
    assert (with_third["lure"].pairs, with_third["lure"].priced) == (5, 2)  # a regret there, and no price
    assert with_third["fire"].extra_cost is None


def test_settings_are_called_by_their_folders_where_one_field_is_not_enough(runs, write_setting):
    assert setting_names(group_runs(runs)) == NAMES
    third = write_setting("slow", PLAIN | {"epochs": 40}, {"lure": {1.0: [0.7]}, "fire": {1.0: [0.6]}})
    assert setting_names(group_runs([*runs, *third])) == ["plain", "noisy", "slow"]


def test_folders_that_tell_nothing_apart_name_nothing(write_setting):
    recipes = [PLAIN, NOISY, PLAIN | {"epochs": 40}]
    runs = [
        run
        for number, recipe in enumerate(recipes)
        for run in write_setting(f"{number}/same", recipe, {"lure": {1.0: [0.7]}})
    ]
    assert setting_names(group_runs(runs))[0] == "epochs = 20, label_noise = 0.0"


def test_the_tables_fit_80_columns_and_say_what_they_mean(runs):
    console = Console(file=io.StringIO(), width=80, highlight=False)
    for table in regret_tables(runs):
        console.print(table)
    text = console.file.getvalue()
    lines = [line.split() for line in text.splitlines()]
    assert ["lure", "2.0", "0.8", "+4.5", "2", "of", "4", "10.0", "1", "of", "2"] in [line[:11] for line in lines]
    assert ["warm-start", "50", "50", "75", "75", "75"] in lines
    words = " ".join(text.split())
    assert "points of final accuracy behind the best, in 4 pairs of setting and budget" in words
    assert "against lure, or for itself against warm-start" in words
    assert "at most 20 % of retraining's cost" in words


def test_one_setting_has_no_such_table(runs, write_run):
    assert regret_tables([run for run in runs if run.recipe["label_noise"]]) == []
    lonely = read_run(write_run("lure", 0, [0.5, 0.6], recipe={"epochs": 3}))
    alone = [run for run in runs if run.recipe["label_noise"]]
    assert standings_over_settings(group_runs([*alone, lonely])) == []


def test_comparison_page_json_and_command_show_it(runs, tmp_path, capsys):
    assert "From the best other" in Comparison(runs).table().replace("\n", " ")
    assert main(["report", str(tmp_path / "plain"), str(tmp_path / "noisy"), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["settings"]
    assert data == json.loads(json.dumps(page_data(runs)["settings"])) | {"names": data["names"]}
    first = data["policies"][0]
    assert (first["policy"], first["pairs"], first["within"]["0.02"]) == ("lure", 4, 1.0)
    assert len(data["cells"]) == 12
    write_page(runs, tmp_path / "page.html")
    text, loads = read_page(runs, tmp_path / "page.html")
    assert "Regret over all settings, the worst case first" in text
    assert "Final accuracy and regret at budget 0.1" in text
    assert "79.0±1.0 (3) / 2.0" in text
    assert "Performance profile" in (tmp_path / "page.html").read_text()
    assert all(load.startswith("data:") for load in loads)


def test_the_page_calls_each_part_by_its_setting_and_lists_all_that_differs(runs, write_setting, tmp_path):
    third = write_setting("slow", PLAIN | {"epochs": 40}, {"lure": {1.0: [0.7]}, "fire": {1.0: [0.6]}})
    write_page([*runs, *third], tmp_path / "page.html")
    content = (tmp_path / "page.html").read_text()
    for name in ("plain", "noisy", "slow"):
        assert f"<h2>{name}</h2>" in content
    assert '<p class="note">epochs = 40, label_noise = 0.0</p>' in content
