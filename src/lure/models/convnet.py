"""A small convolutional network, for quick experiments on small images."""

from collections.abc import Sequence

from torch import Tensor, nn

from lure.errors import require_within
from lure.models.normalize import Normalize, require_images


class ConvNet(nn.Module):
    """Blocks of 3x3 convolution, BatchNorm, ReLU and 2x2 max-pooling, the mean over positions, and a linear head."""

    def __init__(
        self,
        num_classes: int,
        input_shape: Sequence[int],
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        width: int,
        depth: int,
    ) -> None:
        super().__init__()
        channels = require_images("convnet", input_shape, 2**depth)
        self.normalize = Normalize(mean, std, input_shape)
        layers: list[nn.Module] = []
        for block in range(depth):
            following = width * 2**block
            layers += [nn.Conv2d(channels, following, 3, padding=1, bias=False), nn.BatchNorm2d(following), nn.ReLU()]
            layers += [nn.MaxPool2d(2)]
            channels = following
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (batch, classes)."""
        logits: Tensor = self.head(self.layers(self.normalize(inputs)).mean((2, 3)))
        return logits


def convnet(
    num_classes: int,
    input_shape: Sequence[int],
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    *,
    width: int = 32,
    depth: int = 3,
) -> nn.Module:
    """Return a small convolutional network with layers of width, 2*width, 4*width ... channels.

    Args:
        num_classes: number of logits.
        input_shape: (channels, height, width), at least 2**depth pixels a side.
        mean: per channel; None for no normalisation.
        std: as `mean`.
        width: channels of the first convolution.
        depth: number of convolutions, each of which halves the sides.

    Raises:
        InputError: for inputs that are not images or too small, or a width or depth below 1.

    Example:
        >>> import torch
        >>> net = convnet(10, (1, 28, 28), width=8)
        >>> net(torch.rand(5, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
        (torch.Size([5, 10]), 6274)
    """
    require_within("width", width, 1)
    require_within("depth", depth, 1)
    return ConvNet(num_classes, input_shape, mean, std, width, depth)
