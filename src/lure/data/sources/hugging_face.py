"""Hugging Face data sets: Parquet files, saved copies, and data sets on the hub by their id.

The library `datasets` reads them, with tables that are mapped into memory. It is imported only when it is needed.
"""

import atexit
import functools
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lure.data.examples import Examples
from lure.data.sources.arrays import MAX_CLASSES
from lure.data.sources.dataset import Dataset
from lure.data.sources.images import EncodedImages, row_shape
from lure.errors import InputError, require_within, unknown_name

CHECKED_ROWS = 4096
# A Parquet file may hold FREE_VALUES values, or VALUES_PER_BYTE for each of its bytes, whichever is more.
FREE_VALUES, VALUES_PER_BYTE = 1 << 23, 1000
IMAGE_NAMES = ("image", "img", "inputs")
LABEL_NAMES = ("label", "labels", "fine_label", "target", "class")


class TableReader:
    """The encoded images in one column of a table."""

    def __init__(self, table: Any, column: str, place: str) -> None:
        self.table, self.column, self.place = table, column, place

    def __len__(self) -> int:
        return len(self.table)

    def name(self, row: int) -> str:
        """Return where the image is, for messages."""
        return f"in row {row} of {self.place}"

    def key(self, row: int) -> str:
        """Return "": the fingerprint is of the content, wherever the row is."""
        return ""

    def read(self, row: int) -> bytes:
        """Return the bytes of the image.

        Raises:
            InputError: if the row has no image.
        """
        cell = self.table[row][self.column]
        # If there is only a path, it is not followed: the table could name any file on this machine.
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(content, bytes):
            raise InputError(
                f"there is no image {self.name(row)}, column {self.column!r}: the table must contain its bytes"
            )
        return content


class TableRows:
    """The numbers in some columns of a table; an `InputStore` of float32 (rows, features)."""

    dtype = torch.float32

    def __init__(self, table: Any, columns: list[str], place: str) -> None:
        self.table, self.columns, self.place = table.select_columns(columns).with_format("numpy"), columns, place
        self.shape = torch.Size((len(table), self._load([0]).shape[1]))

    def _load(self, rows: list[int]) -> Tensor:
        try:
            with np.errstate(over="ignore"):  # a number too large for float32 becomes infinity, which is refused
                cells = self.table[rows]
                features = [np.asarray(cells[name], dtype=np.float32).reshape(len(rows), -1) for name in self.columns]
        except (ValueError, TypeError) as error:
            raise InputError(f"{self.place} holds rows of different length or values that are not numbers") from error
        return torch.from_numpy(np.concatenate(features, axis=1))

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Return the rows with these numbers, stacked."""
        return self._load(rows.tolist())


def _import_datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise InputError("Parquet and Hugging Face data need datasets: pip install 'lure-torch[data]'") from error
    return datasets


@contextmanager
def _reading(place: str) -> Iterator[Any]:
    """Run a block with `datasets`, without its progress bars and log; any error becomes an `InputError`."""
    datasets = _import_datasets()
    bars, verbosity = datasets.is_progress_bar_enabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield datasets
    except InputError:
        raise
    except Exception as error:
        # If reading fails, `datasets` says only that it failed; the cause says why.
        reason = str(error.__cause__ or error).partition("\n")[0]
        raise InputError(f"cannot read {place}: {reason}") from error
    finally:
        datasets.logging.set_verbosity(verbosity)
        if bars:
            datasets.enable_progress_bars()


def open_parquet(path: Path) -> Any:
    """Open a Parquet file, or all files of a folder in the order of their names, as a table mapped into memory.

    The mapped table is an unpacked copy in a temporary folder, which is removed when the process ends.

    Raises:
        InputError: if a file is damaged, claims more rows than it has bytes or far more values, or has different
            columns than the first file, or if `datasets` is missing.
    """
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    _import_datasets()  # raises, with what to install, before files are opened
    total = 0
    columns: list[str] = []
    for file in files:
        found = file.stat()
        rows, names, values = _parquet_facts(file, found.st_size, found.st_mtime_ns)
        columns = columns or names
        if sorted(names) != sorted(columns):
            raise InputError(
                f"{file} has the columns {', '.join(names)}, and {files[0]} has {', '.join(columns)}: "
                f"all files of a folder must have the same columns"
            )
        if rows > found.st_size:
            raise InputError(f"{file} claims {rows} rows, more than it has bytes: refused")
        if values > max(FREE_VALUES, VALUES_PER_BYTE * found.st_size):
            raise InputError(
                f"{file} would unpack to {values} values, more than {VALUES_PER_BYTE} times its bytes: refused; "
                f"write it without dictionaries"
            )
        total += rows
    if total == 0:
        raise InputError(f"{path} holds no rows")
    with _reading(str(path)) as datasets:
        return datasets.Dataset.from_parquet([str(file) for file in files], cache_dir=_scratch_folder())


# Run in a separate process: a damaged file can make pyarrow crash the process that inspects it.
LOOK_AT_PARQUET = """
import json, sys
from pyarrow import parquet
metadata = parquet.read_metadata(sys.argv[1])
groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
if any(group.num_columns != metadata.num_columns for group in groups):
    raise ValueError("its row groups have other columns than its schema")
