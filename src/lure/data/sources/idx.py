"""MNIST and Fashion-MNIST, in their official IDX files, compressed with gzip or not.

An IDX file holds a magic number (type and number of dimensions), the dimensions as big-endian 32-bit integers, and the
bytes.

Reference: LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", Proc. IEEE 1998;
Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms", 2017.
"""

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lure.data.examples import Examples
from lure.data.sources.dataset import Dataset
from lure.data.sources.download import download_file
from lure.errors import InputError
from lure.words import count

# Limits the memory that a hostile file can claim; the largest official file has 47 million bytes.
MAX_BYTES = 1 << 28

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


@dataclass(frozen=True)
class Layout:
    """The official files of one data set: their address, checksums, classes and statistics."""

    name: str
    folders: tuple[str, ...]
    url: str
    checksums: dict[str, str]  # of the compressed files
    class_names: tuple[str, ...]
    mean: float
    std: float


MNIST = Layout(
    name="mnist",
    folders=("mnist", "MNIST/raw"),
    url="https://ossci-datasets.s3.amazonaws.com/mnist/",
    checksums={
        TRAIN_IMAGES: "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        TRAIN_LABELS: "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        TEST_IMAGES: "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        TEST_LABELS: "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
    class_names=tuple("0123456789"),
    mean=0.1307,
    std=0.3081,
)
FASHION_MNIST = Layout(
    name="fashion-mnist",
    folders=("fashion-mnist", "FashionMNIST/raw"),
    url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    checksums={
        TRAIN_IMAGES: "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        TRAIN_LABELS: "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        TEST_IMAGES: "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        TEST_LABELS: "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
    class_names=(
        "T-shirt/top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ),
    mean=0.2860,
    std=0.3530,
)


def read_idx(path: Path, dimensions: int) -> Tensor:
    """Read an IDX file of bytes.

    Args:
        path: the file; gzip is recognised by the first bytes, not by the name.
        dimensions: how many the array must have: 3 for images, 1 for labels.

    Returns:
        uint8 tensor of the shape in the header.

    Raises:
        InputError: if the file is missing, damaged, truncated, too long, or of another kind.
    """
    try:
        with path.open("rb") as raw:
            compressed = raw.read(2) == b"\x1f\x8b"
        with (gzip.open if compressed else open)(path, "rb") as file:
            header = file.read(4 + 4 * dimensions)
            if len(header) < 4 + 4 * dimensions or header[:4] != bytes((0, 0, 8, dimensions)):
                raise InputError(f"{path} is not an IDX file of bytes in {dimensions} dimensions")
            shape = [int.from_bytes(header[at : at + 4], "big") for at in range(4, len(header), 4)]
            size = math.prod(shape)
            if size > MAX_BYTES:
                raise InputError(f"{path} claims {size} bytes of data, more than the {MAX_BYTES} that are read")
            content = bytearray(file.read(size + 1))
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if len(content) != size:
        found = "more" if len(content) > size else f"only {len(content)}"
        raise InputError(f"{path} is damaged: its header promises {size} bytes of data, it has {found}")
    if size == 0:
        raise InputError(f"{path} holds no examples")
    return torch.frombuffer(content, dtype=torch.uint8).view(shape)


def load_files(layout: Layout, path: Path | None, download: bool) -> Dataset:
    """Load the four files of one layout: training and test images with their labels; arguments as `mnist`.

    Raises:
        InputError: if a file is missing or damaged, or the download fails.
    """
    if path is None:
        raise InputError(
            f"{layout.name} needs a folder: pass the one that holds {TRAIN_IMAGES}.gz and its three companions "
            f"(--data DIR), or a folder to download them to (--data DIR --download)"
        )
    folder = next(
        (place for place in (path, *(path / name for name in layout.folders)) if _find(place, TRAIN_IMAGES)), None
    )
    if download:
        folder = folder or path
        for name, checksum in layout.checksums.items():
            if _find(folder, name) is None:
                download_file(f"{layout.url}{name}.gz", folder / f"{name}.gz", checksum, MAX_BYTES)
    if folder is None:
        raise InputError(
            f"no {layout.name} in {path}: it must hold {TRAIN_IMAGES}, compressed (.gz) or not, and its three "
            f"companions; --download fetches them"
        )
    parts = []
    for images_name, labels_name in ((TRAIN_IMAGES, TRAIN_LABELS), (TEST_IMAGES, TEST_LABELS)):
        files = [_find(folder, name) for name in (images_name, labels_name)]
        if files[0] is None or files[1] is None:
            missing = images_name if files[0] is None else labels_name
            raise InputError(f"{layout.name} lacks {folder / missing} (or {missing}.gz); --download fetches it")
        images, labels = read_idx(files[0], 3), read_idx(files[1], 1)
        if images.shape[1:] != (28, 28):
            raise InputError(f"{files[0]} holds images of {images.shape[1]}x{images.shape[2]} instead of 28x28")
        if len(images) != len(labels):
            found, wanted = count(len(labels), "label"), count(len(images), "image")
            raise InputError(f"{files[1]} holds {found} for the {wanted} of {files[0]}")
        if int(labels.max()) > 9:
            raise InputError(f"{files[1]} holds the label {int(labels.max())}; labels must lie in [0, 9]")
        parts.append(Examples(images[:, None], labels))
    return Dataset(parts[0], parts[1], layout.class_names, (layout.mean,), (layout.std,))


def _find(folder: Path, name: str) -> Path | None:
    return next((file for file in (folder / name, folder / f"{name}.gz") if file.is_file()), None)


def mnist(path: Path | None, download: bool) -> Dataset:
    """Load MNIST: 60,000 and 10,000 grey images of handwritten digits, 28x28.

    Args:
        path: the folder of the four files, or its parent if the folder is named `mnist` or `MNIST/raw`.
        download: download the official files that are missing.

    Raises:
        InputError: if a file is missing or damaged, or the download fails.
    """
    return load_files(MNIST, path, download)


def fashion_mnist(path: Path | None, download: bool) -> Dataset:
    """Load Fashion-MNIST: 60,000 and 10,000 grey images of clothes, 28x28.

    Args:
        path: the folder of the four files, or its parent if the folder is named `fashion-mnist` or `FashionMNIST/raw`.
        download: download the official files that are missing.

    Raises:
        InputError: if a file is missing or damaged, or the download fails.
    """
    return load_files(FASHION_MNIST, path, download)
