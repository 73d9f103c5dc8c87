"""Warm start: keep every weight and train on. The neutral element of the contract."""

from dataclasses import dataclass

from torch import nn

from lure.unlearners.contract import Context


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """Do nothing: w <- w.

    The cheapest method, and often worse than training from scratch on the same data, above all under label noise. All
    weights, biases, norm scales and BatchNorm statistics are kept.

    Example:
        >>> import torch
        >>> net = nn.Linear(2, 2)
        >>> before = net.weight.detach().clone()
        >>> WarmStart()(net, Context(batches=[]))
        >>> torch.equal(net.weight, before)
        True

    Reference:
        Ash, Adams, "On Warm-Starting Neural Network Training", NeurIPS 2020.
    """

    def __call__(self, model: nn.Module, context: Context) -> None:
        """Leave the model as it is."""
