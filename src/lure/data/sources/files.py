"""Your own data: a `.npz` file, a folder of images per class, Parquet, or a saved Hugging Face table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lure.data.examples import Examples
from lure.data.sources.arrays import load_npz
from lure.data.sources.class_names import class_numbers, in_places, numbers_to_labels, require_dense
from lure.data.sources.dataset import Dataset, Hints, Layout, reading, tell
from lure.data.sources.image_folder import class_folders, load_image_folder
from lure.data.sources.parquet import open_parquet, open_saved, partition_files
from lure.data.sources.tables import LABEL_NAMES, table_class_names, table_columns, table_examples
from lure.errors import InputError, require_within


def load_examples(
    path: Path | str,
    class_names: Sequence[str] | None = None,
    input_shape: Sequence[int] | None = None,
    *,
    size: int | None = None,
    labelled: bool = True,
    columns: Sequence[str] | None = None,
    column_kinds: Sequence[str] = (),
    hints: Hints | None = None,
) -> Examples:
    """Load labelled examples from disk.

    Args:
        path: a `.npz` file with `inputs` (N, H, W), (N, C, H, W), (N, H, W, C) or (N, features) and integer `labels`; a
            folder with one folder of images per class; a `.parquet` file or a folder of them; or the output of
            `save_to_disk` of Hugging Face's `datasets`.
        class_names: the known classes in the order of their labels. None takes the data's own; see `read_class_names`.
            Labels that are numbers are places in it, unless the names are numbers: then 7 is the class named "7".
        input_shape: the model's input. Encoded images are scaled to it and made grey or RGB; arrays must match it.
        size: height and width to scale encoded images to if `input_shape` is None; None takes the first image's.
        labelled: False if labels are not needed; they are then all 0.
        columns: the feature columns that a table must have, in the order that is wanted. None takes the table's own;
            see `read_columns`.
        column_kinds: what each of these columns must hold; () if that is not on record.
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
            table = _open_table(path, kind, hints, columns or ())
            examples = table_examples(
                table, str(path), class_names, input_shape, size, labelled, hints, columns or None, column_kinds
            )
    if input_shape is not None and examples.input_shape != tuple(input_shape):
        raise InputError(
            f"{path} holds inputs of shape {examples.input_shape}, the model takes {tuple(map(int, input_shape))}"
        )
    return examples


def load_alike(
    path: Path | str,
    class_names: Sequence[str],
    input_shape: Sequence[int],
    columns: Sequence[str] = (),
    column_kinds: Sequence[str] = (),
    hints: Hints | None = None,
    other: str = "the holdout",
) -> Examples:
    """Load data whose labels and columns must mean what those of other data do, such as a chunk and the holdout.

    Args:
        path: as for `load_examples`.
        class_names: the classes of the other data in the order of their labels; () if they are numbers.
        input_shape: shape of one input of the other data.
        columns: their feature columns, in order; () if they are no table of numbers.
        column_kinds: what each of these columns holds; () if that is not on record.
        hints: what the file does not say itself.
        other: what the other data are called in messages.

    Raises:
        InputError: if one names its classes and the other numbers them, and as `load_examples`.
    """
    found = read_class_names(path, hints)
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
    return load_examples(
        path, class_names or None, input_shape, columns=columns, column_kinds=column_kinds, hints=hints
    )


def read_class_names(path: Path | str, hints: Hints | None = None) -> tuple[str, ...]:
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
        return table_class_names(_open_table(path, kind, hints), str(path), hints)


def read_columns(path: Path | str, hints: Hints | None = None) -> dict[str, str]:
    """Return what each feature column of a table of numbers holds, by its name, in order; {} for arrays and images.

    Raises:
        InputError: as `load_examples`.
    """
    path = Path(path)
    with reading(path):
        kind = _kind(path)
        if kind in ("npz", "folder"):
            return {}
        return table_columns(_open_table(path, kind, hints), place=str(path), hints=hints)


def _open_table(path: Path, kind: str, hints: Hints | None, columns: Sequence[str] = ()) -> Any:
    keep = {*columns, *LABEL_NAMES, *([hints.label] if hints and hints.label else [])}
    return open_parquet(path, keep) if kind == "parquet" else open_saved(path, keep)


def _kind(path: Path) -> str:
    """Return the kind of data at a path: "npz", "parquet", "saved" (by Hugging Face's library) or "folder"."""
    if path.is_dir():
        if any(path.glob("*.parquet")) or partition_files(path):
            return "parquet"
        saved = any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json"))
        return "saved" if saved else "folder"
    if not path.exists():
        raise InputError(f"there is nothing at {path}: it should be a .npz or .parquet file, or a folder of images")
    if not path.is_file():
        raise InputError(f"{path} is not a file: pipes and devices are not read")
    if path.suffix.lower() not in (".npz", ".parquet"):
        raise InputError(f"cannot tell what {path} holds: it should be a .npz or .parquet file, or a folder of images")
    return path.suffix[1:].lower()


def own_files(
    path: Path | None,
    download: bool,
    *,
    size: int | None = None,
    label: str | None = None,
    image: str | None = None,
    layout: Layout | None = None,
) -> Dataset:
    """Load a folder with both parts of a data set, each in any form that `load_examples` reads.

    Args:
        path: contains `train` and `test`, each a folder or a file that ends in .npz or .parquet.
        download: has no effect.
        size: height and width to scale encoded images to; None takes the first training image's.
        label: the column of a table that holds the labels; None finds it by its usual names.
        image: the column of a table that holds images; None finds it.
        layout: where the channels of arrays are; None finds it where they are 1, 3 or 4.

    Raises:
        InputError: if a part is missing, and as `load_examples`.
    """
    if path is None:
        raise InputError("'file' needs a folder that holds train and test (--data DIR)")
    parts = []
    for part in ("train", "test"):
        found = [path / f"{part}{ending}" for ending in (".npz", ".parquet", "") if (path / f"{part}{ending}").exists()]
        if not found:
            raise InputError(f"{path} lacks {part}: a folder {part}, {part}.npz or {part}.parquet")
        parts.append(found[0])
    hints = Hints(label=label, image=image, layout=layout)
    class_names, columns = read_class_names(parts[0], hints), read_columns(parts[0], hints)
    kinds = list(columns.values())
    train = load_examples(parts[0], size=size, hints=hints)
    test = load_alike(parts[1], class_names, train.input_shape, list(columns), kinds, hints, str(parts[0]))
    if not class_names:
        require_dense(torch.cat([train.labels, test.labels]), str(path))
    return Dataset(train, test, class_names)
