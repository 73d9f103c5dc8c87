"""The first layer of every network here: it standardises the inputs, so that callers pass images in [0, 1]."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lure.errors import InputError


class Normalize(nn.Module):
    """Subtract a mean from each channel (or feature), and divide by a standard deviation.

    Both are buffers that are not in the state dict: published weights load strictly by name, and a model built for
    the same data has the same statistics anyway.

    Args:
        mean: one value for each entry of dimension 1, in units of the input; None leaves the inputs unchanged.
        std: as many values, above 0; None for no scaling.
        input_shape: (channels, height, width) or (features,): what the statistics must match.

    Raises:
        InputError: if only one of the two is given, they do not match `input_shape`, or a std is not above 0.

    Example:
        >>> Normalize([0.5], [0.25], (1, 1, 2))(torch.tensor([[[[0.5, 1.0]]]])).tolist()
        [[[[0.0, 2.0]]]]
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(self, mean: Sequence[float] | None, std: Sequence[float] | None, input_shape: Sequence[int]) -> None:
        super().__init__()
        if (mean is None) != (std is None):
            raise InputError("mean and std go together: give both or neither")
        buffers: list[Tensor | None] = [None, None]
        if mean is not None and std is not None:
            if len(mean) != input_shape[0] or len(std) != input_shape[0]:
                raise InputError(
                    f"mean and std must have one value for each of the {input_shape[0]} channels or features, "
                    f"got {len(mean)} and {len(std)}"
                )
            if not all(math.isfinite(value) for value in (*mean, *std)) or min(std) <= 0:
                raise InputError("mean and std must be finite numbers, and every std above 0")
            shape = (1, -1) + (1,) * (len(input_shape) - 1)
            buffers = [torch.tensor(values, dtype=torch.float32).view(shape) for values in (mean, std)]
        self.register_buffer("mean", buffers[0], persistent=False)
        self.register_buffer("std", buffers[1], persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the standardised inputs, of the same shape."""
        if self.mean is None or self.std is None:
            return inputs
        return (inputs - self.mean) / self.std


def require_images(network: str, input_shape: Sequence[int], smallest: int = 1) -> int:
    """Return the number of channels of (channels, height, width).

    Args:
        network: the name for the message.
        input_shape: what the data look like.
        smallest: the smallest height and width that the network can take.

    Raises:
        InputError: if the inputs are not images, or too small.

    Example:
        >>> require_images("vgg16_bn", (784,), 32)
        Traceback (most recent call last):
        lure.errors.InputError: vgg16_bn takes images (channels, height, width), got inputs of shape (784,)
    """
    if len(input_shape) != 3:
        raise InputError(
            f"{network} takes images (channels, height, width), got inputs of shape {tuple(map(int, input_shape))}"
        )
    channels, height, width = input_shape
    if min(height, width) < smallest:
        raise InputError(f"{network} takes images of at least {smallest}x{smallest}, got {height}x{width}")
    return channels
