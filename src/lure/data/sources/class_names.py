"""What the names of classes mean: they are compared in one form, and a name that is a number means that number."""

import unicodedata
from collections.abc import Sequence

import torch
from torch import Tensor

from lure.data.sources.arrays import MAX_CLASSES
from lure.errors import InputError


def same_name(name: str) -> str:
    """Return a name in the form in which names are compared: systems write "é" as one character or as two (NFC)."""
    return unicodedata.normalize("NFC", name)


def class_numbers(names: Sequence[str]) -> dict[int, int]:
    """Return the label of each class by the number that its name is; {} unless all names are different whole numbers.

    Example:
        >>> class_numbers(("0", "1", "10", "2")), class_numbers(("7", "cat"))
        ({0: 0, 1: 1, 10: 2, 2: 3}, {})
    """
    if not all(name.isascii() and name.isdigit() and int(name) < MAX_CLASSES for name in names):
        return {}
    numbers = {int(name): label for label, name in enumerate(names)}
    return numbers if len(numbers) == len(names) else {}


def in_places(names: Sequence[str]) -> list[str]:
    """Return class names that are numbers, each in the place of its number; numbers between them are names, too.

    Example:
        >>> in_places(("1", "3"))
        ['0', '1', '2', '3']
    """
    numbers = class_numbers(names)
    places = [str(number) for number in range(max(numbers) + 1)]
    for number, label in numbers.items():
        places[number] = names[label]
    return places


def numbers_to_labels(values: Tensor, class_names: Sequence[str] | None, where: str) -> Tensor:
    """Return the labels that numbers in data mean: where all classes are named by numbers, the class of that name.

    Args:
        values: the numbers, int64 (N,).
        class_names: the known classes in the order of their labels; None if there are none.
        where: what holds the numbers, for messages.

    Raises:
        InputError: for a number that names no class.
    """
    numbers = class_numbers(class_names or ())
    if all(number == label for number, label in numbers.items()):
        return values
    for row, value in enumerate(values.tolist()):
        if value not in numbers:
            known = ", ".join(map(str, sorted(numbers)))
            raise InputError(f"{where}: the label {value} of example {row} is not one of the known classes: {known}")
    return torch.tensor([numbers[value] for value in values.tolist()])
