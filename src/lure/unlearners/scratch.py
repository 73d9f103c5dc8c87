"""Scratch: forget everything. The expensive baseline."""

from dataclasses import dataclass

import torch
from torch import nn

from lure.errors import InputError
from lure.settings import check_settings, setting
from lure.unlearners.contract import Context
from lure.weights.layers import require_initial, trainable, unwrap
from lure.weights.reinit import redraw_all_


@dataclass(frozen=True, kw_only=True)
class Scratch:
    """Redraw every trainable parameter: w <- w0.

    Weights, biases and norm scales are drawn afresh by the redraw law. BatchNorm statistics and other buffers are reset
    to `context.initial`, or to those of a fresh model if that is not given. Frozen parameters stay.

    Args:
        reload: every stage then starts from the same weights, those of `context.initial`.

    Raises:
        InputError: with `reload`, if `context.initial` is not given, lacks a weight or has it in another shape.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        >>> before = net[0].weight.detach().clone()
        >>> Scratch()(net, Context(batches=[]))
        >>> bool((net[0].weight != before).all())
        True
        >>> initial = {name: torch.ones_like(tensor) for name, tensor in net.state_dict().items()}
        >>> Scratch(reload=True)(net, Context(batches=[], initial=initial))
        >>> net[0].weight.tolist()
        [[1.0, 1.0], [1.0, 1.0]]

    Reference:
        The baseline of Ash, Adams, "On Warm-Starting Neural Network Training", NeurIPS 2020.
    """

    reload: bool = setting(False, "go back to the initial weights instead of drawing anew")

    def __post_init__(self) -> None:
        check_settings(self)

    def require(self, context: Context) -> None:
        """Refuse a context without what is reloaded."""
        if self.reload and context.initial is None:
            raise InputError("scratch:reload=true needs initial=, a state dict from before the first training")

    def __call__(self, model: nn.Module, context: Context) -> None:
        """Redraw the whole model in place."""
        self.require(context)
        if not self.reload:
            redraw_all_(model, context.generator, context.draw, context.initial)
            return
        assert context.initial is not None
        buffers = {n: buffer for n, buffer in unwrap(model).named_buffers() if n in context.initial}
        tensors = {**trainable(model), **buffers}
        require_initial(tensors, context.initial)
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(context.initial[name])
