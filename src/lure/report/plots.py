"""Pictures of a comparison: accuracy over stages, and accuracy against what it cost, in FLOPs or beside retraining.

Drawn without pyplot, so no global state is touched and no display is needed. Names are written beside the lines instead
of in a legend. The kind of file follows from its ending: .png, .svg or .pdf.
"""

import io
import itertools
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from lure.errors import InputError
from lure.metrics.statistics import Spread, spread
from lure.report.colours import colour, line_styles
from lure.report.comparison import RunGroup, group_runs, pareto_front, setting_names, totals
from lure.report.price import UNITS, Price, cost_measure, one_budget_each, prices, retraining
from lure.report.records import RunRecord
from lure.report.table import short_number
from lure.report.verdict import MARGIN
from lure.store.durable import replace_file

Points = Mapping[str, tuple[float, float]]  # policy -> where its name belongs, in the units of the axes

INK, FAINT, GOOD = "#222222", "#D9D9D9", "#DDF0E4"
LETTERS = 10.0  # height of the letters, in points
SETTINGS: Any = {
    # Without DejaVu, the reader of an SVG uses its own sans-serif font, which is hardly ever wider.
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": LETTERS,
    "axes.edgecolor": "#808080",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "xaxis.labellocation": "left",  # a long one runs on below the names instead of out of the picture
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "text.color": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "lure",
}
SIZE = (6.8, 4.2)  # of one panel, in inches
PRICE_SIZE = (5.6, 3.9)  # narrower, because it is sent around and read on phones
LABEL_GAP = 1.35  # from one line of a label to the next, in heights of their letters
LABEL_LENGTH = 24  # letters of a line of a label
MANY = 8  # with more lines than this, bars of deviation would hide what they belong to
APART = 0.06  # how far the lines are shifted apart over stages, all together, as a share of the width
WIDE_RANGE = 4  # costs that differ by more than this factor stand on a logarithmic scale
NEAR = 0.3  # points closer than this share of the width have their names in one column


def plot_accuracy_over_stages(runs: Iterable[RunRecord], file: Path | str) -> None:
    """Draw test accuracy after each stage, a line for each policy: mean over seeds, bars ± one standard deviation.

    Runs of several recipes get a panel each.

    Args:
        runs: what `read_runs` returns.
        file: where to write; .png, .svg or .pdf.

    Raises:
        InputError: if there is no run or no test set, or the file cannot be written.
    """
    groups = group_runs(runs)
    named = zip(setting_names(groups), groups, strict=True)
    paint([(name, partial(draw_stages, group)) for name, group in named], file)


def plot_price(runs: Iterable[RunRecord], file: Path | str) -> bool:
    """Draw final accuracy against cost as a share of retraining's: see `draw_price`.

    Runs of several recipes get a panel each.

    Args:
        runs: what `read_runs` returns.
        file: where to write; .png, .svg or .pdf.

    Returns:
        Whether there was something to draw: nothing is written where no comparison has retraining.

    Raises:
        InputError: if there is no run, or the file cannot be written.
    """
    groups = [group for group in group_runs(runs) if prices(group)]
    if groups:
        named = zip(setting_names(groups), groups, strict=True)
        panels = [(name, partial(draw_price, group)) for name, group in named]
        paint(panels, file, PRICE_SIZE, common_scale=False)  # retraining is elsewhere in each
    return bool(groups)


