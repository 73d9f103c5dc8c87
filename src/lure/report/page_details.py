"""What was measured on the last versions beyond accuracy: sections of any page. What was not measured has none."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from lure.metrics.statistics import Spread
from lure.report.colours import colour
from lure.report.comparison import RunGroup
from lure.report.numbers import Data
from lure.report.page_parts import (
    Cell,
    Content,
    Table,
    crossed,
    figure,
    number_text,
    p_value_text,
    policy_cell,
    spread_of,
)
from lure.report.plots import draw_curve, draw_reliability
from lure.report.table import format_spread
from lure.words import MISSING, choice_text, percent

NAMES = {"linf": "L-infinity", "l2": "L2", "pgd": "PGD", "fgsm": "FGSM"}


def detail_values(group: RunGroup, data: Data) -> dict[str, Any]:
    """Return the values of `page_details.html.jinja`.

    Args:
        group: the runs, one budget of each policy.
        data: what `group_data` returns for them.
    """
    return {
        "first_seed": any(len(runs) > 1 for runs in group.policies.values()),
        "calibration": _calibration(data),
        "corruptions": _corruptions(data),
        "attacks": _attacks(data),
        "chosen": _chosen_table(group),
        "forgotten": _forgotten_table(group),
        "moved": _moved_table(group),
        "classes": _classes(group),
    }


def run_values(group: RunGroup) -> dict[str, Any]:
    """Return the values of `page_runs.html.jinja`: recipe, versions, commands and directories."""
    return {
        "recipe": list(group.recipe.items()),
        "versions": _versions(group),
        "commands": list(dict.fromkeys(run.result["command"] for run in group.runs if run.result.get("command"))),
        "runs": [
            {"policy": policy_cell(run.label), "seed": run.seed, "directory": run.directory} for run in group.runs
        ],
    }


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
        cells = [number_text(item.get(name), write[name]) for name in names]
        cells.append(number_text(item.get("class_balanced_accuracy"), percent))
        if scaled:
            cells += [number_text(after.get("temperature"), lambda value: f"{value:.2f}")]
            cells += [number_text(after.get(name), write[name]) for name in names]
        rows.append([policy_cell(policy), *cells])
    headings = ["policy", *names.values(), "class-balanced accuracy %"]
    if scaled:
        headings += ["temperature", *(f"{name} scaled" for name in names.values())]
    return {
        "table": Table(headings, rows),
        "note": f"Of the last version.{_temperature_note(data) if scaled else ''}",
        "figure": figure(
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
        rows.append(
            [name, *(number_text(table.get(kind, {}).get("mean_accuracy"), percent) for table in found.values())]
        )
    for key, name in (("mean_corruption_accuracy", "mean"), ("relative_accuracy", "relative to clean")):
        values = (data["policies"][policy]["evaluation"]["corruptions"].get(key) for policy in found)
        rows.append([Cell(name, "b"), *(Cell(number_text(value, percent), "b") for value in values)])
    by_severity = {policy: _mean_over_kinds(table) for policy, table in found.items()}
    return {
        "figure": figure(
            partial(draw_curve, _lines(by_severity, "severity"), "severity"),
            "Accuracy against severity",
            "Mean accuracy over all corruptions, by severity.",
        ),
        "table": crossed("accuracy %, mean over severities", list(found), rows),
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
                figures.append(figure(draw, f"Accuracy under {name}", f"Accuracy under {name}, as epsilon grows."))
                warnings += [f"{policy}, {name}: {row['warning']}." for policy, row in found.items() if row["warning"]]
    return {"figures": figures, "warnings": warnings} if figures else None


def _lines(
    points: Mapping[str, Sequence[Data]], place: str, factor: float = 1
) -> dict[str, tuple[list[float], list[Spread]]]:
    """Return policy -> (positions, accuracies) of a curve, whose points say under `place` where they belong."""
    return {
        policy: ([factor * row[place] for row in rows], [spread_of(row["accuracy"]) for row in rows])
        for policy, rows in points.items()
    }


def _chosen_table(group: RunGroup) -> Table | None:
    """Say what an unlearner that chooses took at each stage, in the first seed of each policy that has one."""
    chosen = {
        policy: {stage.stage: choice_text(stage.choices) for stage in runs[0].stages if stage.chosen}
        for policy, runs in group.policies.items()
    }
    chosen = {policy: texts for policy, texts in chosen.items() if texts}
    if not chosen:
        return None
    numbers = sorted({number for texts in chosen.values() for number in texts})
    rows = [[str(number), *(texts.get(number, MISSING) for texts in chosen.values())] for number in numbers]
    return Table(["stage", *map(policy_cell, chosen)], rows)


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
    return crossed("parameter", list(shares), rows)


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
    return crossed("tensor", list(moved), rows)


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
                "policy": policy_cell(policy),
                "seed": runs[0].seed,
                "table": Table(headings, rows),
                "note": f"{test['changed_side']} examples changed side; "
                f"p {p_value_text(test['p_value'], '= ')} by the exact McNemar test.",
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
