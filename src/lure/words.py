"""How shares, counts and types are written in messages and tables: each in one place."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

# Where a program for tables would begin a formula: "=", "+", "-", "@", their wide forms, and so behind a semicolon, at
# which some split a line. A plain number is no formula.
FORMULA = re.compile("(^|;)(?![+-]?[0-9.]+$)(?=\\s*[=+@\uff1d\uff0b\uff0d\uff20-])")
MISSING = "-"  # what a table shows where a number is not known


def percent(share: float | None, digits: int = 1) -> str:
    """Write a share in [0, 1] as percent, without the sign; `MISSING` for None.

    Example:
        >>> percent(0.7314), percent(0.7314, digits=2), percent(None)
        ('73.1', '73.14', '-')
    """
    return MISSING if share is None else f"{100 * share:.{digits}f}"


def points(difference: float | None, digits: int = 1) -> str:
    """Write a difference of two shares in percentage points, with its sign; `MISSING` for None.

    Example:
        >>> points(0.0214), points(-0.1), points(None)
        ('+2.1', '-10.0', '-')
    """
    return MISSING if difference is None else f"{100 * difference:+.{digits}f}"


def count(number: int, noun: str, nouns: str | None = None) -> str:
    """Write a number with its noun in the singular or plural.

    Example:
        >>> count(1, "run"), count(3, "run"), count(2, "policy", "policies")
        ('1 run', '3 runs', '2 policies')
    """
    return f"{number} {noun if number == 1 else nouns or noun + 's'}"


def choice_text(choices: Iterable[Mapping[str, Any]]) -> str:
    """Write which candidate a method that chooses has taken, and the losses by which it did; "" where it took none.

    Example:
        >>> choice_text([{"candidate": "mild", "taken": True, "loss": 1.1}, {"candidate": "fire", "loss": 1.24}])
        'mild (validation loss 1.10 after a probe; fire 1.24)'
        >>> choice_text([{"candidate": "mild", "taken": True}])
        'mild'
    """
    choices = list(choices)
    taken = next((choice for choice in choices if choice.get("taken")), None)
    if taken is None:
        return ""
    if taken.get("loss") is None:
        return str(taken["candidate"])
    others = [choice for choice in choices if choice is not taken and choice.get("loss") is not None]
    losses = "".join(f"; {choice['candidate']} {choice['loss']:.2f}" for choice in others)
    return f"{taken['candidate']} (validation loss {taken['loss']:.2f} after a probe{losses})"


def dtype_name(dtype: Any) -> str:
    """Write a torch dtype by its short name.

    Example:
        >>> import torch
        >>> dtype_name(torch.uint8)
        'uint8'
    """
    return str(dtype).removeprefix("torch.")


def spreadsheet_text(cell: Any) -> str:
    """Return a cell of a CSV table that no spreadsheet takes for a formula: an apostrophe makes it text there.

    Example:
        >>> [spreadsheet_text(cell) for cell in ("=cmd|' /C calc'!A0", "a;@b", "-1", "cat", 7)]
        ["'=cmd|' /C calc'!A0", "a;'@b", '-1', 'cat', '7']
    """
    return FORMULA.sub(r"\1'", str(cell))
