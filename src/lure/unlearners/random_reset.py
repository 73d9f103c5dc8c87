"""Random reset: forget weights chosen at random. LURE's control."""

from dataclasses import dataclass

import torch
from torch import nn

from lure.settings import check_settings, setting
from lure.unlearners.contract import Context
from lure.weights.layers import forgettable
from lure.weights.ranking import ranked_entries
from lure.weights.reinit import reinitialize_
from lure.weights.selection import lowest_fraction


@dataclass(frozen=True, kw_only=True)
class RandomReset:
    """Redraw a random share of the weights: w <- w0 with probability `forget_fraction`, the count being exact.

    LURE's gain over this is what its saliency contributes; the rest any redraw of that size would have given.

    Kept: the other weights, all biases, norm scales and BatchNorm statistics. Redrawn: weights of linear, convolution,
    embedding and attention layers, each entry as likely as any other. No data are read.

    Args:
        forget_fraction: 0.2 as for LURE, so that the two compare.

    Example:
        >>> net = nn.Linear(10, 5)
        >>> before = net.weight.detach().clone()
        >>> RandomReset(forget_fraction=0.3)(net, Context(batches=[]))
        >>> int((net.weight != before).sum())
        15

    Reference:
        The control of Ramkumar, Arani, Zonooz, "Learn, Unlearn and Relearn", TMLR 2023.
    """

    forget_fraction: float = setting(0.2, "share of the weights to redraw", 0, 1)

    def __post_init__(self) -> None:
        check_settings(self)

    def __call__(self, model: nn.Module, context: Context) -> None:
        """Redraw a random share of the weights in place."""
        generator = context.generator or torch.Generator().manual_seed(0)
        scores = {
            name: torch.rand(weight.shape, generator=generator, device=generator.device).to(weight.device)
            for name, weight in forgettable(model).items()
        }
        ranked = ranked_entries(model, left_out=context.left_out)
        mask = lowest_fraction(scores, self.forget_fraction, generator, among=ranked)
        reinitialize_(model, mask, generator, context.draw)
