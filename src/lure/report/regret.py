"""Regret over several settings: how far each policy is behind, at worst and on average, at equal budgets.

A **setting** is a group of runs that may be compared: one recipe. A **pair** is one setting at one budget at which at
least two policies ran. A policy's **regret** there is the highest mean final accuracy of any policy, minus its own;
both are taken over the seeds that all policies of the pair have. So the best of each pair has regret zero, and a policy
that is good everywhere beats one that is best in one setting and poor in another. Over the pairs in which a policy ran:

- its **worst** regret, and where that is: what may happen to someone who takes the policy unseen. Tables are sorted by
  it, but a policy that did not run in all pairs stands below those that did;
- its **mean** regret, every pair counting alike;
- its **performance profile**: the share of pairs in which it is at most so many points behind the best;
- in how many pairs it is **worse than the best other**: the 90 % interval (Student's t) of its final accuracy minus
  that of the best other policy, seed by seed, ends below zero, with at least three common seeds;
- its **difference from the best other policy over all**: the one with the lowest mean regret of those that ran in the
  most pairs. The final accuracies are subtracted seed by seed, averaged over the pairs that both have, and the interval
  is over the seeds.

The best of a pair is chosen by the seeds that it is then compared on, which makes every regret a little too high, and
that of all policies alike. Regret at equal budget is not regret at equal cost: probing and unlearning come on top of
the budget. They are shown as a policy's **extra cost**: its cost over the least of any policy in the pair, less one, on
average. They count in the price, too, which `lure.report.price` defines; here stands in how many settings that is at
most a fifth of retraining's cost.

Reference: for profiles, Dolan and Moré, "Benchmarking Optimization Software with Performance Profiles", Mathematical
Programming 91, 2002; theirs are of ratios, these of differences.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lure.metrics.statistics import Interval, Spread, mean_interval, spread
from lure.report.comparison import RunGroup, paired_differences, setting_names
from lure.report.price import FEWEST_SEEDS, ROUNDING, price_answers, prices
from lure.report.records import RunRecord
from lure.report.verdict import CONFIDENCE, TIE

WITHIN = (0.0, 0.005, 0.01, 0.02, 0.05)  # of a performance profile
CHEAP = 0.2  # a price at most this is a low one


@dataclass(frozen=True, slots=True)
class Cell:
    """One policy at one budget in one setting.

    Attributes:
        setting: its name, as `setting_names` gives it; empty for a single one.
        policy: its name, without the budget.
        budget: share of the epochs that stages 2 and later got, in (0, 1].
        accuracy: final accuracy over all its seeds.
        cost: as a share of retraining's; None without retraining.
        regret: behind the best at this budget, as a share; None where it is alone there, or no seed is common to all.
        difference: final accuracy minus that of the best other policy, seed by seed; None with fewer than two seeds.
        seeds: how many seeds `regret` and `difference` rest on.
    """

    setting: str
    policy: str
    budget: float
    accuracy: Spread
    cost: float | None
    regret: float | None
    difference: Interval | None
    seeds: int

    @property
    def is_worse(self) -> bool:
        """Whether the seeds show that it is worse than the best other policy."""
        return self.seeds >= FEWEST_SEEDS and self.difference is not None and self.difference.high < 0


@dataclass(frozen=True, slots=True)
class Standing:
    """One policy over all settings.

    Attributes:
        policy: its name.
        pairs: in how many pairs of setting and budget it has a regret.
        worst: the cell of its highest regret.
        mean: its mean regret, as a share.
        by_setting: setting -> mean regret over its budgets there.
        within: points behind the best, as a share -> share of its pairs in which it is at most that far behind.
        worse: in how many pairs it is worse than the best other policy.
        rival: the best other policy over all; None where no other ran in as many pairs.
        difference: final accuracy minus that of `rival`, over the pairs; None with fewer than two common seeds.
        extra_cost: what it costs more than the cheapest policy at the same budget, as a share, on average; None without
            retraining.
        cheap: in how many settings its price is at most a fifth of retraining's cost.
        priced: in how many settings it could have a price: it was run there beside retraining.
    """

    policy: str
    pairs: int
    worst: Cell
    mean: float
    by_setting: Mapping[str, float]
    within: Mapping[float, float]
    worse: int
    rival: str | None
    difference: Interval | None
    extra_cost: float | None
    cheap: int
    priced: int


def is_low_price(cost: float | None) -> bool:
    """Tell whether a price, as a share of retraining's cost, is at most a fifth, up to what counts as equal costs."""
    return cost is not None and cost <= (1 + TIE) * CHEAP


def cells(groups: Sequence[RunGroup], names: Sequence[str] | None = None) -> list[Cell]:
    """Return what each policy reached at each budget in each setting, in the order of the groups.

    Args:
        groups: what `group_runs` returns; settings without a test set are left out.
        names: what to call them; None for `setting_names`.
    """
    found = []
    for name, group in zip(names or setting_names(groups), groups, strict=True):
        if not all(run.tested for run in group.runs):
            continue
        costs = {(row.policy, row.budget): row.cost for row in prices(group)}
        for budget, members in _by_budget(group).items():
            means, seeds = _common_means(members)
            for policy, runs in members.items():
                others = {name: mean for name, mean in means.items() if name != policy}
                best = max(others, key=others.__getitem__) if others else None
                found.append(
                    Cell(
                        setting=name,
                        policy=policy,
                        budget=budget,
                        accuracy=_known(runs),
                        cost=costs.get((policy, budget)),
                        regret=max(means.values()) - means[policy] if others else None,
                        difference=_difference(runs, members[best], seeds) if best else None,
                        seeds=len(seeds),
                    )
                )
    return found