values = sum(group.column(number).num_values for group in groups for number in range(metadata.num_columns))
print(json.dumps([metadata.num_rows, metadata.schema.to_arrow_schema().names, values]))
"""


@functools.lru_cache(maxsize=64)
def _parquet_facts(file: Path, size: int, changed: int) -> tuple[int, list[str], int]:
    """Return the number of rows, the column names and the number of values that a Parquet file claims to have.

    Args:
        file: the file.
        size: its size in bytes; with `changed`, the key under which the answer is cached.
        changed: time of its last change, in nanoseconds.

    Raises:
        InputError: if the file is damaged.
    """
    looked = subprocess.run(
        [sys.executable, "-P", "-c", LOOK_AT_PARQUET, str(file)], capture_output=True, text=True, errors="replace"
    )
    if looked.returncode:
        said = looked.stderr.strip().splitlines() or ["it ends the process that reads it"]
        raise InputError(f"cannot read {file}: {said[-1].removeprefix('pyarrow.lib.')}")
    rows, names, values = json.loads(looked.stdout)
    return rows, names, values


@functools.cache
def _scratch_folder() -> str:
    """Return a folder that is removed when the process ends: unpacked tables must not pile up in the user's home."""
    folder = tempfile.mkdtemp(prefix="lure-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def open_saved(path: Path) -> Any:
    """Open a table written by `save_to_disk`.

    Raises:
        InputError: if it is damaged or holds several tables, or `datasets` is missing.
    """
    with _reading(str(path)) as datasets:
        table = datasets.load_from_disk(str(path))
    if isinstance(table, dict):
        raise InputError(f"{path} holds the tables {', '.join(table)}: name the folder of one")
    return table


def _pick(column: str | None, candidates: Sequence[str], names: Sequence[str], kind: str, place: str) -> str:
    if column is not None:
        if column not in names:
            raise InputError(f"{place}: {unknown_name('column', column, names)}")
        return column
    found = [name for name in candidates if name in names]
    if not found:
        raise InputError(f"{place} has no {kind} column ({', '.join(candidates)}), only {', '.join(names)}: name it")
    return found[0]


def table_class_names(table: Any, label: str | None = None, place: str = "the table") -> tuple[str, ...]:
    """Return the class names: those that the table declares, or else the sorted texts of the label column.

    Labels that are plain integers have no names: ().
    """
    name = _pick(label, LABEL_NAMES, table.column_names, "label", place)
    feature = table.features[name]
    if hasattr(feature, "names"):
        return tuple(feature.names)
    if feature.dtype in ("string", "large_string"):
        return tuple(sorted(map(str, table.unique(name))))
    return ()


def table_columns(table: Any, labelled: bool = True, place: str = "the table") -> tuple[str, ...]:
    """Return the feature columns in order; () if the inputs are images.

    They are the column "inputs" if there is one, or else all columns except the labels.
    """
    names = table.column_names
    if any(isinstance(feature, _import_datasets().Image) for feature in table.features.values()):
        return ()
    if "inputs" in names:
        return ("inputs",)
    label = _pick(None, LABEL_NAMES, names, "label", place) if labelled else _first(LABEL_NAMES, names)
    return tuple(name for name in names if name != label)


def _first(candidates: Sequence[str], names: Sequence[str]) -> str | None:
    return next((name for name in candidates if name in names), None)


def table_examples(
    table: Any,
    place: str,
    class_names: Sequence[str] | None = None,
    input_shape: Sequence[int] | None = None,
    size: int | None = None,
    labelled: bool = True,
    image: str | None = None,
    label: str | None = None,
    columns: Sequence[str] | None = None,
) -> Examples:
    """Return the rows of a table as examples: images of one column, or numbers of all columns except the labels.

    Args:
        table: a `datasets.Dataset`.
        place: where it comes from, for messages.
        class_names: the known classes in the order of their labels; None takes the table's.
        input_shape: the model's input; images are scaled to it.
        size: height and width of images if `input_shape` is None.
        labelled: False if labels are not needed; they are then all 0.
        image: the column of the images; None finds it.
        label: the column of the labels; None finds it.
        columns: the feature columns that the table must have, in the model's order; None takes those of
            `table_columns`.

    Raises:
        InputError: if the table is empty, a column is missing, or values cannot be used.
    """
    if not len(table):
        raise InputError(f"{place} holds no rows")
    datasets = _import_datasets()
    names = table.column_names
    if labelled:
        label = _pick(label, LABEL_NAMES, names, "label", place)
        labels = _labels(table, label, class_names, place)
    else:
        label = label if label in names else _first(LABEL_NAMES, names)
        labels = torch.zeros(len(table), dtype=torch.int64)
    if image is not None:
        _pick(image, (), names, "image", place)
    pictures = [
        name for name in ([image] if image else names) if image or isinstance(table.features[name], datasets.Image)
    ]
    if pictures:
        plain = table.select_columns([pictures[0]])
        if isinstance(table.features[pictures[0]], datasets.Image):
            plain = plain.cast_column(pictures[0], datasets.Image(decode=False))
        reader = TableReader(plain, pictures[0], place)
        return Examples(EncodedImages(reader, row_shape(reader, input_shape, size, place)), labels)
    found = [name for name in names if name != label]
    if "inputs" in found:
        found = ["inputs"]
    if not found:
        raise InputError(f"{place} holds nothing but labels")
    if columns and sorted(columns) != sorted(found):
        raise InputError(f"{place} holds the columns {', '.join(found)}; the model takes {', '.join(columns)}")
    store = TableRows(table, list(columns or found), place)
    for start in range(0, len(table), CHECKED_ROWS):
        rows = store[torch.arange(start, min(start + CHECKED_ROWS, len(table)))]
        wrong = torch.nonzero(~torch.isfinite(rows).all(dim=1)).flatten()
        if len(wrong):
            raise InputError(f"{place}: inputs hold NaN or infinity at row {start + int(wrong[0])}")
    return Examples(store, labels)


def _labels(table: Any, column: str, class_names: Sequence[str] | None, place: str) -> Tensor:
    """Read the labels: names become numbers by the known classes, numbers are taken as they are."""
    own = table_class_names(table, column, place)
    values = table.with_format(None)[column][:]
    if any(value is None for value in values):
        raise InputError(f"{place}: the label of row {next(i for i, v in enumerate(values) if v is None)} is missing")
    if not all(isinstance(value, str) or type(value) is int for value in values):
        raise InputError(f"{place}: the labels in column {column!r} must be integers or names of classes")
    if own:
        known = {name: number for number, name in enumerate(class_names or own)}
        spoken = [value if isinstance(value, str) else own[value] if 0 <= value < len(own) else "" for value in values]
        for row, name in enumerate(spoken):
            if name not in known:
                raise InputError(f"{place}, row {row}: {unknown_name('class', name or str(values[row]), known)}")
        return torch.tensor([known[name] for name in spoken])
    wrong = [row for row, value in enumerate(values) if not 0 <= value < MAX_CLASSES]
    if wrong:
        raise InputError(
            f"{place}: labels must lie in [0, {MAX_CLASSES - 1}], got {values[wrong[0]]} at row {wrong[0]}"
        )
    return torch.tensor(values)


def hugging_face(
    path: Path | None,
    download: bool,
    *,
    id: str | None = None,
    config: str | None = None,
    train: str = "train",
    test: str = "test",
    image: str | None = None,
    label: str | None = None,
    size: int | None = None,
) -> Dataset:
    """Load a Hugging Face data set: a saved copy, or one from the hub.

    Args:
        path: the folder that `save_to_disk` wrote; with `id`, the folder for the downloaded files.
        download: must be True for a data set from the hub.
        id: the data set's name on the hub, such as "ylecun/mnist".
        config: name of one of its configurations.
        train: the split to train on.
        test: the split to test on.
        image: the column of the images; None finds it.
        label: the column of the labels; None finds it.
        size: height and width that images are scaled to; None takes the first image's.

    Raises:
        InputError: if the data set cannot be read, or a split or column is missing.
    """
    if size is not None:
        require_within("size", size, 1)
    place = id or str(path)
    if id is None and path is None:
        raise InputError("hugging-face needs a saved copy (--data DIR), or an id (hugging-face:id=NAME) and --download")
    if id is not None and not download:
        raise InputError(f"hugging-face:id={id} comes from the hub: add --download (and --data DIR to say where to)")
    with _reading(place) as datasets:
        if id is None:
            tables = datasets.load_from_disk(str(path))
        else:
            tables = datasets.load_dataset(id, config, cache_dir=None if path is None else str(path))
    for split in (train, test):
        if not isinstance(tables, dict) or split not in tables:
            found = ", ".join(tables) if isinstance(tables, dict) else "a single table"
            raise InputError(f"{place} has no split {split!r}, it holds {found}: name it (train=..., test=...)")
    class_names = table_class_names(tables[train], label, place)
    first = table_examples(tables[train], f"{place}, {train}", None, None, size, True, image, label)
    shape = first.input_shape
    second = table_examples(tables[test], f"{place}, {test}", class_names or None, shape, None, True, image, label)
    return Dataset(first, second, class_names)
