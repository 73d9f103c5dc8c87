"""Restricted ImageNet, balanced: 14 groups of animals and plants over 69 ImageNet classes.

Reference: Tsipras, Santurkar, Engstrom, Turner, Madry, "Robustness May Be at Odds with Accuracy", ICLR 2019;
Russakovsky and others, "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015.
"""

from pathlib import Path
from typing import Literal

import torch

from lure.data.examples import Examples
from lure.data.sources.cifar import CIFAR10
from lure.data.sources.dataset import Dataset
from lure.data.sources.image_folder import image_files
from lure.data.sources.images import EncodedImages, FolderReader
from lure.errors import InputError, require_within

# Each group and the WordNet ids of its classes, which are the names of the folders.
GROUPS = {
    "bird": "n01530575 n01531178 n01532829 n01534433 n01537544",
    "turtle": "n01664065 n01665541 n01667114 n01667778 n01669191",
    "lizard": "n01687978 n01688243 n01689811 n01692333 n01693334",
    "spider": "n01773157 n01773549 n01773797 n01774384 n01774750",
    "crab or lobster": "n01978287 n01978455 n01980166 n01981276 n01983481",
    "dog": "n02097474 n02097658 n02098105 n02098286 n02098413",
    "cat": "n02123045 n02123159 n02123394 n02123597 n02124075",
    "big cat": "n02125311 n02127052 n02128385 n02128757 n02128925",
    "beetle": "n02167151 n02168699 n02169497 n02172182 n02174001",
    "butterfly": "n02277742 n02279972 n02280649 n02281406 n02281787",
    "monkey": "n02486261 n02486410 n02487347 n02488291",
    "fish": "n02607072 n02640242 n02641379 n02643566 n02655020",
    "fruit": "n07742313 n07745940 n07747607 n07749582 n07753113",
    "fungus": "n12998815 n13037406 n13040303 n13044778 n13052670",
}
FOLDERS = [(label, folder) for label, folders in enumerate(GROUPS.values()) for folder in folders.split()]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BORDER = (1 - 224 / 256) / 2  # the usual crop of test images: the central 224 of 256 pixels


def restricted_imagenet(
    path: Path | None, download: bool, *, size: int = 224, statistics: Literal["imagenet", "cifar10"] = "imagenet"
) -> Dataset:
    """Load the 69 classes from an ImageNet tree; images stay in their files and are decoded on demand.

    Args:
        path: the folder with `train` and `val`, each with one folder per class, named by its WordNet id; or its parent.
            Other classes are ignored.
        download: has no effect: ImageNet cannot be downloaded without an account.
        size: height and width of images. A central square of 7/8 of the shorter side is cut out and scaled, as usual.
            Training with `augment = imagenet` cuts random parts out of the whole image instead.
        statistics: the data set whose mean and standard deviation normalise the images; the released code of LURE uses
            CIFAR-10's.

    Raises:
        InputError: if a part or a class is missing.

    Example:
        >>> len(GROUPS), len(FOLDERS), FOLDERS[-1]
        (14, 69, (13, 'n13052670'))
    """
    require_within("size", size, 1)
    if path is None:
        raise InputError(
            "restricted-imagenet needs an ImageNet tree: pass the folder that holds train and val (--data DIR)"
        )
    below = sorted(place for place in path.iterdir() if place.is_dir()) if path.is_dir() else []
    tree = next((place for place in (path, *below) if (place / "train").is_dir() and (place / "val").is_dir()), path)
    train, test = (_load_part(tree / part, size) for part in ("train", "val"))
    mean, std = (MEAN, STD) if statistics == "imagenet" else (CIFAR10.mean, CIFAR10.std)
    return Dataset(train, test, tuple(GROUPS), mean, std)


def _load_part(path: Path, size: int) -> Examples:
    if not path.is_dir():
        raise InputError(f"restricted-imagenet lacks {path}: it should hold a folder for each class, such as n01530575")
    names: list[str] = []
    labels: list[int] = []
    missing = []
    for label, folder in FOLDERS:
        files = image_files(path / folder) if (path / folder).is_dir() else []
        if not files:
            missing.append(folder)
        names += [f"{folder}/{file}" for file in files]
        labels += [label] * len(files)
    if missing:
        raise InputError(
            f"restricted-imagenet lacks images of {len(missing)} of its {len(FOLDERS)} classes in {path}: "
            f"{', '.join(missing)}"
        )
    images = EncodedImages(FolderReader(path.resolve(), names), (3, size, size), BORDER)
    return Examples(images, torch.tensor(labels))
