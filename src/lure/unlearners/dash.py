"""DASH: shrink the weights that the data's gradient does not point along."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lure.settings import check_settings, setting
from lure.unlearners.contract import Context, sample_batches
from lure.weights.layers import layer_parameters, refuse_computed, trainable, weight_layers
from lure.weights.ranking import Reach
from lure.weights.saliency import accumulate_gradients


@dataclass(frozen=True, kw_only=True)
class Dash:
    """Shrink each kernel that does not point along descent: w_k <- w_k * clip(cos(G_k, w_k), shrink_floor, 1).

    G is the negative gradient, averaged over the batches as G <- (1 - alpha) * G + alpha * (-gradient), from zero. A
    kernel that the loss still pulls further out (a feature) keeps its size; one that is at rest or is pulled back
    (memorised noise) shrinks to the floor. A kernel k is one (output, input) slice of a convolution, or one row of a
    linear, embedding, attention or recurrent weight; each bias vector counts as one kernel.

    Shrunk: weights of linear, convolution, embedding, attention and recurrent layers, and their biases. Kept: norm
    scales, BatchNorm statistics and all other parameters. Nothing is redrawn. A weight that a parametrisation computes
    (weight norm) is refused, because the parametrisation could undo the shrinking.

    Differences from the authors' code: gradients are taken in eval mode (theirs: train mode, with batch statistics and
    dropout); linear and 2-d convolution layers only there; and the cosine here is exact for gradients of any size,
    where theirs tends to 0 once norms come near 1e-8.

    Args:
        alpha: 0.3 in the authors' code, so that the last ten batches carry 97 % of the mean. 0 is the limit in which
            all batches count alike: their plain sum.
        shrink_floor: 0.3 in the authors' code, 0.05 in a later port by others. 0 erases whatever the gradient opposes.
        sample: "all" reads in order of arrival, as the authors do.
        biases: true as in the authors' code.

    Raises:
        InputError: for parametrised weights, or if there are no data to read.

    Example:
        >>> import torch
        >>> net = nn.Linear(2, 2, bias=False)
        >>> with torch.no_grad():
        ...     _ = net.weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
        >>> batch = torch.tensor([[1.0, 0.0]]), torch.tensor([0])  # descent lengthens row 0 and shortens row 1
        >>> Dash(shrink_floor=0.3, sample="new")(net, Context(batches=[batch]))
        >>> net.weight
        Parameter containing:
        tensor([[1.0000, 0.0000],
                [0.3000, 0.0000]], requires_grad=True)

    Reference:
        Shin, Oh, Cho, Yun, "DASH: Warm-Starting Neural Network Training in Stationary Settings without Loss of
        Plasticity", NeurIPS 2024.
    """

    alpha: float = setting(0.3, "weight of the newest batch in the running mean of the gradient", 0, 1)
    shrink_floor: float = setting(0.3, "the least factor that a kernel is multiplied by", 0, 1)
    sample: Literal["all", "new"] = setting("all", "data to read: all so far, or the new mega-batch")
    biases: bool = setting(True, "shrink bias vectors, too")

    def __post_init__(self) -> None:
        check_settings(self)

    @torch.no_grad()
    def __call__(self, model: nn.Module, context: Context) -> None:
        """Shrink kernels in place."""
        layers = weight_layers(model)
        refuse_computed(model, [name for _, weights in layers for name in weights])

        def add_descent(running: list[Tensor], gradients: list[Tensor]) -> None:
            torch._foreach_mul_(running, 1 - self.alpha)
            # The cosine does not see the scale, so a plain sum stands for the limit of small alpha.
            torch._foreach_sub_(running, gradients, alpha=self.alpha or 1.0)

        batches = sample_batches(context, self.sample)
        reach = Reach()
        descent = accumulate_gradients(model, batches, context.loss, add_descent, reach)
        parameters = trainable(model)
        for layer_name, weights in layers:
            for name in layer_parameters(model, layer_name):
                if not reach.tensors[name]:  # there is no direction to compare it with
                    context.left_out[name] = "no batch reaches it"
                    continue
                if name in weights:
                    first = 1 if parameters[name].dim() == 2 else 2
                elif self.biases and "bias" in name.rpartition(".")[2]:
                    first = 0
                else:
                    continue
                parameters[name].mul_(self._factors(descent[name], parameters[name], first))

    def _factors(self, descent: Tensor, weight: Tensor, first: int) -> Tensor:
        """Return the factor of each kernel, broadcastable; a kernel spans the dimensions from `first` on."""
        ahead, kernel = (_directions(side.to(descent.dtype), first) for side in (descent, weight))
        cosine = (ahead * kernel).sum(-1).clamp(self.shrink_floor, 1)
        return cosine.view(*cosine.shape, *[1] * (weight.dim() - first)).to(weight.dtype)


def _directions(tensor: Tensor, first: int) -> Tensor:
    """Return each kernel, flattened, at length 1; a kernel of zeros stays."""
    # Small numbers vanish in the squares, so the tensor is brought to a size of about 1 first, and a kernel that hardly
    # any gradient reaches once more by itself.
    kernels = (tensor / tensor.abs().amax().clamp_min(1e-30)).flatten(first)
    largest = kernels.abs().amax(-1, keepdim=True)
    kernels = torch.where(largest < 1e-15, kernels / largest.clamp_min(1e-37), kernels)
    return F.normalize(kernels, dim=-1, eps=1e-30)
