"""Reports: tables, plots, one sentence and one page on runs, read from their ledgers alone."""

from lure.report.comparison import group_runs
from lure.report.contact_sheet import plot_contact_sheet
from lure.report.numbers import page_data
from lure.report.page import write_page
from lure.report.plots import plot_accuracy_against_cost, plot_accuracy_over_stages
from lure.report.records import RunRecord, read_run, read_runs
from lure.report.table import comparison_table, report_console, run_table
from lure.report.verdict import verdict

__all__ = [
    "RunRecord",
    "comparison_table",
    "group_runs",
    "page_data",
    "plot_accuracy_against_cost",
    "plot_accuracy_over_stages",
    "plot_contact_sheet",
    "read_run",
    "read_runs",
    "report_console",
    "run_table",
    "verdict",
    "write_page",
]
