"""One exception for bad input, with a one-line message, and the checks that raise it."""

import difflib
import json
import math
import numbers
import unicodedata
from collections.abc import Iterable, Sequence

SHOWN = 20  # so many names stand in a message


def printable(text: str) -> str:
    r"""Return text on one line, with unprintable characters as escapes.

    Example:
        >>> print(printable("a\nb\x1b[2J"))
        a\nb\x1b[2J
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


JOINERS = "\u200c\u200d"  # they shape letters and emoji, and are invisible


def without_controls(text: str) -> str:
    r"""Return text, lines kept, in which whatever a terminal would obey is written as JSON writes it.

    Those are control characters, marks that turn the direction of writing, and halves of characters, which come from
    names of files that are no text. Inside a string of JSON the escapes mean the same as what they stand for.

    Example:
        >>> print(without_controls("caf\u00e9\x1b[2J\n\x9b2J"))
        café\u001b[2J
        \u009b2J
    """
    if all(line.isprintable() for line in text.split("\n")):
        return text
    kept = "\n" + JOINERS
    return "".join(
        c if c.isprintable() or c in kept or unicodedata.category(c) == "Zs" else json.dumps(c)[1:-1] for c in text
    )


class InputError(ValueError):
    r"""The user's input cannot be used. The message is one line: what is wrong, where, and what would be right.

    Names that come from files may contain anything, so unprintable characters are shown as escapes.

    Example:
        >>> print(InputError("no array named 'a\nb\x1b[2J'"))
        no array named 'a\nb\x1b[2J'
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def require_within(name: str, value: float, low: float = -math.inf, high: float = math.inf) -> None:
    """Raise unless `value` is a number with low <= value <= high; NaN is out of range, too.

    Raises:
        InputError: naming the setting, its range and the value.

    Example:
        >>> require_within("forget_fraction", 1.3, 0, 1)
        Traceback (most recent call last):
        lure.errors.InputError: forget_fraction must lie in [0, 1], got 1.3
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputError(f"{name} must be a number, got {value!r}")
    if not low <= value <= high:
        if high == math.inf:
            raise InputError(f"{name} must be at least {low:g}, got {value}")
        raise InputError(f"{name} must lie in [{low:g}, {high:g}], got {value}")


def some(words: Sequence[str]) -> str:
    """Write a list with commas; of a long one only the first names, and how many more there are.

    Example:
        >>> some(["a", "b"]), some([str(number) for number in range(22)])[-17:]
        ('a, b', '18, 19 and 2 more')
    """
    return ", ".join(words[:SHOWN]) + f" and {len(words) - SHOWN} more" * (len(words) > SHOWN)


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> InputError:
    """Return the error for an unknown name; its message suggests the closest valid one.

    Example:
        >>> str(unknown_name("unlearner", "lurre", ["lure", "dash"]))
        "unknown unlearner 'lurre': did you mean 'lure'? (valid: dash, lure)"
    """
    names = sorted(valid)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    choice = f"valid: {some(names)}" if names else "there are none"
    return InputError(
        f"unknown {kind} {name!r}" + (f": did you mean {nearest[0]!r}? ({choice})" if nearest else f" ({choice})")
    )
