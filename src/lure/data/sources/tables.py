"""Examples in a table that `datasets` has opened: images of one column, or the numbers of all but the labels."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lure.data.examples import Examples
from lure.data.sources.arrays import MAX_CLASSES
from lure.data.sources.class_names import numbers_to_labels, same_name
from lure.data.sources.column_kinds import (
    CATEGORIES,
    differing_columns,
    is_bytes,
    kind_of,
    require_same_kinds,
    require_usable,
)
from lure.data.sources.dataset import Hints, tell
from lure.data.sources.images import EncodedImages, row_shape
from lure.data.sources.parquet import import_datasets
from lure.errors import InputError, some, unknown_name

CHECKED_ROWS = 4096
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
        return f"in row {row} of {self.place}, column {self.column!r}"

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
            raise InputError(f"there is no image {self.name(row)}: the table must contain its bytes")
        return content


class TableRows:
    """The numbers in some columns of a table; an `InputStore` of float32 (rows, features)."""

    dtype = torch.float32

    def __init__(self, table: Any, columns: list[str], place: str) -> None:
        self.table, self.columns, self.place = table.select_columns(columns).with_format("numpy"), columns, place
        self.shape = torch.Size((len(table), self._load([0]).shape[1]))

    def _load(self, rows: list[int]) -> Tensor:
        with np.errstate(over="ignore"):  # a number too large for float32 becomes infinity, which is refused
            cells = self.table[rows]
            features = [self._feature(name, cells[name], len(rows)) for name in self.columns]
        return torch.from_numpy(np.concatenate(features, axis=1))

    def _feature(self, name: str, cells: Any, count: int) -> Any:
        try:
            return np.asarray(cells, dtype=np.float32).reshape(count, -1)
        except (ValueError, TypeError) as error:
            raise InputError(
                f"{self.place}: column {name!r} holds rows of different length or values that are not numbers"
            ) from error

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Return the rows with these numbers, stacked."""
        return self._load(rows.tolist()) if len(rows) else torch.empty((0, self.shape[1]))


def label_column(table: Any, place: str, hints: Hints, agreed: Collection[str] = ()) -> str | None:
    """Return the column of the labels: the one that is named, else the one with a usual name; None if there is none.

    Args:
        table: a `datasets.Dataset`.
        place: where it comes from, for messages.
        hints: names the column.
        agreed: columns that are known to be features.

    Raises:
        InputError: if the column that is named is not there.
    """
    names = table.column_names
    if hints.label is not None:
        if hints.label not in names:
            raise InputError(f"{place}: {unknown_name('column', hints.label, names)}")
        return hints.label
    return next((name for name in LABEL_NAMES if name in names and name not in agreed), None)


def _required_label(table: Any, place: str, hints: Hints, agreed: Collection[str] = ()) -> str:
    found = label_column(table, place, hints, agreed)
    if found is None:
        raise InputError(
            f"{place} has no label column ({', '.join(LABEL_NAMES)}), only {some(table.column_names)}: "
            f"name it (--label NAME)"
        )
    return found


def image_column(table: Any, place: str, hints: Hints) -> str | None:
    """Return the column of the images: declared as such by `datasets`, or bytes; None for a table of numbers.

    Raises:
        InputError: if the column that is named is not there or holds no bytes, or there are several.
    """
    names = table.column_names
    found = [name for name in names if _holds_images(table.features[name])]
    if hints.image is not None:
        if hints.image not in names:
            raise InputError(f"{place}: {unknown_name('column', hints.image, names)}")
        if hints.image not in found:
            raise InputError(
                f"{place}: column {hints.image!r} holds {_kind(table, hints.image)}, no images: it should hold the "
                f"bytes of image files"
            )
        return hints.image
    usual = [name for name in found if name in IMAGE_NAMES]
    if len(found) > 1 and len(usual) != 1:
        raise InputError(f"{place} has several columns of images ({some(found)}): name one (--image NAME)")
    return next(iter(usual or found), None)


def _holds_images(feature: Any) -> bool:
    """Whether a column holds encoded images: declared so, or plain bytes, or records with bytes as `datasets` has."""
    if isinstance(feature, import_datasets().Image):
        return True
    if isinstance(feature, dict):
        feature = feature.get("bytes")
    dtype = getattr(feature, "pa_type", None)
    return dtype is not None and is_bytes(dtype)


def _kind(table: Any, name: str) -> str:
    feature = table.features[name]
    if hasattr(feature, "names"):
        return CATEGORIES + ", ".join(feature.names)
    return kind_of(table.features.arrow_schema.field(name).type)


def table_class_names(table: Any, place: str = "the table", hints: Hints | None = None) -> tuple[str, ...]:
    """Return the class names: those that the table declares, or else the sorted texts of the label column.

    Labels that are plain integers have no names: ().
    """
    return _names_in(table, _required_label(table, place, hints or Hints()))


def _names_in(table: Any, column: str) -> tuple[str, ...]:
    feature = table.features[column]
    if hasattr(feature, "names"):
        return tuple(map(same_name, feature.names))
    if _kind(table, column) == "text":
        return tuple(sorted({same_name(name) for name in table.unique(column) if name is not None}))
    return ()


