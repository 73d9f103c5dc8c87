"""Prices, by hand: differences from retraining seed by seed, their intervals, and what follows from them."""

import json

import pytest

from lure.report.comparison import group_runs
from lure.report.numbers import page_data
from lure.report.price import asks_for_price, price_answers, price_sentence, prices, retraining, winner
from lure.report.records import read_run

BASE = [0.80, 0.81, 0.82]
SAME = [0.80, 0.81, 0.82]
LOW = [0.70, 0.71, 0.72]
NOISY = [0.78, 0.84, 0.79]  # -0.7 points on average, give or take five
T = 2.919986  # the 95 % quantile of Student's distribution with two degrees of freedom


@pytest.fixture
def make(write_run):
    """Return make({(policy, budget): (cost of a stage, accuracies by seed)}) -> runs of two stages."""

    def run(policies, *, recipe=None, measure="flops", first_seed=None, **fields):
        runs = []
        for (policy, budget), (cost, accuracies) in policies.items():
            for seed, accuracy in enumerate(accuracies, (first_seed or {}).get(policy, 0)):
                costs = {"train_flops": 0, "unlearn_flops": 0, "train_seconds": 0.0, "unlearn_seconds": 0.0}
                costs |= {f"train_{measure}": cost} | fields
                written = (recipe or {}) | {"budget": budget}
                runs.append(read_run(write_run(policy, seed, [accuracy, accuracy], recipe=written, **costs)))
        return runs

    return run


def rows(runs):
    (group,) = group_runs(runs)
    return {(row.policy, row.budget): row for row in prices(group)}


def answers(runs):
    (group,) = group_runs(runs)
    return {answer.policy: answer for answer in price_answers(group)}


def test_differences_are_those_of_equal_seeds_with_their_interval(make):
    runs = make({("scratch", 1.0): (10, BASE), ("lure", 0.1): (1, [0.79, 0.82, 0.84])})
    row = rows(runs)["lure", 0.1]
    half = T * 0.0152753 / 3**0.5  # of -1, +1 and +2 points
    assert (row.mean, row.low, row.high) == pytest.approx((0.02 / 3, 0.02 / 3 - half, 0.02 / 3 + half), abs=1e-6)
    assert row.cost == pytest.approx(0.1)
    assert not row.not_worse
    assert row.is_open
    base = rows(runs)["scratch", 1.0]
    assert (base.cost, base.mean, base.low, base.high, base.not_worse) == (1, 0, 0, 0, True)


def test_not_worse_begins_at_one_point_below(make):
    # Every seed loses the same, so that the interval is that of one test example in a thousand: 0.17 points.
    for loss, expected in ((0.008, (True, False)), (0.009, (False, False)), (0.012, (False, True))):
        runs = make({("scratch", 1.0): (10, BASE), ("lure", 0.1): (1, [value - loss for value in BASE])})
        row = rows(runs)["lure", 0.1]
        assert (row.not_worse, row.worse) == expected, loss


def test_cost_is_that_of_training_and_unlearning_from_the_second_stage_on(make, change_ledger):
    runs = make({("scratch", 1.0): (1000, BASE), ("lure", 0.1): (100, BASE)}, unlearn_flops=7)
    assert rows(runs)["lure", 0.1].cost == pytest.approx(107 / 1007)
    for run in runs:  # the first stage is the same for all: whatever it took, the share stays
        change_ledger(run.directory, lambda lines: [lines[0] | {"train_flops": 10**9}, lines[1]])
    assert rows([read_run(run.directory) for run in runs])["lure", 0.1].cost == pytest.approx(107 / 1007)


def test_seconds_count_where_a_run_has_no_flops(make):
    runs = make({("scratch", 1.0): (10, BASE), ("lure", 0.1): (2, BASE)}, measure="seconds")
    assert rows(runs)["lure", 0.1].cost == pytest.approx(0.2)
    assert "20 % of retraining's seconds" in price_sentence(runs)


def test_the_price_is_the_least_cost_that_is_not_worse_whatever_lies_above(make):
    runs = make(
        {
            ("scratch", 0.1): (1, LOW),
            ("scratch", 1.0): (10, BASE),
            ("warm-start", 0.1): (1, SAME),  # worse with more: a walk from the dearest down would miss it
            ("warm-start", 0.3): (3, SAME),
            ("warm-start", 1.0): (10, LOW),
            ("lure", 0.1): (1.5, NOISY),
            ("lure", 0.3): (3.5, SAME),
            ("dash", 0.1): (1, LOW),
            ("dash", 1.0): (10.5, LOW),
            ("fire", 0.3): (3, LOW),
            ("fire", 1.0): (10.5, SAME),
            ("redo", 0.1): (1, LOW),
            ("redo", 0.3): (3, LOW),
            ("random-reset", 1.0): (10, LOW),
            ("head-reset", 0.1): (1, NOISY),
            ("head-reset", 1.0): (10.5, SAME),
            ("fisher-reset", 0.1): (1, LOW),
            ("fisher-reset", 0.9): (10.2, NOISY),
            ("fisher-reset", 1.0): (11, SAME),
        }
    )
    found = {policy: (answer.answer, answer.budget, answer.text) for policy, answer in answers(runs).items()}
    assert found == {
        "scratch": ("price", 1.0, "100 %"),
        "warm-start": ("price", 0.1, "10 %"),
        "lure": ("price", 0.3, "at most 35 %"),
        "dash": ("dearer than retraining", None, "dearer than retraining"),
        "fire": ("dearer than retraining", None, "dearer than retraining"),
        "random-reset": ("worse at every budget tried", None, "worse at every budget tried"),
        "fisher-reset": ("dearer than retraining", None, "dearer than retraining"),
        "redo": ("worse at every budget tried", None, "worse at every budget tried"),
        "head-reset": ("not decided by these seeds", None, "not decided by these seeds"),
    }


