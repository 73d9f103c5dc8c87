"""Bad input: one exception, one line, and the checks that raise it."""

import difflib
import math
import numbers
from collections.abc import Iterable


def printable(text: str) -> str:
    r"""Return text on one line: what cannot be printed is shown as an escape.

    Example:
        >>> print(printable("a\nb\x1b[2J"))
        a\nb\x1b[2J
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class InputError(ValueError):
    r"""What the user gave cannot be used. The message is one line: what was wrong, where, and what would be right.

    Names that come from files may hold anything; what cannot be printed is shown as an escape.

    Example:
        >>> print(InputError("no array named 'a\nb\x1b[2J'"))
        no array named 'a\nb\x1b[2J'
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def require_within(name: str, value: float, low: float = -math.inf, high: float = math.inf) -> None:
    """Raise unless low <= value <= high (NaN never is, and nor is what is no number).

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


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> InputError:
    """Return the error for a name that does not exist, offering the nearest one that does.

    Example:
        >>> str(unknown_name("unlearner", "lurre", ["lure", "dash"]))
        "unknown unlearner 'lurre': did you mean 'lure'? (valid: dash, lure)"
    """
    names = sorted(valid)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    choice = f"valid: {', '.join(names)}" if names else "there are none"
    return InputError(
        f"unknown {kind} {name!r}" + (f": did you mean {nearest[0]!r}? ({choice})" if nearest else f" ({choice})")
    )
