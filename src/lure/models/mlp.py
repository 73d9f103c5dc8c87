"""Multi-layer perceptrons: for tables, and for small images flattened to a row of numbers."""

import itertools
import math
from collections.abc import Sequence

from torch import Tensor, nn

from lure.errors import require_within
from lure.models.normalize import Normalize


class MLP(nn.Module):
    """Linear layers with ReLU between them; images are flattened after normalisation."""

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
        self.normalize = Normalize(mean, std, input_shape)
        sizes = [math.prod(input_shape)] + [width] * depth
        layers: list[nn.Module] = [nn.Flatten()]
        for size, following in itertools.pairwise(sizes):
            layers += [nn.Linear(size, following), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(sizes[-1], num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (batch, classes)."""
        # Tables of integers arrive without conversion.
        inputs = self.normalize(inputs).to(self.head.weight.dtype)
        logits: Tensor = self.head(self.layers(inputs))
        return logits


def mlp(
    num_classes: int,
    input_shape: Sequence[int],
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    *,
    width: int = 256,
    depth: int = 2,
) -> nn.Module:
    """Return a multi-layer perceptron: inputs - width - ... - width - classes.

    Args:
        num_classes: number of logits.
        input_shape: shape of one input, (features,) or (channels, height, width).
        mean: per feature or channel; None for inputs that need no normalisation.
        std: as `mean`.
        width: units of each hidden layer.
        depth: number of hidden layers; 0 is logistic regression.

    Raises:
        InputError: for a width below 1 or a depth below 0.

    Example:
        >>> import torch
        >>> net = mlp(10, (1, 28, 28))
        >>> net(torch.rand(5, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
        (torch.Size([5, 10]), 269322)
    """
    require_within("width", width, 1)
    require_within("depth", depth, 0)
    return MLP(num_classes, input_shape, mean, std, width, depth)
