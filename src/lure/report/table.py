"""Tables for a terminal: policies side by side, their prices, and one run stage by stage.

All are readable at 80 columns. A pipe has no width, so `report_console` uses 80 there.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

from rich.table import Table

from lure.metrics.statistics import Spread, spread
from lure.report.comparison import (
    RunGroup,
    cumulative_errors,
    finite,
    group_runs,
    paired_differences,
    setting_names,
    stage_cost,
    totals,
)
from lure.report.console import empty_table
from lure.report.price import (
    FEWEST_SEEDS,
    SMALLER_BUDGETS,
    UNITS,
    Price,
    PriceAnswer,
    cost_measure,
    cost_percent,
    one_budget_each,
    price_answers,
    prices,
)
from lure.report.records import RunRecord
from lure.report.verdict import MARGIN
from lure.words import MISSING, count, percent, points

WIDE = 100
FLIPS_SHOWN = 3  # so many classes are named
NEW_LINE = "\n"
NARROW_NAME = 20  # characters of a name that always fit
SETTING_WIDTH = 15  # columns of a setting in the table over settings
NAME_WIDTH = 26  # and of the policies there
SHORT = {
    "dearer than retraining": "dearer",
    "not decided by these seeds": "open",
    "worse at every budget tried": "worse",
}

COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {
    "final_accuracy": ("final\naccuracy\n%", percent),
    "mean_error_rate": ("mean\nerror\nrate %", percent),
    "cumulative_error_count": ("CER", lambda value: f"{value:.0f}"),
    "expected_calibration_error": ("ECE\n%", percent),
    "negative_flip_rate": ("negative\nflips\n%", percent),
    "seconds": ("training\nseconds", lambda value: f"{value:.1f}" if value < 100 else f"{value:.0f}"),
    "examples_seen": ("examples\nseen", lambda value: short_number(value)),
    "flops": ("FLOPs", lambda value: short_number(value)),
}

STAGE_COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {
    "stage": ("stage", lambda value: f"{value:.0f}"),
    "train_examples": ("training\nexamples", lambda value: f"{value:.0f}"),
    "accuracy": ("test\naccuracy\n%", percent),
    "train_accuracy": ("training\naccuracy\n%", percent),
    "cumulative_errors": ("CER", lambda value: f"{value:.0f}"),
    "expected_calibration_error": ("ECE\n%", percent),
    "changed_fraction": ("weights\nchanged\n%", percent),
    "seconds": ("seconds", lambda value: f"{value:.1f}"),
    "flops": ("FLOPs", lambda value: short_number(value)),
}


def short_number(value: float) -> str:
    """Write a count in three digits and a unit: k, M, G, T, P, E.

    Example:
        >>> short_number(950), short_number(150_000), short_number(12_345_678_901_234)
        ('950', '150k', '12.3T')
    """
    unit = min(int(math.log10(value) / 3), 6) if value >= 1 else 0
    scaled = value / 1000**unit
    digits = max(0, 2 - int(math.log10(scaled))) if unit and scaled >= 1 else 0
    if round(scaled, digits) >= 1000 and unit < 6:
        return short_number(1000.0 ** (unit + 1))
    text = f"{scaled:.{digits}f}"
    return (text.rstrip("0").rstrip(".") if digits else text) + ("", "k", "M", "G", "T", "P", "E")[unit]


def comparison_table(runs: Iterable[RunRecord], width: int = WIDE) -> Table:
    """Return the table over policies: each number as mean ± standard deviation over seeds, and points from scratch.

    The last column, where scratch was run, is final accuracy minus that of scratch with the same seed, in percentage
    points. Runs of several
    recipes have sections of their own and are never averaged together; a section's title says how it differs.

    Args:
        runs: what `read_runs` returns.
        width: columns of the terminal; below 100 the deviations are under the means, and where FLOPs are known, the
            examples seen are left out.

    Raises:
        InputError: if there is no run, or two runs of one recipe and seed saw different data.
    """
    groups = group_runs(runs)
    table = empty_table()
    table.add_column("policy", overflow="fold")
    left_out = {"negative_flip_rate"}  # stands below the table
    if width < WIDE and all(totals(run)["flops"] for group in groups for run in group.runs):
        left_out.add("examples_seen")  # the names need the room, and FLOPs say as much
    columns = {name: heading for name, (heading, _) in COLUMNS.items() if name not in left_out}
    for heading in columns.values():
        table.add_column(heading, justify="right", no_wrap=True)
    from_scratch = any("scratch" in group.policies for group in groups)
    if from_scratch:
        table.add_column("points\nfrom\nscratch", justify="right", no_wrap=True)
    counts = {len(members) for group in groups for members in group.policies.values()}
    for group, title in zip(groups, setting_names(groups), strict=True):
        if title:
            table.add_row(title, style="bold")
        for policy, members in group.policies.items():
            label = budget_label(group, policy, width) + ("" if len(counts) == 1 else f" ({len(members)})")
            cells = _policy_cells(group, policy, columns)[: len(columns) + from_scratch]
            table.add_row(label, *(cell if width >= WIDE else cell.replace("±", "\n±") for cell in cells))
        table.add_section()
    table.caption = _caption(groups, counts)
    return table


def budget_label(group: RunGroup, policy: str, width: int = WIDE) -> str:
    """Write a policy and its budget, if the group has several; where it is narrow, below one another."""
    run = group.policies[policy][0]
    # Without this a long name would be broken in the middle of a word or number.
    name = run.policy if width >= WIDE or len(run.policy) <= NARROW_NAME else run.policy.replace(":", f":{NEW_LINE}", 1)
    if len({run.budget for run in group.runs}) == 1:
        return name
    return f"{name}{', ' if width >= WIDE else NEW_LINE}budget {run.budget:g}"


def _policy_cells(group: RunGroup, policy: str, measures: Iterable[str]) -> list[str]:
    members = group.policies[policy]
    numbers = [totals(run) for run in members]
    cells = [format_spread(spread(number[name] for number in numbers), COLUMNS[name][1]) for name in measures]
    if policy == "scratch" or "scratch" not in group.policies:
        return [*cells, MISSING]
    differences = paired_differences(members, group.policies["scratch"])
    return [*cells, format_spread(spread(differences.values()), percent, sign=True)]


def _caption(groups: list[RunGroup], counts: set[int]) -> str:
    if counts == {1}:
        first = "One seed each."
    elif len(counts) == 1:
        first = f"Mean ± standard deviation over {counts.pop()} seeds."
    else:
        first = "Mean ± standard deviation over seeds; the number of seeds follows the policy's name."
    notes = [
        _flip_rates(group)
        for group in groups
        if any(totals(run)["negative_flip_rate"] is not None for run in group.runs)
    ]
    notes += [note for group in groups for note in group.left_out]
    notes += [run.note for group in groups for run in group.runs if run.note]
    if len(groups) > 1:
        notes.insert(0, f"The runs follow {len(groups)} different recipes and are not averaged over them.")
    return "\n".join([first, *notes])


def _flip_rates(group: RunGroup) -> str:
    """Return a line on the test examples that turn from right to wrong from one version to the next, in percent."""
    rates = {
        policy: format_spread(
            spread(totals(run)["negative_flip_rate"] for run in runs), lambda share: percent(share, 2)
        )
        for policy, runs in one_budget_each(group).policies.items()  # more than one would fill the screen
    }
    label = f" ({group.label})" if group.label else ""
    return (
        f"Negative flips a stage, in %{label}: " + ", ".join(f"{policy} {rate}" for policy, rate in rates.items()) + "."
    )


def price_table(runs: Iterable[RunRecord], width: int = WIDE) -> Table | None:
    """Return the table of prices, a row for each policy and budget; None where no comparison has retraining.

    Each row has the cost as a share of retraining's, final accuracy minus that of retraining in percentage points with
    its 90 % interval, and whether that is not worse ("open": the seeds do not decide); the first row of a policy has
    its answer. Runs of several recipes have sections of their own.

    Args:
        runs: what `read_runs` returns.
        width: columns of the terminal; below 100 the answers are short, and explained below the table.

    Raises:
        InputError: if there is no run, or two runs of one recipe and seed saw different data.
    """
    groups = [group for group in group_runs(runs) if prices(group)]
    if not groups:
        return None
    table = empty_table()
    table.add_column("policy", overflow="fold")
    for heading in ("budget", "cost\n%", "points\nfrom re-\ntraining", "90 %\ninterval"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("not\nworse", no_wrap=True)
    table.add_column("price", no_wrap=True)
    for group, title in zip(groups, setting_names(groups), strict=True):
        if title:
            table.add_row(title, style="bold")
        answers = {
            answer.policy: answer.text if width >= WIDE else price_text(answer) for answer in price_answers(group)
        }
        for row in prices(group):
            cells = f"{row.budget:g}", cost_percent(row.cost), points(row.mean), interval_text(row), not_worse_text(row)
            # Its policy's first row alone has the name and the answer.
            answer = answers.pop(row.policy, None)
            table.add_row(row.policy if answer else "", *cells, answer or "")
        table.add_section()
    legend = price_legend(answer for group in groups for answer in price_answers(group))
    table.caption = _price_caption(groups, "" if width >= WIDE else legend)
    return table


def interval_text(row: Price) -> str:
    """Write the 90 % interval of a difference from retraining in points: "-0.5 to +1.2"."""
    if row.is_retraining or row.low is None:
        return MISSING
    return f"{points(row.low)} to {points(row.high)}"


def not_worse_text(row: Price) -> str:
    """Write whether a policy at a budget is not worse than retraining: yes, no, or open."""
    return "yes" if row.not_worse else "no" if row.worse else "open"


def _price_caption(groups: list[RunGroup], legend: str) -> str:
    measures = dict.fromkeys(UNITS[cost_measure(group)] for group in groups)
    tests = sum(not row.is_retraining for group in groups for row in prices(group))
    cheaper = any(row.is_cheaper for group in groups for row in prices(group))
    return (
        f"Cost: share of retraining's {' or '.join(measures)} of stages 2 and later. Not worse: the interval of the "
        f"difference from retraining, seed by seed, begins at -{percent(MARGIN, 0)} point or above, with at least "
        f"{FEWEST_SEEDS} seeds; {count(tests, 'test')} at 5 %. Price: the least cost that is not worse{legend}."
        + ("" if cheaper else f" Nothing cheaper than retraining was tried: add {SMALLER_BUDGETS}.")
    )


def price_legend(answers: Iterable[PriceAnswer]) -> str:
    """Explain the short answers of `price_text` that occur: "; open: not decided by these seeds"."""
    answers = list(answers)
    words = ["; ≤: a cheaper budget is open"] if any(answer.at_most for answer in answers) else []
    words += [f"; {short}: {long}" for long, short in SHORT.items() if any(answer.answer == long for answer in answers)]
    return "".join(words)


def settings_tables(runs: Iterable[RunRecord], width: int = WIDE) -> list[Table]:
    """Return price and regret of each policy (rows) in each setting (columns); [] for a single setting.

    Where not all settings fit beside one another, the others are in further tables.

    Args:
        runs: what `read_runs` returns; each recipe is a setting.
        width: columns of the terminal.

    Raises:
        InputError: if there is no run, or two runs of one recipe and seed saw different data.
    """
    groups = group_runs(runs)
    if len(groups) == 1 or not any(prices(group) for group in groups):
        return []
    policies = dict.fromkeys(run.policy for group in groups for run in group.runs)
    names = setting_names(groups)
    fitting = max(1, (width - NAME_WIDTH) // SETTING_WIDTH)
    tables = []
    for start in range(0, len(groups), fitting):
        table = empty_table()
        table.add_column("policy", overflow="fold")
        shown = groups[start : start + fitting]
        for name in names[start : start + fitting]:
            table.add_column(name.replace(", ", NEW_LINE), justify="right", max_width=SETTING_WIDTH - 1)
        answers = [{answer.policy: answer for answer in price_answers(group)} for group in shown]
        for policy in policies:
            table.add_row(policy, *(price_and_regret(answer.get(policy)) for answer in answers))
        tables.append(table)
    legend = price_legend(answer for group in groups for answer in price_answers(group))
    tables[0].caption = (
        f"Price / regret. Price: the least share of retraining's cost that is not worse than retraining{legend}. "
        "Regret: points of final accuracy behind the best of the setting, each policy at its best budget."
    )
    return tables


def price_and_regret(answer: PriceAnswer | None) -> str:
    """Write a policy's price and regret in one setting: "10 % / 0.0"; `MISSING` where it was not tried."""
    if answer is None:
        return MISSING
    return f"{price_text(answer)} / {percent(answer.regret)}"


