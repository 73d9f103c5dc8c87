"""The price of a policy: the least share of retraining's cost at which it is not worse than retraining.

**Retraining** is scratch at budget 1: the runs whose unlearner is `scratch`, by whatever name, with all epochs, and
with no other field changed by a policy. It is the reference for accuracy and for cost. Where several policies are that,
the first counts, which is the one that is called `scratch`, if any is.

**Cost** is what the stages from the second on took, training and unlearning together, over the same of retraining: the
first stage is the same for all that differ in the unlearner or the budget alone. (A policy that sets more, such as a
regularizer, may gain in the first stage already, at no cost that counts here.) It is taken in FLOPs, or in seconds if
any run did not count its FLOPs; a loop of the user's own (`lure.compare_in_loop`) may count examples instead.

**How one budget of one policy is judged.** Its final accuracy minus that of retraining is taken seed by seed, over the
seeds that both have, and Student's t gives the 90 % interval of the mean difference (5 % on either side):

- lower end at -1 point or above: *not worse*;
- upper end below -1 point: *worse*;
- else, or with fewer than three common seeds: *open*.

A margin is needed because no number of seeds can show that two accuracies are equal. A spread below one test example is
taken as one test example.

**The answer for a policy** is one of these, and the first that applies is given:

- a *price*, the least cost among its budgets that are not worse, if that is at most the cost of retraining, rounded to
  whole percent. It is marked "at most" where a cheaper budget is open: the seeds show that this much suffices, not that
  it takes as much;
- *not decided by these seeds*: a budget is open that costs no more than retraining, or nothing is shown to be not worse
  and some budget is open;
- *dearer than retraining*: it is not worse only at more than retraining's cost; or it is worse at every budget, the
  full one and a cheaper one among them;
- *worse at every budget tried*: the same, but these were not tried, so what would suffice is unknown.

**How far to trust it.** Each budget is tested at 5 %, not in a fixed sequence from the dearest down: accuracy need not
rise with the budget (with noisy labels a warm start at a tenth of the epochs can be far better than at all of them), so
such a sequence would stop before the budget that matters. The price of a policy with k budgets is therefore wrong, in
that the budget is truly worse by more than the margin, with a probability of at most k times 5 %; for the cheapest of
all policies k is the number of all tests. With many of them, run the named policy and retraining once more with fresh
seeds: that is one test at 5 %.

**Regret** of a policy in a setting: the highest mean final accuracy of any policy at any budget, minus its own highest,
over the seeds that all have.

Reference: Schuirmann, "A Comparison of the Two One-Sided Tests Procedure and the Power Approach for Assessing the
Equivalence of Average Bioavailability", Journal of Pharmacokinetics and Biopharmaceutics 15, 1987.
"""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lure.metrics.statistics import Interval, mean_interval
from lure.recipe import shared_recipe
from lure.report.comparison import RunGroup, group_runs, paired_differences, setting_names, stage_cost
from lure.report.records import RunRecord
from lure.report.verdict import CONFIDENCE, MARGIN, TIE, named_policy
from lure.settings import split_choice
from lure.words import count, percent, points

FEWEST_SEEDS = 3
ROUNDING = 1e-9  # costs are quotients of means
AFFORDABLE = 1.005  # a cost below this is written as 100 % or less
SMALLER_BUDGETS = "--budgets 0.1,0.3,1"

Measure = Literal["flops", "examples_seen", "seconds"]
UNITS: dict[Measure, str] = {"flops": "FLOPs", "seconds": "seconds", "examples_seen": "examples"}

Answer = Literal["price", "dearer than retraining", "not decided by these seeds", "worse at every budget tried"]


