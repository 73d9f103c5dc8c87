"""One sentence on a comparison: the cheapest policy that is not worse than the best, if the seeds decide it.

How it is decided. The best policy is the one with the highest mean final accuracy over the seeds that all policies
have. The others are ordered by cost, and the walk starts at the cheapest. For each policy the final accuracy of the
best minus its own is taken seed by seed, and Student's t gives a 90 % interval of the mean difference (5 % on either
side):

- upper end at most one percentage point: the policy is *not worse*, and is named;
- else, lower end above zero: it is *worse*, and the walk goes on to the next, more expensive one;
- else the seeds do not decide, and the walk ends.

If the walk reaches the best itself, it is named. As the order does not depend on the accuracies and the walk ends at
the first open question, each test may use the whole 5 % (fixed-sequence testing). A margin is needed because no number
of seeds can show that two accuracies are equal. A spread below one test example is taken as one test example, so that
two seeds that happen to agree do not look like certainty. One seed decides nothing. The best is chosen from the same
seeds, which flatters it a little; with few seeds and policies that are close together, read the table instead.

Costs are FLOPs of training and unlearning together, and count as equal within 5 %; policies of equal cost are ordered
by accuracy, the best first: there is no reason to take the worse of two that cost the same. Seconds depend on what else
the machine did; they are taken only where no run counted its FLOPs.

Reference: Schuirmann, "A Comparison of the Two One-Sided Tests Procedure and the Power Approach for Assessing the
Equivalence of Average Bioavailability", Journal of Pharmacokinetics and Biopharmaceutics 15, 1987.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

from lure.metrics.statistics import Interval, mean_interval, spread
from lure.report.comparison import RunGroup, group_runs, paired_differences, paired_tests, totals
from lure.report.records import RunRecord
from lure.words import count, percent

MARGIN = 0.01  # a loss of one percentage point of accuracy is tolerated
CONFIDENCE = 0.9  # 5 % on either side
TIE = 0.05  # costs this close to one another count as equal
NONE_CHEAPER = f"none is more than {percent(TIE, 0)} % cheaper"


def verdict(runs: Iterable[RunRecord]) -> str:
    """Return one sentence that names the cheapest policy that is not worse than the best, or says why none is named.

    Runs of several recipes give one sentence for each recipe, each on a line that begins with what differs.

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


def named_policy(group: RunGroup) -> str | None:
    """Return the policy that the verdict on a group names as the cheapest; None where it names none."""
    return _judge(group)[1]


def _group_verdict(group: RunGroup) -> str:
    return _judge(group)[0]


def _judge(group: RunGroup) -> tuple[str, str | None]:
    """Return the sentence, and the policy that it names."""
    policies = list(group.policies)
    if not all(run.tested for run in group.runs):
        return "Without a test set there are no accuracies, so the policies cannot be compared.", None
    if len(policies) == 1:
        last = spread(run.final.accuracy for run in group.runs)
        mean = "" if len(group.runs) == 1 else f" (mean of {len(group.runs)} seeds)"
        return f"{policies[0]} ends at an accuracy of {percent(last.mean if last else None)} %{mean}.", None
    seeds = set.intersection(*({run.seed for run in runs} for runs in group.policies.values()))
    if not seeds:
        return "The policies have no seed in common, so they cannot be compared in pairs.", None
    paired = {policy: [run for run in runs if run.seed in seeds] for policy, runs in group.policies.items()}
    means = {policy: statistics.fmean(run.final.accuracy or 0.0 for run in runs) for policy, runs in paired.items()}
    measure = "flops" if any(totals(run)["flops"] for run in group.runs) else "seconds"
    if group.counts_examples:
        measure = "examples_seen"
    costs = {p: statistics.fmean(totals(run)[measure] or 0.0 for run in runs) for p, runs in paired.items()}
    best = max(policies, key=lambda policy: means[policy])
    by_accuracy = sorted(policies, key=lambda policy: -means[policy])
    ordered = order_by_cost(by_accuracy, costs.__getitem__)
    over = count(len(seeds), "seed")
    if len(seeds) == 1:
        ends = f"{best} has the best final accuracy ({percent(means[best])} %)"
        if ordered[0] == best:
            ends += f", and {NONE_CHEAPER}"
        else:
            least = "costs least" if costs[ordered[0]] == min(costs.values()) else "is among the cheapest"
            ends += f", {ordered[0]} {least} ({percent(means[ordered[0]])} %)"
        test = _example_by_example(paired, best, by_accuracy[1] if ordered[0] == best else ordered[0])
        ends += f"; {test}" if test else ""
        return f"One seed does not decide which policy to take: {ends}; compare at least three seeds.", None
    unit = {"flops": "FLOPs", "seconds": "seconds", "examples_seen": "examples"}[measure]
    shares = {policy: f"{percent(costs[policy] / (costs[best] or 1), 0)} % of its {unit}" for policy in policies}
    sentence, rival, decided = _walk(paired, means, ordered, over, shares)
    test = _example_by_example(paired, best, by_accuracy[1] if rival == best else rival)
    return f"{sentence} Seed by seed, {test}." if test else sentence, rival if decided else None


def _walk(
    paired: Mapping[str, Sequence[RunRecord]],
    means: Mapping[str, float],
    ordered: Sequence[str],
    over: str,
    shares: Mapping[str, str],
) -> tuple[str, str, bool]:
    """Walk from the cheapest policy to the best; return the sentence, where the walk ends, and whether it is named."""
    best = max(means, key=means.__getitem__)
    resolution = 1 / min(run.stages[-1].test_examples for runs in paired.values() for run in runs)
    if ordered[0] == best:
        following = max((policy for policy in means if policy != best), key=means.__getitem__)
        ahead = _difference(paired[best], paired[following], resolution)
        sentence = (
            f"{best} has the best final accuracy ({percent(means[best])} %, mean of {over}), and "
            f"{NONE_CHEAPER}; {following}, the next best, is {percent(ahead.mean)} points behind "
            f"(90 % interval {percent(ahead.low)} to {percent(ahead.high)})."
        )
        return sentence, best, True
    for policy in ordered:
        if policy == best:
            break
        interval = _difference(paired[best], paired[policy], resolution)
        points = (
            f"{percent(interval.mean)} points below {best} in final accuracy "
            f"(90 % interval {percent(interval.low)} to {percent(interval.high)}, {over}) at {shares[policy]}"
        )
        if interval.high <= MARGIN:
            return f"{policy} is the cheapest policy that is not worse than the best: {points}.", policy, True
        if interval.low <= 0:
            sentence = (
                "The seeds do not decide which policy is the cheapest that is not worse than the best: "
                f"{policy} is {points}."
            )
            return sentence, policy, False
    sentence = (
        f"{best} is the cheapest policy that is not worse than the best: it has the best final accuracy itself "
        f"({percent(means[best])} %, mean of {over}), and all that are more than {percent(TIE, 0)} % cheaper are worse."
    )
    return sentence, best, True


def _difference(best: Sequence[RunRecord], other: Sequence[RunRecord], resolution: float) -> Interval:
    return mean_interval(list(paired_differences(best, other).values()), CONFIDENCE, resolution)


def _example_by_example(runs: Mapping[str, Sequence[RunRecord]], policy: str, other: str) -> str:
    """Say how two policies differ on the test set, for each seed with which both were evaluated."""
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
