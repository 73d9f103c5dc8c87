import math

import pytest

from lure.errors import InputError
from lure.report.comparison import group_runs, paired_differences, setting_names, totals
from lure.report.records import read_run


@pytest.fixture
def make(write_run):
    return lambda *args, **fields: read_run(write_run(*args, **fields))


def test_totals_add_training_and_unlearning(make):
    numbers = totals(make("lure", 0, [0.5, 0.7]))
    assert numbers["final_accuracy"] == 0.7
    assert numbers["mean_error_rate"] == pytest.approx(0.4)
    assert numbers["cumulative_error_count"] == 800
    assert numbers["seconds"] == pytest.approx(2.0 + 4.0 + 2 * 0.5)
    assert numbers["flops"] == pytest.approx(3e12 + 2e9)
    assert numbers["examples_seen"] == 30000


def test_errors_are_those_of_the_version_in_use(make):
    run = make("lure", 0, [0.5, 0.7], cumulative_errors=700)
    assert totals(run)["cumulative_error_count"] == 700
    assert totals(run)["mean_error_rate"] == pytest.approx(0.35)


def test_without_a_test_set_there_are_costs_only(make):
    numbers = totals(make("lure", 0, [None, None]))
    assert numbers["final_accuracy"] is numbers["mean_error_rate"] is numbers["cumulative_error_count"] is None
    assert numbers["examples_seen"] == 30000
    assert paired_differences([make("lure", 0, [None])], [make("scratch", 0, [0.5])]) == {}


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_is_not_known_is_none(make, value):
    assert totals(make("lure", 0, [0.5], expected_calibration_error=value))["expected_calibration_error"] is None


def test_policies_stand_in_the_order_of_the_table_then_by_name(make):
    runs = [make(policy, 0, [0.5]) for policy in ("mine", "lure", "another", "scratch", "warm-start")]
    assert list(group_runs(runs)[0].policies) == ["warm-start", "scratch", "lure", "another", "mine"]


def test_unequal_recipes_are_apart_and_say_in_what(make):
    runs = [
        make("lure", 0, [0.5]),
        make("scratch", 1, [0.5]),
        make("lure", 0, [0.6], recipe={"augment": "crop-flip", "train_limit": 100}),
    ]
    groups = group_runs(runs)
    assert [group.label for group in groups] == [
        "augment = none, train_limit = unset",
        "augment = crop-flip, train_limit = 100",
    ]
    assert [len(group.runs) for group in groups] == [2, 1]


def test_a_field_that_an_older_run_lacks_has_its_default(make):
    old, same, other = (make("lure", 0, [0.5], recipe=recipe) for recipe in ({}, {"warmup": 0}, {"warmup": 3}))
    assert [group.label for group in group_runs([old, same])] == [""]
    assert [group.label for group in group_runs([old, other])] == ["warmup = 0", "warmup = 3"]
    assert [group.recipe.get("gamma") for group in group_runs([old, other])] == [None, None]


def test_equal_recipes_are_one_group_without_a_label(make):
    groups = group_runs([make("lure", 0, [0.5]), make("scratch", 3, [0.5])])
    assert [group.label for group in groups] == [""]


def test_a_setting_is_named_by_no_more_fields_than_tell_it_apart(make):
    recipes = [{"augment": "none", "lr": 0.1}, {"augment": "crop", "lr": 0.2}, {"dataset": "cifar10", "lr": 0.3}]
    groups = group_runs([make("lure", 0, [0.5], recipe=recipe) for recipe in recipes])
    assert len(groups[0].distinct) == 3
    assert setting_names(groups) == [
        "dataset = fashion-mnist-sample, augment = none",
        "dataset = fashion-mnist-sample, augment = crop",
        "dataset = cifar10, augment = none",
    ]
    assert setting_names(groups[:1]) == [""]


def test_differences_are_taken_seed_by_seed(make):
    ours = [make("lure", seed, [value]) for seed, value in ((0, 0.6), (1, 0.7), (2, 0.9))]
    theirs = [make("scratch", seed, [value]) for seed, value in ((1, 0.5), (0, 0.55), (5, 0.1))]
    assert paired_differences(ours, theirs) == pytest.approx({0: 0.05, 1: 0.2})


def test_an_unfinished_run_is_left_out_and_named(make):
    short = make("lure", 1, [0.5])
    group = group_runs([make("lure", 0, [0.5, 0.6]), short])[0]
    assert [run.seed for run in group.runs] == [0]
    assert group.left_out == [f"{short.directory} is left out: it has 1 of 2 stages."]


def test_the_same_policy_and_seed_counts_once(make):
    first, second = make("lure", 0, [0.5], name="a"), make("lure", 0, [0.9], name="b")
    group = group_runs([second, first])[0]
    assert [run.directory for run in group.runs] == [first.directory]
    assert group.left_out == [f"{second.directory} is left out: {first.directory} has the same policy and seed."]


def test_runs_that_saw_other_data_are_refused(make):
    other = make("scratch", 0, [0.5], data_fingerprint="other")
    with pytest.raises(InputError, match="same recipe and seed but other data at stage 1"):
        group_runs([make("lure", 0, [0.5]), other])


def test_nothing_to_report_is_refused():
    with pytest.raises(InputError, match="no run"):
        group_runs([])