def paint(
    panels: Sequence[tuple[str, Callable[[Axes], Points]]],
    file: Path | str | BinaryIO,
    size: tuple[float, float] = SIZE,
    common_scale: bool = True,
    shades: Mapping[str, str] | None = None,
) -> None:
    """Draw panels side by side, and write them.

    Args:
        panels: for each its title, and what draws it and returns where its names belong.
        file: where to write; a stream gets SVG.
        size: of one panel, in inches.
        common_scale: whether all have one vertical scale.
        shades: name -> colour, as #RRGGBB, where the names are not those of policies.

    Raises:
        InputError: if the file cannot be written.
    """
    with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
        # Letters that our font lacks are in the reader's, which an SVG uses.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure = Figure(figsize=(size[0] * len(panels), size[1]), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        row = figure.subplots(1, len(panels), sharey=common_scale, squeeze=False)[0]
        named = []
        for (title, draw), axes in zip(panels, row, strict=True):
            axes.set_title(title)
            named.append((axes, draw(axes)))
        room = max(sum(len(_broken(name)) for name in points) for _, points in named) * LABEL_GAP * LETTERS / 72
        figure.set_size_inches(figure.get_figwidth(), max(size[1], room + 1))
        labels = [(axes, points, _name(axes, points, shades)) for axes, points in named]
        # Only now is the common scale known, and with it which names would overlap. The names take room themselves,
        # which moves what they are placed by: so they are placed, and placed again.
        for _ in range(2):
            figure.draw_without_rendering()
            for axes, points, names in labels:
                _place(axes, points, names)
        kind = Path(file).suffix[1:] or "png" if isinstance(file, str | Path) else "svg"
        try:
            # Without a date the same runs give the same file.
            stream = io.BytesIO()
            figure.savefig(stream, format=kind, metadata={"Date": None} if kind == "svg" else None)
            if isinstance(file, str | Path):
                replace_file(Path(file), stream.getvalue())  # a link that bears this name is replaced, not followed
            else:
                file.write(stream.getvalue())
        except (OSError, ValueError) as error:
            raise InputError(f"cannot write the picture {file}: {error}") from None


def draw_lines(axes: Axes, lines: Mapping[str, tuple[Sequence[float], Sequence[Spread]]], apart: float = 0.0) -> Points:
    """Draw a line for each policy, (positions, shares in [0, 1]), in percent; return the lines' ends.

    Bars show ± one standard deviation. Where positions are counts, the lines may be shifted apart a little, all
    together by a share of the width, so that the bars do not hide one another. With many lines there are no bars.
    """
    styles = line_styles(lines)
    first = min(positions[0] for positions, _ in lines.values())
    last = max(positions[-1] for positions, _ in lines.values())
    reach = last - first or 1.0
    spread_out = len(lines) <= MANY and any(point.deviation for _, points in lines.values() for point in points)
    ends = {}
    for number, (policy, (positions, points)) in enumerate(lines.items()):
        shade, mark = colour(policy)
        aside = ((number + 0.5) / len(lines) - 0.5) * apart * reach if spread_out else 0.0
        places, means = [position + aside for position in positions], [100 * point.mean for point in points]
        axes.errorbar(
            places,
            means,
            yerr=[100 * (point.deviation or 0) for point in points] if spread_out else None,
            color=shade,
            linestyle=styles[policy],
            marker=mark,
            markersize=5,
            linewidth=1.6,
            elinewidth=0.9,
            clip_on=False,
        )
        ends[policy] = (places[-1], means[-1])
    axes.set_xlim(first - 0.04 * reach, last + 0.02 * reach if last > first else last + 0.5)
    return ends


def draw_stages(group: RunGroup, axes: Axes) -> Points:
    """Draw test accuracy after each stage; return the lines' ends.

    Of several budgets of a policy, that of its price is drawn; where it has none, the largest.
    """
    axes.set_ylabel("test accuracy, %")
    seeds = {len(runs) for runs in group.policies.values()}
    drawn = len({run.policy for run in group.runs})
    shown = "mean ± standard deviation" if drawn <= MANY else "mean"
    over = f" ({shown} of {seeds.pop()} seeds)" if len(seeds) == 1 and seeds != {1} else ""
    axes.set_xlabel(f"stage{over}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    lines = {}
    for policy, runs in one_budget_each(group).policies.items():
        stages = range(1, len(runs[0].stages) + 1)
        lines[policy] = stages, [_known(spread(run.stages[stage - 1].accuracy for run in runs)) for stage in stages]
    return draw_lines(axes, lines, APART)


def draw_curve(lines: Mapping[str, tuple[Sequence[float], Sequence[Spread]]], label: str, axes: Axes) -> Points:
    """Draw accuracy against how hard the task was made; return the lines' ends.

    Args:
        lines: policy -> (positions, shares in [0, 1]).
        label: what the positions are.
        axes: where to draw.
    """
    axes.set_xlabel(label)
    axes.set_ylabel("accuracy, %")
    axes.set_ylim(0, 102)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=label == "severity"))
    return draw_lines(axes, lines)


