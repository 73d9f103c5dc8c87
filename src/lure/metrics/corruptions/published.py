"""The published files of CIFAR-10-C: one array of images per kind of corruption, and one of labels."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from lure.data.examples import Examples
from lure.errors import InputError, require_within, unknown_name
from lure.metrics.corruptions.kinds import KINDS


def read_corrupted(directory: Path | str, kind: str, severity: int) -> Examples:
    """Read one kind and severity of the published CIFAR-10-C files: KIND.npy and labels.npy.

    Args:
        directory: the unpacked archive.
        kind: a name in `KINDS`.
        severity: 1 to 5.

    Returns:
        the images of that severity, a fifth of the file: uint8 (N, 3, 32, 32), with their labels.

    Raises:
        InputError: if the kind or severity is unknown, or a file is missing or invalid.
    """
    if kind not in KINDS:
        raise unknown_name("corruption", kind, KINDS)
    require_within("severity", severity, 1, 5)
    images = _open_array(Path(directory) / f"{kind}.npy")
    labels = _open_array(Path(directory) / "labels.npy")
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[3] not in (1, 3) or len(images) % 5:
        raise InputError(
            f"{Path(directory) / kind}.npy must hold uint8 images (5 x N, height, width, channels), "
            f"got {images.dtype} of shape {images.shape}"
        )
    count = len(images) // 5
    if labels.ndim != 1 or len(labels) not in (count, len(images)) or labels.dtype.kind not in "iu":
        raise InputError(
            f"{Path(directory) / 'labels.npy'} must hold an integer label for each image, "
            f"got {labels.dtype} of shape {labels.shape}"
        )
    rows = slice((severity - 1) * count, severity * count)
    chosen = labels[rows] if len(labels) == len(images) else labels
    if len(chosen) and int(chosen.min()) < 0:
        raise InputError(f"{Path(directory) / 'labels.npy'} must hold labels from 0 on, got {int(chosen.min())}")
    pixels = torch.from_numpy(np.array(images[rows].transpose(0, 3, 1, 2), order="C"))
    return Examples(pixels, torch.from_numpy(chosen.astype(np.int64)))


def _open_array(path: Path) -> np.ndarray[Any, Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except (OSError, ValueError, EOFError) as error:
        # NumPy takes an unknown format for a pickle, and its message says how to load it anyway.
        reason = (
            "it is not a .npy file, or it holds objects" if "pickle" in str(error) else " ".join(str(error).split())
        )
        raise InputError(f"{path} cannot be read as an array: {reason}") from None
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path} holds several arrays instead of one")
    return array
