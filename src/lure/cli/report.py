"""`lure report`: what runs that are on disk show."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lure.cli.parser import Command, Parser
from lure.errors import printable

if TYPE_CHECKING:
    from lure.report.kept import KeptModel
    from lure.report.records import RunRecord


def add_flags(parser: Parser) -> None:
    """Add the flags of `lure report`."""
    parser.add_argument("directories", metavar="DIR", nargs="+", help="run directories, or folders that hold them")
    parser.add_argument("--html", metavar="FILE", type=Path, help="write one self-contained page, with plots")
    parser.add_argument("--json", action="store_true", help="print every number of that page as JSON instead of tables")
    parser.add_argument("--csv", metavar="FILE", type=Path, help="write one row for each run and stage, for pandas")


def report_command(arguments: argparse.Namespace) -> None:
    """Print one run stage by stage, a kept model version by version, or several side by side; write what is asked."""
    from lure.report.records import read_runs

    runs = read_runs(arguments.directories)
    if arguments.html:
        from lure.report.page import write_page

        write_page(runs, arguments.html)
        print(f"page: {arguments.html}", file=sys.stderr)
    if arguments.csv:
        from lure.report.stage_rows import write_csv

        write_csv(runs, arguments.csv)
        print(f"table: {arguments.csv}", file=sys.stderr)
    if arguments.json:
        from lure.report.numbers import page_data

        print(json.dumps(page_data(runs), indent=2))
        return
    from lure.report.console import report_console
    from lure.report.kept import read_kept
    from lure.report.table import run_table

    if len(runs) > 1:
        print_comparison(runs)
    elif model := read_kept(runs[0]):
        _print_kept(model)
    else:
        report_console().print(run_table(runs[0]))


def _print_kept(model: "KeptModel") -> None:
    from lure.report.console import report_console
    from lure.report.kept_table import kept_lines, kept_table

    first, below = kept_lines(model)
    print(printable(first))
    report_console().print(kept_table(model))
    for line in below:
        print(printable(line))


def print_comparison(runs: "Sequence[RunRecord]") -> None:
    """Print the tables of a comparison, and at the end its price; where nothing asks for one, its verdict."""
    from lure.comparison import answer_sentence, answer_tables
    from lure.report.console import report_console

    console = report_console()
    for table in answer_tables(runs, console.width):
        console.print(table)
    print(f"\n{answer_sentence(runs)}")


COMMAND = Command(
    summary="Report on runs or comparisons: tables, plots, mean and standard deviation over seeds.",
    add_flags=add_flags,
    run=report_command,
)
