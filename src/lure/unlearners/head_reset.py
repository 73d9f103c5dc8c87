"""Head reset: forget the classifier, keep the features."""

from dataclasses import dataclass

import torch
from torch import nn

from lure.errors import InputError
from lure.settings import check_settings, setting
from lure.unlearners.contract import Context
from lure.weights.layers import find_head, trainable
from lure.weights.reinit import reinitialize_


@dataclass(frozen=True, kw_only=True)
class HeadReset:
    """Redraw the classifier layer, weight and bias: w <- w0 in the head.

    The gradients of a new head keep the features below it moving. RIFLE resets the head several times within a fit;
    here it happens once, before the fit.

    Kept: everything below the head, with all norm layers and BatchNorm statistics. Redrawn: all parameters of the head,
    bias included.

    Args:
        head: as in `model.named_modules()`; all parameters under it are redrawn. "Last" is in order of registration.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> before = [p.detach().clone() for p in net.parameters()]
        >>> HeadReset()(net, Context(batches=[]))
        >>> [bool((p != b).all()) for p, b in zip(net.parameters(), before)]
        [False, False, True, True]

    Reference:
        Li, Xiong, An, Xu, Dou, "RIFLE: Backpropagation in Depth for Deep Transfer Learning through Re-Initializing the
        Fully-connected LayEr", ICML 2020.
    """

    head: str | None = setting(None, "name of the layer to redraw; none: the last Linear that owns an untied weight")

    def __post_init__(self) -> None:
        check_settings(self)

    def __call__(self, model: nn.Module, context: Context) -> None:
        """Redraw the head in place."""
        head = find_head(model, self.head)
        mask = {
            name: torch.ones_like(parameter, dtype=torch.bool)
            for name, parameter in trainable(model).items()
            if name.startswith(f"{head}." if head else "")
        }
        if not mask:
            raise InputError(f"all parameters of the head {head!r} are frozen, so it cannot be redrawn")
        reinitialize_(model, mask, context.generator, context.draw)