@dataclass(frozen=True, slots=True)
class Price:
    """One budget of one policy beside retraining.

    Attributes:
        policy: its name, without the budget.
        budget: share of the epochs that stages 2 and later got, in (0, 1].
        cost: what these stages took, as a share of what they took retraining; above 1 is dearer.
        mean: final accuracy minus that of retraining, a share in [-1, 1]; None without a common seed.
        low: lower end of the 90 % interval of `mean`; None with fewer than two common seeds.
        high: its upper end.
        not_worse: whether the seeds show that it is not worse; False where that is open, too.
        seeds: how many seeds it has in common with retraining.
        is_retraining: whether this is retraining itself.
    """

    policy: str
    budget: float
    cost: float
    mean: float | None
    low: float | None
    high: float | None
    not_worse: bool
    seeds: int
    is_retraining: bool = False

    @property
    def worse(self) -> bool:
        """Whether the seeds show that it is worse by more than the margin."""
        return self.seeds >= FEWEST_SEEDS and self.high is not None and self.high < -MARGIN

    @property
    def is_open(self) -> bool:
        """Whether the seeds show neither."""
        return not (self.not_worse or self.worse)

    @property
    def is_cheaper(self) -> bool:
        """Whether it costs less than retraining by more than 5 %, within which costs count as equal."""
        return not self.is_retraining and self.cost < 1 - TIE

    @property
    def name(self) -> str:
        """The policy and its budget, for a sentence."""
        return f"{self.policy} at budget {self.budget:g}"

    def as_dict(self) -> dict[str, Any]:
        """Return what `lure report --json` lists."""
        keys = ("policy", "budget", "cost", "mean", "low", "high", "not_worse")
        return {key: getattr(self, key) for key in keys}


@dataclass(frozen=True, slots=True)
class PriceAnswer:
    """What the seeds say about a policy over all its budgets.

    Attributes:
        policy: its name.
        answer: one of the four of the module's text.
        budget: with a price, the budget that it is paid at; else None.
        cost: the price, a share of retraining's cost; else None.
        at_most: whether a cheaper budget is open.
        regret: points of final accuracy, as a share, behind the best of the setting; None without a common seed.
    """

    policy: str
    answer: Answer
    budget: float | None
    cost: float | None
    at_most: bool
    regret: float | None

    @property
    def text(self) -> str:
        """The answer in words: "10 %", "at most 30 %", "dearer than retraining"."""
        if self.cost is None:
            return self.answer
        return f"{'at most ' if self.at_most else ''}{cost_percent(self.cost)} %"

    def as_dict(self) -> dict[str, Any]:
        """Return what `lure report --json` lists."""
        return {key: getattr(self, key) for key in ("policy", "answer", "budget", "cost", "at_most", "regret")}


def cost_percent(cost: float) -> str:
    """Write a cost, a share, as percent without the sign: in whole ones, but for small costs.

    Example:
        >>> cost_percent(1.014), cost_percent(0.0316), cost_percent(0.0016)
        ('101', '3.2', '0.16')
    """
    return percent(cost, 0 if cost >= 0.0995 else 1 if cost >= 0.00995 else 2)


def retraining(group: RunGroup) -> list[RunRecord]:
    """Return the runs of retraining, by rising seed; [] if the comparison has none."""
    return next((runs for runs in group.policies.values() if _retrains(runs[0])), [])


def _retrains(run: RunRecord) -> bool:
    departs = shared_recipe(run.recipe) != shared_recipe({**run.recipe, "departs_from": []})
    return split_choice(run.stages[-1].unlearner)[0] == "scratch" and run.budget == 1 and not departs


def cost_measure(group: RunGroup) -> Measure:
    """Return what costs are taken in: FLOPs if every run counted them, else seconds; or examples."""
    if group.counts_examples:
        return "examples_seen"
    return "flops" if all(later_cost(run, "flops") for run in group.runs) else "seconds"


def later_cost(run: RunRecord, measure: str) -> float:
    """Return what stages 2 and later of a run cost in "flops", "seconds" or "examples_seen"."""
    return math.fsum(stage_cost(stage, measure) for stage in run.stages[1:])


def prices(group: RunGroup) -> list[Price]:
    """Set each policy at each of its budgets against retraining.

    Args:
        group: runs that may be compared.

    Returns:
        one row for each policy and budget, retraining's own among them, sorted by policy, then budget. Empty where
        there is no price: without retraining, a test set, or a second stage.
    """
    reference = retraining(group)
    if _obstacle(group):
        return []
    measure = cost_measure(group)
    return [_price(runs, reference, measure) for runs in group.policies.values()]


