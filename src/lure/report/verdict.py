"""One sentence on a comparison: the cheapest policy that is not worse than the best, if the seeds decide it.

How it is decided. The best policy is the one with the highest mean final accuracy over the seeds that all policies
have. The others are ordered by cost, and the walk starts at the cheapest. For each policy the final accuracy of the
best minus its own is taken seed by seed, and Student's t gives a 90 % interval of the mean difference (5 % on either
side):

- upper end at most one percentage point: the policy is *not worse*, and is named;
- else, lower end above zero: it is *worse*, and the walk goes on to the next, dearer one;
- else the seeds do not decide, and the walk ends.

Reaching the best itself names it. As the order does not depend on the accuracies and the walk ends at the first
open question, each test may use the whole 5 % (fixed-sequence testing). A margin is needed because no number of seeds
can show that two accuracies are equal. A spread below one test example is taken as one test example, so that two
seeds that happen to agree do not pass for certainty. One seed decides nothing. The best is chosen from the same seeds,
which flatters it a little; with few seeds and policies that lie close together, read the table, not the sentence.

Costs are FLOPs of training and unlearning together, and count as equal within 5 %; policies of equal cost are ordered
by accuracy, the best first: nothing speaks for the worse of two that cost the same. Seconds depend on what else the
machine did; they are taken only where no run counted its FLOPs.

Reference: Schuirmann, "A Comparison of the Two One-Sided Tests Procedure and the Power Approach for Assessing the
Equivalence of Average Bioavailability", Journal of Pharmacokinetics and Biopharmaceutics 15, 1987.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from scipy import special

from lure.report.comparison import RunGroup, group_runs, paired_differences, paired_tests, totals
from lure.report.records import RunRecord

MARGIN = 0.01  # a loss of one percentage point of accuracy is tolerated
LEVEL = 0.95  # one-sided
TIE = 0.05  # costs this close to one another count as equal


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean difference and the 90 % interval around it."""

    mean: float
    low: float
    high: float


def difference_interval(differences: Sequence[float], resolution: float) -> Interval:
    """Return mean and 90 % interval of paired differences, by Student's t.

    Args:
        differences: one for each seed, at least two.
        resolution: the smallest spread that is believed, such as 1 / (number of test examples).

    Example:
        >>> interval = difference_interval([0.02, 0.03, 0.04], resolution=0.001)
        >>> round(interval.low, 4), round(interval.high, 4)  # 0.03 -+ 2.92 * 0.01 / sqrt(3)
        (0.0131, 0.0469)
    """
    count = len(differences)
    mean = statistics.fmean(differences)
    deviation = max(statistics.stdev(differences), resolution)
    half = float(special.stdtrit(count - 1, LEVEL)) * deviation / math.sqrt(count)
    return Interval(mean, mean - half, mean + half)


def verdict(runs: Iterable[RunRecord]) -> str:
    """Return one sentence that names the cheapest policy that is not worse than the best, or says why none is named.

    Runs of several recipes give one sentence for each recipe, on lines of their own that begin with what sets it apart.

    Raises:
        InputError: if there is no run, or two runs of one recipe and seed saw different data.
    """
    groups = group_runs(runs)
    return "\n".join((f"{group.label}: " if group.label else "") + _group_verdict(group) for group in groups)


def order_by_cost(policies: Iterable[str], cost: Callable[[str], float]) -> list[str]:
    """Order policies by rising cost; those within 5 % of the cheapest of them stay in the given order.

    Example:
        >>> order_by_cost("abc", {"a": 103.0, "b": 100.0, "c": 50.0}.__getitem__)
        ['c', 'a', 'b']
    """
    given, tiers = list(policies), list[list[str]]()
    for policy in sorted(given, key=cost):
        if tiers and cost(policy) <= (1 + TIE) * cost(tiers[-1][0]):
            tiers[-1].append(policy)
        else:
            tiers.append([policy])
    return [policy for tier in tiers for policy in sorted(tier, key=given.index)]


