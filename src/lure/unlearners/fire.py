"""FIRE: move every weight matrix to the nearest one that stretches nothing."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lure.errors import InputError
from lure.settings import check_settings, setting
from lure.unlearners.contract import Context
from lure.weights.layers import dense_weights, refuse_computed, trainable


@dataclass(frozen=True, kw_only=True)
class Fire:
    """Replace each weight matrix by its orthogonal polar factor, rescaled: W <- sqrt(d_out / d_in) / k * polar(W).

    Among all isometries the polar factor is the nearest to W, so that much is kept while all directions learn equally
    fast again. It is computed by Newton-Schulz steps X <- 1.5 X - 0.5 X X' X from X = W / ||W||, which need no
    decomposition; each step multiplies small singular values by 1.5, so after ten steps those below about a fiftieth of
    the largest are not at 1 yet. d_out and d_in are the first two sizes of the weight tensor; k is the number of kernel
    positions of a convolution, each position being a matrix of its own.

    Changed: weights of linear layers, convolutions and attention projections (packed ones as three matrices). Kept:
    embeddings, transposed convolutions and recurrent layers, all biases, norm scales and BatchNorm statistics. Nothing
    is drawn and no data are read: the result depends on the weights alone. A matrix of zeros stays. A weight that a
    parametrisation computes (weight norm) is refused: the factor of the stored tensor is not that of the weight.

    Differences from the authors' code: theirs treats linear and 2-d convolution layers only, and in a vision
    transformer the query and key projections only; ours computes in float32 at least.

    Args:
        iterations: 10 in the authors' code.

    Raises:
        InputError: if the model has no such weight, or for parametrised ones.

    Example:
        >>> net = nn.Linear(30, 30)
        >>> Fire(iterations=30)(net, Context(batches=[]))
        >>> torch.allclose(net.weight @ net.weight.T, torch.eye(30), atol=1e-3)
        True

    Reference:
        Han, Park, Oh, Kim, Lee, Kim, "FIRE: Frobenius-Isometry Reinitialization for Balancing the Stability-Plasticity
        Tradeoff", ICLR 2026.
    """

    iterations: int = setting(10, "number of Newton-Schulz steps", 1)

    def __post_init__(self) -> None:
        check_settings(self)

    @torch.no_grad()
    def __call__(self, model: nn.Module, context: Context) -> None:
        """Orthogonalise the weight matrices in place."""
        stacks = dense_weights(model)
        if not stacks:
            raise InputError("the model has no trainable linear, convolution or attention weight")
        refuse_computed(model, stacks)
        parameters = trainable(model)
        for name, stacked in stacks.items():
            for weight in parameters[name].chunk(stacked):
                width, depth = weight.shape[:2]
                matrices = weight.flatten(2).movedim(2, 0) if weight.dim() > 2 else weight[None]
                wide = torch.promote_types(weight.dtype, torch.float32)
                polar = polar_factor(matrices.to(wide), self.iterations)
                polar *= math.sqrt(width / depth) / len(matrices)
                weight.copy_(polar.movedim(0, 2).reshape(weight.shape))


def polar_factor(matrices: Tensor, iterations: int) -> Tensor:
    """Return the orthogonal polar factor of each matrix, approximately: (count, rows, columns) to the same shape.

    Example:
        >>> polar_factor(torch.diag(torch.tensor([3.0, 2.0]))[None], 30)
        tensor([[[1., 0.],
                 [0., 1.]]])
    """
    tall = matrices.shape[-2] >= matrices.shape[-1]
    factor = matrices if tall else matrices.mT
    # The squares in the norm must neither underflow (weights of dead units after long decay) nor overflow.
    largest = factor.abs().amax((-2, -1), keepdim=True)
    extreme = (largest < 1e-15) | (largest > 1e15)
    factor = torch.where(extreme, factor / largest.clamp_min(torch.finfo(factor.dtype).tiny), factor)
    factor = factor / factor.norm(dim=(-2, -1), keepdim=True).clamp_min(torch.finfo(factor.dtype).tiny)
    for _ in range(iterations):
        factor = torch.baddbmm(factor, factor, factor.mT @ factor, beta=1.5, alpha=-0.5)
    return factor if tall else factor.mT
