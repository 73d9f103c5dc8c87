"""Random crops and flips of a whole batch of images at once, by arithmetic on indices.

Input and output are uint8, on the device of the images; there is no loop over images. Stored examples are never
changed: an augmented batch is used for one step and dropped.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lure.errors import InputError, unknown_name
from lure.words import dtype_name

Augmentation = Literal["none", "crop", "crop-flip", "imagenet"]
PADDING = 4
AREA = (0.08, 1.0)
ASPECT = (3 / 4, 4 / 3)


def augment(inputs: Tensor, kind: str, generator: torch.Generator | None = None) -> Tensor:
    """Return an augmented copy of a batch of images.

    Args:
        inputs: uint8 (batch, channels, height, width); not changed.
        kind: "none" returns the batch as it is. "crop" pads by 4 black pixels and crops at random to the old size.
            "crop-flip" also mirrors half of the images. "imagenet" cuts out a random part (see `Crops`), scales it to
            the old size (bilinear, without antialiasing), and mirrors half of the images.
        generator: the only source of randomness, on the CPU for any device; None means seed 0.

    Returns:
        uint8 (batch, channels, height, width) on the device of `inputs`.

    Raises:
        InputError: if the kind is unknown, or the inputs are not uint8 images.

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
            f"augmentation {kind!r} needs uint8 images (batch, channels, height, width), got "
            f"{dtype_name(inputs.dtype)} of shape {tuple(inputs.shape)}: set it to 'none'"
        )
    generator = generator or torch.Generator().manual_seed(0)
    if kind == "imagenet":
        return _resized_crop(inputs, draw_crops(len(inputs), generator))
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


@dataclass(frozen=True)
class Crops:
    """Random parts to cut out of images, and whether to mirror them; each attribute has shape (count,).

    They are drawn before the sizes of the images are known, so that the decoder can cut a part out of the full-size
    image. A part covers 8 to 100 % of the image's area, its aspect ratio is 3:4 to 4:3, and it is clipped to the image.

    Attributes:
        area: share of the image's area, in (0, 1].
        aspect: width of the part divided by its height.
        across: horizontal position, from 0 (left) to 1 (right).
        down: vertical position, from 0 (top) to 1 (bottom).
        mirrored: bool.

    Reference:
        Szegedy and others, "Going Deeper with Convolutions", CVPR 2015: the standard crops for training on ImageNet.
    """

    area: Tensor
    aspect: Tensor
    across: Tensor
    down: Tensor
    mirrored: Tensor

    def __getitem__(self, rows: slice) -> "Crops":
        """Return some of the parts, in order."""
        return Crops(*(values[rows] for values in (self.area, self.aspect, self.across, self.down, self.mirrored)))

    def shares(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Return width and height of the parts as shares of an image of this size; (count,) each."""
        return (
            (self.area * self.aspect * height / width).sqrt().clamp(max=1),
            (self.area / self.aspect * width / height).sqrt().clamp(max=1),
        )

    def box(self, number: int, height: int, width: int) -> tuple[float, float, float, float]:
        """Return (left, top, right, bottom) in pixels of one part of an image of this size.

        Example:
            >>> whole = Crops(*torch.tensor([[1.0], [1.0], [0.5], [0.5]]), torch.tensor([False]))
            >>> whole.box(0, 20, 20)
            (0.0, 0.0, 20.0, 20.0)
        """
        share_x, share_y = (float(share[number]) for share in self.shares(height, width))
        left, top = float(self.across[number]) * (1 - share_x), float(self.down[number]) * (1 - share_y)
        return left * width, top * height, min(1.0, left + share_x) * width, min(1.0, top + share_y) * height


def draw_crops(count: int, generator: torch.Generator) -> Crops:
    """Draw the parts for `count` images."""
    draws = torch.rand(4, count, generator=generator)
    area = AREA[0] + draws[0] * (AREA[1] - AREA[0])
    aspect = torch.exp(math.log(ASPECT[0]) + draws[1] * math.log(ASPECT[1] / ASPECT[0]))
    return Crops(area, aspect, draws[2], draws[3], _mirror(count, generator))


def _resized_crop(inputs: Tensor, crops: Crops) -> Tensor:
    count, _, height, width = inputs.shape
    shares_x, shares_y = crops.shares(height, width)
    centres_x, centres_y = (2 * crops.across - 1) * (1 - shares_x), (2 * crops.down - 1) * (1 - shares_y)
    signs = torch.where(crops.mirrored, -1.0, 1.0)
    zeros = torch.zeros(count)
    rows_x = torch.stack([shares_x * signs, zeros, centres_x], 1)
    rows_y = torch.stack([zeros, shares_y, centres_y], 1)
    matrices = torch.stack([rows_x, rows_y], 1).to(inputs.device)
    grid = torch.nn.functional.affine_grid(matrices, list(inputs.shape), align_corners=False)
    cut = torch.nn.functional.grid_sample(inputs.float(), grid, padding_mode="border", align_corners=False)
    return cut.round_().clamp_(0, 255).to(torch.uint8)