def _group_verdict(group: RunGroup) -> str:
    policies = list(group.policies)
    if len(policies) == 1:
        return f"There is only one policy, {policies[0]}, so there is nothing to compare."
    if not all(run.tested for run in group.runs):
        return "Without a test set there are no accuracies, so the policies cannot be compared."
    seeds = set.intersection(*({run.seed for run in runs} for runs in group.policies.values()))
    if not seeds:
        return "The policies have no seed in common, so they cannot be compared in pairs."
    paired = {policy: [run for run in runs if run.seed in seeds] for policy, runs in group.policies.items()}
    means = {policy: statistics.fmean(run.final["accuracy"] for run in runs) for policy, runs in paired.items()}
    measure = "flops" if any(totals(run)["flops"] for run in group.runs) else "seconds"
    costs = {p: statistics.fmean(totals(run)[measure] or 0.0 for run in runs) for p, runs in paired.items()}
    best = max(policies, key=lambda policy: means[policy])
    by_accuracy = sorted(policies, key=lambda policy: -means[policy])
    ordered = order_by_cost(by_accuracy, costs.__getitem__)
    over = f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}"
    if len(seeds) == 1:
        ends = f"{best} has the best final accuracy ({percent(means[best])})"
        if ordered[0] == best:
            ends += " and costs least"
        else:
            ends += f", {ordered[0]} costs least ({percent(means[ordered[0]])})"
        test = _example_by_example(paired, best, by_accuracy[1] if ordered[0] == best else ordered[0])
        ends += f"; {test}" if test else ""
        return f"One seed does not decide which policy to take: {ends}; compare at least three seeds."
    unit = {"flops": "FLOPs", "seconds": "seconds"}[measure]
    shares = {policy: f"{100 * costs[policy] / (costs[best] or 1):.0f} % of its {unit}" for policy in policies}
    sentence, rival = _walk(paired, means, ordered, over, shares)
    test = _example_by_example(paired, best, by_accuracy[1] if rival == best else rival)
    return f"{sentence} Seed by seed, {test}." if test else sentence


def _walk(
    paired: Mapping[str, Sequence[RunRecord]],
    means: Mapping[str, float],
    ordered: Sequence[str],
    over: str,
    shares: Mapping[str, str],
) -> tuple[str, str]:
    """Walk from the cheapest policy to the best; return the sentence, and the policy that it names or ends at."""
    best = max(means, key=means.__getitem__)
    resolution = 1 / min(run.stages[-1]["test_examples"] for runs in paired.values() for run in runs)
    if ordered[0] == best:
        following = max((policy for policy in means if policy != best), key=means.__getitem__)
        ahead = difference_interval(list(paired_differences(paired[best], paired[following]).values()), resolution)
        sentence = (
            f"{best} has the best final accuracy ({percent(means[best])}, mean of {over}), and no policy is cheaper; "
            f"{following}, the next best, is {100 * ahead.mean:.1f} points behind "
            f"(90 % interval {100 * ahead.low:.1f} to {100 * ahead.high:.1f})."
        )
        return sentence, best
    for policy in ordered:
        if policy == best:
            break
        differences = list(paired_differences(paired[best], paired[policy]).values())
        interval = difference_interval(differences, resolution)
        points = (
            f"{100 * interval.mean:.1f} points below {best} in final accuracy "
            f"(90 % interval {100 * interval.low:.1f} to {100 * interval.high:.1f}, {over}) at {shares[policy]}"
        )
        if interval.high <= MARGIN:
            return f"{policy} is the cheapest policy that is not worse than the best: {points}.", policy
        if interval.low <= 0:
            sentence = (
                "The seeds do not decide which policy is the cheapest that is not worse than the best: "
                f"{policy} is {points}."
            )
            return sentence, policy
    sentence = (
        f"{best} is the cheapest policy that is not worse than the best: it has the best final accuracy itself "
        f"({percent(means[best])}, mean of {over}), and all that cost less are worse."
    )
    return sentence, best


def _example_by_example(runs: Mapping[str, Sequence[RunRecord]], policy: str, other: str) -> str:
    """Say how two policies differ on the test set, on each seed that both were evaluated with."""
    tests = paired_tests([*runs[policy], *runs[other]])
    if not tests:
        return ""
    counts = _between([str(test["changed_side"]) for test in sorted(tests, key=lambda test: test["changed_side"])])
    p_values = _between([f"{test['p_value']:.2g}" for test in sorted(tests, key=lambda test: test["p_value"])])
    return (
        f"{counts} test examples are right under only one of {policy} and {other} (exact McNemar test, p = {p_values})"
    )


def _between(ordered: Sequence[str]) -> str:
    """Write the first and the last of these.

    Example:
        >>> _between(["0.1", "0.2", "0.4"]), _between(["0.1", "0.1"])
        ('0.1 to 0.4', '0.1')
    """
    return ordered[0] if ordered[0] == ordered[-1] else f"{ordered[0]} to {ordered[-1]}"


def percent(share: float) -> str:
    """Write a share as a percentage.

    Example:
        >>> percent(0.7312)
        '73.1 %'
    """
    return f"{100 * share:.1f} %"
