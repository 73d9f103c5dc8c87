"""The part of a page that compares policies: the answer, the prices and their picture, then everything else.

Policies are sorted by the answer: the cheapest first, or the most accurate where there is no price. The one that the
answer names has a star.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

from lure.metrics.statistics import Spread
from lure.report.comparison import MEASURES, RunGroup, setting_names
from lure.report.numbers import Data, group_data
from lure.report.page_details import detail_values, run_values
from lure.report.page_parts import Cell, Content, Figure, Table, figure, number_text, p_value_text, policy_cell
from lure.report.page_settings import settings_values
from lure.report.plots import MANY, draw_cost, draw_price, draw_stages
from lure.report.price import (
    UNITS,
    asks_for_price,
    cost_percent,
    one_budget_each,
    price_answers,
    prices,
    winner,
)
from lure.report.table import (
    COLUMNS,
    budget_label,
    format_spread,
    interval_text,
    not_worse_text,
    price_and_regret,
    price_legend,
    price_text,
)
from lure.words import MISSING, count, percent, points

WITHOUT_PRICE = ("not decided by these seeds", "dearer than retraining", "worse at every budget tried")  # in this order
# Words that the page explains, as docs/glossary.md does.
TERMS = {
    "retraining": "scratch at budget 1: training a new network on everything at each stage; what accuracy and cost are "
    "measured by",
    "budget": "share of the epochs that stages 2 and later get; the schedule is scaled with it",
    "price": "the least cost among a policy's budgets at which it is not worse than retraining, as a share of what "
    "retraining's stages 2 and later cost",
    "not worse": "the 90 % interval of the difference in final accuracy, seed by seed, begins at one point below "
    "retraining or above; with at least three seeds",
    "open": "the seeds decide neither that it is not worse nor that it is worse by more than a point",
    "regret": "how many points of final accuracy a policy, at its best budget, is behind the best of the setting",
    "regret at equal budget": "over several settings: how many points of final accuracy a policy is behind the best "
    "one at the same budget of the same setting",
    "negative flip": "an example that the version in use has right and the new one has wrong",
    "CER": "cumulative errors: how many test examples the versions got wrong, summed over all stages",
    "ECE": "expected calibration error: how far confidence and accuracy are apart, on average over the answers",
}


def comparison_values(groups: Sequence[RunGroup]) -> dict[str, Any]:
    """Return the values of `page_comparison.html.jinja`."""
    return {
        "overview": _overview(groups),
        "distinct": list(groups[0].distinct),
        "settings": _settings_table(groups),
        "settings_legend": price_legend(answer for group in groups for answer in price_answers(group)),
        "over_settings": settings_values(groups),
        "groups": [_group_values(group, name) for name, group in zip(setting_names(groups), groups, strict=True)],
    }


def _overview(groups: Sequence[RunGroup]) -> str:
    runs = [run for group in groups for run in group.runs]
    policies = count(len({run.policy for run in runs}), "policy", "policies")
    seeds = ", ".join(str(seed) for seed in sorted({run.seed for run in runs}))
    return f"{count(len(runs), 'run')}: {policies}, seeds {seeds}."


def _group_values(group: RunGroup, name: str) -> dict[str, Any]:
    data, several_policies = group_data(group), len(group.policies) > 1
    priced = asks_for_price([group])
    order, named = _order(group, priced), winner(group)
    shown = one_budget_each(group)
    several_budgets = len(shown.policies) < len(group.policies)
    details = group_data(shown) if several_budgets else data
    # Pictures keep the order of the table of colours, by which lines of one method are dashed; only tables are sorted.
    for each in (data, details):
        each["policies"] = {label: each["policies"][label] for label in order if label in each["policies"]}
    shown = dataclasses.replace(shown, policies={label: shown.policies[label] for label in details["policies"]})
    title = "What it costs to stay current" if priced else "Which policy" if several_policies else "What one policy did"
    second = f"At any cost: {data['verdict']}" if priced else data["price_sentence"] if several_policies else ""
    return {
        "title": name or title,
        "label": group.label or title,
        "summary": _summary(group),
        "answer": data["price_sentence" if priced else "verdict"],
        "second": second,
        "prices": _price_table(group, order, named) if several_policies else None,
        "price_legend": price_legend(price_answers(group)),
        "price_unit": UNITS[data["price_measure"]],
        "price_figure": _price_figure(group) if priced and data["price"] else None,
        "notes": data["left_out"] + data["notes"],
        "policies": _policy_table(group, data, named),
        "winner": named is not None,
        "from_scratch": any(item["difference_from_scratch"] for item in data["policies"].values()),
        "figures": _accuracy_figures(group, beside_cost=several_policies and not (priced and data["price"])),
        "several_budgets": several_budgets,
        "paired": _paired_table(details),
        "details": detail_values(shown, details),
        "run": run_values(group),
    }


def _order(group: RunGroup, priced: bool) -> list[str]:
    """Return the labels of the policies by rising price, then those without one; or by falling accuracy."""
    answers = {answer.policy: answer for answer in price_answers(group)} if priced else {}

    def place(label: str) -> tuple[float, ...]:
        runs = group.policies[label]
        if answer := answers.get(runs[0].policy):
            without = WITHOUT_PRICE.index(answer.answer) + 1 if answer.cost is None else 0
            return without, answer.cost or 0.0, answer.regret or 0.0
        return (-sum(run.final.accuracy or 0.0 for run in runs) / len(runs),)

    return sorted(group.policies, key=place)


def _summary(group: RunGroup) -> str:
    stages = count(len(group.runs[0].stages), "stage")
    words = [str(group.recipe[name]) for name in ("dataset", "model") if name in group.recipe]
    for name in ("epochs", "replay", "optimizer"):
        if name in group.recipe:
            words.append(f"{name} {group.recipe[name]}")
    return f"{stages}: {', '.join(words)}. The whole recipe stands at the end."


def _settings_table(groups: Sequence[RunGroup]) -> Table | None:
    """Set price and regret of each policy (rows) in each setting (columns) side by side, where there are several."""
    if len(groups) == 1 or not any(prices(group) for group in groups):
        return None
    answers = [{answer.policy: answer for answer in price_answers(group)} for group in groups]
    winners = [group.policies[won][0].policy if (won := winner(group)) else None for group in groups]
    names = dict.fromkeys(run.policy for group in groups for run in group.runs)
    rows: list[list[Content]] = []
    for name in names:
        texts = [price_and_regret(answer.get(name)) for answer in answers]
        cells = [Cell(f"★ {text}", "b") if name == won else text for text, won in zip(texts, winners, strict=True)]
        rows.append([policy_cell(name), *cells])
    return Table(["policy", *setting_names(groups)], rows)


def _price_table(group: RunGroup, order: Sequence[str], winner: str | None) -> Table | None:
    names = [group.policies[label][0].policy for label in order]
    answers = {answer.policy: answer for answer in price_answers(group)}
    rows: list[list[Content]] = []
    named = set()
    for row in sorted(prices(group), key=lambda row: names.index(row.policy)):
        answer = answers[row.policy]
        cells = f"{row.budget:g}", cost_percent(row.cost), points(row.mean), interval_text(row), not_worse_text(row)
        first: list[Content] = ["", ""]
        if row.policy not in named:
            won = winner is not None and group.policies[winner][0].policy == row.policy
            first = [policy_cell(row.policy, winner=won), Cell(price_text(answer), "b")]
        named.add(row.policy)
        paid = row.budget == answer.budget  # what the price is paid for stands out
        rows.append([*first, *(Cell(cell, "b") if paid else cell for cell in cells)])
    headings = ["policy", "price", "budget", "cost %", "points from retraining", "90 % interval", "not worse"]
    return Table(headings, rows) if rows else None


def _price_figure(group: RunGroup) -> Figure:
    return figure(
        partial(draw_price, group),
        "Final accuracy against cost as a share of retraining's",
        "Final accuracy against the cost of stages 2 and later, training and unlearning together; a line for each "
        "policy, over its budgets. In the shaded region a policy is cheaper than retraining (the ring) and at most one "
        "point below it. Marks are filled where the seeds show that it is not worse.",
    )


def _accuracy_figures(group: RunGroup, beside_cost: bool) -> list[Figure]:
    if not all(run.tested for run in group.runs):
        return []
    over_stages = figure(
        partial(draw_stages, group),
        "Test accuracy after each stage",
        "Accuracy on the test set after each stage" + _bars(one_budget_each(group)),
    )
    if not beside_cost:
        return [over_stages]
    return [
        over_stages,
        figure(
            partial(draw_cost, group),
            "Final accuracy against cost",
            "Final accuracy against the cost of all stages, training and unlearning together. The grey line is the "
            "Pareto front: nothing lies left of it and above it.",
        ),
    ]


def _bars(group: RunGroup) -> str:
    if len(group.runs) == len(group.policies):
        return "."
    return f": mean over seeds{', bars of one standard deviation' if len(group.policies) <= MANY else ''}."


def _policy_table(group: RunGroup, data: Data, winner: str | None) -> Table:
    rows: list[list[Content]] = []
    for policy, item in data["policies"].items():
        difference = item["difference_from_scratch"]
        away, p_value = MISSING, MISSING
        if difference:
            points = Spread(difference["mean_difference"], difference["standard_deviation"], difference["seeds"])
            away = format_spread(points, percent, sign=True)
            p_value = p_value_text(difference["p_value"])
        cells = [number_text(item["measures"][name], COLUMNS[name][1]) for name in MEASURES]
        first = policy_cell(policy, budget_label(group, policy), winner=policy == winner)
        rows.append([first, str(len(item["seeds"])), *cells, away, p_value])
    headings = ["policy", "seeds", *(COLUMNS[name][0].replace("\n", " ") for name in MEASURES)]
    return Table([*headings, "points from scratch", "p"], rows)


def _paired_table(data: Data) -> Table | None:
    """Set each policy against the most accurate one; all pairs are among the numbers."""
    accuracies = {policy: item["measures"]["final_accuracy"] for policy, item in data["policies"].items()}
    best = max(accuracies, key=lambda policy: accuracies[policy]["mean"] if accuracies[policy] else -1.0)
    tests = [test for test in data["paired_tests"] if best in (test["first"], test["second"])]
    if not tests:
        return None
    counts = ("seed", "only_first_right", "only_second_right", "changed_side")
    rows: list[list[Content]] = [
        [
            (policy_cell(test["first"]), policy_cell(test["second"])),
            *(str(test[name]) for name in counts),
            p_value_text(test["p_value"]),
        ]
        for test in tests
    ]
    headings = ["policies", "seed", "only the first right", "only the second right", "changed side", "p"]
    return Table(headings, rows)
