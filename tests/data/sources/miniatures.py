"""Small files in the official layouts, for tests."""

import gzip
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np

CIFAR10_FILES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


def cifar_content(count: int, classes: int, seed: int) -> tuple[np.ndarray, list[int]]:
    """Return pixels (count, 3072) and labels that run through the classes in order."""
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)
    return pixels, [number % classes for number in range(count)]


def write_cifar10_python(parent: Path, count: int = 10, protocol: int = 4) -> Path:
    folder = parent / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for seed, name in enumerate(CIFAR10_FILES):
        pixels, labels = cifar_content(count, 10, seed)
        batch = {"batch_label": name, "labels": labels, "data": pixels, "filenames": [f"{at}.png" for at in labels]}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=protocol))
    return folder


def write_cifar10_binary(parent: Path, count: int = 10) -> Path:
    folder = parent / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for seed, name in enumerate(CIFAR10_FILES):
        pixels, labels = cifar_content(count, 10, seed)
        records = np.concatenate([np.array(labels, np.uint8)[:, None], pixels], axis=1)
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    return folder


def write_cifar100_python(parent: Path, count: int = 100) -> Path:
    folder = parent / "cifar-100-python"
    folder.mkdir(parents=True)
    for seed, name in enumerate(["train", "test"]):
        pixels, fine = cifar_content(count, 100, seed)
        coarse = [label // 5 for label in fine]
        batch = {"fine_labels": fine, "coarse_labels": coarse, "data": pixels, "filenames": ["x.png"] * count}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=4))
    return folder


def write_cifar100_binary(parent: Path, count: int = 100) -> Path:
    folder = parent / "cifar-100-binary"
    folder.mkdir(parents=True)
    for seed, name in enumerate(["train", "test"]):
        pixels, fine = cifar_content(count, 100, seed)
        labels = np.array([[label // 5, label] for label in fine], np.uint8)
        (folder / f"{name}.bin").write_bytes(np.concatenate([labels, pixels], axis=1).tobytes())
    return folder


def pack(folder: Path, archive: Path) -> Path:
    """Pack a folder into a .tar.gz, under its own name."""
    with tarfile.open(archive, "w:gz") as members:
        members.add(folder, folder.name)
    return archive


def pack_members(archive: Path, contents: dict[str, bytes]) -> Path:
    """Write a .tar.gz of these files."""
    with tarfile.open(archive, "w:gz") as members:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            members.addfile(member, io.BytesIO(content))
    return archive


def idx_bytes(array: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.astype(np.uint8).tobytes()


def write_mnist(folder: Path, train: int = 20, test: int = 10, compress: bool = True) -> Path:
    """Write the four IDX files of MNIST or Fashion-MNIST."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (part, count) in enumerate((("train", train), ("t10k", test))):
        images = np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        for name, array in (("images-idx3", images), ("labels-idx1", np.arange(count) % 10)):
            file = folder / f"{part}-{name}-ubyte{'.gz' if compress else ''}"
            file.write_bytes(gzip.compress(idx_bytes(array)) if compress else idx_bytes(array))
    return folder


def write_image(file: Path, seed: int = 0, size: tuple[int, int] = (12, 10), mode: str = "RGB") -> Path:
    """Write a random image; size is (width, height)."""
    from PIL import Image

    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(file)
    return file


def write_restricted_imagenet(parent: Path, per_class: int = 1) -> Path:
    """Write a tree of the 69 classes and one other class."""
    from lure.data.sources.restricted_imagenet import FOLDERS

    for part in ("train", "val"):
        for seed, folder in enumerate([name for _, name in FOLDERS] + ["n00000001"]):
            for number in range(per_class):
                write_image(parent / part / folder / f"{folder}_{number}.JPEG", seed, (20, 16))
    return parent
