"""Examples in a table that `datasets` has opened: images of one column, or the features of all but the labels."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lure.data.examples import Examples
from lure.data.sources.arrays import MAX_CLASSES
from lure.data.sources.class_names import numbers_to_labels, same_name
from lure.data.sources.column_kinds import (
    CATEGORIES,
    NUMBERS,
    TEXT,
    TRUTH_VALUES,
    differing_columns,
    ignoring,
    is_bytes,
    is_list,
    kind_of,
    require_usable,
)
from lure.data.sources.columns import MAX_LEVELS, Column, TableForm
from lure.data.sources.csv_table import line_of
from lure.data.sources.dataset import Hints, tell
from lure.data.sources.images import EncodedImages, row_shape
from lure.data.sources.parquet import import_datasets
from lure.errors import InputError, some, unknown_name
from lure.words import count

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
    """The features in some columns of a table; an `InputStore` of float32 (rows, inputs)."""

    dtype = torch.float32

    def __init__(self, table: Any, columns: Sequence[Column], place: str) -> None:
        self.table = table.select_columns([column.name for column in columns]).with_format("arrow")
        self.columns, self.place = columns, place
        self.widths = [values.shape[1] for values in self._load([0])]
        self.shape = torch.Size((len(table), sum(self.widths)))

    def _load(self, rows: list[int] | slice) -> list[Any]:
        with np.errstate(over="ignore"):  # a number too large for float32 becomes infinity, which is refused
            cells = self.table[rows]
            return [self._inputs(column, cells[column.name]) for column in self.columns]

    def _inputs(self, column: Column, cells: Any) -> Any:
        if column.levels:
            return np.eye(len(column.levels) + 1, dtype=np.float32)[_places(cells, column.levels)]
        try:
            values = _numbers(cells)
        except (ValueError, TypeError) as error:
            raise InputError(
                f"{self.place}: column {column.name!r} holds rows of different length or values that are not numbers"
            ) from error
        if column.mean is None:
            return values
        missing = np.isnan(values)
        return np.concatenate([np.where(missing, np.float32(column.mean), values), missing], axis=1, dtype=np.float32)

    def column_of(self, number: int) -> Column:
        """Return the column that an input, numbered from 0, comes from."""
        return self.columns[int(np.searchsorted(np.cumsum(self.widths), number, side="right"))]

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Return the rows with these numbers, stacked."""
        if not len(rows):
            return torch.empty((0, self.shape[1]))
        first, end = int(rows[0]), int(rows[-1]) + 1
        in_order = end - first == len(rows) and torch.equal(rows, torch.arange(first, end))  # which are read far faster
        return torch.from_numpy(np.concatenate(self._load(slice(first, end) if in_order else rows.tolist()), axis=1))


def _numbers(cells: Any) -> Any:
    """Return a column of pyarrow as float32 (rows, width): lists side by side, NaN where there is nothing.

    Raises:
        ValueError: if lists differ in length; TypeError if the cells are not numbers.
    """
    from pyarrow import BaseExtensionType, chunked_array, compute

    num_rows = len(cells)
    if isinstance(cells.type, BaseExtensionType):
        cells = chunked_array([chunk.storage for chunk in cells.chunks])
    while is_list(cells.type):
        if len(lengths := compute.list_value_length(cells).unique()) != 1 or not lengths[0].as_py():
            raise ValueError("lists of different lengths")
        cells = compute.list_flatten(cells)
    return np.asarray(cells.to_numpy(), dtype=np.float32).reshape(num_rows, -1)


def _places(cells: Any, levels: Sequence[str]) -> Any:
    """Return the place of each text of a column of pyarrow among the levels; behind the last for any other, or none."""
    from pyarrow import array, compute, string

    texts = compute.utf8_normalize(cells.cast(string()), form="NFC")
    return compute.index_in(texts, value_set=array(levels)).fill_null(len(levels)).to_numpy()


def row_name(place: str, row: int) -> str:
    """Return where a row is, for messages: its number from 0, and the line of a CSV file."""
    return f"row {row} (line {line_of(Path(place), row)})" if place.lower().endswith(".csv") else f"row {row}"


def label_column(table: Any, place: str, hints: Hints, form: TableForm | None = None) -> str | None:
    """Return the column of the labels: the one that is named, now or when the model was begun, or has a usual name.

    Args:
        table: a `datasets.Dataset`.
        place: where it comes from, for messages.
        hints: names the column.
        form: names the column, and those that are features, when the model was begun.

    Returns:
        The column; None if there is none.

    Raises:
        InputError: if the column that is named is not there.
    """
    names = table.column_names
    if hints.label is not None:
        if hints.label not in names:
            raise InputError(f"{place}: {unknown_name('column', hints.label, names)}")
        return hints.label
    form = form or TableForm()
    if form.label in names or (form.label is not None and form.label not in LABEL_NAMES):
        return form.label if form.label in names else None
    return next((name for name in LABEL_NAMES if name in names and name not in form.names), None)


