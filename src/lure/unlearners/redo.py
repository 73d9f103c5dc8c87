"""ReDo: recycle the units that hardly ever fire."""

import itertools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lure.distributed import sum_over_processes
from lure.errors import InputError
from lure.randomness import forked_rng
from lure.settings import check_settings, setting
from lure.unlearners.contract import Context
from lure.weights.layers import HiddenLayer, hidden_layers, trainable, unwrap
from lure.weights.modes import evaluating, uncompiled
from lure.weights.reinit import reinitialize_
from lure.weights.saliency import mean_loss


@dataclass(frozen=True, kw_only=True)
class Redo:
    """Redraw the incoming weights of dormant units and set their outgoing weights to zero.

    A unit is dormant if its mean |activation|, divided by the mean over the units of its layer, is at most tau. The
    activation is what the next layer reads: after the nonlinearity, norm layers and pooling. With outgoing weights at
    zero a recycled unit does not disturb the function until training gives it a use.

    Only hidden layers take part: linear and ungrouped convolution layers whose output goes, unit by unit, into exactly
    one other such layer. They are found in the computation graph of the first batch; the last layer and layers that
    feed a residual sum are not among them. Units are assumed to keep their order on the way.

    Redrawn: weight and bias of dormant units (the authors set the bias to zero). Zeroed: the next layer's weights that
    read them. Kept: everything else, norm scales and BatchNorm statistics included; a unit that a norm layer behind it
    holds down stays dormant, and the papers' networks have none.

    Args:
        tau: 0.1 for the authors' larger networks; 0 takes only units that never fire.

    Raises:
        InputError: if there are no data, or the model has no hidden layer of that kind.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> with torch.no_grad():
        ...     _ = net[0].weight.fill_(1.0), net[0].bias.copy_(torch.tensor([0.0, -9.0, 0.0]))  # unit 1 never fires
        >>> Redo()(net, Context(batches=[(torch.rand(8, 2), torch.randint(2, (8,)))]))
        >>> (net[0].weight != 1).any(1).tolist(), (net[2].weight == 0).all(0).tolist()
        ([False, True, False], [False, True, False])

    Reference:
        Sokar, Agarwal, Castro, Evci, "The Dormant Neuron Phenomenon in Deep Reinforcement Learning", ICML 2023.
    """

    tau: float = setting(0.1, "units whose normalised activation is at most this are dormant", 0)

    def __post_init__(self) -> None:
        check_settings(self)

    @torch.no_grad()
    def __call__(self, model: nn.Module, context: Context) -> None:
        """Recycle dormant units in place."""
        parameters = trainable(model)
        forget, silence = {}, {}
        for layer, activity in mean_activities(model, context):
            # A layer whose units are all silent has mean zero: then 0 <= tau * 0 takes them all.
            dormant = activity <= self.tau * activity.mean()
            rows = dormant.view(-1, *[1] * (parameters[layer.weight].dim() - 1))
            forget[layer.weight] = rows.expand_as(parameters[layer.weight])
            if layer.bias is not None:
                forget[layer.bias] = dormant
            silence[layer.next_weight] = dormant.repeat_interleave(layer.positions)
        reinitialize_(model, forget, context.generator, context.draw)
        for name, columns in silence.items():
            parameters[name][:, columns] = 0


def mean_activities(model: nn.Module, context: Context) -> list[tuple[HiddenLayer, Tensor]]:
    """Return each hidden layer with the mean |activation| of its units over all batches, (units,)."""
    inner = unwrap(model)
    with evaluating(inner), uncompiled(), forked_rng(None):
        batches = iter(context.batches)
        first = next(batches, None)
        if first is None:
            raise InputError("this method reads data, but its sample holds no batch: pass a loader with at least one")
        layers = hidden_layers(inner, lambda: mean_loss(context.loss, inner, first))
        if not layers:
            raise InputError("no layer of the model feeds exactly one other, so there are no units to recycle")
        sums = [torch.zeros(()) for _ in layers]
        counts = [torch.zeros(()) for _ in layers]

        def watch(index: int, layer: HiddenLayer) -> Any:
            def add(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                units = inputs[0].detach().abs().movedim(layer.unit_dimension, -1).flatten(0, -2).float()
                sums[index] = sums[index].to(units.device) + units.sum(0)
                counts[index] = counts[index].to(units.device) + len(units)

            return inner.get_submodule(layer.next_layer).register_forward_pre_hook(add)

        handles = [watch(index, layer) for index, layer in enumerate(layers)]
        try:
            for batch in itertools.chain([first], batches):
                context.loss(inner, batch)
        finally:
            for handle in handles:
                handle.remove()
    for tensor in (*sums, *counts):
        sum_over_processes(tensor)
    means = [total / count for total, count in zip(sums, counts, strict=True)]
    # A flattened image gives the next layer several inputs for each unit, side by side.
    return [(layer, mean.view(-1, layer.positions).mean(1)) for layer, mean in zip(layers, means, strict=True)]
