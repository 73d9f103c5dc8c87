"""docs/suite.md, its picture and one HTML page, from the ledgers of the suite alone.

The document is written by hand, but for the blocks between `<!-- begin: NAME -->` and `<!-- end: NAME -->`: these are
made here, and a test compares them with the ledgers.
"""

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from suite_claims import CLAIMS
from suite_goals import OURS, AtEqualCost, at_equal_cost, mean_regrets
from suite_picture import Leads, plot_leads
from suite_protocol import ABLATED, ABLATIONS, BUDGETS, CHOOSING, CHOSEN, JUDGED, JUDGING, SEARCH, SEEDS, name_of

from lure.errors import InputError
from lure.metrics.statistics import Interval, mean_interval
from lure.recipe import shipped_recipes
from lure.report.comparison import RunGroup, group_runs, paired_differences
from lure.report.page import write_page
from lure.report.price import FEWEST_SEEDS, price_answers
from lure.report.records import RunRecord, read_runs
from lure.report.regret import Cell, Standing, cells, standings
from lure.report.regret_table import (
    REGRET_HEADINGS,
    accuracy_text,
    difference_text,
    regret_cells,
    regret_legend,
    within_cells,
    within_heading,
)
from lure.report.table import price_legend, price_text
from lure.report.verdict import CONFIDENCE, MARGIN
from lure.words import MISSING, percent, points

BLOCK = re.compile(r"(<!-- begin: (\S+) -->\n).*?(<!-- end: \2 -->)", re.DOTALL)
NO_RUNS = "No runs yet."
WARM = "warm-start"
TIE = 0.0005  # mean regrets this close to the lowest count as equal to it
BY_DATA = {
    "CIFAR-10": [setting for setting in JUDGING if setting.startswith("cifar10")],
    "Fashion-MNIST and MNIST": [setting for setting in JUDGING if not setting.startswith("cifar10")],
}
SHOWN = 5  # missing runs of a setting that are named


def write_document(out: Path, document: Path, page: Path) -> None:
    """Renew the blocks of the document; write its picture, beside it, and the page where there are judging runs.

    Raises:
        InputError: if a ledger is damaged, or the document has a block that is not known.
    """
    text = document.read_text(encoding="utf-8")
    document.write_text(renewed(text, out), encoding="utf-8")
    if runs := read(out, JUDGING):
        write_page(runs, page)
        groups = by_setting(runs)
        if policies := [policy for policy, _ in against_warm_start(groups)]:
            plot_leads(leads_by_data(groups, policies), policies, document.with_suffix(".png"))


def renewed(text: str, out: Path) -> str:
    """Return the text of the document with all blocks as the ledgers in `out` have them."""
    made = blocks(out)
    if unknown := {name for _, name, _ in BLOCK.findall(text)} - made.keys():
        raise InputError(f"the document has a block that nobody makes: {min(unknown)}")
    return BLOCK.sub(lambda found: f"{found[1]}\n{made[found[2]]}\n\n{found[3]}", text)


def read(out: Path, settings: Iterable[str], prefix: str = "") -> list[RunRecord]:
    """Return the runs of these settings, as far as there are any."""
    folders = [out / f"{prefix}{setting}" for setting in settings]
    return read_runs(folder for folder in folders if any(folder.rglob("ledger.jsonl")))


def by_setting(runs: Sequence[RunRecord]) -> dict[str, RunGroup]:
    """Return setting -> its runs, by the name of its folder.

    Raises:
        InputError: if runs in one folder cannot be compared.
    """
    found: dict[str, RunGroup] = {}
    for group in group_runs(runs) if runs else []:
        folder = group.runs[0].directory.parents[1]
        if folder.name in found:
            raise InputError(f"{folder} holds runs of two recipes or lengths: a setting has one")
        found[folder.name] = group
    return found


