import pytest

from lure.report.comparison import group_runs
from lure.report.records import read_run
from lure.report.verdict import named_policy, order_by_cost, verdict


@pytest.fixture
def judge(write_run):
    """Return judge({policy: (cost, accuracies by seed)}) -> the verdict; a cost is both, or (FLOPs, seconds)."""

    def run(policies, first_seed=None, **fields):
        runs = []
        for policy, (cost, accuracies) in policies.items():
            start = (first_seed or {}).get(policy, 0)
            for seed, accuracy in enumerate(accuracies, start):
                flops, seconds = cost if isinstance(cost, tuple) else (cost, cost)
                costs = {"train_flops": flops * 1e12, "train_seconds": seconds}
                runs.append(read_run(write_run(policy, seed, [accuracy], **costs, **fields)))
        return verdict(runs)

    return run


def test_the_best_is_named_where_nothing_is_cheaper(judge):
    sentence = judge({"scratch": (9, [0.7, 0.71, 0.73]), "dash": (3, [0.8, 0.82, 0.82])})
    assert sentence == (
        "dash has the best final accuracy (81.3 %, mean of 3 seeds), and none is more than 5 % cheaper; scratch, the "
        "next best, is 10.0 points behind (90 % interval 8.3 to 11.7)."
    )


def test_a_sentence_never_says_cheapest_of_what_is_four_percent_dearer(judge):
    cheaper = {"scratch": (9.6, [0.7, 0.71, 0.73]), "dash": (10, [0.8, 0.82, 0.82])}
    assert "and none is more than 5 % cheaper;" in judge(cheaper)
    one_seed = {name: (cost, accuracies[:1]) for name, (cost, accuracies) in cheaper.items()}
    assert "dash has the best final accuracy (80.0 %), and none is more than 5 % cheaper; compare" in judge(one_seed)
    one_seed["lure"] = (20, [0.9])
    assert "lure has the best final accuracy (90.0 %), dash is among the cheapest (80.0 %)" in judge(one_seed)
    worse = cheaper | {"lure": (20, [0.9, 0.92, 0.92]), "warm-start": (19.5, [0.5, 0.52, 0.52])}
    assert judge(worse).endswith("and all that are more than 5 % cheaper are worse.")


def test_a_cheaper_policy_within_the_margin_is_named(judge):
    sentence = judge({"scratch": (10, [0.700, 0.710, 0.720]), "lure": (4, [0.698, 0.708, 0.719])})
    assert sentence.startswith("lure is the cheapest policy that is not worse than the best: 0.2 points below scratch")
    assert sentence.endswith("at 40 % of its FLOPs.")


def test_the_best_is_named_where_all_that_cost_less_are_worse(judge):
    sentence = judge(
        {"scratch": (10, [0.80, 0.81, 0.82]), "lure": (4, [0.70, 0.72, 0.71]), "warm-start": (2, [0.6, 0.61, 0.62])}
    )
    assert sentence.startswith("scratch is the cheapest policy that is not worse than the best")


def test_the_walk_passes_what_is_worse_and_stops_at_what_is_good_enough(judge):
    sentence = judge(
        {"scratch": (10, [0.80, 0.81, 0.82]), "lure": (4, [0.80, 0.81, 0.82]), "warm-start": (2, [0.6, 0.61, 0.62])}
    )
    assert sentence.startswith("lure is the cheapest policy that is not worse than the best: 0.0 points below scratch")


def test_noise_decides_nothing(judge):
    sentence = judge({"scratch": (10, [0.70, 0.74, 0.72]), "lure": (4, [0.72, 0.70, 0.71])})
    assert sentence.startswith("The seeds do not decide")
    assert "lure is 1.0 points below scratch" in sentence


def test_two_seeds_decide_a_large_gap_only(judge):
    assert "cheaper are worse" in judge({"scratch": (10, [0.80, 0.81]), "lure": (4, [0.60, 0.611])})
    assert "do not decide" in judge({"scratch": (10, [0.80, 0.82]), "lure": (4, [0.795, 0.80])})


def test_one_seed_decides_nothing(judge):
    sentence = judge({"scratch": (10, [0.9]), "lure": (4, [0.5])})
    assert sentence == (
        "One seed does not decide which policy to take: scratch has the best final accuracy (90.0 %), lure costs least "
        "(50.0 %); compare at least three seeds."
    )


