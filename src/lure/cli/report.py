"""`lure report`: what runs that are on disk show."""

import argparse
import json
import sys
from pathlib import Path

from lure.cli.parser import Command, Parser


def add_flags(parser: Parser) -> None:
    """Add the flags of `lure report`."""
    parser.add_argument("directories", metavar="DIR", nargs="+", help="run directories, or folders that hold them")
    parser.add_argument("--html", metavar="FILE", type=Path, help="write one self-contained page, with plots")
    parser.add_argument("--json", action="store_true", help="print every number of that page as JSON instead of tables")


def report_command(arguments: argparse.Namespace) -> None:
    """Print one run stage by stage, or several side by side; write the page if asked."""
    from lure.report.records import read_runs

    runs = read_runs(arguments.directories)
    if arguments.html:
        from lure.report.page import write_page

        write_page(runs, arguments.html)
        print(f"page: {arguments.html}", file=sys.stderr)
    if arguments.json:
        from lure.report.numbers import page_data

        print(json.dumps(page_data(runs), indent=2))
        return
    from lure.report.console import report_console
    from lure.report.table import comparison_table, run_table

    console = report_console()
    if len(runs) == 1:
        console.print(run_table(runs[0]))
        return
    from lure.report.verdict import verdict

    console.print(comparison_table(runs, console.width))
    print(f"\n{verdict(runs)}")


COMMAND = Command(
    summary="Report on runs or comparisons: tables, plots, mean and standard deviation over seeds.",
    add_flags=add_flags,
    run=report_command,
)