def blocks(out: Path) -> dict[str, str]:
    """Return block -> its text."""
    judged = by_setting(read(out, JUDGING))
    ablated = by_setting(read(out, ABLATED, "ablation-"))
    groups, names = list(judged.values()), list(judged)
    found, reached = standings(groups, names), cells(groups, names)
    return {
        "settings": settings_block(),
        "search": search_block(by_setting(read(out, CHOOSING))),
        "regret": regret_block(found),
        "profile": table(
            ["policy", *map(within_heading, found[0].within)],
            [[code(each.policy), *within_cells(each)] for each in found],
        )
        if found
        else NO_RUNS,
        "against-warm-start": against_block(judged),
        "price": price_block(judged, found),
        "each-setting": "\n\n".join(setting_block(name, reached, found) for name in names) or NO_RUNS,
        "auto": auto_block(judged),
        "claims": claims_block(judged | ablated),
        "failures": failures_block(judged, found, reached),
        "ablations": "\n\n".join(ablation_block(name, group) for name, group in ablated.items()) or NO_RUNS,
    }


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def code(text: str) -> str:
    """Return a name as code."""
    return f"`{text}`"


def settings_block() -> str:
    """List the settings, each with what its recipe says it is."""
    recipes = shipped_recipes()
    rows = []
    for name in (*JUDGING, *CHOOSING):
        role, _, what = recipes[f"suite/{name}"].splitlines()[0].lstrip("# ").partition(": ")
        rows.append([f"[{name}](../recipes/suite/{name}.toml)", role.split()[0].lower(), what])
    return table(["setting", "it is", "what it is"], rows)


def searched(groups: Mapping[str, RunGroup]) -> dict[str, dict[str, Standing]]:
    """Return rival -> setting of its search -> how it stands over the choosing settings, where it was run."""
    found = {each.policy: each for each in standings(list(groups.values()), list(groups))}
    return {
        rival: {text: found[name_of(text)] for text in texts if name_of(text) in found}
        for rival, texts in SEARCH.items()
    }


def best_of(tried: Mapping[str, Standing]) -> str | None:
    """Return the first setting within a twentieth of a point of the lowest mean regret, among those of the most pairs.

    What two seeds say beyond that is chance.
    """
    most = max((each.pairs for each in tried.values()), default=0)
    means = {text: each.mean for text, each in tried.items() if each.pairs == most}
    return next((text for text, mean in means.items() if mean <= min(means.values()) + TIE), None)


def search_block(groups: Mapping[str, RunGroup]) -> str:
    """List every setting of every search with its mean regret, and which was taken."""
    rows = []
    for rival, tried in searched(groups).items():
        best = best_of(tried)
        for text in SEARCH[rival]:
            each = tried.get(text)
            taken = "taken" if text == CHOSEN.get(rival) else ""
            if text == best and rival in CHOSEN and not taken:
                taken = "lowest"
            regret = f"{percent(each.mean, 2)} ({each.pairs})" if each else MISSING
            rows.append([rival, code(text), regret, percent(each.worst.regret) if each else MISSING, taken])
    return table(["rival", "setting", "mean regret (pairs)", "worst", ""], rows)


def search_text(out: Path) -> str:
    """Return the table of the searches, and what the protocol has chosen otherwise."""
    groups = by_setting(read(out, CHOOSING))
    lines = [search_block(groups)]
    for rival, tried in searched(groups).items():
        best = best_of(tried)
        if best and rival in CHOSEN and best != CHOSEN[rival]:
            lines.append(f"{rival}: the protocol has {name_of(CHOSEN[rival])}, and lowest is {name_of(best)}")
    return "\n".join(lines)


def regret_block(found: Sequence[Standing]) -> str:
    """Return the table of regrets, the worst case first."""
    if not found:
        return NO_RUNS
    rows = [[code(each.policy), *regret_cells(each)] for each in found]
    return f"{table(['policy', *REGRET_HEADINGS], rows)}\n\n{regret_legend(found)}"


def lead_over(
    groups: Mapping[str, RunGroup],
    settings: Sequence[str],
    policy: str,
    rival: str = WARM,
    budgets: Sequence[float] = BUDGETS,
) -> tuple[Interval, int] | None:
    """Return by how much a policy leads another over some budgets of some settings, and over how many seeds.

    The difference is taken seed by seed at equal budget and averaged over all pairs of setting and budget; the interval
    is over the seeds that have every pair. None with fewer than three.
    """
    differences = [
        _differences(groups[setting], policy, rival, budget)
        for setting in settings
        if setting in groups
        for budget in budgets
    ]
    seeds = set.intersection(*map(set, differences)) if differences else set()
    leads = {seed: statistics.fmean(each[seed] for each in differences) for seed in sorted(seeds)}
    found = _interval(leads)
    return (found, len(leads)) if found else None


