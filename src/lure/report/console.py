"""What all tables in the terminal share: a console as wide as the terminal, and one style."""

import sys
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

PIPE_WIDTH = 80


def report_console(stream: TextIO | None = None) -> Console:
    """Return a console for results: as wide as the terminal, and 80 columns on a pipe.

    Args:
        stream: where to write; None means standard output.
    """
    stream = stream or sys.stdout
    return Console(file=stream, width=None if stream.isatty() else PIPE_WIDTH, highlight=False, markup=False)


def empty_table() -> Table:
    """Return a table in the style of all tables here: one line, below the headings."""
    return Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False, collapse_padding=True, caption_justify="left")
