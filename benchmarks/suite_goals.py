"""What our own policies were to reach, and whether they do: compared at equal total cost, probes included.

A fixed policy's accuracy at the cost of `auto` is read off the line between its two nearest budgets, over the logarithm
of the cost, seed by seed; past its dearest budget it is that of the dearest. So whatever `auto` spends on choosing, the
others may spend on training. A budget counts where at least three seeds have it; seeds that lack one are left out.
"""

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lure.metrics.statistics import Interval, mean_interval
from lure.report.comparison import RunGroup
from lure.report.price import FEWEST_SEEDS, PriceAnswer, later_cost, price_answers
from lure.report.records import RunRecord
from lure.report.regret import is_low_price
from lure.report.verdict import CONFIDENCE

OURS = ("auto", "auto-l2-init")
"""The first is `auto` as it ships; all others of the suite are the fixed policies that these are compared with."""

Curve = dict[int, dict[float, tuple[float, float]]]
"""Seed -> budget -> log of the cost of stages 2 and later, final accuracy."""


@dataclass(frozen=True)
class AtEqualCost:
    """How one of our policies compares with the fixed ones in one setting, at what it costs.

    Attributes:
        setting: its name.
        ours: the policy.
        regrets: policy -> one regret for each budget of ours, as shares of 1.
        best: the fixed policy with the highest mean over these budgets.
        lead: of ours before it, averaged over the budgets, over the seeds.
        price: of ours; None without retraining to measure it by.
    """

    setting: str
    ours: str
    regrets: Mapping[str, Sequence[float]]
    best: str
    lead: Interval
    price: PriceAnswer | None

    @property
    def is_worse(self) -> bool:
        """Whether the seeds show that ours is worse than the best fixed policy."""
        return self.lead.high < 0

    @property
    def is_cheap(self) -> bool:
        """Whether its price is at most a fifth of retraining's cost."""
        return self.price is not None and is_low_price(self.price.cost)


def at_equal_cost(setting: str, group: RunGroup, policy: str = OURS[0]) -> AtEqualCost | None:
    """Compare a setting's fixed policies with one of ours, at what ours costs; None where either has too few seeds."""
    curves: dict[str, Curve] = {}
    for run in group.runs:
        curves.setdefault(run.policy, {}).setdefault(run.seed, {})[run.budget] = _point(run)
    curves = {name: _where_enough_seeds(curve) for name, curve in curves.items()}
    ours = curves.get(policy, {})
    if not ours:
        return None
    # A policy that was run at one or two budgets says too little about what lies between.
    enough = min(3, len(_budgets(ours)))
    others = {name: curve for name, curve in curves.items() if name not in OURS and len(_budgets(curve)) >= enough}
    # A budget that some policy was never run at would be compared with what it reached at a smaller one.
    dearest = min((max(_budgets(curve)) for curve in others.values()), default=0.0)
    budgets = sorted(budget for budget in _budgets(ours) if budget <= dearest)
    # A seed that is half done would put a curve through fewer points.
    seeds = [
        seed
        for seed, points in sorted(ours.items())
        if points.keys() >= set(budgets)
        and all(curve.get(seed, {}).keys() == _budgets(curve) for curve in others.values())
    ]
    if not budgets or len(seeds) < FEWEST_SEEDS:
        return None
    reached = {
        name: {
            seed: [_read(sorted(curve[seed].values()), ours[seed][budget][0]) for budget in budgets] for seed in seeds
        }
        for name, curve in (others | {policy: ours}).items()
    }
    means = {
        name: [statistics.fmean(values) for values in zip(*by_seed.values(), strict=True)]
        for name, by_seed in reached.items()
    }
    highest = [max(values) for values in zip(*means.values(), strict=True)]
    best = max(others, key=lambda name: statistics.fmean(means[name]))
    leads = [statistics.fmean(reached[policy][seed]) - statistics.fmean(reached[best][seed]) for seed in seeds]
    answer = next((each for each in price_answers(group) if each.policy == policy), None)
    return AtEqualCost(
        setting=setting,
        ours=policy,
        regrets={name: [top - mean for top, mean in zip(highest, means[name], strict=True)] for name in means},
        best=best,
        lead=mean_interval(leads, CONFIDENCE),
        price=answer,
    )


def mean_regrets(found: Sequence[AtEqualCost]) -> dict[str, float]:
    """Return policy -> its mean regret over all settings and costs, for those that were run in each setting."""
    policies = set.intersection(*(set(each.regrets) for each in found))
    return {p: statistics.fmean(regret for each in found for regret in each.regrets[p]) for p in policies}


def _where_enough_seeds(curve: Curve) -> Curve:
    """Return the curve without the budgets that too few seeds were run at, and without seeds that have no other."""
    times = Counter(budget for points in curve.values() for budget in points)
    kept = {
        seed: {budget: point for budget, point in points.items() if times[budget] >= FEWEST_SEEDS}
        for seed, points in curve.items()
    }
    return {seed: points for seed, points in kept.items() if points}


def _budgets(curve: Curve) -> set[float]:
    """Return every budget that some seed was run at."""
    return {budget for points in curve.values() for budget in points}


def _point(run: RunRecord) -> tuple[float, float]:
    return math.log(later_cost(run, "flops")), run.final.accuracy or 0.0


def _read(curve: Sequence[tuple[float, float]], cost: float) -> float:
    """Return the accuracy at a cost, on the line between the nearest points."""
    for (low, before), (high, after) in itertools.pairwise(curve):
        if low <= cost <= high:
            return before + (after - before) * (cost - low) / (high - low)
    return curve[0][1] if cost < curve[0][0] else curve[-1][1]
