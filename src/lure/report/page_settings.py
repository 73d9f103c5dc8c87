"""The part of a page that looks over all settings: the worst case first, the profile, every setting and budget."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from lure.report.comparison import RunGroup, setting_names
from lure.report.page_parts import Cell, Content, Table, figure, policy_cell
from lure.report.profile_plot import draw_profile
from lure.report.regret import Cell as Reached
from lure.report.regret import Standing, cells, standings_over_settings
from lure.report.regret_table import (
    REGRET_HEADINGS,
    accuracy_text,
    regret_cells,
    regret_legend,
    within_cells,
    within_heading,
)
from lure.words import MISSING, percent


def settings_values(groups: Sequence[RunGroup]) -> dict[str, Any] | None:
    """Return the values of `page_settings.html.jinja`; None where there is one setting, or nothing to compare."""
    found = standings_over_settings(groups)
    if not found:
        return None
    reached = cells(groups)
    return {
        "regrets": _regrets(found),
        "legend": regret_legend(found),
        "by_setting": _by_setting(found, setting_names(groups)),
        "profiles": Table(
            ["policy", *map(within_heading, found[0].within)],
            [[policy_cell(each.policy), *within_cells(each)] for each in found],
        ),
        "profile_figure": figure(
            partial(draw_profile, reached),
            "Performance profile",
            "In what share of all settings and budgets each policy is at most so many points of final accuracy behind "
            "the best there. Higher is better; at the left edge stands how often it is the best itself.",
        ),
        "budgets": [
            (f"{budget:g}", _accuracies([cell for cell in reached if cell.budget == budget], found, groups))
            for budget in sorted({cell.budget for cell in reached})
        ],
    }


def _regrets(found: Sequence[Standing]) -> Table:
    rows: list[list[Content]] = []
    for each in found:
        worst, *others = regret_cells(each)
        rows.append([policy_cell(each.policy), Cell(worst, "b"), *others])
    return Table(["policy", *REGRET_HEADINGS], rows)


def _by_setting(found: Sequence[Standing], names: Sequence[str]) -> Table:
    rows: list[list[Content]] = [
        [policy_cell(each.policy), *(percent(each.by_setting.get(name)) for name in names)] for each in found
    ]
    return Table(["policy", *names], rows)


def _accuracies(reached: Sequence[Reached], found: Sequence[Standing], groups: Sequence[RunGroup]) -> Table:
    """Set the final accuracy and the regret of each policy at one budget in each setting side by side."""
    by_place = {(cell.policy, cell.setting): cell for cell in reached}
    names = [name for name in setting_names(groups) if any(cell.setting == name for cell in reached)]
    policies = [each.policy for each in found if any(cell.policy == each.policy for cell in reached)]
    rows: list[list[Content]] = [
        [policy_cell(policy), *(_accuracy(by_place.get((policy, name))) for name in names)] for policy in policies
    ]
    return Table(["policy", *names], rows)


def _accuracy(cell: Reached | None) -> Content:
    if cell is None:
        return MISSING
    text = accuracy_text(cell)
    return Cell(text, "b") if cell.regret == 0 else text