def _differences(group: RunGroup, policy: str, rival: str, budget: float) -> dict[int, float]:
    """Return seed -> final accuracy of one policy minus that of another at a budget."""
    mine, theirs = (
        [run for run in group.runs if (run.policy, run.budget) == (name, budget)] for name in (policy, rival)
    )
    return paired_differences(mine, theirs)


def _interval(differences: Mapping[int, float]) -> Interval | None:
    """Return the 90 % interval of differences by seed; None with fewer than three."""
    return mean_interval(list(differences.values()), CONFIDENCE) if len(differences) >= FEWEST_SEEDS else None


def against_warm_start(groups: Mapping[str, RunGroup]) -> list[tuple[str, list[Interval]]]:
    """Return each policy with its differences from a warm start in all pairs of setting and budget, the best first."""
    found = []
    for policy in (name_of(text) for text in JUDGED):
        pairs = [_differences(group, policy, WARM, budget) for group in groups.values() for budget in BUDGETS]
        intervals = [each for each in map(_interval, pairs) if each]
        if policy != WARM and intervals:
            found.append((policy, intervals))
    return sorted(found, key=lambda each: -statistics.fmean(interval.mean for interval in each[1]))


def leads_by_data(groups: Mapping[str, RunGroup], policies: Iterable[str]) -> dict[str, Leads]:
    """Return kind of data -> policy -> budget -> lead over a warm start, averaged over the settings of that kind."""
    return {
        kind: {
            policy: {
                budget: lead[0] for budget in BUDGETS if (lead := lead_over(groups, settings, policy, budgets=[budget]))
            }
            for policy in policies
        }
        for kind, settings in BY_DATA.items()
    }


def against_block(groups: Mapping[str, RunGroup]) -> str:
    """Return how each policy compares with a warm start at equal budget, over all settings and by data."""
    parts = {"all settings": JUDGING, **BY_DATA}
    rows = []
    for policy, found in against_warm_start(groups):
        leads = [lead_over(groups, settings, policy) for settings in parts.values()]
        better, worse = sum(each.low > 0 for each in found), sum(each.high < 0 for each in found)
        texts = [f"{difference_text(lead[0])}, n={lead[1]}" if lead else MISSING for lead in leads]
        rows.append([code(policy), f"{better} of {len(found)}", f"{worse} of {len(found)}", *texts])
    return table(["policy", "better in", "worse in", *parts], rows) if rows else NO_RUNS


def price_block(groups: Mapping[str, RunGroup], found: Sequence[Standing]) -> str:
    """Return the price of each policy in each setting."""
    if not found:
        return NO_RUNS
    answers = {name: {answer.policy: answer for answer in price_answers(group)} for name, group in groups.items()}
    rows = [
        [
            code(each.policy),
            *(
                price_text(by_policy[each.policy]) if each.policy in by_policy else MISSING
                for by_policy in answers.values()
            ),
        ]
        for each in found
    ]
    legend = price_legend(answer for by_policy in answers.values() for answer in by_policy.values())
    return f"{table(['policy', *groups], rows)}\n\nShare of retraining's FLOPs of stages 2 and later{legend}."


def setting_block(name: str, reached: Sequence[Cell], found: Sequence[Standing]) -> str:
    """Return final accuracy and regret of each policy at each budget of one setting."""
    here = {(cell.policy, cell.budget): cell for cell in reached if cell.setting == name}
    budgets = sorted({budget for _, budget in here})
    rows = []
    for each in found:
        mine = [here.get((each.policy, budget)) for budget in budgets]
        if any(mine):
            rows.append([code(each.policy), *(_accuracy(cell) for cell in mine)])
    return f"### {name}\n\n{table(['policy', *(f'budget {budget:g}' for budget in budgets)], rows)}"


def _accuracy(cell: Cell | None) -> str:
    if cell is None:
        return MISSING
    return f"**{accuracy_text(cell)}**" if cell.regret == 0 else accuracy_text(cell)


def claims_block(groups: Mapping[str, RunGroup]) -> str:
    """Return the verdict on every claim, with its rule and evidence."""
    rows = []
    for claim in CLAIMS:
        verdict, evidence = claim.verdict(groups)
        rows.append(
            [claim.paper, claim.text, claim.setting or MISSING, claim.rule.text, f"**{verdict}**", evidence or MISSING]
        )
    return table(["paper", "claim", "setting", "rule", "reproduced", "evidence"], rows)