def _required_label(table: Any, place: str, hints: Hints, form: TableForm | None = None) -> str:
    found = label_column(table, place, hints, form)
    if found is None:
        wanted = ", ".join(LABEL_NAMES) if form is None or form.label is None else form.label
        raise InputError(
            f"{place} has no label column ({wanted}), only {some(table.column_names)}: name it (--label NAME)"
        )
    return found


def image_column(table: Any, place: str, hints: Hints, form: TableForm | None = None) -> str | None:
    """Return the column of the images: declared as such by `datasets`, or bytes; None for a table of numbers.

    Raises:
        InputError: if the column that is named is not there or holds no bytes, or there are several.
    """
    names = table.column_names
    found = [name for name in names if _holds_images(table.features[name])]
    named = hints.image or (form and form.image)
    if named:
        if named not in names:
            raise InputError(f"{place}: {unknown_name('column', named, names)}")
        if named not in found:
            raise InputError(
                f"{place}: column {named!r} holds {_kind(table, named)}, no images: it should hold the bytes of image "
                f"files"
            )
        return named
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


def table_class_names(
    table: Any, place: str = "the table", hints: Hints | None = None, form: TableForm | None = None
) -> tuple[str, ...]:
    """Return the class names: those that the table declares, or else the sorted texts of the label column.

    Truth values are the classes "False" and "True". Labels that are plain integers have no names: ().
    """
    return _names_in(table, _required_label(table, place, hints or Hints(), form))


def _names_in(table: Any, column: str) -> tuple[str, ...]:
    feature = table.features[column]
    if hasattr(feature, "names"):
        return tuple(map(same_name, feature.names))
    if _kind(table, column) == TRUTH_VALUES:
        return "False", "True"
    if _kind(table, column) == TEXT:
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


def fit_form(table: Any, place: str, hints: Hints) -> TableForm:
    """Return what the columns of a table become, as fixed by what it holds: the levels of text, what may be missing.

    Args:
        table: a `datasets.Dataset` without the columns that are to be left out.
        place: where it comes from, for messages.
        hints: names label, image and identifier, and says what was left out.

    Raises:
        InputError: naming a column that cannot be a feature.
    """
    if not len(table):
        raise InputError(f"{place} holds no rows")
    label = _required_label(table, place, hints)
    kinds = table_columns(table, place=place, hints=hints)
    require_usable(kinds, place, text=True)
    levels = {name: _levels(table, name) for name, kind in kinds.items() if kind == TEXT}
    _require_few(levels, table, place)
    return TableForm(
        columns=tuple(
            Column(name=name, kind=kind, levels=levels[name])
            if name in levels
            else _fit_numbers(table, name, kind, place)
            for name, kind in kinds.items()
        ),
        label=label,
        label_kind=_kind(table, label),
        image=hints.image,
        id=hints.id,
        ignore=hints.ignore,
    )


def _fit_numbers(table: Any, name: str, kind: str, place: str) -> Column:
    store = TableRows(table, [Column(name=name, kind=kind)], place)
    mean = None
    if kind in (NUMBERS, TRUTH_VALUES):
        values = torch.cat([rows for _, rows in _in_pieces(store)])
        present = values[~values.isnan()]
        if not len(present):
            raise InputError(f"{place}: column {name!r} holds nothing: leave it out ({ignoring([name])})")
        mean = float(present.double().mean()) if len(present) < len(values) else None
    return Column(name=name, kind=kind, width=store.shape[1], mean=mean)


def _levels(table: Any, name: str) -> tuple[str, ...]:
    """Return the different texts of a column, in order."""
    return tuple(sorted({same_name(text) for text in table.unique(name) if text is not None}))


