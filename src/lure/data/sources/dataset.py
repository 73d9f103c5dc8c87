"""What a source returns: a training set, the whole official test set, and what is known about them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lure.data.examples import Examples
from lure.errors import InputError


@dataclass(frozen=True)
class Dataset:
    """A labelled data set.

    Attributes:
        train: the training examples in file order.
        test: the official test examples, all of them.
        class_names: one name for each label, in order of labels.
        mean: per channel, of training images in [0, 1]; None where no normalisation is customary.
        std: as `mean`.
    """

    train: Examples
    test: Examples
    class_names: tuple[str, ...]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


@contextmanager
def reading(path: Path | None) -> Iterator[None]:
    """Run a block that reads data; what the system refuses becomes one line that names the file.

    Raises:
        InputError: for a file that may not be read, or data that do not fit into memory.

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
