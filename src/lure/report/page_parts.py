"""What every page is made of: tables, pictures and marks as plain values, and the templates that lay them out.

The templates escape every value. A page loads nothing: pictures are in it, and there is no script.
"""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import jinja2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.markers import MarkerStyle

from lure.errors import InputError
from lure.metrics.statistics import Spread
from lure.report.colours import colour
from lure.report.numbers import Data
from lure.report.plots import Points, paint
from lure.report.table import format_spread
from lure.words import MISSING

FIGURE = (4.6, 3.2)  # in inches; narrow, so that letters stay readable on a phone


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table that is more than its text.

    Attributes:
        text: what it says.
        kind: "policy" has a mark in the policy's colour before it, "winner" a star behind that, "bar" is shaded up to
            `width`; "b" and "code" are the tags of the same names.
        colour: as #RRGGBB.
        width: of the bar, a share of the cell in percent ("31.0%").
        mark: outline of the mark, as the `d` of an SVG path in a square of width 1 around the origin.
        hollow: whether only the mark's outline is drawn.
    """

    text: str
    kind: Literal["policy", "winner", "bar", "b", "code"]
    colour: str = ""
    width: str = ""
    mark: str = ""
    hollow: bool = False


Content = str | Cell | tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Headings, and rows with as many cells."""

    headings: Sequence[Content]
    rows: Sequence[Sequence[Content]]


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture: its name for those who cannot see it, the text below it, and the SVG in base64."""

    name: str
    caption: str
    svg: str


def figure(draw: Callable[[Axes], Points], name: str, caption: str, shades: Mapping[str, str] | None = None) -> Figure:
    """Draw a picture of the page; `draw` and `shades` are as for `paint`."""
    stream = io.BytesIO()
    paint([("", draw)], stream, FIGURE, shades=shades)
    return Figure(name, caption, base64.b64encode(stream.getvalue()).decode())


def crossed(corner: str, policies: Sequence[str], rows: Sequence[Sequence[Content]]) -> Table:
    """Return a table with a column for each policy, or with a row for each where they are more than the rows."""
    names = [policy_cell(policy) for policy in policies]
    if len(policies) <= len(rows):
        return Table([corner, *names], rows)
    headings, *lines = zip(["policy", *names], *rows, strict=True)
    return Table(headings, lines)


def policy_cell(policy: str, text: str | None = None, winner: bool = False) -> Cell:
    """Return a cell that shows a policy's mark in its colour, as the pictures do.

    Args:
        policy: its name.
        text: what stands behind the mark; None for the name.
        winner: whether the policy is the one that the page's answer names.
    """
    return mark_cell(policy if text is None else text, *colour(policy), winner=winner)


def mark_cell(text: str, shade: str, mark: str, hollow: bool = False, winner: bool = False) -> Cell:
    """Return a cell with a matplotlib mark in a colour before its text; a hollow one is only its outline."""
    return Cell(text, "winner" if winner else "policy", shade, mark=_outline(mark), hollow=hollow)


@cache
def _outline(mark: str) -> str:
    """Return the outline of a matplotlib mark as the `d` of an SVG path.

    Example:
        >>> _outline("s")
        'M-0.5,0.5L0.5,0.5L0.5,-0.5L-0.5,-0.5Z'
    """
    style = MarkerStyle(mark)
    polygons = style.get_path().transformed(style.get_transform()).to_polygons(closed_only=False)
    corners = [[f"{x:.3g},{-y + 0.0:.3g}" for x, y in np.asarray(polygon).tolist()] for polygon in polygons]
    return "".join(f"M{'L'.join(dict.fromkeys(each))}Z" for each in corners)


def spread_of(value: Data) -> Spread:
    """Return a spread that went through JSON."""
    return Spread(value["mean"], value["standard_deviation"], value["seeds"])


def number_text(value: Data | None, write: Callable[[float], str]) -> str:
    """Write a spread that went through JSON: "73.0±0.7"; `MISSING` for None."""
    return format_spread(spread_of(value) if value else None, write)


def p_value_text(value: float | None, equals: str = "") -> str:
    """Write a p-value: "0.625" (behind `equals`), "< 0.001"; `MISSING` for None."""
    if value is None:
        return MISSING
    return f"{equals}{value:.3f}" if value >= 0.001 else "< 0.001"


def write_template(name: str, file: Path | str, values: Mapping[str, Any]) -> None:
    """Fill a template of this folder, escaping every value, and write it.

    Raises:
        InputError: if the file cannot be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lure.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    text = environment.get_template(name).render(values)
    try:
        Path(file).write_text(text, encoding="utf-8", errors="backslashreplace")  # a folder's name may be no text
    except OSError as error:
        raise InputError(f"cannot write the page {file}: {error.strerror}") from None
