"""What a column of a table holds, in words, by its type: numbers, truth values and text can be features, the rest not.

The kind of every feature is fixed when a model is begun, as its name is: a column that holds numbers in one file and
truth values in another means something else.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from lure.errors import InputError, some

NUMBERS, TRUTH_VALUES, LISTS, TEXT = "numbers", "truth values", "lists of numbers", "text"
FEW = 8  # so many names a message may hold twice
CATEGORIES = "categories: "  # followed by their names, in the order of their numbers


def kind_of(dtype: Any) -> str:
    """Return the kind of a pyarrow type.

    Example:
        >>> import pyarrow
        >>> kind_of(pyarrow.int64()), kind_of(pyarrow.list_(pyarrow.float32())), kind_of(pyarrow.timestamp("us"))
        ('numbers', 'lists of numbers', 'times (timestamp[us])')
    """
    from pyarrow import BaseExtensionType, types

    if isinstance(dtype, BaseExtensionType):
        return kind_of(dtype.storage_type)
    if types.is_integer(dtype) or types.is_floating(dtype) or types.is_decimal(dtype):
        return NUMBERS
    if types.is_boolean(dtype):
        return TRUTH_VALUES
    if is_list(dtype):
        inner = kind_of(dtype.value_type)
        return LISTS if inner in (NUMBERS, TRUTH_VALUES, LISTS) else f"lists of {inner}"
    if types.is_temporal(dtype):
        return f"times ({dtype})"
    if is_text(dtype) or (types.is_dictionary(dtype) and is_text(dtype.value_type)):
        return TEXT
    if is_bytes(dtype):
        return "bytes"
    return "nothing" if types.is_null(dtype) else str(dtype).partition("<")[0]


def is_list(dtype: Any) -> bool:
    """Return whether a pyarrow type is a list of any length."""
    from pyarrow import types

    return bool(types.is_list(dtype) or types.is_large_list(dtype) or types.is_fixed_size_list(dtype))


def is_text(dtype: Any) -> bool:
    """Return whether a pyarrow type is text."""
    from pyarrow import types

    return bool(types.is_string(dtype) or types.is_large_string(dtype) or types.is_string_view(dtype))


def is_bytes(dtype: Any) -> bool:
    """Return whether a pyarrow type is bytes."""
    from pyarrow import types

    return bool(types.is_binary(dtype) or types.is_large_binary(dtype) or types.is_binary_view(dtype))


def is_number(kind: str) -> bool:
    """Return whether a column of this kind holds numbers, or what is taken as numbers."""
    return kind in (NUMBERS, TRUTH_VALUES, LISTS) or kind.startswith(CATEGORIES)


def require_usable(kinds: Mapping[str, str], place: str, text: bool) -> None:
    """Raise unless all columns can be features.

    Args:
        kinds: the kind of each column.
        place: where the table comes from, for the message.
        text: whether text can be a feature: where its levels are fixed.

    Raises:
        InputError: naming the columns that cannot.
    """
    wrong = {name: kind for name, kind in kinds.items() if not (is_number(kind) or (text and kind == TEXT))}
    if wrong:
        shown = some([f"{name!r} ({kind})" for name, kind in wrong.items()])
        raise InputError(
            f"{place}: {'column' if len(wrong) == 1 else 'columns'} {shown} cannot be a feature: features are numbers, "
            f"truth values{', text' * text} or categories that the table declares; leave it out "
            f"({ignoring(list(wrong))}), or write it as numbers"
        )


def ignoring(names: Sequence[str]) -> str:
    """Return the flag that leaves columns out, for messages that have named them: all of them again, if they are few.

    Example:
        >>> ignoring(["name", "joined"]), ignoring([str(number) for number in range(9)])
        ('--ignore name,joined', '--ignore NAME,NAME,...')
    """
    return f"--ignore {','.join(names) if len(names) <= FEW else 'NAME,NAME,...'}"


def differing_columns(found: Collection[str], expected: Collection[str]) -> str:
    """Return which columns are missing and which are too many, in words; "" if the names are the same.

    Example:
        >>> differing_columns(["a", "c"], ["a", "b"]), differing_columns(["b", "a"], ["a", "b"])
        ('lacks the columns b and has the unknown columns c', '')
    """
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    parts = [f"lacks the columns {some(missing)}"] if missing else []
    parts += [f"has the unknown columns {some(unknown)}"] if unknown else []
    return " and ".join(parts)