def draw_reliability(diagrams: Mapping[str, Sequence[Mapping[str, float]]], axes: Axes) -> Points:
    """Draw accuracy against confidence: policy -> bins of a reliability diagram; return the lines' ends.

    On the grey line a model is calibrated. The larger a mark, the more examples there are in its bin; the lines skip
    bins with less than one example in a hundred, whose accuracy is mostly chance.
    """
    axes.plot([0, 100], [0, 100], color="#B0B0B0", linewidth=1.2, zorder=1)
    axes.set_xlabel("confidence, %")
    axes.set_ylabel("accuracy, %")
    styles = line_styles(diagrams)
    ends = {}
    for policy, bins in diagrams.items():
        shade, mark = colour(policy)
        confidences, accuracies = ([100 * bin_[key] for bin_ in bins] for key in ("confidence", "accuracy"))
        total = sum(bin_["examples"] for bin_ in bins)
        line = [(100 * bin_["confidence"], 100 * bin_["accuracy"]) for bin_ in bins if bin_["examples"] >= total / 100]
        axes.plot(*zip(*line, strict=True), color=shade, linestyle=styles[policy], linewidth=1.2, alpha=0.7)
        sizes = [4 + 220 * bin_["examples"] / total for bin_ in bins]
        axes.scatter(confidences, accuracies, s=sizes, color=shade, marker=mark, zorder=3, clip_on=False)
        ends[policy] = (confidences[-1], accuracies[-1])
    axes.set_xlim(0, 101)
    axes.set_ylim(0, 103)
    return ends


def _known(value: Spread | None) -> Spread:
    if value is None:
        raise InputError("there is no test set, so there are no accuracies to draw")
    return value


def draw_cost(group: RunGroup, axes: Axes) -> Points:
    """Draw final accuracy against cost, and the Pareto front; return the points."""
    measure = "flops" if any((totals(run)["flops"] or 0) > 0 for run in group.runs) else "seconds"
    points: dict[str, tuple[Spread, Spread]] = {}
    for policy, runs in group.policies.items():
        costs = _known(spread(totals(run)[measure] for run in runs))
        points[policy] = costs, _known(spread(run.final.accuracy for run in runs))
    front = pareto_front((cost.mean, 100 * accuracy.mean) for cost, accuracy in points.values())
    dearest = max(cost.mean for cost, _ in points.values())
    right = 1.45 * dearest or 1.0
    lowest = min(100 * (accuracy.mean - (accuracy.deviation or 0)) for _, accuracy in points.values())
    steps = [(front[0][0], lowest), front[0]]
    for (_, before), after in itertools.pairwise(front):
        steps += [(after[0], before), after]
    axes.plot(*zip(*steps, (right, front[-1][1]), strict=True), color="#B0B0B0", linewidth=1.2, zorder=1)
    for policy, (cost, accuracy) in points.items():
        shade, mark = colour(policy)
        axes.errorbar(
            cost.mean,
            100 * accuracy.mean,
            xerr=cost.deviation or None,
            yerr=100 * (accuracy.deviation or 0) or None,
            color=shade,
            marker=mark,
            markersize=7,
            elinewidth=1.2,
        )
    axes.annotate(
        "Pareto front",
        (front[0][0], lowest),
        (-2, 0),
        textcoords="offset points",
        color="#707070",
        ha="right",
        rotation=90,
        fontsize=8,
    )
    axes.set_xlim(0, right)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    axes.set_xlabel("FLOPs of all stages, unlearning included" if measure == "flops" else "seconds of all stages")
    axes.set_ylabel("final test accuracy, %")
    return {policy: (cost.mean, 100 * accuracy.mean) for policy, (cost, accuracy) in points.items()}