def price_text(answer: PriceAnswer) -> str:
    """Write an answer shortly: "10 %", "≤ 30 %", "dearer", "open", "worse"."""
    if answer.cost is None:
        return SHORT[answer.answer]
    return f"{'≤ ' if answer.at_most else ''}{cost_percent(answer.cost)} %"


def format_spread(value: Spread | None, write: Callable[[float], str], sign: bool = False) -> str:
    """Write mean±deviation; the deviation is left out where one seed has none, or where all seeds agree exactly.

    Args:
        value: what to write; None where nothing is known.
        write: number -> text.
        sign: put a plus sign before numbers that are not negative.

    Example:
        >>> format_spread(spread([0.725, 0.735]), percent)
        '73.0±0.7'
    """
    if value is None:
        return MISSING
    text = ("+" if sign and value.mean >= 0 else "") + write(value.mean)
    return text + (f"±{write(value.deviation)}" if value.deviation else "")


def run_table(run: RunRecord) -> Table:
    """Return the table of one run, a row for each stage: accuracy, calibration, what was forgotten, and cost.

    Readable at 80 columns.

    Args:
        run: what `read_run` returns.
    """
    table = empty_table()
    table.title = f"{run.policy}, seed {run.seed}"
    for heading, _ in STAGE_COLUMNS.values():
        table.add_column(heading, justify="right", no_wrap=True)
    refused = any(not stage.accepted for stage in run.stages)
    if refused:
        table.add_column("pass\nthe\ngate")
    errors = cumulative_errors(run)
    for number, stage in enumerate(run.stages):
        numbers = {name: getattr(stage, name) for name in STAGE_COLUMNS if hasattr(stage, name)}
        numbers["cumulative_errors"] = errors[number] if errors else None
        numbers |= {measure: stage_cost(stage, measure) for measure in ("seconds", "flops")}
        cells = [_cell(numbers[name], write) for name, (_, write) in STAGE_COLUMNS.items()]
        if refused:
            cells.append("yes" if stage.accepted else "no")
        table.add_row(*cells)
    table.caption = "\n".join(filter(None, [_flips_note(run), run.note])) or None
    return table


def _flips_note(run: RunRecord) -> str:
    """Return a sentence on what turned from right to wrong with each stage; empty where that is not known."""
    flips = {stage.stage: stage.negative_flips for stage in run.stages if stage.negative_flips is not None}
    if not flips:
        return ""
    worst = run.stages[max(flips, key=flips.__getitem__) - 1]
    by_class = sorted(worst.negative_flips_by_class.items(), key=lambda item: -item[1])[:FLIPS_SHOWN]
    classes = f" ({', '.join(f'{name} {number}' for name, number in by_class)})" if by_class else ""
    return (
        f"Negative flips (right before, wrong then): {sum(flips.values())} in {count(len(flips), 'stage')}, most in "
        f"stage {worst.stage}: {worst.negative_flips} of {worst.test_examples}{classes}."
    )


def _cell(value: Any, write: Callable[[float], str]) -> str:
    number = finite(value)
    return MISSING if number is None else write(number)
