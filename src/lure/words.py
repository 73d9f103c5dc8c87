"""How shares, counts and types are written in messages and tables: each in one place."""

from typing import Any

MISSING = "-"  # what a table shows where a number is not known


def percent(share: float | None, digits: int = 1) -> str:
    """Write a share in [0, 1] as percent, without the sign; `MISSING` for None.

    Example:
        >>> percent(0.7314), percent(0.7314, digits=2), percent(None)
        ('73.1', '73.14', '-')
    """
    return MISSING if share is None else f"{100 * share:.{digits}f}"


def count(number: int, noun: str, nouns: str | None = None) -> str:
    """Write a number with its noun in the singular or plural.

    Example:
        >>> count(1, "run"), count(3, "run"), count(2, "policy", "policies")
        ('1 run', '3 runs', '2 policies')
    """
    return f"{number} {noun if number == 1 else nouns or noun + 's'}"


def dtype_name(dtype: Any) -> str:
    """Write a torch dtype by its short name.

    Example:
        >>> import torch
        >>> dtype_name(torch.uint8)
        'uint8'
    """
    return str(dtype).removeprefix("torch.")
