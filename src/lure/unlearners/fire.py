"""FIRE: move every weight matrix to the nearest one that stretches nothing."""

import math
import warnings
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor, nn

from lure.errors import InputError
from lure.settings import check_settings, setting
from lure.unlearners.contract import Context
from lure.weights.layers import dense_weights, query_key_weights, refuse_computed, trainable

Start: TypeAlias = Literal["spectral", "frobenius"]

FAR = 0.25  # residual above which there is a warning; fresh square matrices end at 0.1 to 0.2 after ten steps


@dataclass(frozen=True, kw_only=True)
class Fire:
    """Replace each weight matrix by its orthogonal polar factor, rescaled: W <- sqrt(d_out / d_in) / k * polar(W).

    Among all isometries the polar factor is the nearest to W, so that much is kept while all directions learn equally
    fast again. It is computed by Newton-Schulz steps X <- 1.5 X - 0.5 X X' X from X = W / ||W||, which need no
    decomposition. Each step multiplies small singular values by 1.5, so after ten steps those that began below a
    fiftieth are not at 1 yet. With the spectral norm the largest begins at 1; with the Frobenius norm, as in the
    authors' code, all begin lower, by a factor of about sqrt(d) / 2 in a fresh square matrix of d rows: then ten steps
    leave the smaller ones far below 1. d_out and d_in are the first two sizes of the weight tensor; k is the number of
    kernel positions of a convolution, each position being a matrix of its own.

    How far X is from orthogonal after the steps is ||X'X - I|| / ||I||, the Frobenius norms over all matrices of a
    tensor that are not zero: 0 if they are orthogonal, 1 at most. Above 0.25 a warning names the tensor.

    Changed: weights of linear layers, convolutions and attention projections (packed ones as three matrices). Kept:
    embeddings, transposed convolutions and recurrent layers, all biases, norm scales and BatchNorm statistics. Nothing
    is drawn and no data are read: the result depends on the weights alone. A matrix of zeros stays. A weight that a
    parametrisation computes (weight norm) is refused: the factor of the stored tensor is not that of the weight.

    All weights of a matrix move together, so the moments of Adam no longer fit them: make a new optimiser, or give it
    to `unlearn_`, which clears what changed; a run does so by itself.

    Differences from the authors' code: theirs starts from the Frobenius norm and does not check where it ended, takes
    linear and 2-d convolution layers only, and in a vision transformer the query and key projections only; ours
    computes in float32 at least.

    Args:
        iterations: 10 in the authors' code.
        start: "frobenius" is the authors' code.
        layers: "query-key" is the authors' runs on vision transformers, where attention scores may grow without bound
            while the rest is normalised. The projections are found by their names (to_q, q_proj, query, qkv and the
            like), and in torch's own attention.

    Raises:
        InputError: if the model has no such weight, for parametrised ones, or one that is not finite.

    Warns:
        UserWarning: in one line, if a weight is far from orthogonal after the steps.

    Example:
        >>> net = nn.Linear(30, 30)
        >>> Fire(iterations=30)(net, Context(batches=[]))
        >>> torch.allclose(net.weight @ net.weight.T, torch.eye(30), atol=1e-3)
        True

    Reference:
        Han, Park, Oh, Kim, Lee, Kim, "FIRE: Frobenius-Isometry Reinitialization for Balancing the Stability-Plasticity
        Tradeoff", ICLR 2026.
    """

    presets: ClassVar[dict[str, str]] = {
        "fire:start=frobenius": "as in its authors' code",
        "fire:start=frobenius:layers=query-key": "as in its authors' runs on vision transformers",
    }

    iterations: int = setting(10, "number of Newton-Schulz steps", 1)
    start: Start = setting("spectral", "norm that a matrix is divided by before the steps")
    layers: Literal["all", "query-key"] = setting(
        "all", "which layers: all, or only the query and key projections of attention"
    )

    def __post_init__(self) -> None:
        check_settings(self)

    @torch.no_grad()
    def __call__(self, model: nn.Module, context: Context) -> None:
        """Orthogonalise the weight matrices in place."""
        stacks = dense_weights(model)
        if not stacks:
            raise InputError("the model has no trainable linear, convolution or attention weight")
        taken = stacks if self.layers == "all" else query_key_weights(model)
        if not taken:
            raise InputError(
                "the model has no query or key projection that is known by its name (to_q, q_proj, query, qkv and the "
                "like): ask for layers=all"
            )
        refuse_computed(model, taken)
        parameters = trainable(model)
        residuals = {}
        for name, count in taken.items():
            squares, size = 0.0, 0.0
            for weight in parameters[name].chunk(stacks[name])[:count]:
                width, depth = weight.shape[:2]
                matrices = weight.flatten(2).movedim(2, 0) if weight.dim() > 2 else weight[None]
                wide = torch.promote_types(weight.dtype, torch.float32)
                if not bool(torch.isfinite(matrices).all()):
                    raise InputError(f"{name!r} holds a number that is not finite, so it has no orthogonal factor")
                polar = polar_factor(matrices.to(wide), self.iterations, self.start)
                is_zero = polar.count_nonzero(dim=(-2, -1)) == 0
                squares += float(_squared_residuals(polar).masked_fill(is_zero, 0).sum())
                size += float((~is_zero).sum()) * min(width, depth)
                polar *= math.sqrt(width / depth) / len(matrices)
                weight.copy_(polar.movedim(0, 2).reshape(weight.shape))
            residuals[name] = math.sqrt(squares / size) if size else 0.0
        self._warn_if_far(residuals)

    def _warn_if_far(self, residuals: dict[str, float]) -> None:
        far = [name for name, residual in residuals.items() if residual > FAR]
        if far:
            worst = max(far, key=residuals.__getitem__)
            warnings.warn(
                f"fire left {len(far)} of {len(residuals)} weights far from orthogonal, {worst} furthest "
                f"(||X'X - I|| / ||I|| = {residuals[worst]:.2f} after {self.iterations} steps): take more steps "
                f"(fire:iterations={2 * self.iterations}), which cannot bring back what a matrix has lost in rank",
                stacklevel=3,
            )