def test_seeds_that_agree_exactly_on_a_small_test_set_are_no_certainty(judge):
    policies = {"scratch": (10, [0.8, 0.8]), "lure": (4, [0.8, 0.8])}
    assert "not worse than the best: 0.0 points" in judge(policies, test_examples=1000)
    assert "do not decide" in judge(policies, test_examples=20)


def test_only_seeds_that_all_policies_have_are_compared(judge):
    # Over all its seeds lure is ahead, over those of both scratch is: by one point each time, at a higher cost.
    sentence = judge({"scratch": (10, [0.1, 0.80, 0.81]), "lure": (4, [0.79, 0.80, 0.99])}, first_seed={"lure": 1})
    assert sentence.startswith("scratch is the cheapest policy that is not worse than the best")
    assert "2 seeds" in sentence


def test_policies_without_a_common_seed_are_not_compared(judge):
    sentence = judge({"scratch": (10, [0.8, 0.9]), "dash": (4, [0.7, 0.8])}, first_seed={"dash": 5})
    assert sentence.startswith("The policies have no seed in common")


def test_flops_count_before_seconds(judge):
    equal = [0.8, 0.81, 0.82]
    sentence = judge({"scratch": ((10, 1), equal), "lure": ((4, 9), equal)})
    assert sentence.startswith("lure is the cheapest policy")
    # A machine that was busy says nothing about a policy that computes as much.
    sentence = judge({"scratch": ((10, 9), [0.81, 0.82, 0.83]), "lure": ((10, 1), equal)})
    assert sentence.startswith("scratch has the best final accuracy")


def test_seconds_count_where_there_are_no_flops(judge):
    equal = [0.8, 0.81, 0.82]
    sentence = judge({"scratch": ((0, 10), equal), "lure": ((0, 4), equal)}, unlearn_flops=0, unlearn_seconds=0)
    assert sentence.startswith("lure is the cheapest policy")
    assert sentence.endswith("at 40 % of its seconds.")


def test_one_policy_has_no_rival(judge):
    assert judge({"lure": (4, [0.7, 0.8])}) == "lure ends at an accuracy of 75.0 % (mean of 2 seeds)."


def test_without_a_test_set_nothing_is_said(judge):
    assert judge({"scratch": (10, [None]), "lure": (4, [None])}).startswith("Without a test set")


def test_unlearning_counts_as_cost(judge):
    runs = {"scratch": (10, [0.8, 0.81, 0.82]), "lure": (4, [0.8, 0.81, 0.82])}
    assert judge(runs).startswith("lure has the best") is False
    assert judge(runs, unlearn_flops=1e15, unlearn_seconds=1e4).startswith("scratch has the best")


def test_equal_costs_leave_the_better_one(judge):
    sentence = judge({"scratch": (10.0, [0.7, 0.71, 0.72]), "dash": (10.2, [0.72, 0.73, 0.74])})
    assert sentence.startswith("dash has the best final accuracy")


def test_several_recipes_give_a_sentence_each(write_run):
    runs = [
        read_run(write_run(policy, seed, [value + 0.01 * seed], recipe={"augment": augment}))
        for augment in ("none", "crop-flip")
        for policy, value in (("scratch", 0.7), ("lure", 0.8))
        for seed in range(3)
    ]
    lines = verdict(runs).split("\n")
    assert [line.split(":")[0] for line in lines] == ["augment = none", "augment = crop-flip"]


def test_costs_within_five_percent_stay_in_the_given_order():
    cost = {"a": 104.0, "b": 100.0, "c": 106.0, "d": 50.0}.__getitem__
    assert order_by_cost("abcd", cost) == ["d", "a", "b", "c"]


def test_only_what_is_decided_is_named(write_run):
    def named(policies):
        runs = [
            read_run(write_run(policy, seed, [accuracy], train_flops=cost, unlearn_flops=0))
            for policy, (cost, accuracies) in policies.items()
            for seed, accuracy in enumerate(accuracies)
        ]
        (group,) = group_runs(runs)
        return named_policy(group)

    best = {"scratch": (10, [0.80, 0.81, 0.82])}
    assert named(best | {"lure": (4, [0.80, 0.81, 0.82])}) == "lure"
    assert named(best | {"lure": (4, [0.60, 0.61, 0.62])}) == "scratch"
    assert named(best | {"lure": (4, [0.78, 0.84, 0.75])}) is None
    assert (
        named({policy: (cost, accuracies[:1]) for policy, (cost, accuracies) in best.items()} | {"lure": (4, [0.8])})
        is None
    )
    assert named(best) is None
