"""Parseval: keep the rows of every weight matrix near to orthogonal, so that no direction of the signal is lost."""

from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lure.errors import InputError, require_within
from lure.settings import check_settings, setting
from lure.training.regularizers.contract import FitContext, RunningRegularizer
from lure.weights.layers import dense_weights, find_head, layer_parameters, refuse_computed, trainable


@dataclass(frozen=True, kw_only=True)
class Parseval:
    """Add strength * sum over weight matrices of ||W'W - scale * I||^2 to the loss.

    Where the term is zero, a matrix stretches all directions alike, by sqrt(scale), and gradients neither vanish nor
    grow on their way through it. It is the soft and steady counterpart of `fire`, which makes matrices orthogonal once.

    Held: the weights of linear layers, of convolutions (flattened to outputs x everything else, groups as a whole) and
    of attention projections (packed ones as three matrices). The product is taken on the smaller side, W W' or W'W,
    because the larger one cannot be of full rank. Not held: the classifier, unless `head`, because orthogonal rows
    would bound how sure it can be; embeddings, recurrent layers, biases and norm scales. The product is computed in
    float32 at least, outside of mixed precision. A weight that a parametrisation computes (weight norm) is refused.

    Args:
        strength: at least 0.
        scale: s, what the squared singular values are pulled to, above 0.
        head: hold the classifier, too.

    Raises:
        InputError: by `start`, if the model has no such weight, or parametrised ones.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 3))
        >>> _ = nn.init.constant_(net[0].weight, 1.0)  # W'W is 2 everywhere: ||W'W - I||^2 = 1 + 4 + 4 + 1
        >>> parseval = Parseval(strength=0.1).start(net, FitContext())
        >>> round(parseval.loss_term().item(), 6)  # to be added to the loss
        1.0

    Reference:
        Cisse et al., "Parseval Networks: Improving Robustness to Adversarial Examples", ICML 2017; for plasticity,
        Chung et al., "Parseval Regularization for Continual Reinforcement Learning", NeurIPS 2024. FIRE's authors
        compare with it (ICLR 2026).
    """

    strength: float = setting(1e-3, "factor of the distance from orthogonality", 0)
    scale: float = setting(1.0, "what the squared singular values are pulled to", above=0)
    head: bool = setting(False, "hold the classifier, too")

    def __post_init__(self) -> None:
        check_settings(self)

    def start(self, model: nn.Module, context: FitContext) -> RunningRegularizer:
        """Find the matrices; raise if there is none."""
        if not self.strength:
            return RunningRegularizer()
        stacks = dense_weights(model)
        if not self.head:
            with suppress(InputError):  # a model without a classifier has nothing to leave out
                for name in layer_parameters(model, find_head(model)):
                    stacks.pop(name, None)
        if not stacks:
            raise InputError("the model has no trainable linear, convolution or attention weight but its classifier")
        refuse_computed(model, stacks)
        parameters = trainable(model)
        matrices = {name: (parameters[name], stacked) for name, stacked in stacks.items()}

        def loss_term(*_: object) -> Tensor:
            terms = [parseval_penalty(p, self.scale, stacked) for p, stacked in matrices.values()]
            return self.strength * torch.stack(terms).sum()

        return RunningRegularizer(loss_term=loss_term)


def parseval_penalty(weight: Tensor, scale: float = 1.0, stacked: int = 1) -> Tensor:
    """Return ||W'W - scale * I||^2 of a weight on its smaller side, summed over the matrices that are stacked in it.

    Args:
        weight: (outputs, inputs, ...); what follows the outputs is flattened.
        scale: at least 0.
        stacked: how many matrices stand one above the other.

    Example:
        >>> parseval_penalty(torch.eye(3)[:2]).item(), parseval_penalty(2 * torch.eye(3)).item()
        (0.0, 27.0)
    """
    require_within("scale", scale, 0)
    with torch.autocast(weight.device.type, enabled=False):
        matrices = weight.flatten(1).to(torch.promote_types(weight.dtype, torch.float32)).chunk(stacked)
        products = [w @ w.mT if w.shape[0] <= w.shape[1] else w.mT @ w for w in matrices]
        distances = [(p - scale * torch.eye(len(p), dtype=p.dtype, device=p.device)).square().sum() for p in products]
        return torch.stack(distances).sum()