def test_what_is_written_as_all_of_the_cost_is_no_more_than_that(make):
    costs = {"lure": (10.04, SAME), "fire": (10.06, SAME), "redo": (9.0, SAME)}  # of 10
    runs = make({("scratch", 1.0): (10, BASE), ("redo", 0.1): (1, NOISY), **{(p, 1.0): c for p, c in costs.items()}})
    found = {policy: answer.text for policy, answer in answers(runs).items()}
    assert (found["lure"], found["redo"]) == ("100 %", "at most 90 %")
    assert found["fire"] == "dearer than retraining"


def test_retraining_may_have_another_name_but_no_other_recipe(make):
    renamed = make({("scratch", 1.0): (10, BASE)}, recipe={"policy": "again", "departs_from": ["epochs=20"]})
    others = make({("lure", 0.1): (1, SAME)})
    assert [run.policy for run in retraining(group_runs([*renamed, *others])[0])] == ["again"] * 3
    changed = {"policy": "again", "departs_from": ["epochs=20"], "epochs": 40}
    departed = make({("scratch", 1.0): (10, BASE)}, recipe=changed)
    assert retraining(group_runs([*departed, *others])[0]) == []
    plain = make({("scratch", 1.0): (10, BASE)})
    assert [run.policy for run in retraining(group_runs([*renamed, *plain])[0])] == ["scratch"] * 3


def test_the_sentence_names_the_cheapest(make):
    runs = make({("scratch", 1.0): (10, BASE), ("lure", 0.1): (1.2, SAME), ("dash", 0.3): (4, [0.81, 0.82, 0.83])})
    assert price_sentence(runs) == (
        "lure at budget 0.1 is the cheapest that is not worse than retraining: its price is 12 % of retraining's "
        "FLOPs, for +0.0 points of final accuracy (90 % interval -0.2 to +0.2, 3 seeds)."
    )


def test_of_equal_costs_the_better_is_named(make):
    better = [0.81, 0.82, 0.83]
    runs = make({("scratch", 1.0): (10, BASE), ("lure", 0.1): (1.00, SAME), ("dash", 0.1): (1.04, better)})
    assert price_sentence(runs).startswith("dash at budget 0.1 is within 5 % the cheapest that is not worse")
    runs = make({("scratch", 1.0): (10, BASE), ("lure", 0.1): (1.00, SAME), ("dash", 0.1): (1.06, better)})
    assert price_sentence(runs).startswith("lure at budget 0.1 is the cheapest that is not worse")


def test_what_is_cheaper_and_open_is_counted(make):
    runs = make({("scratch", 1.0): (10, BASE), ("lure", 0.1): (1, NOISY), ("dash", 0.3): (3, SAME)})
    assert price_sentence(runs).endswith("3 seeds); 1 cheaper try is not decided by these seeds.")


def test_noise_decides_nothing_and_the_nearest_is_named(make):
    runs = make({("scratch", 1.0): (10, BASE), ("lure", 0.1): (1, NOISY), ("dash", 0.3): (3, [0.70, 0.85, 0.75])})
    assert price_sentence(runs) == (
        "These seeds do not decide whether anything cheaper is as good as retraining: the nearest is lure at budget "
        "0.1, for -0.7 points of final accuracy (90 % interval -6.1 to +4.8, 3 seeds), at 10 % of retraining's FLOPs."
    )


def test_where_all_that_is_cheaper_is_worse_retraining_is_named(make):
    runs = make({("scratch", 1.0): (10, BASE), ("scratch", 0.1): (1, LOW), ("lure", 0.1): (1, LOW)})
    sentence = price_sentence(runs)
    assert sentence.startswith("Retraining stays the cheapest: 2 cheaper tries are worse by more than 1 point, ")
    assert "-10.0 points" in sentence


def test_two_seeds_decide_nothing(make):
    runs = make({("scratch", 1.0): (10, BASE[:2]), ("lure", 0.1): (1, SAME[:2])})
    row = rows(runs)["lure", 0.1]
    assert row.low is not None
    assert not row.not_worse
    assert not row.worse
    assert answers(runs)["lure"].text == "not decided by these seeds"
    assert "at least 3 that a policy has in common with retraining" in price_sentence(runs)