def polar_factor(matrices: Tensor, iterations: int, start: Start = "spectral") -> Tensor:
    """Return the orthogonal polar factor of each matrix, approximately: (count, rows, columns) to the same shape.

    Args:
        matrices: finite, float32 or float64.
        iterations: number of Newton-Schulz steps.
        start: the norm that each matrix is divided by first.

    Example:
        >>> polar_factor(torch.diag(torch.tensor([3.0, 2.0]))[None], 30)
        tensor([[[1., 0.],
                 [0., 1.]]])
    """
    tall = matrices.shape[-2] >= matrices.shape[-1]
    factor = matrices if tall else matrices.mT
    tiny = torch.finfo(factor.dtype).tiny
    # The squares in the norm must neither underflow (weights of dead units after long decay) nor overflow.
    largest = factor.abs().amax((-2, -1), keepdim=True)
    extreme = (largest < 1e-15) | (largest > 1e15)
    factor = torch.where(extreme, factor / largest.clamp_min(tiny), factor)
    factor = factor / factor.norm(dim=(-2, -1), keepdim=True).clamp_min(tiny)
    if start == "spectral":
        largest = torch.linalg.eigvalsh(factor.mT @ factor)[..., -1:, None].clamp_min(tiny)
        factor = factor / largest.sqrt()
    for _ in range(iterations):
        factor = torch.baddbmm(factor, factor, factor.mT @ factor, beta=1.5, alpha=-0.5)
    return factor if tall else factor.mT


def _squared_residuals(factor: Tensor) -> Tensor:
    """Return ||X'X - I||^2 of each matrix, (count,), for X or its transpose, whichever is tall."""
    tall = factor if factor.shape[-2] >= factor.shape[-1] else factor.mT
    gram = tall.mT @ tall
    gram.diagonal(dim1=-2, dim2=-1).sub_(1)
    return gram.square_().sum((-2, -1))
