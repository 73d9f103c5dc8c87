"""Picture of the suite: how far each policy is from a warm start, at each budget, and how sure that is."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from matplotlib.axes import Axes

from lure.metrics.statistics import Interval
from lure.report.plots import Points, paint

SIZE = (5.0, 5.6)  # of one panel, in inches
SHADES = ("#7FCDBB", "#41A0C4", "#225EA8", "#081D58")  # light to dark, in the order of the budgets
APART = 0.17  # from one budget to the next, where one policy is 1 from the next
Leads = Mapping[str, Mapping[float, Interval]]  # policy -> budget -> lead over a warm start, a share in [-1, 1]


def plot_leads(panels: Mapping[str, Leads], policies: Sequence[str], file: Path) -> None:
    """Draw for each policy a point and its interval at each budget, in a panel for each kind of data.

    Args:
        panels: title -> leads; a policy without any has an empty row, and where nobody has any there is no picture.
        policies: from top to bottom.
        file: where to write the picture.

    Raises:
        InputError: if it cannot be written.
    """
    shown = [interval for leads in panels.values() for each in leads.values() for interval in each.values()]
    if not shown:
        return
    limits = 100 * min(each.low for each in shown) - 0.3, 100 * max(each.high for each in shown) + 0.3
    paint([(title, partial(draw_leads, leads, policies, limits)) for title, leads in panels.items()], file, SIZE)


def draw_leads(leads: Leads, policies: Sequence[str], limits: tuple[float, float], axes: Axes) -> Points:
    """Draw one panel, between two limits in points; return no names to write beside it."""
    axes.axvline(0, color="#808080", linewidth=1)
    budgets = sorted({budget for each in leads.values() for budget in each})
    for number, budget in enumerate(budgets):
        found = {policy: leads[policy][budget] for policy in policies if budget in leads.get(policy, {})}
        places = [policies.index(policy) + APART * (number - (len(budgets) - 1) / 2) for policy in found]
        means = [100 * each.mean for each in found.values()]
        bars = [[100 * (each.mean - each.low), 100 * (each.high - each.mean)] for each in found.values()]
        axes.errorbar(
            means,
            places,
            xerr=list(zip(*bars, strict=True)),
            fmt="o",
            color=SHADES[number % len(SHADES)],
            markersize=5,
            elinewidth=1.5,
            label=f"budget {budget:g}",
        )
    axes.set_yticks(range(len(policies)), policies)
    axes.set_ylim(len(policies) - 0.4, -0.6)
    axes.set_xlim(*limits)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("points from a warm start at the same budget")
    if budgets:
        axes.legend(loc="upper left", frameon=False, fontsize=8)
    return {}