def _by_budget(group: RunGroup) -> dict[float, dict[str, list[RunRecord]]]:
    found: dict[float, dict[str, list[RunRecord]]] = {}
    for runs in group.policies.values():
        found.setdefault(runs[0].budget, {})[runs[0].policy] = runs
    return dict(sorted(found.items()))


def _known(runs: Sequence[RunRecord]) -> Spread:
    value = spread(run.final.accuracy for run in runs)
    assert value is not None  # the runs are tested
    return value


def _common_means(members: Mapping[str, Sequence[RunRecord]]) -> tuple[dict[str, float], set[int]]:
    """Return the mean final accuracy of each policy over the seeds that all have, and these; {} without one."""
    seeds = set.intersection(*({run.seed for run in runs} for runs in members.values()))
    if not seeds:
        return {}, seeds
    means = {
        policy: statistics.fmean(run.final.accuracy or 0.0 for run in runs if run.seed in seeds)
        for policy, runs in members.items()
    }
    return means, seeds


def _difference(runs: Sequence[RunRecord], others: Sequence[RunRecord], seeds: set[int]) -> Interval | None:
    found = [value for seed, value in paired_differences(runs, others).items() if seed in seeds]
    return mean_interval(found, CONFIDENCE, _resolution((*runs, *others))) if len(found) > 1 else None


def _resolution(runs: Sequence[RunRecord]) -> float:
    return 1 / min(run.stages[-1].test_examples for run in runs)


def standings(groups: Sequence[RunGroup], names: Sequence[str] | None = None) -> list[Standing]:
    """Return how each policy stands over all settings: the lowest worst regret first, those with fewer pairs last.

    Args:
        groups: what `group_runs` returns.
        names: what to call them; None for `setting_names`.

    Returns:
        one for each policy that has a regret anywhere.
    """
    by_policy: dict[str, list[Cell]] = {}
    least: dict[tuple[str, float], float] = {}
    for cell in cells(groups, names):
        if cell.cost is not None:
            place = cell.setting, cell.budget
            least[place] = min(cell.cost, least.get(place, cell.cost))
        if cell.regret is not None:
            by_policy.setdefault(cell.policy, []).append(cell)
    most = max(map(len, by_policy.values()), default=0)
    means = {policy: statistics.fmean(map(_regret, found)) for policy, found in by_policy.items()}
    complete = sorted((policy for policy in means if len(by_policy[policy]) == most), key=means.__getitem__)
    answers = [{answer.policy: answer for answer in price_answers(group)} for group in groups]
    found = [
        _standing(
            policy,
            mine,
            rival := next((name for name in complete if name != policy), None),
            _overall(groups, policy, rival) if rival else None,
            [cell.cost / least[cell.setting, cell.budget] - 1 for cell in mine if cell.cost is not None],
            [answer[policy].cost for answer in answers if policy in answer],
        )
        for policy, mine in by_policy.items()
    ]
    return sorted(found, key=lambda each: (-each.pairs, _regret(each.worst), each.mean))


def standings_over_settings(groups: Sequence[RunGroup]) -> list[Standing]:
    """Return what `standings` does; [] where fewer than two settings have anything to compare."""
    found = standings(groups)
    return found if len({setting for each in found for setting in each.by_setting}) > 1 else []


def _regret(cell: Cell) -> float:
    return cell.regret or 0.0


def _standing(
    policy: str,
    mine: Sequence[Cell],
    rival: str | None,
    difference: Interval | None,
    extra: Sequence[float],
    paid: Sequence[float | None],
) -> Standing:
    by_setting: dict[str, list[float]] = {}
    for cell in mine:
        by_setting.setdefault(cell.setting, []).append(_regret(cell))
    return Standing(
        policy=policy,
        pairs=len(mine),
        worst=max(mine, key=_regret),
        mean=statistics.fmean(map(_regret, mine)),
        by_setting={setting: statistics.fmean(regrets) for setting, regrets in by_setting.items()},
        within={limit: sum(_regret(cell) <= limit + ROUNDING for cell in mine) / len(mine) for limit in WITHIN},
        worse=sum(cell.is_worse for cell in mine),
        rival=rival,
        difference=difference,
        extra_cost=statistics.fmean(extra) if extra else None,
        cheap=sum(map(is_low_price, paid)),
        priced=len(paid),
    )


def _overall(groups: Sequence[RunGroup], policy: str, rival: str) -> Interval | None:
    """Return the mean difference of two policies over the pairs that both have, with its interval over seeds."""
    by_pair = [
        (members[policy], members[rival])
        for group in groups
        if all(run.tested for run in group.runs)
        for members in _by_budget(group).values()
        if policy in members and rival in members
    ]
    differences = [paired_differences(*pair) for pair in by_pair]
    seeds = set.intersection(*map(set, differences)) if differences else set()
    if len(seeds) < 2:
        return None
    means = [statistics.fmean(each[seed] for each in differences) for seed in sorted(seeds)]
    resolution = min(_resolution([*ours, *theirs]) for ours, theirs in by_pair)
    return mean_interval(means, CONFIDENCE, resolution / len(by_pair) ** 0.5)


def settings_data(groups: Sequence[RunGroup]) -> dict[str, Any]:
    """Return what `lure report --json` says over all settings: `names`, `cells` and `policies`."""
    return {
        "names": setting_names(groups),
        "cells": [asdict(cell) for cell in cells(groups)],
        "policies": [
            asdict(each) | {"within": {f"{limit:g}": share for limit, share in each.within.items()}}
            for each in standings(groups)
        ],
    }