def _price(runs: Sequence[RunRecord], reference: Sequence[RunRecord], measure: str) -> Price:
    run = runs[0]
    differences = paired_differences(runs, reference)
    costs = [
        statistics.fmean(later_cost(run, measure) for run in side if run.seed in differences or not differences)
        for side in (runs, reference)
    ]
    interval = None
    if runs[0] is reference[0]:
        interval = Interval(0.0, 0.0, 0.0)
    elif len(differences) > 1:
        resolution = 1 / min(run.stages[-1].test_examples for run in (*runs, *reference))
        interval = mean_interval(list(differences.values()), CONFIDENCE, resolution)
    enough = len(differences) >= FEWEST_SEEDS or runs[0] is reference[0]
    return Price(
        policy=run.policy,
        budget=run.budget,
        cost=costs[0] / costs[1],
        mean=statistics.fmean(differences.values()) if differences else None,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        not_worse=enough and interval is not None and interval.low >= -MARGIN,
        seeds=len(differences),
        is_retraining=runs[0] is reference[0],
    )


def price_answers(group: RunGroup) -> list[PriceAnswer]:
    """Return the answer for each policy, in the order of the group; [] where there is no price.

    Args:
        group: runs that may be compared.
    """
    by_policy: dict[str, list[Price]] = {}
    for row in prices(group):
        by_policy.setdefault(row.policy, []).append(row)
    best = _best_means(group)
    highest = max(best.values(), default=0.0)
    return [_answer(rows, highest - best[policy] if policy in best else None) for policy, rows in by_policy.items()]


def _answer(rows: Sequence[Price], regret: float | None) -> PriceAnswer:
    policy, affordable = rows[0].policy, [row for row in rows if row.cost < AFFORDABLE]
    shown = [row for row in affordable if row.not_worse]
    if shown:
        least = min(shown, key=lambda row: row.cost)
        at_most = any(row.is_open and row.cost < least.cost - ROUNDING for row in rows)
        return PriceAnswer(policy, "price", least.budget, least.cost, at_most, regret)
    answer: Answer
    dearer = any(row.not_worse for row in rows)
    if any(row.is_open for row in (affordable if dearer else rows)):
        answer = "not decided by these seeds"
    elif dearer or (any(row.budget == 1 for row in rows) and any(row.is_cheaper for row in rows)):
        answer = "dearer than retraining"
    else:
        answer = "worse at every budget tried"
    return PriceAnswer(policy, answer, None, None, False, regret)


def _best_means(group: RunGroup) -> dict[str, float]:
    """Return policy -> the highest of the mean final accuracies at its budgets; {} without a common seed."""
    seeds = set.intersection(*({run.seed for run in runs} for runs in group.policies.values()))
    best: dict[str, float] = {}
    for runs in group.policies.values():
        known = [run.final.accuracy for run in runs if run.seed in seeds and run.final.accuracy is not None]
        if known:
            best[runs[0].policy] = max(statistics.fmean(known), best.get(runs[0].policy, 0.0))
    return best


def one_budget_each(group: RunGroup) -> RunGroup:
    """Return the group with one budget of each policy: that of its price; where it has none, its largest."""
    paid = {answer.policy: answer.budget for answer in price_answers(group)}
    largest = {run.policy: run.budget for run in group.runs}  # runs are sorted by budget
    kept = {
        label: runs
        for label, runs in group.policies.items()
        if runs[0].budget == (paid.get(runs[0].policy) or largest[runs[0].policy])
    }
    return dataclasses.replace(group, policies=kept)


def _obstacle(group: RunGroup) -> str:
    """Return one sentence on why there is no price; empty where there is one."""
    if not all(run.tested for run in group.runs):
        return "Without a test set there are no accuracies, so there is no price."
    reference = retraining(group)
    if not reference:
        tried = sorted({*_budgets(group), 1.0})
        asked = f"--budgets {','.join(f'{budget:g}' for budget in tried)}" if len(tried) > 1 else SMALLER_BUDGETS
        return (
            "There is no price without retraining to measure it by: add scratch at budget 1 "
            f"(--unlearners scratch,... {asked})."
        )
    if len(reference[0].stages) == 1 or not later_cost(reference[0], cost_measure(group)):
        return "There is no price yet: retraining has no second stage whose cost is known."
    return ""


def _budgets(group: RunGroup) -> set[float]:
    return {run.budget for run in group.runs}


