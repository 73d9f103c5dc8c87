"""Shrink and perturb: pull every parameter towards a fresh network."""

from dataclasses import dataclass

import torch
from torch import nn

from lure.settings import check_settings, setting
from lure.unlearners.contract import Context
from lure.weights.layers import forgettable
from lure.weights.reinit import fresh_parameters


@dataclass(frozen=True, kw_only=True)
class ShrinkPerturb:
    """Shrink all parameters and add a little of a fresh draw: w <- shrink * w + perturb * w0.

    Shrinking keeps the function that the network computes almost as it was (a ReLU network's up to a factor) and gives
    back the larger gradients of small weights; the fresh part breaks the symmetry. `shrink=1, perturb=0` is a warm
    start, `shrink=0, perturb=1` redraws everything.

    Changed: every trainable parameter, biases and norm scales included, as in the authors' code; a norm scale of 1
    becomes shrink + perturb. Kept: BatchNorm statistics and other buffers (the authors continue with the fresh
    network's; in both cases the first batches correct them).

    Args:
        shrink: 0.4 in the authors' code (0.3 in LURE's scripts).
        perturb: 0.1 in the authors' code (0.001 in LURE's scripts). Later ports mix (1 - c) * w + c * w0 with c = 0.8,
            which is `shrink=0.2, perturb=0.8`.

    Example:
        >>> import torch
        >>> net = nn.Linear(50, 50)
        >>> before = net.weight.detach().clone()
        >>> ShrinkPerturb(shrink=0.5, perturb=0.0)(net, Context(batches=[]))
        >>> torch.equal(net.weight, 0.5 * before)
        True

    Reference:
        Ash, Adams, "On Warm-Starting Neural Network Training", NeurIPS 2020.
    """

    shrink: float = setting(0.4, "factor of the old parameters", 0, 1)
    perturb: float = setting(0.1, "factor of the fresh parameters", 0, 1)

    def __post_init__(self) -> None:
        check_settings(self)

    @torch.no_grad()
    def __call__(self, model: nn.Module, context: Context) -> None:
        """Shrink and perturb all trainable parameters in place."""
        parameters = forgettable(model, "all")
        fresh = fresh_parameters(model, parameters, context.generator, context.draw) if self.perturb else {}
        for name, parameter in parameters.items():
            parameter.mul_(self.shrink)
            if name in fresh:
                parameter.add_(fresh[name], alpha=self.perturb)