def test_one_common_seed_has_a_mean_and_no_interval_and_none_has_neither(make):
    runs = make({("scratch", 1.0): (10, BASE), ("lure", 0.1): (1, SAME)}, first_seed={"lure": 2})
    row = rows(runs)["lure", 0.1]
    assert row.mean == pytest.approx(-0.02)
    assert (row.low, row.high, row.seeds) == (None, None, 1)
    row = rows(make({("scratch", 1.0): (10, BASE), ("lure", 0.1): (1, SAME)}, first_seed={"lure": 5}))["lure", 0.1]
    assert (row.mean, row.low, row.not_worse, row.cost) == (None, None, False, pytest.approx(0.1))


def test_without_retraining_the_sentence_says_what_to_add(make):
    runs = make({("warm-start", 0.1): (1, SAME), ("warm-start", 0.3): (3, SAME)})
    assert rows(runs) == {}
    assert price_sentence(runs).endswith("add scratch at budget 1 (--unlearners scratch,... --budgets 0.1,0.3,1).")
    half = make({("scratch", 0.5): (5, SAME), ("lure", 0.5): (5, SAME)})
    assert "--budgets 0.5,1)" in price_sentence(half)
    assert "--budgets 0.1,0.3,1)" in price_sentence(make({("lure", 1.0): (5, SAME)}))


def test_what_cannot_have_a_price_says_so(make, write_run):
    untested = [read_run(write_run(policy, 0, [None, None])) for policy in ("scratch", "lure")]
    assert "no price" in price_sentence(untested)
    single = [read_run(write_run(policy, 0, [0.5])) for policy in ("scratch", "lure")]
    assert "no second stage" in price_sentence(single)
    assert rows(untested) == rows(single) == {}


def test_old_comparisons_end_in_their_verdict(make):
    old = make({("scratch", 1.0): (10, BASE), ("lure", 1.0): (10.1, SAME), ("warm-start", 1.0): (9.9, SAME)})
    assert not asks_for_price(group_runs(old))
    assert rows(old)["lure", 1.0].cost == pytest.approx(1.01)
    assert "Nothing was tried that is cheaper" in price_sentence(old)
    assert asks_for_price(group_runs(make({("scratch", 1.0): (10, BASE), ("lure", 1.0): (5, SAME)})))
    assert asks_for_price(group_runs(make({("dash", 1.0): (10, BASE), ("dash", 0.1): (5, SAME)})))


def test_regret_is_the_distance_from_the_best_at_the_best_budget(make):
    runs = make(
        {
            ("scratch", 1.0): (10, BASE),
            ("lure", 0.1): (1, [0.83, 0.84, 0.85]),
            ("lure", 1.0): (10, LOW),
            ("dash", 0.1): (1, [0.825, 0.835, 0.845]),
        }
    )
    regrets = {policy: answer.regret for policy, answer in answers(runs).items()}
    assert regrets == pytest.approx({"scratch": 0.03, "lure": 0.0, "dash": 0.005})


def test_recipes_have_a_sentence_each(make):
    policies = {("scratch", 1.0): (10, BASE), ("lure", 0.1): (1, SAME)}
    runs = [*make(policies), *make(policies, recipe={"augment": "crop-flip"})]
    lines = price_sentence(runs).split("\n")
    assert [line.split(":")[0] for line in lines] == ["augment = none", "augment = crop-flip"]


def test_the_json_lists_prices(make):
    runs = make({("scratch", 1.0): (10, BASE), ("lure", 0.1): (1, SAME), ("lure", 1.0): (10, SAME[:1])})
    (group,) = page_data(runs)["groups"]
    json.dumps(group, allow_nan=False)
    assert [list(row) for row in group["price"]] == [
        ["policy", "budget", "cost", "mean", "low", "high", "not_worse"]
    ] * 3
    assert [(row["policy"], row["budget"]) for row in group["price"]] == [("scratch", 1), ("lure", 0.1), ("lure", 1)]
    assert group["price"][2] | {"cost": 1, "mean": 0} == {
        "policy": "lure", "budget": 1, "cost": 1, "mean": 0, "low": None, "high": None, "not_worse": False,
    }  # fmt: skip
    assert group["price_answers"][1]["answer"] == "price"
    assert group["price_measure"] == "flops"
    assert group["price_sentence"] == price_sentence(runs)
    assert page_data(make({("lure", 0.1): (1, SAME)}))["groups"][0]["price"] == []


def test_the_winner_is_the_one_that_the_sentence_names(make):
    def won(*others):
        (group,) = group_runs(make({("scratch", 1.0): (10, BASE)} | dict(others)))
        return winner(group)

    assert won((("lure", 0.1), (1, SAME)), (("dash", 1.0), (9, SAME))) == "lure, budget 0.1"
    assert won((("lure", 0.1), (1, LOW)), (("dash", 0.3), (3, LOW))) == "scratch"  # retraining stays the cheapest
    assert won((("lure", 0.1), (1, NOISY))) is None
    assert won((("lure", 1.0), (10, SAME))) == "scratch"  # nothing was cheaper: it is the verdict that answers
    (group,) = group_runs(make({("lure", 0.1): (1, SAME)}))
    assert winner(group) is None
