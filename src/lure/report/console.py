"""What all tables in the terminal share: a console as wide as the terminal, and one style."""

import sys
from typing import Any, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lure.errors import without_controls

PIPE_WIDTH = 80


class _Console(Console):
    """A console that escapes what a name may hold for the terminal, before widths are measured."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(without_controls(text), **options)


def report_console(stream: TextIO | None = None) -> Console:
    """Return a console for results: as wide as the terminal, and 80 columns on a pipe.

    Args:
        stream: where to write; None means standard output.
    """
    stream = stream or sys.stdout
    return _Console(
        file=getattr(stream, "bare", stream),  # past what escapes for `print`: the console's own styles are wanted
        width=None if stream.isatty() else PIPE_WIDTH,
        highlight=False,
        markup=False,
        emoji=False,
    )


def empty_table() -> Table:
    """Return a table in the style of all tables here: one line, below the headings."""
    return Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False, collapse_padding=True, caption_justify="left")
