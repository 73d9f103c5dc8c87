"""VGG-16 with BatchNorm: thirteen 3x3 convolutions and five max-poolings.

Layers are named as in the published weights (features.0 ... classifier.6), so a downloaded state dict loads strictly
into the network with the head "imagenet". New weights: convolutions Kaiming-normal over the fan out, norm scales 1,
linear layers normal with standard deviation 0.01, all biases 0.

Reference: Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from lure.errors import require_within, unknown_name
from lure.models.normalize import Normalize, require_images

Head = Literal["cifar", "imagenet"]

# Channels in units of the width; each group ends with a max-pooling.
GROUPS = ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8))


class VGG(nn.Module):
    """Convolutions, pooling to a fixed size, and a linear or three-layer classifier."""

    def __init__(
        self,
        num_classes: int,
        input_shape: Sequence[int],
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        width: int,
        head: Head,
    ) -> None:
        super().__init__()
        require_within("width", width, 1)
        channels = require_images("vgg16_bn", input_shape, 32)
        self.normalize = Normalize(mean, std, input_shape)
        layers: list[nn.Module] = []
        for group in GROUPS:
            for factor in group:
                convolution = nn.Conv2d(channels, factor * width, 3, padding=1)
                layers += [convolution, nn.BatchNorm2d(factor * width), nn.ReLU(inplace=True)]
                channels = factor * width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        if head == "cifar":
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.classifier: nn.Module = nn.Linear(channels, num_classes)
        elif head == "imagenet":
            self.avgpool = nn.AdaptiveAvgPool2d(7)
            hidden = 64 * width
            self.classifier = nn.Sequential(
                nn.Linear(channels * 49, hidden),
                nn.ReLU(inplace=True),
                nn.Dropout(),
                nn.Linear(hidden, hidden),
                nn.ReLU(inplace=True),
                nn.Dropout(),
                nn.Linear(hidden, num_classes),
            )
        else:
            raise unknown_name("head", head, ["cifar", "imagenet"])
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0, 0.01)
            if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (batch, classes)."""
        features = self.avgpool(self.features(self.normalize(inputs)))
        logits: Tensor = self.classifier(torch.flatten(features, 1))
        return logits


def vgg16_bn(
    num_classes: int,
    input_shape: Sequence[int],
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    *,
    width: int = 64,
    head: Head = "cifar",
) -> nn.Module:
    """Return a VGG-16 with BatchNorm.

    Args:
        num_classes: number of logits.
        input_shape: (channels, height, width), at least 32 pixels a side.
        mean: per channel, of images in [0, 1]; None for no normalisation.
        std: as `mean`.
        width: channels of the first convolution; 64 is the published network.
        head: "cifar" is one linear layer on the mean over positions; "imagenet" is the published classifier of three
            layers with dropout.

    Raises:
        InputError: if the inputs are not images or too small, or an option is out of range.

    Example:
        >>> net = vgg16_bn(10, (3, 32, 32), width=4)
        >>> net(torch.rand(2, 3, 32, 32)).shape, sum(p.numel() for p in net.parameters())
        (torch.Size([2, 10]), 58686)
    """
    return VGG(num_classes, input_shape, mean, std, width, head)
