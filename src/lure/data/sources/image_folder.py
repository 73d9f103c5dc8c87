"""One folder of images per class: FOLDER/cat/1.png, FOLDER/dog/1.jpg and so on."""

from collections.abc import Sequence
from pathlib import Path

import torch

from lure.data.examples import Examples
from lure.data.sources.images import EncodedImages, FolderReader, row_shape
from lure.errors import InputError, unknown_name

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}


def class_folders(path: Path) -> tuple[str, ...]:
    """Return the names of the folders in `path`, sorted, without hidden ones.

    Raises:
        InputError: if `path` cannot be listed.
    """
    try:
        return tuple(sorted(entry.name for entry in path.iterdir() if entry.is_dir() and entry.name[0] not in "._"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def image_files(folder: Path) -> list[str]:
    """Return the names of the image files in a folder, sorted, without hidden ones.

    Raises:
        InputError: if the folder cannot be listed.
    """
    try:
        entries = [entry.name for entry in folder.iterdir() if entry.suffix.lower() in SUFFIXES]
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror}") from error
    return sorted(name for name in entries if name[0] != "." and (folder / name).is_file())


def load_image_folder(
    path: Path,
    class_names: Sequence[str] | None = None,
    input_shape: Sequence[int] | None = None,
    size: int | None = None,
    labelled: bool = True,
) -> Examples:
    """Load one folder of images per class; images stay in their files and are decoded on demand.

    Args:
        path: contains one folder per class. Files without the suffix of an image are ignored.
        class_names: the known classes in the order of their labels; None takes the folders in alphabetical order.
        input_shape: (channels, height, width) of the model's input; None gives RGB images of the first image's size.
        size: height and width to scale to if `input_shape` is None.
        labelled: False if labels are not needed; they are then all 0, and images may be in `path` itself.

    Raises:
        InputError: if there are no images, or a class is unknown.
    """
    folders = class_folders(path)
    known = list(folders if class_names is None else class_names)
    names: list[str] = []
    labels: list[int] = []
    for folder in folders:
        files = image_files(path / folder)
        if labelled and folder not in known:
            raise InputError(f"{path / folder}: {unknown_name('class', folder, known)}")
        if labelled and not files:
            raise InputError(f"{path / folder} holds no images: it should hold those of class {folder!r}")
        names += [f"{folder}/{file}" for file in files]
        labels += [known.index(folder) if labelled else 0] * len(files)
    if not labelled:
        loose = image_files(path)
        names, labels = loose + names, [0] * len(loose) + labels
    if not names:
        raise InputError(f"{path} holds no images: it should hold a folder of images for each class")
    reader = FolderReader(path.resolve(), names)
    return Examples(EncodedImages(reader, row_shape(reader, input_shape, size, str(path))), torch.tensor(labels))
