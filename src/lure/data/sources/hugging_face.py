"""Hugging Face data sets: saved copies, and data sets on the hub by their id."""

from pathlib import Path

from lure.data.sources.dataset import Dataset, Hints
from lure.data.sources.parquet import reading_table
from lure.data.sources.tables import table_class_names, table_examples
from lure.errors import InputError, require_within


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
    with reading_table(place) as datasets:
        if id is None:
            tables = datasets.load_from_disk(str(path))
        else:
            tables = datasets.load_dataset(id, config, cache_dir=None if path is None else str(path))
    for split in (train, test):
        if not isinstance(tables, dict) or split not in tables:
            found = ", ".join(tables) if isinstance(tables, dict) else "a single table"
            raise InputError(f"{place} has no split {split!r}, it holds {found}: name it (train=..., test=...)")
    hints = Hints(label=label, image=image)
    class_names = table_class_names(tables[train], place, hints)
    first = table_examples(tables[train], f"{place}, {train}", None, None, size, hints=hints)
    second = table_examples(tables[test], f"{place}, {test}", class_names or None, first.input_shape, hints=hints)
    return Dataset(first, second, class_names)