def draw_price(group: RunGroup, axes: Axes) -> Points:
    """Draw final accuracy against cost as a share of retraining's, a line for each policy over its budgets.

    Heights are the mean final accuracy of retraining plus the mean difference from it, seed by seed; bars are the 90 %
    interval of that difference. So a policy is not worse where its whole bar lies above the lower edge of the shaded
    region, which is one point below retraining: its mark is filled there, and hollow elsewhere. With many policies
    there are no bars. Costs that differ much stand on a logarithmic scale.

    Returns:
        the lines' ends.
    """
    rows, base = prices(group), _known(spread(run.final.accuracy for run in retraining(group))).mean
    lines: dict[str, list[Price]] = {}
    for row in rows:
        if row.mean is not None:
            lines.setdefault(row.policy, []).append(row)
    costs = [row.cost for row in rows if row.mean is not None]
    low, high = min(costs), max(*costs, 1.0)
    logarithmic = high > WIDE_RANGE * low
    left, right = (low / 1.25, high * 1.1) if logarithmic else (0.0, high * 1.08)
    floor = 100 * (base - MARGIN)
    means = [100 * (base + row.mean) for row in rows if row.mean is not None]
    reach = max(max(means) - min(*means, floor), 1.0)
    bottom, top = min(*means, floor) - 0.12 * reach, max(means) + 0.2 * reach
    axes.set_xscale("log" if logarithmic else "linear")
    axes.fill_between([left, 1], floor, top, color=GOOD, linewidth=0, zorder=0)
    note: Any = {"textcoords": "offset points", "fontsize": 9}
    axes.annotate("cheaper and not worse", (left, top), (4, -4), va="top", color="#2E6B45", **note)
    below = 100 * base < (bottom + 2 * top) / 3  # then there is room above
    axes.plot([1, 1], [bottom, top], color="#808080", linewidth=0.9, linestyle=":", zorder=1)
    axes.annotate(
        "retraining",
        (1, top if below else bottom),
        (-3, -4 if below else 3),
        color="#606060",
        ha="right",
        va="top" if below else "bottom",
        rotation=90,
        **note,
    )
    axes.plot(1, 100 * base, marker="o", markersize=15, markerfacecolor="none", markeredgecolor=INK, zorder=4)
    styles, ends = line_styles(lines), {}
    for number, (policy, points) in enumerate(lines.items()):
        shade, mark = colour(policy)
        points = sorted(points, key=lambda row: row.cost)
        # A little aside, so that bars at one cost do not hide one another; to the right, so that none looks cheaper.
        aside = number / len(lines) * (0.09 if logarithmic else 0.03) if len(lines) <= MANY else 0.0
        places = [row.cost * (1 + aside * (not row.is_retraining)) for row in points]
        heights = [100 * (base + (row.mean or 0)) for row in points]
        axes.plot(places, heights, color=shade, linestyle=styles[policy], linewidth=1.5)
        for place, height, row in zip(places, heights, points, strict=True):
            face = shade if row.not_worse else "white"
            axes.plot(place, height, color=shade, marker=mark, markersize=6, markerfacecolor=face, clip_on=False)
            if row.low is not None and row.high is not None and not row.is_retraining and len(lines) <= MANY:
                bar = [max(100 * (base + row.low), bottom), min(100 * (base + row.high), top)]
                axes.plot([place, place], bar, color=shade, linewidth=0.9, alpha=0.7)
        ends[policy] = places[-1], heights[-1]
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    _percent_ticks(axes, logarithmic)
    unit = UNITS[cost_measure(group)]
    bars = "\nbars: 90 % interval of the difference" if len(lines) <= MANY else ""
    axes.set_xlabel(f"cost of stages 2 and later, % of retraining's {unit}\nfilled: not worse than retraining{bars}")
    axes.set_ylabel("final test accuracy, %")
    return ends


def _percent_ticks(axes: Axes, logarithmic: bool) -> None:
    if logarithmic:
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))


