"""One self-contained HTML page on a set of runs: no network, no script, readable on a phone and on paper.

Its numbers are those of `page_data`. What was not measured has no section.
"""

import base64
import html
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lure.errors import InputError
from lure.metrics.statistics import Spread
from lure.report.colours import colour
from lure.report.comparison import MEASURES, RunGroup, group_runs
from lure.report.numbers import Data, group_data, page_data
from lure.report.plots import MANY, Points, draw_cost, draw_lines, draw_reliability, draw_stages, paint
from lure.report.records import RunRecord
from lure.report.table import COLUMNS, format_spread
from lure.words import MISSING

__all__ = ["page_data", "write_page"]

FIGURE = (5.6, 3.7)  # in inches; narrow, so that letters stay readable on a phone
NAMES = {"linf": "L-infinity", "l2": "L2", "pgd": "PGD", "fgsm": "FGSM"}

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.2rem; color: #222; background: #fff;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .4rem; border-top: 1px solid #ccc; padding-top: 1rem; }
h3 { font-size: 1.05rem; margin: 1.8rem 0 .3rem; }
h4 { font-size: .95rem; margin: 1.2rem 0 .2rem; }
p { max-width: 46rem; margin: .4rem 0; overflow-wrap: anywhere; }
.verdict { font-size: 1.1rem; border-left: 4px solid #222; padding: .2rem 0 .2rem .8rem; margin: .8rem 0; }
.note, figcaption { color: #555; font-size: .9rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1.2rem; }
figure { margin: .4rem 0; break-inside: avoid; max-width: 38rem; }
figure img { display: block; width: 100%; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; margin: .4rem 0; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #e4e4e4; white-space: nowrap; }
th { vertical-align: bottom; border-bottom: 1px solid #888; font-weight: 600; white-space: normal; }
th:first-child, td:first-child { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 9rem;
  position: sticky; left: 0; background: #fff; }
.policy { display: inline-block; position: relative; padding-left: 1.15em; text-align: left; }
.dot { position: absolute; left: 0; top: .4em; width: .7em; height: .7em; border-radius: 50%; }
code { font: .88em/1.4 ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: .9rem; margin: .4rem 0; }
dt { color: #555; }
dd { margin: 0; overflow-wrap: anywhere; }
ul { margin: .3rem 0; padding-left: 1.2rem; font-size: .9rem; }
@media (max-width: 34rem) {
  body { padding: .8rem; font-size: 15px; }
  th, td { padding: .25rem .35rem; }
  th:first-child, td:first-child { min-width: 7.6rem; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  h2, h3, h4 { break-after: avoid; }
  .wide { overflow: visible; }
  table { font-size: 7.5pt; }
  th, td { padding: .1rem .3rem; }
  tr { break-inside: avoid; }
  figure { max-width: 9.5cm; }
  .figures { grid-template-columns: 1fr 1fr; }
}
"""


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
    title = "What the updates did"
    body = [f"<h1>{title}</h1>", *_overview(groups)]
    for group in groups:
        body += _group_section(group)
    text = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write the page {file}: {error.strerror}") from None


def _overview(groups: Sequence[RunGroup]) -> list[str]:
    runs = [run for group in groups for run in group.runs]
    policies = list(dict.fromkeys(run.policy for run in runs))
    seeds = sorted({run.seed for run in runs})
    lines = [
        f"<p>{_count(len(runs), 'run')}: {_count(len(policies), 'policy', 'policies')}, seeds "
        f"{', '.join(map(str, seeds))}.</p>"
    ]
    if len(groups) > 1:
        fields = ", ".join(f"<code>{_text(name)}</code>" for name in groups[0].distinct)
        lines.append(
            f"<p>They follow {len(groups)} different recipes, which differ in {fields}. "
            "Each recipe has its own part below; nothing is averaged over recipes.</p>"
        )
    return lines


def _group_section(group: RunGroup) -> list[str]:
    data = group_data(group)
    parts = [
        f"<h2>{_text(group.label or 'Which policy')}</h2>",
        f"<p>{_text(_summary(group))}</p>",
        f'<p class="verdict">{_text(data["verdict"])}</p>',
    ]
    parts += [f'<p class="note">{_text(note)}</p>' for note in data["left_out"] + data["notes"]]
    parts += _policy_table(data)
    if all(run.tested for run in group.runs):
        parts.append('<div class="figures">')
        parts.append(
            _figure(
                partial(draw_stages, group),
                "Test accuracy after each stage",
                "Accuracy on the test set after each stage" + _bars(group),
            )
        )
        parts.append(
            _figure(
                partial(draw_cost, group),
                "Final accuracy against cost",
                "Final accuracy against the cost of all stages, training and unlearning together. The grey line is the "
                "Pareto front: nothing lies left of it and above it.",
            )
        )
        parts.append("</div>")
    parts += _paired_section(data)
    parts += _calibration_section(data)
    parts += _corruption_section(data)
    parts += _attack_section(data)
    parts += _forgotten_section(group)
    parts += _moved_section(group)
    parts += _class_section(group)
    parts += _run_section(group, data)
    return parts


def _summary(group: RunGroup) -> str:
    stages = _count(len(group.runs[0].stages), "stage")
    words = [str(group.recipe[name]) for name in ("dataset", "model") if name in group.recipe]
    for name in ("epochs", "replay", "optimizer"):
        if name in group.recipe:
            words.append(f"{name} {group.recipe[name]}")
    return f"{stages}: {', '.join(words)}. The whole recipe stands at the end."


def _bars(group: RunGroup) -> str:
    if len(group.runs) == len(group.policies):
        return "."
    return f": mean over seeds{', bars of one standard deviation' if len(group.policies) <= MANY else ''}."


def _policy_table(data: Data) -> list[str]:
    rows = []
    for policy, item in data["policies"].items():
        difference = item["difference_from_scratch"]
        away, p_value = MISSING, MISSING
        if difference:
            points = Spread(difference["mean_difference"], difference["standard_deviation"], difference["seeds"])
            away = format_spread(points, _percent, sign=True)
            p_value = _p_value(difference["p_value"])
        cells = [_cell(item["measures"][name], COLUMNS[name][1]) for name in MEASURES]
        rows.append([_policy(policy), str(len(item["seeds"])), *cells, away, p_value])
    headings = ["policy", "seeds", *(COLUMNS[name][0].replace("\n", " ") for name in MEASURES)]
    note = "Mean ± standard deviation over seeds. Seconds and FLOPs are those of training and unlearning together."
    if any(item["difference_from_scratch"] for item in data["policies"].values()):
        note += " Points from scratch: final accuracy minus that of scratch with the same seed; p by the paired t-test."
    return [_table([*headings, "points from scratch", "p"], rows), f'<p class="note">{note}</p>']


def _paired_section(data: Data) -> list[str]:
    """Set each policy against the most accurate one; all pairs are among the numbers."""
    accuracies = {policy: item["measures"]["final_accuracy"] for policy, item in data["policies"].items()}
    best = max(accuracies, key=lambda policy: accuracies[policy]["mean"] if accuracies[policy] else -1.0)
    tests = [test for test in data["paired_tests"] if best in (test["first"], test["second"])]
    if not tests:
        return []
    rows = [
        [
            f"{_policy(test['first'])} / {_policy(test['second'])}",
            str(test["seed"]),
            str(test["only_first_right"]),
            str(test["only_second_right"]),
            str(test["changed_side"]),
            _p_value(test["p_value"]),
        ]
        for test in tests
    ]
    return [
        "<h3>Example by example</h3>",
        "<p>The last versions of the most accurate policy and of each other one, on the same seed and test set: how "
        "many examples only one of them got right, and how likely such a split is if both were equally good (exact "
        "McNemar test).</p>",
        _table(["policies", "seed", "only the first right", "only the second right", "changed side", "p"], rows),
    ]


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


def _calibration_section(data: Data) -> list[str]:
    diagrams = _evaluated(data, "reliability")
    if not diagrams:
        return []
    rows = []
    names = {"expected_calibration_error": "ECE %", "negative_log_likelihood": "NLL", "brier_score": "Brier score"}
    scaled = _evaluated(data, "temperature_scaling")
    for policy in diagrams:
        item, after = data["policies"][policy]["evaluation"], scaled.get(policy, {})
        write: dict[str, Callable[[float], str]] = {name: lambda value: f"{value:.3f}" for name in names}
        write["expected_calibration_error"] = _percent
        cells = [_cell(item.get(name), write[name]) for name in names]
        cells.append(_cell(item.get("class_balanced_accuracy"), _percent))
        if scaled:
            cells += [_cell(after.get("temperature"), lambda value: f"{value:.2f}")]
            cells += [_cell(after.get(name), write[name]) for name in names]
        rows.append([_policy(policy), *cells])
    headings = ["policy", *names.values(), "class-balanced accuracy %"]
    if scaled:
        headings += ["temperature", *(f"{name} scaled" for name in names.values())]
    return [
        "<h3>Can its confidence be believed?</h3>",
        _table(headings, rows),
        f'<p class="note">Of the last version.{_temperature_note(data) if scaled else ""}</p>',
        _figure(
            partial(draw_reliability, diagrams),
            "Reliability diagram",
            "Accuracy against confidence, in bins of equal width; larger marks hold more examples. Below the grey line "
            "a model is overconfident.",
        ),
    ]


def _temperature_note(data: Data) -> str:
    if data["recipe"].get("label_noise"):
        return (
            " The temperature was fitted on validation data, whose labels are as noisy as those of the training data."
        )
    return " The temperature was fitted on validation data."


def _curve(points: Mapping[str, Sequence[Data]], place: str, label: str, factor: float, axes: Axes) -> Points:
    axes.set_xlabel(label)
    axes.set_ylabel("accuracy, %")
    axes.set_ylim(0, 102)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=place == "severity"))
    return draw_lines(
        axes,
        {
            policy: ([factor * row[place] for row in rows], [_spread(row["accuracy"]) for row in rows])
            for policy, rows in points.items()
        },
    )


def _corruption_section(data: Data) -> list[str]:
    found = _evaluated(data, "corruptions", "kinds")
    if not found:
        return []
    kinds = list(dict.fromkeys(kind for table in found.values() for kind in table))
    rows = []
    for kind in kinds:
        synthetic = any(table[kind]["synthetic"] for table in found.values() if kind in table)
        name = kind.replace("_", " ") + (" (synthetic)" if synthetic else "")
        rows.append([name, *(_cell(table.get(kind, {}).get("mean_accuracy"), _percent) for table in found.values())])
    for key, name in (("mean_corruption_accuracy", "mean"), ("relative_accuracy", "relative to clean")):
        values = (data["policies"][policy]["evaluation"]["corruptions"].get(key) for policy in found)
        rows.append([f"<b>{name}</b>", *(f"<b>{_cell(value, _percent)}</b>" for value in values)])
    by_severity = {policy: _mean_over_kinds(table) for policy, table in found.items()}
    return [
        "<h3>Natural corruptions</h3>",
        _figure(
            partial(_curve, by_severity, "severity", "severity", 1),
            "Accuracy against severity",
            "Mean accuracy over all corruptions, by severity.",
        ),
        _crossed("accuracy %, mean over severities", list(map(_policy, found)), rows),
    ]


def _mean_over_kinds(table: Mapping[str, Any]) -> list[Data]:
    rows = []
    for place in range(min(len(row["severities"]) for row in table.values())):
        points = [row["severities"][place] for row in table.values()]
        mean = sum(point["accuracy"]["mean"] for point in points) / len(points)
        accuracy = {"mean": mean, "standard_deviation": None, "seeds": points[0]["accuracy"]["seeds"]}
        rows.append({"severity": points[0]["severity"], "accuracy": accuracy})
    return rows


def _attack_section(data: Data) -> list[str]:
    figures, warnings = [], []
    for attack in ("pgd", "fgsm"):
        for norm in ("linf", "l2"):
            found = _evaluated(data, "adversarial", attack, norm)
            if found:
                name = f"{NAMES[attack]}, {NAMES[norm]}"
                curves = {policy: row["curve"] for policy, row in found.items()}
                label = f"epsilon ({NAMES[norm]}{', in 1/255' if norm == 'linf' else ''})"
                draw = partial(_curve, curves, "epsilon", label, 255 if norm == "linf" else 1)
                figures.append(_figure(draw, f"Accuracy under {name}", f"Accuracy under {name}, as epsilon grows."))
                warnings += [f"{policy}, {name}: {row['warning']}" for policy, row in found.items() if row["warning"]]
    if not figures:
        return []
    notes = [f'<p class="note">{_text(warning)}.</p>' for warning in warnings]
    return ["<h3>Attacks</h3>", '<div class="figures">', *figures, "</div>", *notes]


def _forgotten_section(group: RunGroup) -> list[str]:
    """Say what the unlearner changed in the last stage, tensor by tensor, in the first seed of each policy."""
    found = {policy: runs[0].stages[-1].forgotten for policy, runs in group.policies.items()}
    shares = {policy: share for policy, share in found.items() if share}
    if not shares:
        return []
    names = dict.fromkeys(name for share in shares.values() for name, value in share.items() if value)
    rows = [
        [f"<code>{_text(name)}</code>", *(_bar(share.get(name, 0.0), policy) for policy, share in shares.items())]
        for name in names
    ]
    return [
        "<h3>What was forgotten where</h3>",
        "<p>Share of the entries that the unlearner changed before the last stage, in percent; first seed. Tensors "
        "that it left alone are not shown.</p>",
        _crossed("parameter", list(map(_policy, shares)), rows),
    ]


def _bar(share: float, policy: str) -> str:
    if not share:
        return _percent(share)
    width = f"{100 * share:.1f}%"
    shade = f"background: linear-gradient(to right, {colour(policy)[0]}55 {width}, transparent {width})"
    return f'<div style="{shade}; padding: 0 .3em">{_percent(share)}</div>'


def _moved_section(group: RunGroup) -> list[str]:
    """Say how far the last stage, unlearning and training together, moved each tensor in the first seed."""
    found = {policy: runs[0].last_evaluation for policy, runs in group.policies.items()}
    moved = {policy: result["change"]["weights"] for policy, result in found.items() if result and "change" in result}
    if not moved:
        return []
    by_name = {policy: {row["name"]: row for row in rows} for policy, rows in moved.items()}
    rows = []
    for name in dict.fromkeys(name for tensors in by_name.values() for name in tensors):
        cells = []
        for tensors in by_name.values():
            distance, cosine = (tensors.get(name, {}).get(key) for key in ("relative_distance", "cosine"))
            cells.append(MISSING if distance is None or cosine is None else f"{distance:.2f} / {cosine:.2f}")
        rows.append([f"<code>{_text(name)}</code>", *cells])
    return [
        "<h3>How far the weights moved</h3>",
        "<p>From the version before to the last one, unlearning and training together: distance relative to the norm "
        "before / cosine between the two; first seed.</p>",
        _crossed("tensor", list(map(_policy, moved)), rows),
    ]


def _class_section(group: RunGroup) -> list[str]:
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
                        _text(row.get("name", str(row["label"]))),
                        str(row["examples"]),
                        _percent(row["accuracy"]),
                        f"{100 * net:+.1f}",
                        str(moved["became_right"]),
                        str(moved["became_wrong"]),
                    ]
                )
        test = change["paired_test"]
        parts += [
            f"<div><h4>{_policy(policy)}, seed {runs[0].seed}</h4>",
            _table(["class", "examples", "accuracy %", "points gained", "became right", "became wrong"], rows),
            f'<p class="note">{test["changed_side"]} examples changed side; '
            f"p {_p_value(test['p_value'], '= ')} by the exact McNemar test.</p></div>",
        ]
    if not parts:
        return []
    return ["<h3>Class by class, against the version before</h3>", '<div class="figures">', *parts, "</div>"]


def _run_section(group: RunGroup, data: Data) -> list[str]:
    recipe = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in data["recipe"].items())
    versions = dict.fromkeys(
        f"{name.removesuffix('_version')} {run.result[name]}"
        for run in group.runs
        for name in run.result
        if name.endswith("_version")
    )
    commands = dict.fromkeys(run.result["command"] for run in group.runs if run.result.get("command"))
    devices = dict.fromkeys(run.result["device"] for run in group.runs if run.result.get("device"))
    parts = ["<h3>What was run</h3>", f"<dl>{recipe}</dl>"]
    if versions:
        parts.append(f"<p>{_text(', '.join(versions))}{_text(' on ' + ', '.join(devices)) if devices else ''}</p>")
    if commands:
        parts.append("<ul>" + "".join(f"<li><code>{_text(command)}</code></li>" for command in commands) + "</ul>")
    folders = "".join(
        f"<li>{_policy(run.policy)}, seed {run.seed}: <code>{_text(run.directory)}</code></li>" for run in group.runs
    )
    return [*parts, f"<ul>{folders}</ul>"]


def _figure(draw: Callable[[Axes], Points], name: str, caption: str) -> str:
    stream = io.BytesIO()
    paint([("", draw)], stream, FIGURE)
    picture = base64.b64encode(stream.getvalue()).decode()
    return (
        f'<figure><img alt="{_text(name)}" src="data:image/svg+xml;base64,{picture}">'
        f"<figcaption>{_text(caption)}</figcaption></figure>"
    )


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>'


def _crossed(corner: str, policies: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table with a column for each policy, or with a row for each where they are more than the rows."""
    if len(policies) <= len(rows):
        return _table([corner, *policies], rows)
    headings, *lines = zip(["policy", *policies], *rows, strict=True)
    return _table(headings, lines)


def _policy(policy: str) -> str:
    return (
        f'<span class="policy"><span class="dot" style="background:{colour(policy)[0]}"></span>'
        f"{_text(policy).replace(':', ':<wbr>')}</span>"
    )


def _spread(value: Data) -> Spread:
    return Spread(value["mean"], value["standard_deviation"], value["seeds"])


def _cell(value: Data | None, write: Callable[[float], str]) -> str:
    return format_spread(_spread(value) if value else None, write)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _p_value(value: float | None, equals: str = "") -> str:
    if value is None:
        return MISSING
    return f"{equals}{value:.3f}" if value >= 0.001 else "&lt; 0.001"


def _count(number: int, noun: str, nouns: str | None = None) -> str:
    return f"{number} {noun if number == 1 else nouns or noun + 's'}"


def _text(value: Any) -> str:
    return html.escape(str(value))