def table_columns(
    table: Any, labelled: bool = True, place: str = "the table", hints: Hints | None = None
) -> dict[str, str]:
    """Return the kind of each feature column by its name, in order; {} if the inputs are images.

    They are the column "inputs" if there is one, or else all columns except the labels.

    Raises:
        InputError: if there is no label column, or it is not clear which it is.
    """
    hints = hints or Hints()
    if image_column(table, place, hints) is not None:
        return {}
    names = table.column_names
    find = _required_label if labelled else label_column
    label = find(table, place, hints)
    if "inputs" in names and label != "inputs":
        return {"inputs": _kind(table, "inputs")}
    others = [name for name in LABEL_NAMES if name in names and name != label]
    if labelled and hints.label is None and others:
        raise InputError(
            f"{place} has several columns that may be the labels ({label}, {', '.join(others)}): name it "
            f"(--label NAME); all others are features"
        )
    return {name: _kind(table, name) for name in names if name != label}


def table_examples(
    table: Any,
    place: str,
    class_names: Sequence[str] | None = None,
    input_shape: Sequence[int] | None = None,
    size: int | None = None,
    labelled: bool = True,
    hints: Hints | None = None,
    columns: Sequence[str] | None = None,
    column_kinds: Sequence[str] = (),
) -> Examples:
    """Return the rows of a table as examples: images of one column, or numbers of all columns except the labels.

    Args:
        table: a `datasets.Dataset`.
        place: where it comes from, for messages.
        class_names: the known classes in the order of their labels; None takes the table's.
        input_shape: the model's input; images are scaled to it.
        size: height and width of images if `input_shape` is None.
        labelled: False if labels are not needed; they are then all 0.
        hints: the columns of labels and images, where they must be named.
        columns: the feature columns that the table must have, in the model's order; None takes those of
            `table_columns`.
        column_kinds: what each of `columns` must hold; () if that is not on record.

    Raises:
        InputError: if the table is empty, a column is missing, or values cannot be used.
    """
    hints = hints or Hints()
    if not len(table):
        raise InputError(f"{place} holds no rows")
    label = label_column(table, place, hints, columns or ())
    if labelled:
        label = _required_label(table, place, hints, columns or ())
        labels = _labels(table, label, class_names, place)
    else:
        labels = torch.zeros(len(table), dtype=torch.int64)
    image = None if columns else image_column(table, place, hints)
    if image is not None:
        return Examples(_images(table, image, label, place, input_shape, size), labels)
    kinds = _features(table, columns, label, labelled, place, hints)
    if not kinds:
        raise InputError(f"{place} holds nothing but labels")
    require_usable(kinds, place)
    require_same_kinds(kinds, column_kinds, place)
    store = TableRows(table, list(kinds), place)
    for start in range(0, len(table), CHECKED_ROWS):
        rows = store[torch.arange(start, min(start + CHECKED_ROWS, len(table)))]
        wrong = torch.nonzero(~torch.isfinite(rows).all(dim=1)).flatten()
        if len(wrong):
            raise InputError(f"{place}: inputs hold NaN or infinity at row {start + int(wrong[0])}")
    return Examples(store, labels)


def _images(
    table: Any, image: str, label: str | None, place: str, input_shape: Sequence[int] | None, size: int | None
) -> EncodedImages:
    others = [name for name in table.column_names if name not in (image, label)]
    if others:
        tell(f"{place}: inputs are the images of column {image!r}; left out: {some(others)}")
    plain, datasets = table.select_columns([image]), import_datasets()
    if isinstance(table.features[image], datasets.Image):
        plain = plain.cast_column(image, datasets.Image(decode=False))
    reader = TableReader(plain, image, place)
    return EncodedImages(reader, row_shape(reader, input_shape, size, place))


def _features(
    table: Any, columns: Sequence[str] | None, label: str | None, labelled: bool, place: str, hints: Hints
) -> dict[str, str]:
    """Return the kind of each feature column in the model's order, after comparing the names with the model's."""
    if columns is None:
        return table_columns(table, labelled, place, hints)
    names = [name for name in table.column_names if name != label]
    if list(columns) == ["inputs"]:  # these stand for all others
        names = [name for name in names if name == "inputs"]
    if differing := differing_columns(names, columns):
        raise InputError(
            f"{place} {differing}; the model takes {len(columns)} columns by name, and all others are refused"
        )
    return {name: _kind(table, name) for name in columns}


def _labels(table: Any, column: str, class_names: Sequence[str] | None, place: str) -> Tensor:
    """Read the labels: names become numbers by the known classes, numbers are taken as they are."""
    own = _names_in(table, column)
    values = table.with_format(None)[column][:]
    where = f"{place}, column {column!r}"
    if any(value is None for value in values):
        raise InputError(f"{where}: the label of row {next(i for i, v in enumerate(values) if v is None)} is missing")
    if not all(isinstance(value, str) or type(value) is int for value in values):
        raise InputError(
            f"{place}: the labels in column {column!r} must be integers or names of classes, not "
            f"{table.features.arrow_schema.field(column).type}"
        )
    if own:
        known = {same_name(name): number for number, name in enumerate(class_names or own)}
        spoken = [
            same_name(value) if isinstance(value, str) else own[value] if 0 <= value < len(own) else ""
            for value in values
        ]
        for row, name in enumerate(spoken):
            if name not in known:
                raise InputError(f"{where}, row {row}: {unknown_name('class', name or str(values[row]), known)}")
        return torch.tensor([known[name] for name in spoken])
    wrong = [row for row, value in enumerate(values) if not 0 <= value < MAX_CLASSES]
    if wrong:
        raise InputError(
            f"{where}: labels must lie in [0, {MAX_CLASSES - 1}], got {values[wrong[0]]} at row {wrong[0]}"
        )
    return numbers_to_labels(torch.tensor(values), class_names, where)
