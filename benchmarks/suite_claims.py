"""What papers claim and the suite can test: each with the rule that decides it, in numbers from the ledgers alone.

A rule looks at one setting and says yes, no or undecided; where the runs are missing, or where the suite has nothing
that could tell, the claim is not tried. Intervals are of 90 %, by Student's t over seeds, of paired differences.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from suite_protocol import CHOSEN, name_of

from lure.metrics.statistics import Interval, mean_interval
from lure.report.comparison import RunGroup, paired_differences, totals
from lure.report.price import FEWEST_SEEDS, cost_percent, price_answers
from lure.report.regret_table import difference_text
from lure.report.verdict import CONFIDENCE, MARGIN
from lure.words import count, percent

NOT_TRIED = "not tried"
Judge = Callable[[RunGroup], tuple[str, str]]  # a setting -> the verdict and its evidence; "" where runs are missing


@dataclass(frozen=True)
class Rule:
    """What decides a claim, in words and in numbers; without a judge, the words say why the suite cannot tell."""

    text: str
    judge: Judge | None = None


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim of a paper, the setting that it is tested in, and by which rule."""

    paper: str
    text: str
    setting: str = ""
    rule: Rule

    def verdict(self, groups: Mapping[str, RunGroup]) -> tuple[str, str]:
        """Return yes, no, undecided or not tried, and the evidence in words."""
        if self.rule.judge is None or self.setting not in groups:
            return NOT_TRIED, ""
        return self.rule.judge(groups[self.setting])


def _paired(group: RunGroup, first: str, second: str, measure: str) -> tuple[Interval | None, int]:
    """Return the interval of the difference of two policies at budget 1, and over how many seeds."""
    runs, others = (group.policies.get(policy, []) for policy in (first, second))
    differences = list(paired_differences(runs, others, lambda run: totals(run)[measure]).values())
    if len(differences) < FEWEST_SEEDS:
        return None, len(differences)
    resolution = 1 / group.runs[0].stages[-1].test_examples
    return mean_interval(differences, CONFIDENCE, resolution), len(differences)


def _by_difference(
    first: str, second: str, decide: Callable[[Interval], str], measure: str = "final_accuracy"
) -> Judge:
    def judge(group: RunGroup) -> tuple[str, str]:
        found, seeds = _paired(group, first, second, measure)
        if found is None:
            return NOT_TRIED, ""
        return decide(found), f"{difference_text(found)}, {count(seeds, 'seed')}"

    return judge


def beats(first: str, second: str) -> Rule:
    """Return the rule that one policy is better than another: the interval is above zero; no: below."""
    return Rule(
        f"{first} minus {second} at budget 1: above 0",
        _by_difference(
            first, second, lambda found: "yes" if found.low > 0 else "no" if found.high < 0 else "undecided"
        ),
    )


def no_gap(first: str, second: str) -> Rule:
    """Return the rule that one policy is not better than another by more than a point; no: it is."""
    return Rule(
        f"{first} minus {second} at budget 1: at most {percent(MARGIN, 0)} point",
        _by_difference(
            first, second, lambda found: "yes" if found.high <= MARGIN else "no" if found.low > MARGIN else "undecided"
        ),
    )


def fewer_flips(first: str, second: str) -> Rule:
    """Return the rule that one policy turns fewer right answers into wrong ones, per stage, than another; no: more."""
    return Rule(
        f"negative flips a stage of {first} minus those of {second} at budget 1: below 0",
        _by_difference(
            first,
            second,
            lambda found: "yes" if found.high < 0 else "no" if found.low > 0 else "undecided",
            "negative_flip_rate",
        ),
    )


def some_price(share: float) -> Rule:
    """Return the rule that some policy but scratch has at most this price; no: these seeds leave none open."""

    def judge(group: RunGroup) -> tuple[str, str]:
        answers = [answer for answer in price_answers(group) if answer.policy != "scratch"]
        paid = [answer for answer in answers if answer.cost is not None]
        if not answers:
            return NOT_TRIED, ""
        if paid:
            least = min(paid, key=lambda answer: answer.cost or 0.0)
            if (least.cost or 0.0) <= share:
                return "yes", f"{least.policy}: {cost_percent(least.cost or 0.0)} %"
        is_open = any(answer.at_most or answer.answer == "not decided by these seeds" for answer in answers)
        return ("undecided" if is_open else "no"), f"of {count(len(answers), 'policy', 'policies')} none is shown to be"

    return Rule(f"the price of some policy but scratch: at most {percent(share, 0)} %", judge)