def spread_apart(positions: Sequence[float], heights: Sequence[float], floor: float = -math.inf) -> list[float]:
    """Move the middles of labels as little as possible (least squares) so that none overlaps the next, in order.

    A label that would then be below the floor moves up, and pushes those above it.

    Args:
        positions: where the middles belong.
        heights: one for each label.
        floor: where the lowest label may end.

    Example:
        >>> spread_apart([1.0, 1.0, 5.0], [2.0, 2.0, 2.0])
        [0.0, 2.0, 5.0]
        >>> spread_apart([1.0, 1.0, 5.0], [2.0, 2.0, 2.0], floor=0.0)
        [1.0, 3.0, 5.0]
    """
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    offsets = [0.0]  # how far each label would be above the lowest if all were stacked
    for below, above in itertools.pairwise(order):
        offsets.append(offsets[-1] + (heights[below] + heights[above]) / 2)
    blocks: list[tuple[float, int]] = []  # (mean of position minus offset, number of members)
    for index, offset in zip(order, offsets, strict=True):
        mean, count = positions[index] - offset, 1
        while blocks and blocks[-1][0] > mean:
            before, members = blocks.pop()
            mean, count = (mean * count + before * members) / (count + members), count + members
        blocks.append((mean, count))
    moved = [0.0] * len(positions)
    starts = [mean for mean, count in blocks for _ in range(count)]
    for index, start, offset in zip(order, starts, offsets, strict=True):
        moved[index] = max(start + offset, floor + heights[index] / 2)
        floor = moved[index] + heights[index] / 2
    return moved


def _broken(name: str) -> list[str]:
    """Return the lines of a policy's name: long ones are broken after a colon.

    Example:
        >>> _broken("dash:alpha=0:shrink_floor=0:biases=false")
        ['dash:alpha=0:', 'shrink_floor=0:', 'biases=false']
    """
    first, *others = re.findall("[^:]*:|[^:]+", name)
    lines = [first]
    for part in others:
        if len(lines[-1]) + len(part) <= LABEL_LENGTH:
            lines[-1] += part
        else:
            lines.append(part)
    return lines


def _name(axes: Axes, points: Points, shades: Mapping[str, str] | None) -> dict[str, Annotation]:
    """Write each name right of its point."""
    labels = {}
    for name, point in points.items():
        shade = shades[name] if shades else colour(name)[0]
        labels[name] = axes.annotate(
            "\n".join(_broken(name)),
            point,
            (16, 0),
            textcoords="offset points",
            color=shade,
            va="center",
            annotation_clip=False,
            parse_math=False,  # a name may hold dollars
            arrowprops={
                "arrowstyle": "-",
                "color": shade,
                "linewidth": 0.7,
                "shrinkA": 0,
                "shrinkB": 5,
                "relpos": (0, 0.5),
            },
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
        )
    return labels


def _place(axes: Axes, points: Points, labels: Mapping[str, Annotation]) -> None:
    """Move the names apart; a name goes to the right of a point that is in its way."""
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    to_points = 72 / figure.dpi
    places = {name: [to_points * number for number in axes.transData.transform(xy)] for name, xy in points.items()}
    frame = axes.get_window_extent()
    columns: list[list[str]] = []
    for name in sorted(places, key=lambda name: places[name][0]):
        if columns and places[name][0] - places[columns[-1][-1]][0] < NEAR * to_points * frame.width:
            columns[-1].append(name)
        else:
            columns.append([name])
    for column in columns:
        sizes = [LABEL_GAP * LETTERS * len(_broken(name)) for name in column]
        heights = spread_apart([places[name][1] for name in column], sizes, to_points * frame.y0)
        for name, height in zip(column, heights, strict=True):
            x, y = places[name]
            low, high = min(y, height) - LETTERS, max(y, height) + LETTERS
            edge = 16 + max(places[other][0] for other in column if other == name or low < places[other][1] < high)
            labels[name].xyann = (max(edge - x, 16), height - y)
