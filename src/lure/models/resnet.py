"""Residual networks: ResNet-18 to ResNet-101 and the wide ones, for images of 32 pixels or of 224.

Layers are named as in the weights that are published for these architectures (conv1, bn1, layer1.0.conv1 ... fc), so a
downloaded state dict loads strictly; for that, use the stem "imagenet". New weights are drawn as the published
training code draws them: convolutions Kaiming-normal over the fan out, norm scales 1, biases 0, and the classifier as
`nn.Linear` draws itself.

Reference: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016; Zagoruyko, Komodakis, "Wide
Residual Networks", BMVC 2016.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from lure.errors import require_within, unknown_name
from lure.models.normalize import Normalize, require_images

Stem = Literal["cifar", "strided", "imagenet"]


def _shortcut(channels: int, following: int, stride: int) -> nn.Sequential | None:
    """Return a 1x1 convolution with norm where the shapes differ, None where the input can be added as it is."""
    if stride == 1 and channels == following:
        return None
    return nn.Sequential(nn.Conv2d(channels, following, 1, stride, bias=False), nn.BatchNorm2d(following))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(channels, width, stride)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return relu(shortcut + residual), (batch, width, height, width)."""
        residual = torch.relu(self.bn1(self.conv1(inputs)))
        residual = self.bn2(self.conv2(residual))
        return torch.relu(residual + (inputs if self.downsample is None else self.downsample(inputs)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut; the 3x3 one carries the stride, as in the published weights."""

    expansion = 4
    widening = 1  # how much wider the 3x3 convolution is than in the published ResNets

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        inner = width * self.widening
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, width * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.downsample = _shortcut(channels, width * self.expansion, stride)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return relu(shortcut + residual), (batch, 4 * width, height, width)."""
        residual = torch.relu(self.bn1(self.conv1(inputs)))
        residual = torch.relu(self.bn2(self.conv2(residual)))
        residual = self.bn3(self.conv3(residual))
        return torch.relu(residual + (inputs if self.downsample is None else self.downsample(inputs)))


class WideBottleneck(Bottleneck):
    """A bottleneck whose 3x3 convolution is twice as wide."""

    widening = 2


class ResNet(nn.Module):
    """A stem, four groups of residual blocks, the mean over positions, and a linear classifier.

    Args:
        block: what the groups are made of.
        depths: blocks in each of the four groups.
        num_classes: number of logits.
        input_shape: (channels, height, width).
        mean: per channel; None for no normalisation.
        std: as `mean`.
        width: channels of the first group; each group has twice as many as the one before.
        stem: see `builder`.
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, int, int, int],
        num_classes: int,
        input_shape: Sequence[int],
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        *,
        width: int,
        stem: Stem,
    ) -> None:
        super().__init__()
        require_within("width", width, 1)
        channels = require_images("a ResNet", input_shape)
        self.normalize = Normalize(mean, std, input_shape)
        self.maxpool: nn.Module = nn.Identity()
        if stem == "cifar":
            self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        elif stem == "strided":
            self.conv1 = nn.Conv2d(channels, width, 3, 2, padding=1, bias=False)
        elif stem == "imagenet":
            self.conv1 = nn.Conv2d(channels, width, 7, 2, padding=3, bias=False)
            self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        else:
            raise unknown_name("stem", stem, ["cifar", "strided", "imagenet"])
        self.bn1 = nn.BatchNorm2d(width)
        channels = width
        for number, depth in enumerate(depths, 1):
            blocks = []
            for position in range(depth):
                stride = 2 if number > 1 and position == 0 else 1
                blocks.append(block(channels, width, stride))
                channels = width * block.expansion
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            width *= 2
        self.fc = nn.Linear(channels, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (batch, classes)."""
        features = self.maxpool(torch.relu(self.bn1(self.conv1(self.normalize(inputs)))))
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        logits: Tensor = self.fc(features.mean((2, 3)))
        return logits


def builder(
    summary: str, block: type[BasicBlock] | type[Bottleneck], depths: tuple[int, int, int, int]
) -> Callable[..., nn.Module]:
    """Return the builder of one network of the family.

    What it returns is a function (num_classes, input_shape, mean=None, std=None, *, width=64, stem="cifar"):

    - num_classes: number of logits.
    - input_shape: (channels, height, width); height and width only have to be at least 1.
    - mean, std: per channel, of images in [0, 1]; None for no normalisation.
    - width: channels of the first group; 64 is the published network.
    - stem: "cifar" is a 3x3 convolution that keeps the resolution; "strided" is one that halves it, four times
      cheaper; "imagenet" is the published 7x7 convolution of stride 2 with max-pooling, for large images.

    It raises `InputError` if the inputs are not images, or an option is out of range.

    Args:
        summary: the function's docstring.
        block: what the groups are made of.
        depths: blocks in each of the four groups.

    Example:
        >>> net = resnet18(10, (3, 32, 32), width=8, stem="strided")
        >>> net(torch.rand(2, 3, 32, 32)).shape, sum(p.numel() for p in net.parameters())
        (torch.Size([2, 10]), 176402)
    """

    def build(
        num_classes: int,
        input_shape: Sequence[int],
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        *,
        width: int = 64,
        stem: Stem = "cifar",
    ) -> nn.Module:
        return ResNet(block, depths, num_classes, input_shape, mean, std, width=width, stem=stem)

    build.__doc__ = summary
    return build


resnet18 = builder("Return a ResNet-18: 2+2+2+2 basic blocks.", BasicBlock, (2, 2, 2, 2))
resnet34 = builder("Return a ResNet-34: 3+4+6+3 basic blocks.", BasicBlock, (3, 4, 6, 3))
resnet50 = builder("Return a ResNet-50: 3+4+6+3 bottlenecks.", Bottleneck, (3, 4, 6, 3))
resnet101 = builder("Return a ResNet-101: 3+4+23+3 bottlenecks.", Bottleneck, (3, 4, 23, 3))
wide_resnet50_2 = builder("Return a ResNet-50 whose 3x3 convolutions are twice as wide.", WideBottleneck, (3, 4, 6, 3))
wide_resnet101_2 = builder(
    "Return a ResNet-101 whose 3x3 convolutions are twice as wide.", WideBottleneck, (3, 4, 23, 3)
)
