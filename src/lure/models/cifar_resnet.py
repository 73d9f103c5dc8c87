"""The thin residual networks for 32-pixel images: 20, 32, 44 or 56 layers of 16, 32 and 64 channels.

Where a block halves the resolution, its shortcut takes every second pixel and fills the new channels with zeros, so
shortcuts have no parameters. New weights are Kaiming-normal over the fan in, for convolutions and the classifier.

Reference: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lure.errors import InputError, require_within
from lure.models.normalize import Normalize, require_images


class ThinBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride = stride
        self.new_channels = width - channels

    def forward(self, inputs: Tensor) -> Tensor:
        """Return relu(shortcut + residual), (batch, width, height, width)."""
        residual = torch.relu(self.bn1(self.conv1(inputs)))
        residual = self.bn2(self.conv2(residual))
        shortcut = inputs
        if self.stride > 1 or self.new_channels:
            before = self.new_channels // 2
            shortcut = inputs[:, :, :: self.stride, :: self.stride]
            shortcut = nn.functional.pad(shortcut, (0, 0, 0, 0, before, self.new_channels - before))
        return torch.relu(residual + shortcut)


class CifarResNet(nn.Module):
    """A 3x3 convolution, three groups of blocks, the mean over positions, and a linear classifier."""

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential

    def __init__(
        self,
        num_classes: int,
        input_shape: Sequence[int],
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        depth: int,
        width: int,
    ) -> None:
        super().__init__()
        require_within("width", width, 1)
        if depth < 8 or depth % 6 != 2:
            raise InputError(f"the depth of a CIFAR ResNet must be 6n + 2 (8, 14, 20, 32, 44, 56 ...), got {depth}")
        channels = require_images("a CIFAR ResNet", input_shape)
        self.normalize = Normalize(mean, std, input_shape)
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        channels = width
        for number in range(1, 4):
            blocks = []
            for position in range((depth - 2) // 6):
                blocks.append(ThinBlock(channels, width, 2 if number > 1 and position == 0 else 1))
                channels = width
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            width *= 2
        self.fc = nn.Linear(channels, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (batch, classes)."""
        features = torch.relu(self.bn1(self.conv1(self.normalize(inputs))))
        features = self.layer3(self.layer2(self.layer1(features)))
        logits: Tensor = self.fc(features.mean((2, 3)))
        return logits


def cifar_resnet(
    num_classes: int,
    input_shape: Sequence[int],
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    *,
    depth: int = 20,
    width: int = 16,
) -> nn.Module:
    """Return a CIFAR ResNet of any depth and width.

    Args:
        num_classes: number of logits.
        input_shape: (channels, height, width).
        mean: per channel, of images in [0, 1]; None for no normalisation.
        std: as `mean`.
        depth: number of layers with weights on the longest path, 6n + 2.
        width: channels of the first group; 16 is the published network.

    Raises:
        InputError: if the inputs are not images, or an option is out of range.

    Example:
        >>> net = cifar_resnet(10, (3, 32, 32))
        >>> net(torch.rand(2, 3, 32, 32)).shape, sum(p.numel() for p in net.parameters())
        (torch.Size([2, 10]), 269722)
    """
    return CifarResNet(num_classes, input_shape, mean, std, depth, width)


def builder(depth: int) -> Callable[..., nn.Module]:
    """Return the builder of a CIFAR ResNet of this depth; its arguments are those of `cifar_resnet`."""

    def build(
        num_classes: int,
        input_shape: Sequence[int],
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        *,
        width: int = 16,
    ) -> nn.Module:
        return CifarResNet(num_classes, input_shape, mean, std, depth, width)

    build.__doc__ = f"Return the CIFAR ResNet of {depth} layers."
    return build


resnet20s, resnet32s, resnet44s, resnet56s = (builder(depth) for depth in (20, 32, 44, 56))
