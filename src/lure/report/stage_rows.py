"""Runs as one plain CSV table, a row for each run and stage, for pandas and its like."""

import csv
import dataclasses
import io
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lure.errors import InputError
from lure.report.comparison import differing_fields, shared_recipes, stage_cost
from lure.report.records import RunRecord
from lure.store.stage import Stage
from lure.words import spreadsheet_text


def write_csv(runs: Iterable[RunRecord], file: Path | str) -> None:
    """Write one row for each run and stage.

    Columns: `policy`, `budget`, `seed`, `directory`; the recipe fields in which the runs differ, if they follow several
    recipes; `stage` and every other number of `lure.store.stage.Stage` under its name; `cumulative_flops`,
    `cumulative_seconds` (training and unlearning) and `cumulative_examples_seen`, summed up to this stage. Shares are
    in [0, 1]; what is not known is empty. A name that a spreadsheet would take for a formula has an apostrophe before
    it.

    Args:
        runs: what `read_runs` returns; unfinished runs have fewer rows.
        file: where to write; an older file is replaced.

    Raises:
        InputError: if there is no run, or the file cannot be written.
    """
    runs = list(runs)
    if not runs:
        raise InputError("there is no run to report")
    recipes = shared_recipes(runs)
    settings = differing_fields(recipes)
    numbers = [field.name for field in dataclasses.fields(Stage) if _is_number(field.type) and field.name != "seed"]
    costs = ("flops", "seconds", "examples_seen")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    names = ["policy", "budget", "seed", "directory", *settings, *numbers, *(f"cumulative_{cost}" for cost in costs)]
    table.writerow(map(spreadsheet_text, names))
    for run, recipe in zip(runs, recipes, strict=True):
        total: dict[str, float] = dict.fromkeys(costs, 0)
        first = [run.policy, run.budget, run.seed, str(run.directory), *(recipe.get(name) for name in settings)]
        for stage in run.stages:
            total["flops"] += stage_cost(stage, "flops")
            total["seconds"] += stage_cost(stage, "seconds")
            total["examples_seen"] += stage.examples_seen
            cells = [*first, *(getattr(stage, name) for name in numbers), *total.values()]
            table.writerow(cell if _is_plain(cell) else spreadsheet_text(cell) for cell in cells)
    try:
        Path(file).write_text(text.getvalue(), encoding="utf-8", errors="backslashreplace", newline="")
    except OSError as error:
        raise InputError(f"cannot write the table {file}: {error.strerror}") from None


def _is_number(kind: Any) -> bool:
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    return set(kinds) <= {int, float, bool, type(None)}


def _is_plain(cell: Any) -> bool:
    return cell is None or isinstance(cell, int | float)
