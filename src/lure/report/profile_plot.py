"""Picture of a performance profile: in what share of the pairs a policy is within so many points of the best."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from lure.report.colours import colour, line_styles
from lure.report.plots import Points
from lure.report.regret import Cell

FARTHEST = 0.1  # what is farther behind than this is a failure, however far


def draw_profile(found: Sequence[Cell], axes: Axes) -> Points:
    """Draw for each policy the share of its pairs in which it is at most so many points behind; return the lines' ends.

    Args:
        found: what `lure.report.regret.cells` returns.
        axes: where to draw.
    """
    regrets: dict[str, list[float]] = {}
    for cell in found:
        if cell.regret is not None:
            regrets.setdefault(cell.policy, []).append(cell.regret)
    right = 100 * min(FARTHEST, max(max(each) for each in regrets.values()) or FARTHEST)
    styles, ends = line_styles(regrets), {}
    for policy, mine in regrets.items():
        inside = sorted(100 * regret for regret in mine if 100 * regret <= right)
        places = [0.0, *inside, right]
        shares = [100 * number / len(mine) for number in range(len(inside) + 1)] + [100 * len(inside) / len(mine)]
        axes.plot(places, shares, color=colour(policy)[0], linestyle=styles[policy], drawstyle="steps-post")
        ends[policy] = right, shares[-1]
    axes.set_xlim(0, right)
    axes.set_ylim(0, 102)
    axes.set_xlabel("at most so many points behind the best")
    axes.set_ylabel("share of settings and budgets, %")
    return ends
