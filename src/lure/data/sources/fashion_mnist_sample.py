"""The embedded sample of Fashion-MNIST: data for the demonstration, without a download.

The first 3,000 training images and the first 1,000 test images of the official files, with their labels.
`benchmarks/embed_sample.py` made the file; `fashion_mnist_sample.LICENSE` is the licence of the data.
"""

import importlib.resources
from pathlib import Path

import numpy as np
import torch

from lure.data.examples import Examples
from lure.data.sources.dataset import Dataset
from lure.data.sources.idx import FASHION_MNIST
from lure.errors import InputError

FILE = "fashion_mnist_sample.npz"


def fashion_mnist_sample(path: Path | None, download: bool) -> Dataset:
    """Load the embedded sample: 3,000 and 1,000 grey images of clothes, 28x28.

    Args:
        path: must be None.
        download: has no effect.

    Raises:
        InputError: if a path is given.

    Example:
        >>> dataset = fashion_mnist_sample(None, False)
        >>> len(dataset.train), len(dataset.test), dataset.train.input_shape
        (3000, 1000, (1, 28, 28))
    """
    if path is not None:
        raise InputError("fashion-mnist-sample is embedded in the package and takes no data folder")
    with (
        (importlib.resources.files(__package__) / FILE).open("rb") as file,
        np.load(file, allow_pickle=False) as arrays,
    ):
        train, test = (
            Examples(torch.from_numpy(arrays[f"{part}_inputs"]), torch.from_numpy(arrays[f"{part}_labels"]))
            for part in ("train", "test")
        )
    return Dataset(train, test, FASHION_MNIST.class_names, (FASHION_MNIST.mean,), (FASHION_MNIST.std,))