def _require_few(levels: Mapping[str, Sequence[str]], table: Any, place: str) -> None:
    """Raise unless every column of text holds texts, and no more than a category has; name all that do not."""
    if empty := [name for name, texts in levels.items() if not texts]:
        raise InputError(f"{place}: column {empty[0]!r} holds nothing: leave it out ({ignoring(empty)})")
    many = [name for name, texts in levels.items() if len(texts) > MAX_LEVELS]
    for name in many:
        words = {text for text in levels[name] if not _is_number(text)}
        if 2 * len(words) < len(levels[name]):
            row, text = next((row, text) for row, text in enumerate(table[name]) if text and same_name(text) in words)
            raise InputError(
                f"{place}: column {name!r} holds numbers, and the text {text!r} at {row_name(place, row)}: leave a "
                f"cell without a number empty, or leave the column out ({ignoring([name])})"
            )
    if many:
        shown = some([f"{name!r} ({len(levels[name])}, such as {levels[name][0]!r})" for name in many])
        raise InputError(
            f"{place}: {'column' if len(many) == 1 else 'columns'} of too many different texts: {shown}; a category "
            f"has at most {MAX_LEVELS}: leave out names and notes ({ignoring(many)}; or --id, if a column names the "
            f"rows)"
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def table_examples(
    table: Any,
    place: str,
    class_names: Sequence[str] | None = None,
    input_shape: Sequence[int] | None = None,
    size: int | None = None,
    labelled: bool = True,
    hints: Hints | None = None,
    form: TableForm | None = None,
) -> Examples:
    """Return the rows of a table as examples: images of one column, or the features of all columns except the labels.

    Args:
        table: a `datasets.Dataset` without the columns that are to be left out.
        place: where it comes from, for messages.
        class_names: the known classes in the order of their labels; None takes the table's.
        input_shape: the model's input; images are scaled to it.
        size: height and width of images if `input_shape` is None.
        labelled: False if labels are not needed; they are then all 0.
        hints: the columns of labels and images, where they must be named.
        form: what its columns become, from `fit_form`. None takes numbers as they are, and no text.

    Raises:
        InputError: if the table is empty, a column is missing, or values cannot be used.
    """
    hints = hints or Hints()
    if not len(table):
        raise InputError(f"{place} holds no rows")
    label = label_column(table, place, hints, form)
    if labelled:
        label = _required_label(table, place, hints, form)
        labels = _labels(table, label, class_names, place)
    else:
        labels = torch.zeros(len(table), dtype=torch.int64)
    image = None if form is not None and form.columns else image_column(table, place, hints, form)
    if image is not None:
        return Examples(_images(table, image, label, place, input_shape, size), labels)
    if form is not None and form.columns:
        _require_form(table, form, label, place)
        columns = form.columns
    else:
        kinds = table_columns(table, labelled, place, hints)
        if not kinds:
            raise InputError(f"{place} holds nothing but labels")
        require_usable(kinds, place, text=False)
        columns = tuple(Column(name=name, kind=kind) for name, kind in kinds.items())
    store = TableRows(table, columns, place)
    for start, rows in _in_pieces(store):
        wrong = torch.nonzero(~torch.isfinite(rows))
        if len(wrong):
            row, number = wrong[0].tolist()
            advice = "" if form is None or not rows[row, number].isnan() else _NOT_MISSING
            raise InputError(
                f"{place}, column {store.column_of(number).name!r}: inputs hold NaN or infinity at "
                f"{row_name(place, start + row)}{advice}"
            )
    return Examples(store, labels)


_NOT_MISSING = ", where there should be a number: a column may lack some only if it did in the data of the beginning"


def _in_pieces(store: TableRows) -> Iterator[tuple[int, Tensor]]:
    """Yield all rows of a store, a few thousand at a time, each time with the number of the first."""
    for start in range(0, store.shape[0], CHECKED_ROWS):
        yield start, store[torch.arange(start, min(start + CHECKED_ROWS, store.shape[0]))]


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


def _require_form(table: Any, form: TableForm, label: str | None, place: str) -> None:
    """Raise unless a table has the columns that the model was begun with; say so where it holds texts that are new."""
    names = [name for name in table.column_names if name != label]
    if form.names == ("inputs",):  # which stands for all others
        names = [name for name in names if name == "inputs"]
    if differing := differing_columns(names, form.names):
        raise InputError(
            f"{place} {differing}; the model takes {len(form.names)} columns by name, and all others are refused "
            f"(or left out by --ignore NAME)"
        )
    for column in form.columns:
        kind = _kind(table, column.name)
        if kind == "nothing" and (column.levels or column.mean is not None):
            continue  # all of them are missing
        if column.kind and kind != column.kind:
            raise InputError(f"{place}: column {column.name!r} holds {kind}; the model was begun with {column.kind}")
        if not column.kind:
            require_usable({column.name: kind}, place, text=False)
        if column.levels:
            texts = sorted({same_name(text) for text in table.unique(column.name) if text is not None})
            if new := [text for text in texts if text not in column.levels]:
                nearest = (
                    str(unknown_name("text", new[0], column.levels)).partition(" (")[0].removeprefix("unknown text ")
                )
                tell(
                    f"{place}: column {column.name!r} holds {count(len(new), 'text')} that the model was not begun "
                    f"with, {nearest}: taken as any other"
                )


def _labels(table: Any, column: str, class_names: Sequence[str] | None, place: str) -> Tensor:
    """Read the labels: names become numbers by the known classes, numbers are taken as they are."""
    own = _names_in(table, column)
    values = table.with_format(None)[column][:]
    where = f"{place}, column {column!r}"
    if any(value is None for value in values):
        row = next(row for row, value in enumerate(values) if value is None)
        raise InputError(f"{where}: the label of {row_name(place, row)} is missing")
    if not all(isinstance(value, (str, bool)) or type(value) is int for value in values):
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
                raise InputError(
                    f"{where}, {row_name(place, row)}: {unknown_name('class', name or str(values[row]), known)}"
                )
        return torch.tensor([known[name] for name in spoken])
    wrong = [row for row, value in enumerate(values) if not 0 <= value < MAX_CLASSES]
    if wrong:
        raise InputError(
            f"{where}: labels must lie in [0, {MAX_CLASSES - 1}], got {values[wrong[0]]} at {row_name(place, wrong[0])}"
        )
    return numbers_to_labels(torch.tensor(values), class_names, where)
