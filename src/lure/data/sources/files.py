"""Your own data: a `.npz` file, a folder of images per class, CSV, Parquet, or a saved Hugging Face table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lure.data.examples import Examples
from lure.data.sources.arrays import load_npz
from lure.data.sources.class_names import class_numbers, in_places, numbers_to_labels, require_dense
from lure.data.sources.column_kinds import TEXT
from lure.data.sources.columns import TableForm
from lure.data.sources.csv_table import open_csv
from lure.data.sources.dataset import Dataset, Hints, Layout, reading, tell
from lure.data.sources.image_folder import class_folders, load_image_folder
from lure.data.sources.parquet import open_parquet, open_saved, partition_files, without_index
from lure.data.sources.tables import LABEL_NAMES, fit_form, row_name, table_class_names, table_examples
from lure.errors import InputError, require_within, unknown_name

ENDINGS = (".npz", ".csv", ".parquet", "")


def load_examples(
    path: Path | str,
    class_names: Sequence[str] | None = None,
    input_shape: Sequence[int] | None = None,
    *,
    size: int | None = None,
    labelled: bool = True,
    form: TableForm | None = None,
    hints: Hints | None = None,
) -> Examples:
    """Load labelled examples from disk.

    Args:
        path: a `.npz` file with `inputs` (N, H, W), (N, C, H, W), (N, H, W, C) or (N, features) and integer `labels`; a
            folder with one folder of images per class; a `.csv` file; a `.parquet` file or a folder of them; or the
            output of `save_to_disk` of Hugging Face's `datasets`.
        class_names: the known classes in the order of their labels. None takes the data's own; see `read_class_names`.
            Labels that are numbers are places in it, unless the names are numbers: then 7 is the class named "7".
        input_shape: the model's input. Encoded images are scaled to it and made grey or RGB; arrays must match it.
        size: height and width to scale encoded images to if `input_shape` is None; None takes the first image's.
        labelled: False if labels are not needed; they are then all 0.
        form: the columns that a table must have, and what becomes of each; see `read_form`. None takes the table's own
            as they are; then text cannot be a feature, and no number may be missing.
        hints: what the file does not say itself.

    Returns:
        Examples in file order. Large data stay in their files.

    Raises:
        InputError: if `path` does not exist, is damaged, or holds data that cannot be used.

    Example:
        >>> import tempfile, numpy
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     numpy.savez(f"{folder}/new.npz", inputs=numpy.zeros((3, 8, 8), numpy.uint8), labels=[0, 1, 0])
        ...     load_examples(f"{folder}/new.npz").input_shape
        (1, 8, 8)
    """
    path = Path(path)
    if size is not None:
        require_within("size", size, 1)
    with reading(path):
        kind = _kind(path)
        if kind == "npz":
            examples = load_npz(path, labelled, input_shape, hints.layout if hints else None)
            if labelled:
                examples = examples.with_labels(numbers_to_labels(examples.labels, class_names, str(path)))
        elif kind == "folder":
            examples = load_image_folder(path, class_names, input_shape, size, labelled)
        else:
            table = _open_table(path, kind, hints, form)
            examples = table_examples(table, str(path), class_names, input_shape, size, labelled, hints, form)
    if input_shape is not None and examples.input_shape != tuple(input_shape):
        raise InputError(
            f"{path} holds inputs of shape {examples.input_shape}, the model takes {tuple(map(int, input_shape))}"
        )
    return examples


def load_alike(
    path: Path | str,
    class_names: Sequence[str],
    input_shape: Sequence[int],
    form: TableForm | None = None,
    hints: Hints | None = None,
    other: str = "the holdout",
) -> Examples:
    """Load data whose labels and columns must mean what those of other data do, such as a chunk and the holdout.

    Args:
        path: as for `load_examples`.
        class_names: the classes of the other data in the order of their labels; () if they are numbers.
        input_shape: shape of one input of the other data.
        form: what becomes of their columns; None if they are no table.
        hints: what the file does not say itself.
        other: what the other data are called in messages.

    Raises:
        InputError: if one names its classes and the other numbers them, and as `load_examples`.
    """
    found = read_class_names(path, hints, form)
    if not class_names and class_numbers(found):
        class_names = in_places(found)
    if not class_names and found:
        raise InputError(
            f"{path} names its classes ({', '.join(found[:3])}{', ...' * (len(found) > 3)}), and {other} numbers "
            f"them: give names in both, or numbers in both"
        )
    if class_names and not found and not class_numbers(class_names):
        shown = ", ".join(f"{number} is {name!r}" for number, name in enumerate(class_names[:3]))
        tell(f"{path} numbers its classes, and {other} names them: {shown}{', ...' * (len(class_names) > 3)}")
    return load_examples(path, class_names or None, input_shape, form=form, hints=hints)


def read_class_names(path: Path | str, hints: Hints | None = None, form: TableForm | None = None) -> tuple[str, ...]:
    """Return the class names in data on disk, in the order of their labels; () if there are none.

    Raises:
        InputError: as `load_examples`.
    """
    path = Path(path)
    with reading(path):
        kind = _kind(path)
        if kind == "npz":
            return ()
        if kind == "folder":
            return class_folders(path)
        return table_class_names(_open_table(path, kind, hints, form), str(path), hints, form)


def read_form(path: Path | str, hints: Hints | None = None) -> TableForm | None:
    """Return what becomes of the columns of a table, as this table fixes it for all that follow; None if it is none.

    Raises:
        InputError: for a column that cannot be a feature, or is named and not there, and as `load_examples`.
    """
    path, hints = Path(path), hints or Hints()
    with reading(path):
        kind = _kind(path)
        if kind in ("npz", "folder"):
            if hints.id or hints.ignore:
                raise InputError(f"{path} is no table, so it has no columns to name (--id, --ignore)")
            return None
        named = list(filter(None, (*hints.ignore, hints.id)))
        table = _open_table(path, kind, hints, keep=named)
        for name in named:
            if name not in table.column_names:
                raise InputError(f"{path}: {unknown_name('column', name, table.column_names)}")
        return fit_form(table.remove_columns(named), str(path), hints)


def read_ids(path: Path | str, hints: Hints | None = None, form: TableForm | None = None) -> list[str] | None:
    """Return what names each row of a table, as text; None where no column was named for that.

    Raises:
        InputError: if the column is not there, and as `load_examples`.
    """
    path, name = Path(path), _id_column(hints, form)
    if name is None:
        return None
    with reading(path):
        table = _open_table(path, _kind(path), hints, form, keep=[name])
        if name not in table.column_names:
            raise InputError(f"{path}: {unknown_name('column', name, table.column_names)}")
        return [str(value) for value in _cells(table, name)]


def _id_column(hints: Hints | None, form: TableForm | None) -> str | None:
    return (hints and hints.id) or (form and form.id) or None


def _open_table(
    path: Path, kind: str, hints: Hints | None, form: TableForm | None = None, keep: Sequence[str] = ()
) -> Any:
    """Open a table without the columns that are left out, after looking at the one that names its rows.

    Args:
        path: where it is.
        kind: in which format.
        hints: what the command says of columns.
        form: what was fixed when the model was begun.
        keep: columns that stay, whatever they are.

    Raises:
        InputError: if two rows have one name, or one has none.
    """
    hints, known = hints or Hints(), form or TableForm()
    identifier = _id_column(hints, form)
    ignored = [name for name in dict.fromkeys((*hints.ignore, *known.ignore)) if name not in keep]
    if kind == "csv":
        kinds = {column.name: column.kind for column in known.columns}
        if label := hints.label or known.label:
            kinds[label] = TEXT if known.label_kind == TEXT else ""
        table = open_csv(path, kinds | ({identifier: TEXT} if identifier else {}), ignored)
    else:
        opened = {*known.names, *LABEL_NAMES, *keep, *ignored, *filter(None, (identifier, hints.label, known.label))}
        table = (open_parquet if kind == "parquet" else open_saved)(path, opened)
        table = table.remove_columns([name for name in ignored if name in table.column_names])
    if identifier is not None and identifier in table.column_names:
        _require_different(table, identifier, str(path))
        if identifier not in keep:
            table = table.remove_columns([identifier])
    return without_index(table, str(path), (), [*known.names, *keep]) if kind == "csv" else table


def _cells(table: Any, name: str) -> list[Any]:
    """Return the values of a column, all at once: one by one takes seconds."""
    values: list[Any] = table.select_columns([name]).with_format("arrow")[:][name].to_pylist()
    return values


def _require_different(table: Any, name: str, place: str) -> None:
    """Raise if the column that names the rows has a value twice, or none."""
    rows: dict[Any, int] = {}
    for row, value in enumerate(_cells(table, name)):
        if value is None:
            raise InputError(f"{place}, column {name!r}: {row_name(place, row)} has no id")
        if value in rows:
            raise InputError(
                f"{place}, column {name!r}: the id {str(value)!r} is that of {row_name(place, rows[value])} and of "
                f"{row_name(place, row)}: each row needs its own"
            )
        rows[value] = row


def _kind(path: Path) -> str:
    """Return the kind of data at a path: "npz", "csv", "parquet", "saved" (by Hugging Face's library) or "folder"."""
    if path.is_dir():
        if any(path.glob("*.parquet")) or partition_files(path):
            return "parquet"
        if table := next(iter(sorted(path.glob("*.csv"))), None):
            raise InputError(f"{path} is a folder with {table.name}: name the file, a table is one CSV file")
        saved = any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json"))
        return "saved" if saved else "folder"
    if not path.exists():
        raise InputError(
            f"there is nothing at {path}: it should be a .npz, .csv or .parquet file, or a folder of images"
        )
    if not path.is_file():
        raise InputError(f"{path} is not a file: pipes and devices are not read")
    if path.suffix.lower() not in (".npz", ".csv", ".parquet"):
        raise InputError(
            f"cannot tell what {path} holds: it should be a .npz, .csv or .parquet file, or a folder of images"
        )
    return path.suffix[1:].lower()


def own_files(
    path: Path | None,
    download: bool,
    *,
    size: int | None = None,
    label: str | None = None,
    image: str | None = None,
    id: str | None = None,
    ignore: tuple[str, ...] = (),
    layout: Layout | None = None,
) -> Dataset:
    """Load a folder with both parts of a data set, each in any form that `load_examples` reads.

    Args:
        path: contains `train` and `test`, each a folder or a file that ends in .npz, .csv or .parquet. What becomes of
            the columns of a table, such as the levels of text, is fixed by `train`.
        download: has no effect.
        size: height and width to scale encoded images to; None takes the first training image's.
        label: the column of a table that holds the labels; None finds it by its usual names.
        image: the column of a table that holds images; None finds it.
        id: the column of a table that names its rows, and is no feature.
        ignore: columns of a table that are left out.
        layout: where the channels of arrays are; None finds it where they are 1, 3 or 4.

    Raises:
        InputError: if a part is missing, and as `load_examples`.
    """
    if path is None:
        raise InputError("'file' needs a folder that holds train and test (--data DIR)")
    parts = []
    for part in ("train", "test"):
        found = [path / f"{part}{ending}" for ending in ENDINGS if (path / f"{part}{ending}").exists()]
        if not found:
            raise InputError(f"{path} lacks {part}: a folder {part}, {part}.npz, {part}.csv or {part}.parquet")
        parts.append(found[0])
    hints = Hints(label=label, image=image, id=id, ignore=ignore, layout=layout)
    class_names, form = read_class_names(parts[0], hints), read_form(parts[0], hints)
    train = load_examples(parts[0], size=size, form=form, hints=hints)
    test = load_alike(parts[1], class_names, train.input_shape, form, hints, str(parts[0]))
    if not class_names:
        require_dense(torch.cat([train.labels, test.labels]), str(path))
    return Dataset(train, test, class_names, form=form)
