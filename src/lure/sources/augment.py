"""Random crops and flips of a whole batch of stored images at once, by arithmetic on indices.

Bytes go in and bytes come out, on the device where the images are; there is no loop over images. Stored examples are
never changed: an augmented batch lives as long as the step that uses it.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from lure.errors import InputError, unknown_name

Augmentation = Literal["none", "crop", "crop-flip", "imagenet"]
PADDING = 4
AREA = (0.08, 1.0)
ASPECT = (3 / 4, 4 / 3)


def augment(inputs: Tensor, kind: str, generator: torch.Generator | None = None) -> Tensor:
    """Return an augmented copy of a batch of images.

    Args:
        inputs: uint8 (batch, channels, height, width); left alone.
        kind: "none" returns the batch as it is. "crop" shifts each image by up to 4 pixels, filling with black: what
            padding by 4 and cropping at random to the old size does. "crop-flip" also mirrors half of the images.
            "imagenet" cuts out a random part (8 to 100 % of the area, sides 3:4 to 4:3), scales it to the old size
            (bilinear, without smoothing), and mirrors half of the images.
        generator: the only source of randomness, a CPU one for any device; None means seed 0.

    Returns:
        uint8 (batch, channels, height, width) on the device of `inputs`.

    Raises:
        InputError: for an unknown kind, or inputs that are no stored images.

    Example:
        >>> image = torch.arange(1, 10, dtype=torch.uint8).view(1, 1, 3, 3)
        >>> augment(image, "crop-flip", torch.Generator().manual_seed(1)).tolist()
        [[[[0, 3, 2], [0, 6, 5], [0, 9, 8]]]]
    """
    if kind == "none":
        return inputs
    if kind not in ("crop", "crop-flip", "imagenet"):
        raise unknown_name("augmentation", kind, ["none", "crop", "crop-flip", "imagenet"])
    if inputs.dim() != 4 or inputs.dtype != torch.uint8:
        raise InputError(
            f"augmentation {kind!r} takes images of bytes (batch, channels, height, width), got "
            f"{str(inputs.dtype).removeprefix('torch.')} of shape {tuple(inputs.shape)}: set it to 'none'"
        )
    generator = generator or torch.Generator().manual_seed(0)
    if kind == "imagenet":
        return _resized_crop(inputs, generator)
    return _shift(inputs, kind == "crop-flip", generator)


def _mirror(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator) < 0.5


def _shift(inputs: Tensor, flip: bool, generator: torch.Generator) -> Tensor:
    count, channels, height, width = inputs.shape
    down, right = torch.randint(0, 2 * PADDING + 1, (2, count, 1), generator=generator)
    rows, columns = torch.arange(height) + down, torch.arange(width) + right
    if flip:
        columns = torch.where(_mirror(count, generator)[:, None], columns.flip(1), columns)
    padded_width = width + 2 * PADDING
    places = (rows[:, :, None] * padded_width + columns[:, None, :]).view(count, 1, height * width)
    padded = torch.nn.functional.pad(inputs, (PADDING,) * 4).reshape(count, channels, -1)
    return padded.gather(2, places.to(inputs.device).expand(-1, channels, -1)).view(inputs.shape)


def _resized_crop(inputs: Tensor, generator: torch.Generator) -> Tensor:
    count, _, height, width = inputs.shape
    draws = torch.rand(4, count, generator=generator)
    area = AREA[0] + draws[0] * (AREA[1] - AREA[0])
    aspect = torch.exp(math.log(ASPECT[0]) + draws[1] * math.log(ASPECT[1] / ASPECT[0]))
    # Sides as shares of the image's; a crop that would stick out is cut down to the image.
    shares_x = (area * aspect * height / width).sqrt().clamp(max=1)
    shares_y = (area / aspect * width / height).sqrt().clamp(max=1)
    centres_x, centres_y = ((2 * draws[side] - 1) * (1 - share) for side, share in ((2, shares_x), (3, shares_y)))
    signs = torch.where(_mirror(count, generator), -1.0, 1.0)
    zeros = torch.zeros(count)
    rows_x = torch.stack([shares_x * signs, zeros, centres_x], 1)
    rows_y = torch.stack([zeros, shares_y, centres_y], 1)
    matrices = torch.stack([rows_x, rows_y], 1).to(inputs.device)
    grid = torch.nn.functional.affine_grid(matrices, list(inputs.shape), align_corners=False)
    cut = torch.nn.functional.grid_sample(inputs.float(), grid, padding_mode="border", align_corners=False)
    return cut.round_().clamp_(0, 255).to(torch.uint8)
