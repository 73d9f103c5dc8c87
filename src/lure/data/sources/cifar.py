"""CIFAR-10 and CIFAR-100, in the official python and binary versions, unpacked or as the official .tar.gz.

The python version is a set of pickles, and a pickle can run any program. So they are read by an unpickler that accepts
only the names that occur in such files and builds the arrays of bytes itself. Archives are read without being
extracted.

Reference: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lure.data.examples import Examples
from lure.data.sources.dataset import Dataset
from lure.data.sources.download import download_file
from lure.data.sources.unpickler import Bytes, Unpickler
from lure.errors import InputError
from lure.words import count

PIXELS = 3 * 32 * 32
# Limits for hostile files. The largest official file has 155 million bytes, the largest archive 187 million.
MAX_FILE_BYTES = 1 << 28
MAX_ARCHIVE_BYTES = 1 << 29


@dataclass(frozen=True)
class Layout:
    """The official files of one data set: names, lengths, checksum, and where their labels are."""

    name: str
    python_folder: str
    binary_folder: str
    train_files: tuple[str, ...]
    test_file: str
    train_length: int  # images in each official training file
    test_length: int
    url: str  # of the python version
    sha256: str
    label_key: str  # in the pickles
    label_column: int  # in the binary records
    label_columns: int
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def python_archive(self) -> str:
        """Name of the archive of the python version."""
        return self.url.rpartition("/")[2]

    @property
    def binary_archive(self) -> str:
        """Name of the archive of the binary version."""
        return self.python_archive.replace("python", "binary")

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files of the python version; those of the binary version end in .bin."""
        return (*self.train_files, self.test_file)


CIFAR10 = Layout(
    name="cifar10",
    python_folder="cifar-10-batches-py",
    binary_folder="cifar-10-batches-bin",
    train_files=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test_file="test_batch",
    train_length=10_000,
    test_length=10_000,
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    label_key="labels",
    label_column=0,
    label_columns=1,
    class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
)
FINE_NAMES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
"""
COARSE_NAMES = """
    aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices household_furniture
    insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes large_omnivores_and_herbivores
    medium_mammals non-insect_invertebrates people reptiles small_mammals trees vehicles_1 vehicles_2
