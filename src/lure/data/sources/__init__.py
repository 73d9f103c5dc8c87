"""Data sets by name, and files on disk, as `Examples`. One module per format; images are uint8.

A loader is a function (path, download, *, options) -> `Dataset`, listed in the table `SOURCES`.
"""

from collections.abc import Callable
from pathlib import Path

from lure.data.sources.cifar import cifar10, cifar100
from lure.data.sources.dataset import Dataset, reading
from lure.data.sources.fashion_mnist_sample import fashion_mnist_sample
from lure.data.sources.files import load_examples, own_files, read_class_names
from lure.data.sources.hugging_face import hugging_face
from lure.data.sources.idx import fashion_mnist, mnist
from lure.data.sources.restricted_imagenet import restricted_imagenet
from lure.settings import read_choice

SOURCES: dict[str, Callable[..., Dataset]] = {
    "fashion-mnist-sample": fashion_mnist_sample,
    "fashion-mnist": fashion_mnist,
    "mnist": mnist,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "restricted-imagenet": restricted_imagenet,
    "hugging-face": hugging_face,
    "file": own_files,
}


def load_dataset(choice: str, path: Path | str | None = None, download: bool = False) -> Dataset:
    """Return a named data set.

    Args:
        choice: a name of `SOURCES` with its options, such as "cifar100:labels=coarse".
        path: folder of the official files, or its parent; None for the embedded sample.
        download: download official files that are missing to `path`, and verify their checksums.

    Raises:
        InputError: if the name or an option is unknown, or files are missing or damaged.

    Example:
        >>> dataset = load_dataset("fashion-mnist-sample")
        >>> len(dataset.train), len(dataset.test), dataset.class_names[:2]
        (3000, 1000, ('T-shirt/top', 'trouser'))
    """
    loader, options = read_choice("data set", choice, SOURCES)
    place = None if path is None else Path(path)
    with reading(place):
        return loader(place, download, **options)


__all__ = ["SOURCES", "Dataset", "load_dataset", "load_examples", "read_class_names"]