SHRINK, DASH, FIRE, DISTILL, L2_INIT = (
    name_of(CHOSEN[rival]) for rival in ("shrink-perturb", "dash", "fire", "distill", "l2-init")
)
ASH, LURE, SHIN, HAN = (
    "Ash and Adams 2020 (1910.08475)",
    "Ramkumar et al. 2023 (2303.10455)",
    "Shin et al. 2024 (2410.23495)",
    "Han et al. 2026 (2602.08040)",
)
ZAIDI = "Zaidi et al. 2022 (2206.10011)"
CLAIMS = (
    Claim(
        paper=ASH,
        text="without augmentation, scratch beats a warm start",
        setting="cifar10",
        rule=beats("scratch", "warm-start"),
    ),
    Claim(
        paper=ASH,
        text="shrink and perturb beats a warm start",
        setting="cifar10",
        rule=beats(SHRINK, "warm-start"),
    ),
    Claim(
        paper="replication, ReScience 2021; OpenReview 243zzBgRLm",
        text="augmentation removes the gap between scratch and warm start",
        setting="cifar10-augmented",
        rule=no_gap("scratch", "warm-start"),
    ),
    Claim(paper=SHIN, text="shrink and perturb beats scratch", setting="cifar10", rule=beats(SHRINK, "scratch")),
    Claim(paper=SHIN, text="DASH beats scratch", setting="cifar10", rule=beats(DASH, "scratch")),
    Claim(paper=SHIN, text="DASH beats a warm start", setting="cifar10", rule=beats(DASH, "warm-start")),
    Claim(paper=SHIN, text="DASH beats shrink and perturb", setting="cifar10", rule=beats(DASH, SHRINK)),
    Claim(
        paper=SHIN,
        text="L2-init does not help on stationary data",
        setting="cifar10",
        rule=no_gap(L2_INIT, "warm-start"),
    ),
    Claim(paper=HAN, text="FIRE beats a warm start", setting="cifar10", rule=beats(FIRE, "warm-start")),
    Claim(
        paper=HAN,
        text="FIRE beats a warm start in a vision transformer",
        setting="fashion-mnist-transformer",
        rule=beats(FIRE, "warm-start"),
    ),
    Claim(paper=HAN, text="FIRE beats shrink and perturb", setting="cifar10", rule=beats(FIRE, SHRINK)),
    *(
        Claim(
            paper=LURE,
            text=f"LURE ({words}) beats a warm start, {where}",
            setting=setting,
            rule=beats(policy, "warm-start"),
        )
        for where, setting in (("augmented", "cifar10-augmented"), ("plain", "cifar10"))
        for words, policy in (("default", "lure"), ("as released", "lure-as-released"))
    ),
    *(
        Claim(
            paper=LURE,
            text=f"LURE ({words}) beats a reset of random weights",
            setting="ablation-cifar10",
            rule=beats(policy, "random-reset"),
        )
        for words, policy in (("default", "lure"), ("as released", "lure-as-released"))
    ),
    Claim(
        paper=ZAIDI,
        text="under label noise re-initialisation pays: scratch",
        setting="fashion-mnist-noise",
        rule=beats("scratch", "warm-start"),
    ),
    Claim(
        paper=ZAIDI,
        text="under label noise re-initialisation pays: LURE",
        setting="fashion-mnist-noise",
        rule=beats("lure", "warm-start"),
    ),
    Claim(
        paper=ZAIDI,
        text="with clean labels and good regularisation it gives little or nothing",
        setting="fashion-mnist",
        rule=no_gap("scratch", "warm-start"),
    ),
    Claim(
        paper="2011.09161; 2406.04484",
        text="distillation from the version in use makes fewer right answers wrong",
        setting="fashion-mnist",
        rule=fewer_flips(DISTILL, "warm-start"),
    ),
    Claim(
        paper="2502.21147",
        text="the accuracy of scratch for half its compute or less",
        setting="cifar10-augmented",
        rule=some_price(0.5),
    ),
    Claim(
        paper="2411.18704",
        text="an average of the weights is robust to noisy labels",
        rule=Rule("every policy has the average here"),
    ),
    Claim(
        paper="2502.07274",
        text="a reset followed by averaging does better than a reset",
        rule=Rule("every policy has the average here"),
    ),
    Claim(
        paper="2109.00267",
        text="re-initialisation helps on small data, not on large",
        rule=Rule("all data here are small"),
    ),
    Claim(
        paper="2406.02596",
        text="Hare and Tortoise keeps a network able to learn",
        rule=Rule("an average whose decay is set for a stage of thousands of steps"),
    ),
    Claim(paper=HAN, text="Parseval regularisation is second to FIRE on VGG", rule=Rule("no VGG here")),
    Claim(paper=HAN, text="ReDo is level with a warm start", rule=Rule("it took part in the search only")),
    Claim(
        paper="2310.16226; 2403.08763; 2503.02844",
        text="re-warmed schedules and cool-downs make retraining of large models cheap",
        rule=Rule("all networks here are small"),
    ),
)