"""


def _cifar100_layout(labels: Literal["fine", "coarse"]) -> Layout:
    return Layout(
        name="cifar100",
        python_folder="cifar-100-python",
        binary_folder="cifar-100-binary",
        train_files=("train",),
        test_file="test",
        train_length=50_000,
        test_length=10_000,
        url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        label_key=f"{labels}_labels",
        label_column=1 if labels == "fine" else 0,
        label_columns=2,
        class_names=tuple((FINE_NAMES if labels == "fine" else COARSE_NAMES).split()),
        mean=(0.5071, 0.4866, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
    )


def cifar10(path: Path | None, download: bool) -> Dataset:
    """Load CIFAR-10: 50,000 and 10,000 colour images of 10 classes, 32x32.

    Args:
        path: `cifar-10-batches-py`, `cifar-10-batches-bin`, `cifar-10-python.tar.gz` or `cifar-10-binary.tar.gz`, or
            the folder that holds one of them. If both versions are there, the python version is read.
        download: download the official archive of the python version to `path` if there is none.

    Raises:
        InputError: if a file is missing, damaged or of another kind, or the download fails.
    """
    return load_files(CIFAR10, path, download)


def cifar100(path: Path | None, download: bool, *, labels: Literal["fine", "coarse"] = "fine") -> Dataset:
    """Load CIFAR-100: 50,000 and 10,000 colour images of 100 classes (or 20 groups of them), 32x32.

    Args:
        path: `cifar-100-python`, `cifar-100-binary` or one of the two archives, or the folder that holds one of them.
            If both versions are there, the python version is read.
        download: download the official archive of the python version to `path` if there is none.
        labels: "fine" for the 100 classes, "coarse" for the 20 groups.

    Raises:
        InputError: if a file is missing, damaged or of another kind, or the download fails.
    """
    return load_files(_cifar100_layout(labels), path, download)


def load_files(layout: Layout, path: Path | None, download: bool) -> Dataset:
    """Load the official files of one layout; arguments as `cifar10`.

    Raises:
        InputError: if a file is missing, damaged or of another kind, or the download fails.
    """
    if path is None:
        raise InputError(
            f"{layout.name} needs its files: pass the folder that holds {layout.python_folder}, {layout.binary_folder} "
            f"or {layout.python_archive} (--data DIR), or a folder to download it to (--data DIR --download)"
        )
    place = _locate(layout, path)
    if place is None and download:
        place = path / layout.python_archive
        download_file(layout.url, place, layout.sha256, MAX_FILE_BYTES)
    if place is None:
        raise InputError(
            f"no {layout.name} in {path}: it must be or hold {layout.python_folder}, {layout.binary_folder} or "
            f"{layout.python_archive}; --download fetches it"
        )
    parts = {}
    for name, shown, content in read_archive(layout, place) if place.is_file() else _read_folder(layout, place):
        read = _read_binary if name.endswith(".bin") else _read_pickle
        parts[name] = read(content, shown, layout)
    if not parts:
        raise InputError(f"{place} holds no file of {layout.name}")
    # An archive may hold both versions, too.
    suffix = "" if any(name in parts for name in layout.files) else ".bin"
    for name in layout.files:
        if name + suffix not in parts:
            raise InputError(
                f"{layout.name} lacks {name + suffix} in {place}: unpack the official archive again, "
                f"or let --download fetch it into another folder"
            )
    _check_lengths(layout, {name: len(parts[name + suffix][1]) for name in layout.files}, suffix, place)
    trains = [parts[name + suffix] for name in layout.train_files]
    train = Examples(torch.cat([images for images, _ in trains]), torch.cat([labels for _, labels in trains]))
    return Dataset(train, Examples(*parts[layout.test_file + suffix]), layout.class_names, layout.mean, layout.std)


def _check_lengths(layout: Layout, lengths: dict[str, int], suffix: str, place: Path) -> None:
    """Refuse a binary file that was cut between two records: on its own it looks complete.

    If one file has the official length, all must; otherwise (a small set in this layout) all training files must have
    the same length.
    """
    official = dict.fromkeys(layout.train_files, layout.train_length) | {layout.test_file: layout.test_length}
    expected = dict.fromkeys(layout.train_files, max(lengths[name] for name in layout.train_files))
    if any(lengths[name] == official[name] for name in layout.files):
        expected = official
    for name, length in expected.items():
        if lengths[name] != length:
            raise InputError(
                f"{name + suffix} in {place} is truncated or too long: "
                f"it has {count(lengths[name], 'image')} instead of {length}"
            )


def _locate(layout: Layout, path: Path) -> Path | None:
    """Return the folder or archive to read, or None; python before binary, unpacked before packed."""
    if path.is_file():
        return path
    for suffix, folder, archive in (
        ("", layout.python_folder, layout.python_archive),
        (".bin", layout.binary_folder, layout.binary_archive),
    ):
        for place in (path, path / folder):
            if any((place / (name + suffix)).is_file() for name in layout.files):
                return place
        if (path / archive).is_file():
            return path / archive
    return None


def _read_folder(layout: Layout, folder: Path) -> Iterator[tuple[str, str, bytes]]:
    """Yield (name, name for messages, content) for the files of one version."""
    suffix = "" if any((folder / name).is_file() for name in layout.files) else ".bin"
    for name in layout.files:
        file = folder / (name + suffix)
        if not file.is_file():
            continue
        try:
            if file.stat().st_size > MAX_FILE_BYTES:
                raise InputError(f"{file} is larger than any official file: more than {MAX_FILE_BYTES} bytes")
            yield name + suffix, str(file), file.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {file}: {error.strerror}") from error


class _BoundedReader:
    """A stream that raises after `max_bytes`, however well they were compressed."""

    def __init__(self, file: io.BufferedIOBase, max_bytes: int) -> None:
        self.file = file
        self.max_bytes = self.left = max_bytes

    def read(self, size: int) -> bytes:
        content = self.file.read(size)
        self.left -= len(content)
        if self.left < 0:
            raise InputError(f"it unpacks to more than {self.max_bytes} bytes, which no official archive does")
        return content


def read_archive(layout: Layout, archive: Path, max_bytes: int = MAX_ARCHIVE_BYTES) -> Iterator[tuple[str, str, bytes]]:
    """Yield (name, name for messages, content) for the known files in a .tar.gz, in one pass, without extracting.

    Raises:
        InputError: if the archive is damaged, or unpacks to more than `max_bytes`.
    """
    wanted = {name + suffix for name in layout.files for suffix in ("", ".bin")}
    try:
        with (
            gzip.open(archive) as compressed,
            tarfile.open(fileobj=(whole := _BoundedReader(compressed, max_bytes)), mode="r|") as members,  # type: ignore[call-overload]
        ):
            for member in members:
                folder, _, name = member.name.rpartition("/")
                known = folder.rpartition("/")[2] in (layout.python_folder, layout.binary_folder)
                if known and name in wanted and member.isfile():
                    if member.size > MAX_FILE_BYTES:
                        raise InputError(f"{member.name} is larger than any official file: {member.size} bytes")
                    content = members.extractfile(member).read()
                    yield name, f"{archive}, {member.name}", content
            while whole.read(1 << 20):  # tar stops before the end, where gzip verifies its checksum
                pass
    except InputError as error:
        raise InputError(f"cannot read {archive}: {error}") from error
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise InputError(f"cannot read {archive}: it is damaged or not a .tar.gz ({error})") from error


def _read_binary(content: bytes, shown: str, layout: Layout) -> tuple[Tensor, Tensor]:
    """Cut a binary file into images (N, 3, 32, 32) and labels (N,); a record is the labels and 3072 bytes."""
    length = layout.label_columns + PIXELS
    if not content or len(content) % length:
        raise InputError(
            f"{shown} is truncated or not {layout.name}: {len(content)} bytes are not a whole number of "
            f"records of {length}"
        )
    records = torch.frombuffer(bytearray(content), dtype=torch.uint8).view(-1, length)
    labels = records[:, layout.label_column].to(torch.int64)
    return _check(records[:, layout.label_columns :].contiguous(), labels, shown, layout)


def _read_pickle(content: bytes, shown: str, layout: Layout) -> tuple[Tensor, Tensor]:
    """Read a file of the python version: a dictionary of `data` (N, 3072) and lists of labels."""
    try:
        batch = Unpickler(content, shown).load()
    except InputError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        reason = "it ends early" if isinstance(error, EOFError) else str(error) or type(error).__name__
        raise InputError(f"{shown} is truncated or not a file of {layout.name}: {reason}") from error
    fields = {}
    if isinstance(batch, dict):
        fields = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in batch.items()}
    data, labels = fields.get("data"), fields.get(layout.label_key)
    if not isinstance(data, Bytes) or not isinstance(labels, list):
        raise InputError(f"{shown} is not a file of {layout.name}: it must hold 'data' and '{layout.label_key}'")
    pixels = _as_array(data, shown, layout)
    if pixels.ndim != 2 or pixels.shape[1] != PIXELS:
        raise InputError(f"{shown} holds data of shape {pixels.shape} instead of (images, {PIXELS})")
    if not all(type(label) is int and abs(label) < 1 << 31 for label in labels):
        raise InputError(f"{shown} holds labels that are not whole numbers")
    if len(labels) != len(pixels) or not labels:
        raise InputError(f"{shown} holds {count(len(pixels), 'image')} and {count(len(labels), 'label')}")
    return _check(torch.from_numpy(pixels), torch.tensor(labels), shown, layout)


def _as_array(data: Bytes, shown: str, layout: Layout) -> np.ndarray[Any, np.dtype[np.uint8]]:
    try:
        return data.to_array()
    except (ValueError, TypeError) as error:
        raise InputError(f"{shown} is truncated or not a file of {layout.name}: {error}") from error


def _check(pixels: Tensor, labels: Tensor, shown: str, layout: Layout) -> tuple[Tensor, Tensor]:
    wrong = torch.nonzero((labels < 0) | (labels >= len(layout.class_names))).flatten()
    if len(wrong):
        raise InputError(
            f"{shown} holds the label {int(labels[wrong[0]])} at image {int(wrong[0])}; "
            f"labels must lie in [0, {len(layout.class_names) - 1}]"
        )
    return pixels.view(-1, 3, 32, 32), labels
