"""Magnitude reset: forget the smallest weights."""

from dataclasses import dataclass

from torch import nn

from lure.settings import check_settings, setting
from lure.unlearners.contract import Context
from lure.weights.ranking import ranked_entries
from lure.weights.reinit import reinitialize_
from lure.weights.saliency import magnitude
from lure.weights.selection import lowest_fraction


@dataclass(frozen=True, kw_only=True)
class MagnitudeReset:
    """Redraw the share of weights with the smallest absolute value: w <- w0 where |w| is lowest.

    An importance score that needs no data: LURE with |w| in place of |w * dL/dw|. Most of what is forgotten comes from
    layers whose weights are all small (wide ones).

    Kept: the larger weights, all biases, norm scales and BatchNorm statistics. Redrawn: the lowest `forget_fraction`
    of the weights of linear, convolution, embedding and attention layers, ranked over all of them together.

    Args:
        forget_fraction: 0.2 as for LURE, so that the two compare.

    Example:
        >>> import torch
        >>> net = nn.Linear(4, 1)
        >>> with torch.no_grad():
        ...     _ = net.weight.copy_(torch.tensor([[3.0, -0.1, 2.0, -4.0]]))
        >>> MagnitudeReset(forget_fraction=0.25)(net, Context(batches=[]))
        >>> [round(w, 1) for i, w in enumerate(net.weight[0].tolist()) if i != 1]
        [3.0, 2.0, -4.0]
        >>> net.weight[0, 1].item() != -0.1
        True

    Reference:
        An ablation of Ramkumar, Arani, Zonooz, "Learn, Unlearn and Relearn", TMLR 2023, and of later work of its
        authors on data-aware re-initialisation.
    """

    forget_fraction: float = setting(0.2, "share of the weights to redraw", 0, 1)

    def __post_init__(self) -> None:
        check_settings(self)

    def __call__(self, model: nn.Module, context: Context) -> None:
        """Redraw the smallest weights in place."""
        ranked = ranked_entries(model, left_out=context.left_out)
        mask = lowest_fraction(magnitude(model), self.forget_fraction, context.generator, among=ranked)
        reinitialize_(model, mask, context.generator, context.draw)
