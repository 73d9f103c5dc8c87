"""Labels of new data that the model does not know: read by their names, and let in only as far as somebody said so."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from lure.data.examples import Examples, as_stored
from lure.data.sources.class_names import class_numbers, same_name
from lure.data.sources.dataset import Hints
from lure.data.sources.files import load_alike, load_examples, read_class_names
from lure.errors import InputError, some
from lure.learner.opening import Opened
from lure.words import count

SHORTEST = 4  # below so many letters, names that differ in one are as often two names


@dataclass(frozen=True)
class Labelled:
    """New examples, labelled by the classes of a run directory.

    Attributes:
        examples: with labels in the order of `class_names`.
        class_names: the known classes, then those that only these examples show; () where classes are numbers.
        num_known: how many classes, the first ones, the version in use knows.
        num_named: how many of the names the directory knows, be it by a version that is not in use.
        where: what the examples came from, for messages.
    """

    examples: Examples
    class_names: tuple[str, ...]
    num_known: int
    num_named: int
    where: str

    def require_allowed(self, permission: str | Sequence[str]) -> None:
        """Raise unless the new classes may come.

        Args:
            permission: "refuse"; "grow", which lets in what does not look like a slip; or the names of those that may.

        Raises:
            InputError: naming the classes, and the way to let them in.
        """
        counts = torch.bincount(self.examples.labels, minlength=self.num_known).tolist()
        new = {self._name(label): number for label, number in enumerate(counts) if number and label >= self.num_known}
        if not new:
            return
        if permission == "refuse":
            self._refuse(new)
        elif permission != "grow":
            unnamed = [name for name in new if same_name(name) not in set(map(same_name, permission))]
            if unnamed:
                raise InputError(f"{self.where}: class {unnamed[0]!r} is new, too: name it as well (--new-classes)")
        elif not self.class_names:
            self._require_dense(counts)
        else:
            for name in self.class_names[self.num_named :]:
                if meant := next((known for known in self.class_names[: self.num_named] if is_slip(name, known)), None):
                    raise InputError(
                        f"{self.where}: did you mean {meant!r} by the new class {name!r}? correct it, or name it if it "
                        f"is new (--new-classes {name!r})"
                    )

    def _refuse(self, new: dict[str, int]) -> None:
        shown = some([f"{name!r} ({count(number, 'example')})" for name, number in new.items()])
        known = [self._name(label) for label in range(self.num_known)]
        slips = [(name, known_name) for name in new for known_name in known if is_slip(name, known_name)]
        meant = f"did you mean {slips[0][1]!r} by {slips[0][0]!r}? " if slips else ""
        raise InputError(
            f"{self.where} holds classes that the model does not know: {shown}; {meant}it knows {some(known)}; if "
            f"they are new, let its head grow (--new-classes grow)"
        )

    def _require_dense(self, counts: Sequence[int]) -> None:
        missing = [label for label in range(self.num_known, len(counts)) if not counts[label]]
        if len(missing) > (len(counts) - self.num_known) / 2:
            raise InputError(
                f"{self.where}: the label {len(counts) - 1} would make {len(counts)} classes, and {len(missing)} of "
                f"the new ones have no example: correct it, or name it if it is new (--new-classes {len(counts) - 1})"
            )

    def _name(self, label: int) -> str:
        return self.class_names[label] if label < len(self.class_names) else str(label)


def load_labelled(data: Path, opened: Opened, num_known: int | None, hints: Hints | None) -> Labelled:
    """Load new data, whose labels mean what those of a run directory do; what is new gets the next labels.

    Args:
        data: as `load_examples` reads it.
        opened: the directory.
        num_known: how many classes the version in use knows; None before the first.
        hints: what the file does not say itself.

    Raises:
        InputError: as `load_alike`.
    """
    known = opened.class_names
    wider = [*known, *_other_names(data, opened, hints)]
    given = _load(data, opened, wider, hints)
    used = torch.unique(given.labels).tolist() if len(given) else []
    new = [label for label in used if label >= len(known)] if known else []
    if new != list(range(len(known), len(wider))):  # a table may declare classes that have no example
        places = torch.arange(max([len(wider), *(label + 1 for label in used)]))
        places[torch.tensor(new, dtype=torch.int64)] = torch.arange(len(known), len(known) + len(new))
        given = given.with_labels(places[given.labels])
    names = [*known, *(wider[label] for label in new if label < len(wider))]
    if num_known is None:
        num_known = len(known) or (max(used) + 1 if used else 0)
    return Labelled(given, tuple(names), num_known, len(known), str(data))


def load_added(data: Path, opened: Opened, new: Labelled, hints: Hints | None) -> Examples:
    """Load examples that come to the holdout together with new data, labelled by the same classes.

    Raises:
        InputError: as `load_alike`.
    """
    return as_stored(_load(data, opened, new.class_names, hints))


def _load(data: Path, opened: Opened, names: Sequence[str], hints: Hints | None) -> Examples:
    if opened.test is None:
        raise AssertionError("a directory that is kept current has a holdout")
    return load_alike(data, names, opened.test.input_shape, opened.form, hints)


def _other_names(data: Path, opened: Opened, hints: Hints | None) -> list[str]:
    """Return the names of classes in data that the directory does not know; [] where its classes are numbers."""
    known = {same_name(name) for name in opened.class_names}
    found = read_class_names(data, hints, opened.form) if known else ()
    if known and not found and class_numbers(opened.class_names) and opened.test is not None:
        labels = load_examples(data, None, opened.test.input_shape, form=opened.form, hints=hints).labels
        found = tuple(map(str, torch.unique(labels).tolist()))
    return [name for name in found if name not in known]


def is_slip(name: str, known: str) -> bool:
    """Tell whether a name differs from a known one as slips do: in case, in blanks and the like, or in one letter.

    Names shorter than four letters are not judged by a letter, and none by its digits.

    Example:
        >>> is_slip("Cat", "cat"), is_slip("fire_truck", "fire truck"), is_slip("hrose", "horse")
        (True, True, True)
        >>> is_slip("bat", "cat"), is_slip("class 2", "class 1"), is_slip("t-shirt", "shirt")
        (False, False, False)
    """
    one, other = (same_name(each).casefold() for each in (name, known))
    if _letters(one) == _letters(other):
        return True
    if min(len(one), len(other)) < SHORTEST or _digits(one) != _digits(other):
        return False
    while one and other and one[0] == other[0]:
        one, other = one[1:], other[1:]
    while one and other and one[-1] == other[-1]:
        one, other = one[:-1], other[:-1]
    return max(len(one), len(other)) <= 1 or (len(one) == 2 and one == other[::-1])


def _letters(name: str) -> str:
    return "".join(letter for letter in name if letter.isalnum()) or name


def _digits(name: str) -> str:
    return "".join(letter for letter in name if letter.isdigit())
