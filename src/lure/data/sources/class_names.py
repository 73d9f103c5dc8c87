"""What the names of classes mean: they are compared in one form, and a name that is a number means that number."""

import unicodedata
from collections.abc import Sequence

import torch
from torch import Tensor

from lure.data.sources.arrays import MAX_CLASSES
from lure.data.sources.dataset import tell
from lure.errors import InputError, some


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


def shown_classes(labels: Tensor, class_names: Sequence[str], where: str) -> str:
    """Return a sentence that says which classes data show, and warn of classes that they do not show.

    Args:
        labels: int64 (N,), at least one.
        class_names: the classes in the order of labels; () if they are numbered up to the largest label.
        where: what holds the labels, for messages.

    Raises:
        InputError: if the classes are numbers, and most numbers up to the largest have no example.

    Example:
        >>> shown_classes(torch.tensor([0, 1, 1]), ("cat", "dog"), "the holdout")
        'the holdout shows 2 of 2 classes: cat (1), dog (2)'
    """
    counts = torch.bincount(labels, minlength=len(class_names)).tolist()
    names = list(class_names) or [str(label) for label in range(len(counts))]
    shown = [f"{name} ({number})" for name, number in zip(names, counts, strict=True) if number]
    missing = [name for name, number in zip(names, counts, strict=True) if not number]
    if not class_names:
        require_dense(labels, where)
    if missing:
        tell(
            f"{where} shows no example of {len(missing)} of {len(names)} classes ({some(missing)}): nothing will be "
            f"known about them; it should show every class that will ever arrive"
        )
    return f"{where} shows {len(shown)} of {len(names)} classes: {some(shown)}"


def require_dense(labels: Tensor, where: str) -> None:
    """Raise if labels that number classes from 0 leave out most of the numbers up to the largest.

    Raises:
        InputError: naming the labels that there are.
    """
    found = torch.unique(labels).tolist()
    if found and len(found) < (found[-1] + 1) / 2:
        raise InputError(
            f"{where}: the labels {some([str(label) for label in found])} would make {found[-1] + 1} classes, and "
            f"{found[-1] + 1 - len(found)} of them have no example: number the classes from 0 on, or name them"
        )
