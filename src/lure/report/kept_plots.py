"""Pictures of a model that is kept current, over its versions: which was in use, what came, what it cost.

Versions that the gate refused are hollow everywhere; those that somebody accepted by hand all the same are half filled.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.markers import MarkerStyle

from lure.report.colours import FIXED, colour
from lure.report.comparison import stage_cost
from lure.report.kept import KeptModel, day, flips, prequential_accuracy, steps
from lure.report.plots import INK, Points
from lure.report.table import short_number

Fill = Literal["left", "full", "none"]  # of a mark

HOLDOUT, ARRIVAL, TEST = "holdout", "on arrival", "test set"
LOST, WON = "right, then wrong", "wrong, then right"
SHADES = {HOLDOUT: "#0072B2", ARRIVAL: "#B25A00", TEST: "#707070", LOST: "#B25A00", WON: "#0072B2"}
# (colour, mark) of classes: those of policies that are easiest to tell apart. With more lines, none can be followed.
CLASS_STYLES = [FIXED[name] for name in ("warm-start", "lure", "shrink-perturb", "dash", "head-reset", "random-reset")]
MOST_TICKS = 5  # readable at the width of a phone
MANY_VERSIONS = 40  # with more, marks are smaller


def draw_versions(model: KeptModel, axes: Axes) -> Points:
    """Draw the accuracy of every version on the holdout, a line through those in use; return the line's end.

    The line steps where another version came into use: at an update, or between two, where somebody went back or
    accepted a version by hand. Where there is a test set, its accuracy is a thin line beside it.
    """
    shade = SHADES[HOLDOUT]
    accuracies = {stage.version: 100 * (stage.accuracy or 0.0) for stage in model.run.stages}
    line = [step for step in steps(model) if step.version]
    last = len(accuracies) + 0.5
    ends = {}
    sets: list[tuple[str, Mapping[int, float], float]] = [(HOLDOUT, accuracies, 1.8)]
    if all(stage.independent for stage in model.run.stages):
        tested = {stage.version: 100 * stage.independent["accuracy"] for stage in model.run.stages if stage.independent}
        sets.append((TEST, tested, 0.9))
    for name, values, width in sets:
        if line:
            places, heights = [step.place for step in line], [values[step.version] for step in line]
            axes.step([*places, last], [*heights, heights[-1]], where="post", color=SHADES[name], linewidth=width)
            ends[name] = (last, heights[-1])
    size = 7 if len(accuracies) <= MANY_VERSIONS else 4
    good = [height for version, height in accuracies.items() if version not in model.refused] or list(
        accuracies.values()
    )
    reach = max(good) - min(good)
    bottom = min(good) - max(0.5 * reach, 2)  # what was refused may be so bad that nothing else could be seen
    for version, height in accuracies.items():
        if height < bottom:
            height = bottom
            axes.annotate(
                f"{accuracies[version]:.0f}",
                (version, bottom),
                (0, 7),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=shade,
            )
        style: Fill = "left" if version in model.by_hand else "full" if model.accepted(version) else "none"
        axes.plot(
            version,
            height,
            marker=MarkerStyle("o", fillstyle=style),
            color=shade,
            markerfacecolor=shade if model.accepted(version) else "white",
            markerfacecoloralt="white",
            markersize=size,
            clip_on=False,
            zorder=3,
        )
    by_hand = [step for step in line if step.event != "stage"]
    for step in by_hand:
        axes.axvline(step.place, color="#909090", linewidth=0.8, linestyle=":", zorder=0)
        axes.annotate(
            f"{'back to' if step.event == 'rollback' else 'accept'} {step.subject}",
            (step.place, 0),
            (-2, 3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            rotation=90,
            ha="right",
            va="bottom",
            fontsize=8,
            color="#606060",
        )
    axes.set_ylabel("accuracy, %")
    axes.set_ylim(min(bottom, *good) - 0.04 * reach, max(good) + 0.12 * max(reach, 2))
    _over_versions(model, axes, last=last)
    return ends


def draw_arrival(model: KeptModel, axes: Axes) -> Points:
    """Draw how the version in use did on each chunk before training, and on the holdout; return the lines' ends."""
    held = {stage.version: stage.accuracy for stage in model.run.stages}
    lines: dict[str, list[tuple[int, float]]] = {ARRIVAL: [], HOLDOUT: []}
    for stage in model.run.stages:
        arrived, before = prequential_accuracy(stage), held.get(stage.parent)
        if arrived is not None and before is not None:
            lines[ARRIVAL].append((stage.version, 100 * arrived))
            lines[HOLDOUT].append((stage.version, 100 * before))
    for (name, line), mark in zip(lines.items(), "Do", strict=True):
        axes.plot(*zip(*line, strict=True), color=SHADES[name], marker=mark, markersize=5, linewidth=1.5)
    axes.set_ylabel("accuracy of the version in use, %")
    _over_versions(model, axes)
    return {name: line[-1] for name, line in lines.items()}


def balance_classes(model: KeptModel) -> list[int]:
    """Return the labels of the classes whose share varied most over holdout and chunks, at most six, in order."""
    shares = list(_shares(model).values())
    varied = {label: max(s[label] for s in shares) - min(s[label] for s in shares) for label in range(len(shares[0]))}
    return sorted(sorted(varied, key=lambda label: -varied[label])[: len(CLASS_STYLES)])


