"""One self-contained HTML page on a set of runs: no network, no script, readable on a phone and on paper.

The values are gathered here; `page.html.jinja` lays them out, and escapes every one of them. The
numbers are those of `page_data`. What was not measured has no section.
"""

import base64
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jinja2
from matplotlib.axes import Axes

from lure.errors import InputError
from lure.metrics.statistics import Spread
from lure.report.colours import colour
from lure.report.comparison import MEASURES, RunGroup, group_runs, setting_names
from lure.report.numbers import Data, group_data
from lure.report.plots import MANY, Points, draw_cost, draw_curve, draw_price, draw_reliability, draw_stages, paint
from lure.report.price import UNITS, asks_for_price, cost_percent, one_budget_each, price_answers, prices
from lure.report.records import RunRecord
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

FIGURE = (5.6, 3.7)  # in inches; narrow, so that letters stay readable on a phone
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
}
NAMES = {"linf": "L-infinity", "l2": "L2", "pgd": "PGD", "fgsm": "FGSM"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table that is more than its text.

    Attributes:
        text: what it says.
        kind: "policy" has a dot in the policy's colour before it, "bar" is shaded up to `width`; "b" and "code" are the
            tags of the same names.
        colour: as #RRGGBB.
        width: of the bar, a share of the cell in percent ("31.0%").
    """

    text: str
    kind: Literal["policy", "bar", "b", "code"]
    colour: str = ""
    width: str = ""


Content = str | Cell | tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Headings, and rows with as many cells."""

    headings: Sequence[Content]
    rows: Sequence[Sequence[Content]]


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture: its name for those who cannot see it, the text below it, and the SVG in base64."""

    name: str
    caption: str
    svg: str


def write_page(runs: Iterable[RunRecord], file: Path | str) -> None:
    """Write the report on some runs as one HTML file.

    Args:
        runs: what `read_runs` returns.
        file: where to write.

    Raises:
        InputError: if there is no run, two runs of one recipe and seed saw different data, or the file cannot be
            written.
    """
    groups = group_runs(runs)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lure.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    text = environment.get_template("page.html.jinja").render(
        overview=_overview(groups),
        distinct=list(groups[0].distinct),
        settings=_settings_table(groups),
        settings_legend=price_legend(answer for group in groups for answer in price_answers(group)),
        groups=[_group_values(group) for group in groups],
        terms=TERMS,
    )
    try:
        Path(file).write_text(text, encoding="utf-8", errors="backslashreplace")  # a folder's name may be no text
    except OSError as error:
        raise InputError(f"cannot write the page {file}: {error.strerror}") from None


def _overview(groups: Sequence[RunGroup]) -> str:
    runs = [run for group in groups for run in group.runs]
    policies = count(len({run.policy for run in runs}), "policy", "policies")
    seeds = ", ".join(str(seed) for seed in sorted({run.seed for run in runs}))
    return f"{count(len(runs), 'run')}: {policies}, seeds {seeds}."


def _group_values(group: RunGroup) -> dict[str, Any]:
    data, priced = group_data(group), asks_for_price([group])
    shown = one_budget_each(group)
    several = len(shown.policies) < len(group.policies)
    details = group_data(shown) if several else data
    return {
        "title": group.label or ("What it costs to stay current" if priced else "Which policy"),
        "summary": _summary(group),
        "answer": data["price_sentence" if priced else "verdict"],
        "second": f"At any cost: {data['verdict']}" if priced else data["price_sentence"],
        "prices": _price_table(group),
        "price_legend": price_legend(price_answers(group)),
        "price_unit": UNITS[data["price_measure"]],
        "price_figure": _price_figure(group) if priced and data["price"] else None,
        "notes": data["left_out"] + data["notes"],
        "policies": _policy_table(group, data),
        "from_scratch": any(item["difference_from_scratch"] for item in data["policies"].values()),
        "figures": _accuracy_figures(group, beside_cost=not (priced and data["price"])),
        "several_budgets": several,
        "paired": _paired_table(details),
        "calibration": _calibration(details),
        "corruptions": _corruptions(details),
        "attacks": _attacks(details),
        "forgotten": _forgotten_table(shown),
        "moved": _moved_table(shown),
        "classes": _classes(shown),
        "recipe": list(data["recipe"].items()),
        "versions": _versions(group),
        "commands": list(dict.fromkeys(run.result["command"] for run in group.runs if run.result.get("command"))),
        "runs": [{"policy": _policy(run.label), "seed": run.seed, "directory": run.directory} for run in group.runs],
    }


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
    names = dict.fromkeys(run.policy for group in groups for run in group.runs)
    rows: list[list[Content]] = [
        [_policy(name), *(price_and_regret(answer.get(name)) for answer in answers)] for name in names
    ]
    return Table(["policy", *setting_names(groups)], rows)


def _price_table(group: RunGroup) -> Table | None:
    answers = {answer.policy: answer for answer in price_answers(group)}
    rows: list[list[Content]] = []
    named = set()
    for row in prices(group):
        answer = answers[row.policy]
        cells = f"{row.budget:g}", cost_percent(row.cost), points(row.mean), interval_text(row), not_worse_text(row)
        first: list[Content] = ["", ""] if row.policy in named else [_policy(row.policy), Cell(price_text(answer), "b")]
        named.add(row.policy)
        paid = row.budget == answer.budget  # what the price is paid for stands out
        rows.append([*first, *(Cell(cell, "b") if paid else cell for cell in cells)])
    headings = ["policy", "price", "budget", "cost %", "points from retraining", "90 % interval", "not worse"]
    return Table(headings, rows) if rows else None


def _price_figure(group: RunGroup) -> Figure:
    return _figure(
        partial(draw_price, group),
        "Final accuracy against cost as a share of retraining's",
        "Final accuracy against the cost of stages 2 and later, training and unlearning together; a line for each "
        "policy, over its budgets. In the shaded region a policy is cheaper than retraining (the ring) and at most one "
        "point below it. Marks are filled where the seeds show that it is not worse.",
    )


def _accuracy_figures(group: RunGroup, beside_cost: bool) -> list[Figure]:
    if not all(run.tested for run in group.runs):
        return []
    over_stages = _figure(
        partial(draw_stages, group),
        "Test accuracy after each stage",
        "Accuracy on the test set after each stage" + _bars(one_budget_each(group)),
    )
    if not beside_cost:
        return [over_stages]
    return [
        over_stages,
        _figure(
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


def _policy_table(group: RunGroup, data: Data) -> Table:
    rows: list[list[Content]] = []
    for policy, item in data["policies"].items():
        difference = item["difference_from_scratch"]
        away, p_value = MISSING, MISSING
        if difference:
            points = Spread(difference["mean_difference"], difference["standard_deviation"], difference["seeds"])
            away = format_spread(points, percent, sign=True)
            p_value = _p_value(difference["p_value"])
        cells = [_number(item["measures"][name], COLUMNS[name][1]) for name in MEASURES]
        rows.append([_policy(budget_label(group, policy)), str(len(item["seeds"])), *cells, away, p_value])
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
            (_policy(test["first"]), _policy(test["second"])),
            *(str(test[name]) for name in counts),
            _p_value(test["p_value"]),
        ]
        for test in tests
    ]
    headings = ["policies", "seed", "only the first right", "only the second right", "changed side", "p"]
    return Table(headings, rows)


def _evaluated(data: Data, *keys: str) -> dict[str, Any]:
    """Return policy -> what lies under these keys of its evaluation, for the policies that have it."""
    found = {}
    for policy, item in data["policies"].items():
        value = item["evaluation"]
        for key in keys:
            value = value.get(key) if value else None
        if value:
            found[policy] = value
    return found


def _calibration(data: Data) -> dict[str, Any] | None:
    diagrams = _evaluated(data, "reliability")
    if not diagrams:
        return None
    rows: list[list[Content]] = []
    names = {"expected_calibration_error": "ECE %", "negative_log_likelihood": "NLL", "brier_score": "Brier score"}
    scaled = _evaluated(data, "temperature_scaling")
    for policy in diagrams:
        item, after = data["policies"][policy]["evaluation"], scaled.get(policy, {})
        write: dict[str, Callable[[float], str]] = {name: lambda value: f"{value:.3f}" for name in names}
        write["expected_calibration_error"] = percent
        cells = [_number(item.get(name), write[name]) for name in names]
        cells.append(_number(item.get("class_balanced_accuracy"), percent))
        if scaled:
            cells += [_number(after.get("temperature"), lambda value: f"{value:.2f}")]
            cells += [_number(after.get(name), write[name]) for name in names]
        rows.append([_policy(policy), *cells])
    headings = ["policy", *names.values(), "class-balanced accuracy %"]
    if scaled:
        headings += ["temperature", *(f"{name} scaled" for name in names.values())]
    return {
        "table": Table(headings, rows),
        "note": f"Of the last version.{_temperature_note(data) if scaled else ''}",
        "figure": _figure(
            partial(draw_reliability, diagrams),
            "Reliability diagram",
            "Accuracy against confidence, in bins of equal width; larger marks hold more examples. Below the grey line "
            "a model is overconfident.",
        ),
    }


def _temperature_note(data: Data) -> str:
    noisy = data["recipe"].get("label_noise")
    note = " The temperature was fitted on validation data"
    note += ", whose labels are as noisy as those of the training data." if noisy else "."
    unknown = [
        f"{policy} ({scaled['undetermined']})"
        for policy, scaled in _evaluated(data, "temperature_scaling").items()
        if scaled.get("undetermined")
    ]
    if unknown:
        note += f" Where they do not determine it, it is 1, for one seed at least: {'; '.join(unknown)}."
    return note


def _corruptions(data: Data) -> dict[str, Any] | None:
    found = _evaluated(data, "corruptions", "kinds")
    if not found:
        return None
    kinds = list(dict.fromkeys(kind for table in found.values() for kind in table))
    rows: list[list[Content]] = []
    for kind in kinds:
        synthetic = any(table[kind]["synthetic"] for table in found.values() if kind in table)
        name = kind.replace("_", " ") + (" (synthetic)" if synthetic else "")
        rows.append([name, *(_number(table.get(kind, {}).get("mean_accuracy"), percent) for table in found.values())])
    for key, name in (("mean_corruption_accuracy", "mean"), ("relative_accuracy", "relative to clean")):
        values = (data["policies"][policy]["evaluation"]["corruptions"].get(key) for policy in found)
        rows.append([Cell(name, "b"), *(Cell(_number(value, percent), "b") for value in values)])
    by_severity = {policy: _mean_over_kinds(table) for policy, table in found.items()}
    return {
        "figure": _figure(
            partial(draw_curve, _lines(by_severity, "severity"), "severity"),
            "Accuracy against severity",
            "Mean accuracy over all corruptions, by severity.",
        ),
        "table": _crossed("accuracy %, mean over severities", list(found), rows),
    }


def _mean_over_kinds(table: Mapping[str, Any]) -> list[Data]:
    rows = []
    for place in range(min(len(row["severities"]) for row in table.values())):
        points = [row["severities"][place] for row in table.values()]
        mean = sum(point["accuracy"]["mean"] for point in points) / len(points)
        accuracy = {"mean": mean, "standard_deviation": None, "seeds": points[0]["accuracy"]["seeds"]}
        rows.append({"severity": points[0]["severity"], "accuracy": accuracy})
    return rows


def _attacks(data: Data) -> dict[str, Any] | None:
    figures, warnings = [], []
    for attack in ("pgd", "fgsm"):
        for norm in ("linf", "l2"):
            found = _evaluated(data, "adversarial", attack, norm)
            if found:
                name = f"{NAMES[attack]}, {NAMES[norm]}"
                curves = {policy: row["curve"] for policy, row in found.items()}
                label = f"epsilon ({NAMES[norm]}{', in 1/255' if norm == 'linf' else ''})"
                draw = partial(draw_curve, _lines(curves, "epsilon", 255 if norm == "linf" else 1), label)
                figures.append(_figure(draw, f"Accuracy under {name}", f"Accuracy under {name}, as epsilon grows."))
                warnings += [f"{policy}, {name}: {row['warning']}." for policy, row in found.items() if row["warning"]]
    return {"figures": figures, "warnings": warnings} if figures else None


def _lines(
    points: Mapping[str, Sequence[Data]], place: str, factor: float = 1
) -> dict[str, tuple[list[float], list[Spread]]]:
    """Return policy -> (positions, accuracies) of a curve, whose points say under `place` where they belong."""
    return {
        policy: ([factor * row[place] for row in rows], [_spread(row["accuracy"]) for row in rows])
        for policy, rows in points.items()
    }


def _forgotten_table(group: RunGroup) -> Table | None:
    """Say what the unlearner changed in the last stage, tensor by tensor, in the first seed of each policy."""
    found = {policy: runs[0].stages[-1].forgotten for policy, runs in group.policies.items()}
    shares = {policy: share for policy, share in found.items() if share}
    if not shares:
        return None
    names = dict.fromkeys(name for share in shares.values() for name, value in share.items() if value)
    rows = [
        [Cell(name, "code"), *(_bar(share.get(name, 0.0), policy) for policy, share in shares.items())]
        for name in names
    ]
    return _crossed("parameter", list(shares), rows)


def _bar(share: float, policy: str) -> Content:
    text = percent(share)
    return Cell(text, "bar", colour(policy)[0], f"{text}%") if share else text


def _moved_table(group: RunGroup) -> Table | None:
    """Say how far the last stage, unlearning and training together, moved each tensor in the first seed."""
    found = {policy: runs[0].last_evaluation for policy, runs in group.policies.items()}
    moved = {policy: result["change"]["weights"] for policy, result in found.items() if result and "change" in result}
    if not moved:
        return None
    by_name = {policy: {row["name"]: row for row in rows} for policy, rows in moved.items()}
    rows: list[list[Content]] = []
    for name in dict.fromkeys(name for tensors in by_name.values() for name in tensors):
        cells = []
        for tensors in by_name.values():
            distance, cosine = (tensors.get(name, {}).get(key) for key in ("relative_distance", "cosine"))
            cells.append(MISSING if distance is None or cosine is None else f"{distance:.2f} / {cosine:.2f}")
        rows.append([Cell(name, "code"), *cells])
    return _crossed("tensor", list(moved), rows)


def _classes(group: RunGroup) -> list[dict[str, Any]]:
    """Say class by class what the last update changed, in the first seed of each policy."""
    parts = []
    for policy, runs in group.policies.items():
        result = runs[0].last_evaluation
        change = (result or {}).get("change")
        if not result or not change:
            continue
        rows = []
        for row, moved in zip(result["per_class"], change["per_class"], strict=True):
            if row["examples"]:
                net = (moved["became_right"] - moved["became_wrong"]) / row["examples"]
                rows.append(
                    [
                        str(row.get("name", row["label"])),
                        str(row["examples"]),
                        percent(row["accuracy"]),
                        format_spread(Spread(net, None, 1), percent, sign=True),
                        str(moved["became_right"]),
                        str(moved["became_wrong"]),
                    ]
                )
        test = change["paired_test"]
        headings = ["class", "examples", "accuracy %", "points gained", "became right", "became wrong"]
        parts.append(
            {
                "policy": _policy(policy),
                "seed": runs[0].seed,
                "table": Table(headings, rows),
                "note": f"{test['changed_side']} examples changed side; "
                f"p {_p_value(test['p_value'], '= ')} by the exact McNemar test.",
            }
        )
    return parts


def _versions(group: RunGroup) -> str:
    versions = dict.fromkeys(
        f"{name.removesuffix('_version')} {run.result[name]}"
        for run in group.runs
        for name in run.result
        if name.endswith("_version")
    )
    devices = dict.fromkeys(run.result["device"] for run in group.runs if run.result.get("device"))
    return ", ".join(versions) + (f" on {', '.join(devices)}" if versions and devices else "")


def _figure(draw: Callable[[Axes], Points], name: str, caption: str) -> Figure:
    stream = io.BytesIO()
    paint([("", draw)], stream, FIGURE)
    return Figure(name, caption, base64.b64encode(stream.getvalue()).decode())


def _crossed(corner: str, policies: Sequence[str], rows: Sequence[Sequence[Content]]) -> Table:
    """Return a table with a column for each policy, or with a row for each where they are more than the rows."""
    names = [_policy(policy) for policy in policies]
    if len(policies) <= len(rows):
        return Table([corner, *names], rows)
    headings, *lines = zip(["policy", *names], *rows, strict=True)
    return Table(headings, lines)


def _policy(policy: str) -> Cell:
    return Cell(policy, "policy", colour(policy)[0])


def _spread(value: Data) -> Spread:
    return Spread(value["mean"], value["standard_deviation"], value["seeds"])


def _number(value: Data | None, write: Callable[[float], str]) -> str:
    return format_spread(_spread(value) if value else None, write)


def _p_value(value: float | None, equals: str = "") -> str:
    if value is None:
        return MISSING
    return f"{equals}{value:.3f}" if value >= 0.001 else "< 0.001"
