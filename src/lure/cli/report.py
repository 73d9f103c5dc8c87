"""`lure report`: what runs that are on disk show."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lure.cli.parser import Command, Parser

if TYPE_CHECKING:
    from lure.report.records import RunRecord


def add_flags(parser: Parser) -> None:
    """Add the flags of `lure report`."""
    parser.add_argument("directories", metavar="DIR", nargs="+", help="run directories, or folders that hold them")
    parser.add_argument("--html", metavar="FILE", type=Path, help="write one self-contained page, with plots")
    parser.add_argument("--json", action="store_true", help="print every number of that page as JSON instead of tables")
    parser.add_argument("--csv", metavar="FILE", type=Path, help="write one row for each run and stage, for pandas")


def report_command(arguments: argparse.Namespace) -> None:
    """Print one run stage by stage, or several side by side; write the page if asked."""
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
    if len(runs) == 1:
        from lure.report.console import report_console
        from lure.report.table import run_table

        report_console().print(run_table(runs[0]))
    else:
        print_comparison(runs)


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