def failures_block(groups: Mapping[str, RunGroup], found: Sequence[Standing], reached: Sequence[Cell]) -> str:
    """List the runs that the protocol asks for and that are missing, and all that is shown to be worse."""
    lines = ["Runs that are missing:", ""]
    for name in JUDGING:
        there = {(run.policy, run.budget, run.seed) for run in groups[name].runs} if name in groups else set()
        asked = [
            (name_of(text), budget, seed) for text in dict.fromkeys(JUDGED) for budget in BUDGETS for seed in SEEDS
        ]
        missing = [
            f"{policy}, budget {budget:g}, seed {seed}"
            for policy, budget, seed in asked
            if (policy, budget, seed) not in there
        ]
        if missing:
            more = f"; and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
            which = "; ".join(missing[:SHOWN]) + more if there else "not run yet"
            lines.append(f"- {name}: {len(missing)} of {len(asked)}: {which}")
    if len(lines) == 2:
        lines = ["No run is missing."]
    rows = []
    for each in found:
        worse = [
            cell for cell in reached if cell.policy == each.policy and cell.is_worse and (cell.regret or 0) > MARGIN
        ]
        places = {cell.setting: [other for other in worse if other.setting == cell.setting] for cell in worse}
        text = "; ".join(
            f"{setting}: " + ", ".join(f"{points(-(cell.regret or 0))} at {cell.budget:g}" for cell in mine)
            for setting, mine in places.items()
        )
        rows.append([code(each.policy), f"{len(worse)} of {each.pairs}", text or MISSING])
    where = table(["policy", "in", "where, and by how many points at which budget"], rows) if rows else ""
    return "\n".join(lines) + (f"\n\n{where}" if where else "")


def auto_block(groups: Mapping[str, RunGroup]) -> str:
    """Return what our own policies were to reach, and how far they do."""
    compared = {
        policy: [each for name, group in groups.items() if (each := at_equal_cost(name, group, policy))]
        for policy in OURS
    }
    compared = {policy: found for policy, found in compared.items() if found}
    if not compared:
        return NO_RUNS
    goals = [
        ["(a) nowhere shown to be worse than the best fixed policy there", *map(_worse_text, compared.values())],
        ["(b) half the mean regret of the best fixed policy over all, or less", *map(_regret_text, compared.values())],
        ["(c) price at most 20 % in six settings of eight", *map(_cheap_text, compared.values())],
    ]
    blocks = [table(["goal", *map(code, compared)], goals)]
    for policy, found in compared.items():
        rows = [
            [
                each.setting,
                code(each.best),
                difference_text(each.lead),
                price_text(each.price) if each.price else MISSING,
            ]
            for each in found
        ]
        headings = ["setting", "best fixed policy there", f"{code(policy)} minus it, in points", "its price"]
        blocks.append(table(headings, rows))
    return "\n\n".join(blocks)


def _worse_text(found: Sequence[AtEqualCost]) -> str:
    return f"worse in {sum(each.is_worse for each in found)} of {len(found)}"


def _regret_text(found: Sequence[AtEqualCost]) -> str:
    overall = mean_regrets(found)
    ours = overall.pop(found[0].ours)
    rival = min(overall, key=overall.__getitem__, default=None)
    theirs = f"{code(rival)} {percent(overall[rival])}" if rival else "no fixed policy ran in each setting"
    return f"{percent(ours)} points, {theirs}"


def _cheap_text(found: Sequence[AtEqualCost]) -> str:
    return f"in {sum(each.is_cheap for each in found)} of {len(found)}"


def ablation_block(name: str, group: RunGroup) -> str:
    """Return what each part of LURE is worth in one setting: final accuracy, and its difference from LURE itself."""
    reached = {(cell.policy, cell.budget): cell for cell in cells([group])}
    budgets = sorted({budget for _, budget in reached})
    rows = []
    for text, what in ABLATIONS.items():
        policy = name_of(text)
        numbers = []
        for budget in budgets:
            away = None if policy == "lure" else _interval(_differences(group, policy, "lure", budget))
            numbers += [_accuracy(reached.get((policy, budget))), difference_text(away)]
        if any((policy, budget) in reached for budget in budgets):
            rows.append([code(policy), what, *numbers])
    headings = [heading for budget in budgets for heading in (f"budget {budget:g}", "minus lure")]
    return f"### {name}\n\n{table(['policy', 'what it is', *headings], rows)}"