def asks_for_price(groups: Iterable[RunGroup]) -> bool:
    """Tell whether a report ends in the price: some comparison has several budgets, or something that costs less."""
    return any(len(_budgets(group)) > 1 or any(row.is_cheaper for row in prices(group)) for group in groups)


def price_sentence(runs: Iterable[RunRecord]) -> str:
    """Return one sentence that names the cheapest policy that is not worse than retraining, or says why none is named.

    Of several that cost the same within 5 %, the one with the best mean is named. Runs of several recipes give one
    sentence for each recipe, each on a line that begins with what differs.

    Args:
        runs: what `read_runs` returns.

    Raises:
        InputError: if there is no run, or two runs of one recipe and seed saw different data.
    """
    groups = group_runs(runs)
    named = zip(setting_names(groups), groups, strict=True)
    return "\n".join((f"{name}: " if name else "") + _group_sentence(group) for name, group in named)


def _group_sentence(group: RunGroup) -> str:
    if obstacle := _obstacle(group):
        return obstacle
    unit = UNITS[cost_measure(group)]
    cheaper = [row for row in prices(group) if row.is_cheaper]
    if not cheaper:
        return f"Nothing was tried that is cheaper than retraining: add smaller budgets ({SMALLER_BUDGETS})."
    if max(row.seeds for row in cheaper) < FEWEST_SEEDS:
        return (
            f"The price is not decided by these seeds: it takes at least {FEWEST_SEEDS} that a policy has in common "
            "with retraining (--seeds 0,1,2)."
        )
    still_open = [row for row in cheaper if row.is_open]
    if named := _cheapest(cheaper):
        least = min(row.cost for row in cheaper if row.not_worse)
        sentence = (
            f"{named.name} is {'' if named.cost == least else 'within 5 % '}the cheapest that is not worse than "
            f"retraining: its price is {cost_percent(named.cost)} % of retraining's {unit}, for {_beside(named)}"
        )
        others = sum(row.cost * (1 + TIE) < named.cost for row in still_open)
        return sentence + (
            f"; {count(others, 'cheaper try is', 'cheaper tries are')} not decided by these seeds." if others else "."
        )
    if still_open:
        nearest = max(still_open, key=lambda row: -math.inf if row.mean is None else row.mean)
        return (
            "These seeds do not decide whether anything cheaper is as good as retraining: the nearest is "
            f"{nearest.name}, for {_beside(nearest)}, at {cost_percent(nearest.cost)} % of retraining's {unit}."
        )
    nearest = max(cheaper, key=lambda row: row.mean or 0.0)
    return (
        f"Retraining stays the cheapest: {count(len(cheaper), 'cheaper try is', 'cheaper tries are')} worse by more "
        f"than {percent(MARGIN, 0)} point, the nearest being {nearest.name}, for {_beside(nearest)}, at "
        f"{cost_percent(nearest.cost)} % of retraining's {unit}."
    )


def _cheapest(rows: Iterable[Price]) -> Price | None:
    """Return the cheapest that is not worse; of several that cost the same within 5 %, the one with the best mean."""
    shown = [row for row in rows if row.not_worse]
    least = min((row.cost for row in shown), default=0.0)
    return max((row for row in shown if row.cost <= (1 + TIE) * least), key=lambda row: row.mean or 0.0, default=None)


def winner(group: RunGroup) -> str | None:
    """Return which of `group.policies` the answer names, a price sentence or a verdict; None where it names none.

    Args:
        group: runs that may be compared.
    """
    if not asks_for_price([group]):
        return named_policy(group)
    by_label = dict(zip(group.policies, prices(group), strict=False))  # no prices at all, or one for each
    cheaper = [row for row in by_label.values() if row.is_cheaper]
    named = _cheapest(cheaper)
    if cheaper and all(row.worse for row in cheaper):
        named = next(row for row in by_label.values() if row.is_retraining)
    return next((label for label, row in by_label.items() if row is named), None)


def _beside(row: Price) -> str:
    if row.mean is None or row.low is None or row.high is None:
        return "a difference in final accuracy that is not known"
    return (
        f"{points(row.mean)} points of final accuracy (90 % interval {points(row.low)} to {points(row.high)}, "
        f"{count(row.seeds, 'seed')})"
    )