def _shares(model: KeptModel) -> dict[int, list[float]]:
    """Return version -> the share of each class in its chunk, in percent; the holdout's is under 0."""
    counts: dict[int, Sequence[int]] = {0: model.holdout_counts} if model.holdout_counts else {}
    counts |= {stage.version: stage.arrival["class_counts"] for stage in model.run.stages if stage.arrival}
    most = max(len(each) for each in counts.values())  # a class that came later has no place in earlier counts
    filled = {version: [*each, *[0] * (most - len(each))] for version, each in counts.items()}
    return {version: [100 * number / (sum(each) or 1) for number in each] for version, each in filled.items()}


def class_shades(model: KeptModel) -> dict[str, str]:
    """Return name -> colour of the classes that `draw_balance` shows."""
    return {model.class_name(label): CLASS_STYLES[n][0] for n, label in enumerate(balance_classes(model))}


def draw_balance(model: KeptModel, axes: Axes) -> Points:
    """Draw the share of each class in each chunk, the holdout's before them; return the lines' ends."""
    shares = _shares(model)
    versions = [version for version in shares if version]
    ends = {}
    for number, label in enumerate(balance_classes(model)):
        shade, mark = CLASS_STYLES[number]
        heights = [shares[version][label] for version in versions]
        axes.plot(versions, heights, color=shade, marker=mark, markersize=5, linewidth=1.4, clip_on=False)
        if 0 in shares:
            axes.plot(0, shares[0][label], color=shade, marker=mark, markersize=5, clip_on=False)
            axes.plot([0, versions[0]], [shares[0][label], heights[0]], color=shade, linewidth=0.8, linestyle=":")
        ends[model.class_name(label)] = (versions[-1], heights[-1])
    axes.set_ylim(bottom=0)
    axes.set_ylabel("share of the chunk, %")
    _over_versions(model, axes, first=0 if 0 in shares else 1)
    return ends


def draw_flips(model: KeptModel, axes: Axes) -> Points:
    """Draw how many holdout examples each version turned from wrong to right, and below from right to wrong."""
    known = {stage.version: lost_won for stage in model.run.stages if (lost_won := flips(stage))}
    for version, (lost, won) in known.items():
        for height, name in ((won, WON), (-lost, LOST)):
            face = SHADES[name] if model.accepted(version) else "white"
            axes.bar(version, height, _bar_width(model), facecolor=face, edgecolor=SHADES[name], linewidth=1.2)
    axes.axhline(0, color=INK, linewidth=0.8)
    most = max([max(known[version]) for version in known if version not in model.refused] or [0])
    for place, name in ((0, LOST), (1, WON)):
        for version, counts in known.items():
            if counts[place] > 3 * most > 0:  # it runs out of the picture, so that others can be seen
                sign = 1 if name == WON else -1
                axes.text(
                    version,
                    sign * 2.9 * most,
                    str(counts[place]),
                    ha="center",
                    va="top" if sign > 0 else "bottom",
                    rotation=90,
                    fontsize=8,
                    color="white" if model.accepted(version) else INK,
                )
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -3 * most or low), min(high, 3 * most or high))
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    axes.set_ylabel("holdout examples")
    _over_versions(model, axes)
    lost, won = known[max(known)]
    return {WON: (max(known), won / 2), LOST: (max(known), -lost / 2)}


def draw_update_cost(model: KeptModel, axes: Axes) -> Points:
    """Draw what each update cost, in FLOPs if all counted them, else in seconds; no names."""
    measure = "flops" if all(stage_cost(stage, "flops") for stage in model.run.stages) else "seconds"
    shade = colour(model.run.policy)[0]
    for stage in model.run.stages:
        face = shade if model.accepted(stage.version) else "white"
        axes.bar(
            stage.version, stage_cost(stage, measure), _bar_width(model), facecolor=face, edgecolor=shade, linewidth=1.2
        )
    axes.yaxis.set_major_formatter(lambda value, _: short_number(value))
    axes.set_ylabel("FLOPs" if measure == "flops" else "seconds")
    _over_versions(model, axes)
    return {}


def _bar_width(model: KeptModel) -> float:
    return 0.6 * min(1, len(model.run.stages) / 4)  # a single bar is no wall


def _over_versions(model: KeptModel, axes: Axes, first: float = 1, last: float | None = None) -> None:
    """Label the horizontal axis with versions and their days; a 0 is the holdout."""
    days = {stage.version: day(stage) for stage in model.run.stages}
    distinct = set(days.values())
    shown = _ticks(len(days))
    labels = [f"{version}\n{_short_day(days[version])}" if len(distinct) > 1 else str(version) for version in shown]
    if first == 0:
        far = [(n, label) for n, label in zip(shown, labels, strict=True) if n > len(days) / MOST_TICKS]
        shown, labels = [0, *(n for n, _ in far)], [HOLDOUT, *(label for _, label in far)]
    axes.set_xticks(shown, labels)
    axes.set_xlabel("version" if len(distinct) > 1 else f"version, all of {distinct.pop()}")
    axes.set_xlim(first - 0.5, len(days) + 0.5 if last is None else last)


def _ticks(count: int) -> list[int]:
    """Return at most five of the numbers from 1 to `count`, evenly apart, the last one among them.

    Example:
        >>> _ticks(4), _ticks(23)
        ([1, 2, 3, 4], [3, 8, 13, 18, 23])
    """
    step = -(-count // MOST_TICKS)
    return list(range(count, 0, -step))[::-1]


def _short_day(text: str) -> str:
    """Write a day shortly: "1 Mar". What is no day stays."""
    try:
        moment = date.fromisoformat(text)
    except ValueError:
        return text
    return f"{moment.day} {moment:%b}"
