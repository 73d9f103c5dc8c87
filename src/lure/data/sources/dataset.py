"""What a source returns: training set, official test set, class names and statistics."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lure.data.examples import Examples
from lure.data.sources.columns import TableForm
from lure.errors import InputError, printable

Layout = Literal["channels-first", "channels-last"]


@dataclass(frozen=True)
class Dataset:
    """A labelled data set.

    Attributes:
        train: the training examples in file order.
        test: the official test examples, all of them.
        class_names: one name per label, in the order of labels.
        mean: per channel, of training images in [0, 1]; None if inputs are usually not normalised.
        std: standard deviation; as `mean`.
        form: what becomes of columns, where both parts are tables of files.
    """

    train: Examples
    test: Examples
    class_names: tuple[str, ...]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    form: TableForm | None = None


@dataclass(frozen=True, kw_only=True)
class Hints:
    """What files do not say themselves about what they hold.

    Attributes:
        label: the column of a table that holds the labels; None finds it by its usual names.
        image: the column of a table that holds images; None finds it.
        id: the column of a table that names its rows, and is no feature.
        ignore: columns of a table that are left out.
        layout: where the channels of arrays (N, ?, ?, ?) are; None takes the place that holds 1, 3 or 4, or that fits
            the model.

    Raises:
        InputError: if one column is named for two things.
    """

    label: str | None = None
    image: str | None = None
    id: str | None = None
    ignore: tuple[str, ...] = ()
    layout: Layout | None = None

    def __post_init__(self) -> None:
        named = [*filter(None, (self.label, self.image, self.id)), *self.ignore]
        if twice := [name for name in named if named.count(name) > 1]:
            raise InputError(f"the column {twice[0]!r} is named twice (--label, --image, --id, --ignore)")


def tell(message: str) -> None:
    """Say, as a warning, what was read in another way than its author may think, or not at all."""
    warnings.warn(printable(message), stacklevel=2)


@contextmanager
def reading(path: Path | None) -> Iterator[None]:
    """Run a block that reads data; an error of the operating system becomes one line that names the file.

    Raises:
        InputError: if a file cannot be read, or the data do not fit into memory.

    Example:
        >>> with reading(Path("data")):
        ...     raise PermissionError(13, "Permission denied", "data/labels")
        Traceback (most recent call last):
        lure.errors.InputError: cannot read data/labels: Permission denied
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot read {error.filename or path}: {error.strerror or error}") from error
    except MemoryError as error:
        raise InputError(f"{path} does not fit into memory") from error
