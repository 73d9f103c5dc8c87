"""One folder of images per class: FOLDER/cat/1.png, FOLDER/dog/1.jpg and so on.

A folder is a class unless it is hidden or a known leftover of a system; a file is an image by its ending. Whatever else
there is, is left out, and one line counts it by kind.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from lure.data.examples import Examples
from lure.data.sources.class_names import same_name
from lure.data.sources.dataset import tell
from lure.data.sources.images import EncodedImages, FolderReader, row_shape
from lure.errors import InputError, unknown_name
from lure.words import count

# The endings of the formats that `images` opens.
ENDINGS = """
.png .apng .jpg .jpeg .jpe .jfif .mpo .gif .webp .bmp .dib .tif .tiff .ppm .pgm .pbm .pnm .pfm .avif .avifs
.jp2 .j2k .j2c .jpc .jpf .jpx .qoi
"""
SUFFIXES = frozenset(ENDINGS.split())
# What systems and tools leave in folders; it is no data, and not worth a word.
LEFTOVER_FOLDERS = {"__MACOSX", "__pycache__", "@eaDir", "#recycle", "lost+found", "$RECYCLE.BIN"}
LEFTOVER_FILES = {".DS_Store", "Thumbs.db", "desktop.ini"}


def class_folders(path: Path) -> tuple[str, ...]:
    """Return the names of the classes in `path`, sorted: those of its folders but hidden ones and known leftovers.

    Raises:
        InputError: if `path` cannot be listed, or holds a link to nothing.
    """
    return tuple(sorted({same_name(name) for name in _Listing(path).folders}))


def image_files(folder: Path) -> list[str]:
    """Return the names of the image files in a folder, sorted, without hidden ones.

    Raises:
        InputError: if the folder cannot be listed, or holds a link to nothing.
    """
    return _Listing(folder).images


class _Listing:
    """What a folder holds: `folders`, `images`, and all other files by kind.

    Raises:
        InputError: if it cannot be listed, or holds a link to nothing.
    """

    def __init__(self, path: Path) -> None:
        self.folders: list[str] = []
        self.images: list[str] = []
        self.others: Counter[str] = Counter()
        try:
            with os.scandir(path) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    self._add(path, entry)
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error

    def _add(self, path: Path, entry: os.DirEntry[str]) -> None:
        name = entry.name
        if entry.is_dir():
            if name[0] != "." and name not in LEFTOVER_FOLDERS:
                self.folders.append(name)
        elif name in LEFTOVER_FILES or name.startswith("._"):
            pass
        elif entry.is_symlink() and not os.path.exists(entry.path):
            raise InputError(f"{path / name} is a link to {os.readlink(entry.path)}, which is not there")
        elif name[0] != "." and Path(name).suffix.lower() in SUFFIXES and entry.is_file():
            self.images.append(name)
        else:
            self.others[_kind(name)] += 1


def _kind(name: str) -> str:
    return "hidden" if name[0] == "." else Path(name).suffix.lower() or "no ending"


def _files_below(path: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(path))


def _tell_left_out(path: Path, others: Counter[str]) -> None:
    if others:
        kinds = ", ".join(f"{kind} {number}" for kind, number in others.most_common())
        tell(f"{path}: left out: {count(sum(others.values()), 'file')} ({kinds})")


def load_image_folder(
    path: Path,
    class_names: Sequence[str] | None = None,
    input_shape: Sequence[int] | None = None,
    size: int | None = None,
    labelled: bool = True,
) -> Examples:
    """Load one folder of images per class; images stay in their files and are decoded on demand.

    Args:
        path: contains one folder per class. What is not an image by its ending, and what is in folders inside a class,
            is left out; a warning counts it by kind.
        class_names: the known classes in the order of their labels; None takes the folders in alphabetical order.
        input_shape: (channels, height, width) of the model's input; None gives RGB images of the first image's size.
        size: height and width to scale to if `input_shape` is None.
        labelled: False if labels are not needed; they are then all 0, and images may be in `path` itself.

    Raises:
        InputError: if there are no images, a class is unknown, or a link leads to nothing.
    """
    root = _Listing(path)
    known = {same_name(name): label for label, name in enumerate(class_names or class_folders(path))}
    names: list[str] = []
    labels: list[int] = []
    others = Counter(root.others)
    if labelled:
        others.update(_kind(name) for name in root.images)
    else:
        names, labels = list(root.images), [0] * len(root.images)
    for folder in _by_class(root.folders):
        found = _Listing(path / folder)
        if labelled and same_name(folder) not in known:
            raise InputError(f"{path / folder}: {unknown_name('class', folder, known)}")
        if labelled and not found.images:
            raise InputError(f"{path / folder} holds no images: it should hold those of class {folder!r}")
        names += [f"{folder}/{file}" for file in found.images]
        labels += [known[same_name(folder)] if labelled else 0] * len(found.images)
        others.update(found.others)
        if deeper := sum(_files_below(path / folder / name) for name in found.folders):
            others["in folders of a class"] += deeper
    if not names:
        raise InputError(f"{path} holds no images: it should hold a folder of images for each class")
    _tell_left_out(path, others)
    reader = FolderReader(path.resolve(), names)
    return Examples(EncodedImages(reader, row_shape(reader, input_shape, size, str(path))), torch.tensor(labels))


def _by_class(folders: Iterable[str]) -> list[str]:
    """Return folders in the order of their names as they are compared, so that it is that of classes on any system."""
    return sorted(folders, key=lambda name: (same_name(name), name))
