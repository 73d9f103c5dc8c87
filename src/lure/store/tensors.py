"""Tensors as safetensors bytes and back: no pickle, and equal tensors give equal files."""

from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from lure.errors import InputError


def tensors_to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Return tensors as safetensors without metadata: equal tensors give equal bytes.

    Tensors that share storage (tied weights) are written once for each name.
    """
    plain = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in sorted(tensors.items())}
    return safetensors.torch.save(plain)


def bytes_to_tensors(data: bytes, where: Path) -> dict[str, Tensor]:
    """Read safetensors.

    Raises:
        InputError: naming the file, if it is damaged.
    """
    try:
        return safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"{where} is damaged: {error}") from None
