"""A small vision transformer: attention between the patches of an image, LayerNorm instead of BatchNorm."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lure.errors import InputError, require_within
from lure.models.normalize import Normalize, require_images


class Position(nn.Module):
    """Adds a trained vector to each place of a sequence: (batch, places, width) to the same shape."""

    def __init__(self, places: int, width: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.empty(places, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the vectors as vision transformers do: normal, standard deviation 0.02."""
        nn.init.normal_(self.vectors, std=0.02)

    def forward(self, sequence: Tensor) -> Tensor:
        """Return the sequence with the vectors added."""
        return sequence + self.vectors


class ViT(nn.Module):
    """Patches, positions, transformer layers with the norm first, a last LayerNorm, the mean over places, a head."""

    def __init__(
        self,
        num_classes: int,
        input_shape: Sequence[int],
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        *,
        width: int,
        depth: int,
        heads: int,
        patch: int,
    ) -> None:
        super().__init__()
        channels = require_images("vit", input_shape, patch)
        _, height, breadth = input_shape
        if height % patch or breadth % patch:
            raise InputError(f"vit cuts images into patches of {patch} x {patch}, got images of {height} x {breadth}")
        self.normalize = Normalize(mean, std, input_shape)
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.position = Position(height // patch * (breadth // patch), width)
        # One by one: nn.TransformerEncoder copies its layer, so that all would begin with the same weights.
        self.layers = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    width, heads, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
                )
                for _ in range(depth)
            )
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (batch, classes)."""
        places = self.patches(self.normalize(inputs)).flatten(2).transpose(1, 2)
        logits: Tensor = self.head(self.norm(self.layers(self.position(places))).mean(1))
        return logits


def vit(
    num_classes: int,
    input_shape: Sequence[int],
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    *,
    width: int = 64,
    depth: int = 4,
    heads: int = 4,
    patch: int = 4,
) -> nn.Module:
    """Return a small vision transformer without dropout.

    Args:
        num_classes: number of logits.
        input_shape: (channels, height, width); both sides are multiples of `patch`.
        mean: per channel; None for no normalisation.
        std: as `mean`.
        width: size of the vector of a patch, a multiple of `heads`; the feed-forward part is twice as wide.
        depth: number of transformer layers.
        heads: of the attention.
        patch: pixels on a side of a patch.

    Raises:
        InputError: for inputs that are no images or cannot be cut into patches, a width that the heads do not share
            evenly, or a number below 1.

    Reference:
        Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale", ICLR 2021;
        the mean over places in place of a class token: Beyer, Zhai, Kolesnikov, "Better plain ViT baselines for
        ImageNet-1k", 2022.

    Example:
        >>> net = vit(10, (1, 28, 28), width=32, depth=2)
        >>> net(torch.rand(5, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
        (torch.Size([5, 10]), 19594)
    """
    for name, value in (("width", width), ("depth", depth), ("heads", heads), ("patch", patch)):
        require_within(name, value, 1)
    if width % heads:
        raise InputError(f"vit needs a width that its heads share evenly, got width {width} and {heads} heads")
    return ViT(num_classes, input_shape, mean, std, width=width, depth=depth, heads=heads, patch=patch)
