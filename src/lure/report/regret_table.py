"""Tables for a terminal on several settings: each policy's regret at equal budget, worst first, and its profile."""

from collections.abc import Iterable

from rich.table import Table

from lure.metrics.statistics import Interval
from lure.report.comparison import group_runs
from lure.report.console import empty_table
from lure.report.price import FEWEST_SEEDS
from lure.report.records import RunRecord
from lure.report.regret import CHEAP, WITHIN, Cell, Standing, standings_over_settings
from lure.report.table import NEW_LINE, format_spread
from lure.words import MISSING, count, percent, points

WHERE_WIDTH = 20
REGRET_HEADINGS = (
    "worst regret",
    "where",
    "mean regret",
    "from the best other",
    "worse in",
    "extra cost %",
    "low price in",
)


def regret_tables(runs: Iterable[RunRecord]) -> list[Table]:
    """Return the regret of each policy over all settings, and the performance profiles; [] for a single setting.

    Readable at 80 columns.

    Args:
        runs: what `read_runs` returns; each recipe is a setting.

    Raises:
        InputError: if there is no run, or two runs of one recipe and seed saw different data.
    """
    groups = group_runs(runs)
    found = standings_over_settings(groups)
    if not found:
        return []
    regrets, profiles = empty_table(), empty_table()
    for table in (regrets, profiles):
        table.add_column("policy", overflow="fold")
    for heading in (
        "worst\nregret",
        "mean\nregret",
        "from the\nbest other",
        "worse\nin",
        "extra\ncost\n%",
        "low\nprice\nin",
    ):
        regrets.add_column(heading, justify="right", no_wrap=True)
    regrets.add_column("worst where", overflow="fold", max_width=WHERE_WIDTH)
    for limit in WITHIN:
        profiles.add_column(within_heading(limit), justify="right", no_wrap=True)
    for each in found:
        worst, where, *numbers = (text.replace(" (", NEW_LINE + "(") for text in regret_cells(each))
        regrets.add_row(each.policy, worst, *numbers, where.replace(", ", NEW_LINE))
        profiles.add_row(each.policy, *within_cells(each))
    regrets.caption = regret_legend(found)
    profiles.caption = "Share of the pairs of setting and budget, in %, in which a policy is at most so far behind."
    return [regrets, profiles]


def within_heading(limit: float) -> str:
    """Write a limit of the profile: "best", or "within 0.5"."""
    return f"within {100 * limit:g}" if limit else "best"


def within_cells(standing: Standing) -> list[str]:
    """Write the share of pairs within each limit of the profile, in %."""
    return [percent(share, 0) for share in standing.within.values()]


def regret_cells(standing: Standing) -> list[str]:
    """Write what stands under each of `REGRET_HEADINGS`."""
    return [
        percent(standing.worst.regret),
        f"{standing.worst.setting}, budget {standing.worst.budget:g}",
        percent(standing.mean),
        difference_text(standing.difference),
        f"{standing.worse} of {standing.pairs}",
        percent(standing.extra_cost),
        f"{standing.cheap} of {standing.priced}" if standing.priced else MISSING,
    ]


def difference_text(found: Interval | None) -> str:
    """Write a difference in points with its interval: "-0.4 (-1.1 to +0.3)"."""
    return f"{points(found.mean)} ({points(found.low)} to {points(found.high)})" if found else MISSING


def accuracy_text(cell: Cell) -> str:
    """Write "82.1±0.5 (5) / 1.2": mean, standard deviation and number of seeds, and the regret."""
    return f"{format_spread(cell.accuracy, percent)} ({cell.accuracy.count}) / {percent(cell.regret)}"


def regret_legend(found: Iterable[Standing]) -> str:
    """Say what the columns of the table of regrets mean."""
    found = list(found)
    best = min(found, key=lambda each: (-each.pairs, each.mean))
    return (
        f"Regret at equal budget: points of final accuracy behind the best, in {count(best.pairs, 'pair')} of setting "
        "and budget. From the best other: the mean over the pairs that both have, seed by seed, against "
        f"{best.policy}, or for itself against {best.rival or 'none'}. Worse in: pairs in which the 90 % interval of "
        f"the difference from the best other there ends below zero, with at least {FEWEST_SEEDS} seeds. Extra cost: "
        "what it costs beyond the cheapest policy at the same budget, on average. Low price in: settings in which it "
        f"is at most {percent(CHEAP, 0)} % of retraining's cost."
    )
