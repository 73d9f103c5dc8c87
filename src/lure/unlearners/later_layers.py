"""Later-layer forgetting: keep the early features, redraw the rest of the depth."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from lure.errors import unknown_name
from lure.settings import check_settings, setting
from lure.unlearners.contract import Context
from lure.weights.layers import layer_parameters, trainable, weight_layers
from lure.weights.reinit import reinitialize_


@dataclass(frozen=True, kw_only=True)
class LaterLayers:
    """Redraw all layers from some depth on: w <- w0 in the later layers.

    Early layers learn general features, later ones are where examples are memorised. Depth is the order of registration
    of the linear, convolution, embedding and attention layers.

    Kept: the early layers, and in the later ones norm scales and BatchNorm statistics. Redrawn: weights and biases of
    the later layers.

    Args:
        forget_fraction: where to cut is a choice for each network; half is ours.
        first_layer: as in `model.named_modules()`.

    Raises:
        InputError: if the model has no such layer with weights.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
        >>> before = [layer.weight.detach().clone() for layer in net]
        >>> LaterLayers(first_layer="1")(net, Context(batches=[]))
        >>> [bool((layer.weight != b).all()) for layer, b in zip(net, before)]
        [False, True, True]

    Reference:
        Zhou, Vani, Larochelle, Courville, "Fortuitous Forgetting in Connectionist Networks", ICLR 2022.
    """

    forget_fraction: float = setting(0.5, "share of the layers to redraw, counted from the end and rounded up", 0, 1)
    first_layer: str | None = setting(None, "name of the first layer to redraw; overrides the fraction")

    def __post_init__(self) -> None:
        check_settings(self)

    def __call__(self, model: nn.Module, context: Context) -> None:
        """Redraw the later layers in place."""
        names = [layer_name for layer_name, _ in weight_layers(model)]
        first = len(names) - math.ceil(round(self.forget_fraction * len(names), 9))
        if self.first_layer is not None:
            if self.first_layer not in names:
                raise unknown_name("layer with weights", self.first_layer, names)
            first = names.index(self.first_layer)
        parameters = trainable(model)
        mask = {
            name: torch.ones_like(parameters[name], dtype=torch.bool)
            for layer_name in names[first:]
            for name in layer_parameters(model, layer_name)
        }
        reinitialize_(model, mask, context.generator, context.draw)
