"""DASH: shrink the weights that the data's gradient does not point along."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lure.errors import InputError
from lure.randomness import draw_seed
from lure.settings import check_settings, setting
from lure.unlearners.contract import Context, sample_batches
from lure.weights.layers import layer_parameters, refuse_computed, trainable, weight_layers
from lure.weights.ranking import Reach
from lure.weights.saliency import accumulate_gradients, mean_gradients


@dataclass(frozen=True, kw_only=True)
class Dash:
    """Shrink each kernel that does not point along descent: w_k <- w_k * clip(cos(G_k, w_k), shrink_floor, 1).

    G is the negative gradient, averaged as G <- (1 - alpha) * G + alpha * (-gradient), from zero. A kernel that the
    loss still pulls further out (a feature) keeps its size; one that is at rest or is pulled back (memorised noise)
    shrinks to the floor. A kernel k is one (output, input) slice of a convolution, or one row of a linear, embedding,
    attention or recurrent weight; each bias vector counts as one kernel.

    What one step of the mean reads decides which data G speaks for, and two published programs differ in it:

    - `dash:ema=chunk` is the authors' code: a step a chunk, with the gradient of the mean loss over the whole chunk,
      oldest chunk first. The newest chunk weighs 30 %, the one before 21 %.
    - `dash:shrink_floor=0.05:shuffled=256` is the code of FIRE's authors: a step a batch of 256 out of all data,
      shuffled. About ten random batches count.
    - `dash:ema=none` is the plain sum of the gradients of all batches: all data count alike.
    - `dash` alone is neither: a step a batch, in order of arrival, so that about the last ten batches, the newest data
      of all, count. So it was before the others were there, and its results stay what they were.

    Shrunk: weights of linear, convolution, embedding, attention and recurrent layers, and their biases. Kept: norm
    scales, BatchNorm statistics and all other parameters. Nothing is redrawn. A weight that a parametrisation computes
    (weight norm) is refused, because the parametrisation could undo the shrinking.

    Differences from the authors' code that remain: gradients are taken in eval mode (theirs: train mode, with batch
    statistics and dropout); linear and 2-d convolution layers only there; the cosine here is exact for gradients of any
    size, where theirs tends to 0 once norms come near 1e-8; and their optimiser keeps its state (here: the recipe's
    `carry_optimizer`, which clears it where weights shrank), where FIRE's authors make a new one.

    Args:
        ema: what one step of the running mean reads. "chunk" needs the context's `chunks`.
        alpha: 0.3 in the authors' code. 0 is the limit in which all steps count alike: their plain sum.
        shrink_floor: 0.3 in the authors' code, 0.05 in that of FIRE's authors. 0 erases whatever the gradient opposes.
        sample: "all" reads in order of arrival, as the authors do.
        shuffled: needs the context's `shuffled`, and sample "all". None reads the batches as they come.
        biases: true as in the authors' code.

    Raises:
        InputError: for parametrised weights, or if there are no data to read, or not in the form that is asked for.

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

    presets: ClassVar[dict[str, str]] = {
        "dash:ema=chunk": "as in its authors' code: a step a chunk of arrival",
        "dash:shrink_floor=0.05:shuffled=256": "as in FIRE's code: a step a shuffled batch of 256, floor 0.05",
        "dash:ema=none": "the plain sum of all gradients",
        "dash": "a step a batch in order of arrival, so that the newest ten or so count: none of the three",
    }

    alpha: float = setting(0.3, "weight of the newest step in the running mean of the gradient", 0, 1)
    shrink_floor: float = setting(0.3, "the least factor that a kernel is multiplied by", 0, 1)
    sample: Literal["all", "new"] = setting("all", "data to read: all so far, or the new mega-batch")
    biases: bool = setting(True, "shrink bias vectors, too")
    ema: Literal["batch", "chunk", "none"] = setting(
        "batch", "a step of the running mean for each batch, or for each chunk of arrival; none: the plain sum"
    )
    shuffled: int | None = setting(None, "read all data in shuffled batches of so many examples; none: as they come", 1)

    def __post_init__(self) -> None:
        check_settings(self)
        if self.shuffled is not None and (self.ema == "chunk" or self.sample == "new"):
            raise InputError("shuffled mixes all data so far: it goes with sample=all, and with ema=batch or ema=none")

    def require(self, context: Context) -> None:
        """Refuse a context without the data in the form that is asked for."""
        if self.shuffled is not None and context.shuffled is None:
            raise InputError(
                f"shuffled={self.shuffled} needs data that can be read in any order, as a run's can: give a loader "
                f"that shuffles, with batches of that size, and leave shuffled out"
            )
        if self.ema == "chunk" and self.sample == "all" and not context.chunks:
            raise InputError(
                "ema=chunk takes a step for each chunk that arrived: give a loader for each, oldest first "
                "(chunks=[...] of unlearn_, of a trainer's callback or of the Context), or ask for ema=batch"
            )

    @torch.no_grad()
    def __call__(self, model: nn.Module, context: Context) -> None:
        """Shrink kernels in place."""
        self.require(context)
        layers = weight_layers(model)
        refuse_computed(model, [name for _, weights in layers for name in weights])
        reach = Reach()
        descent = (
            self._over_chunks(model, context, reach)
            if self.ema == "chunk"
            else self._over_batches(model, context, reach)
        )
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

    def _over_batches(self, model: nn.Module, context: Context, reach: Reach) -> dict[str, Tensor]:
        """Return the running mean of the negative gradient, a step for each batch."""
        batches = sample_batches(context, self.sample)
        if self.shuffled is not None:
            assert context.shuffled is not None
            batches = context.shuffled(self.shuffled, torch.Generator().manual_seed(draw_seed(context.generator)))
        return accumulate_gradients(model, batches, context.loss, self._step, reach)

    def _over_chunks(self, model: nn.Module, context: Context, reach: Reach) -> dict[str, Tensor]:
        """Return the running mean of the negative gradient, a step for each chunk, oldest first."""
        running: dict[str, Tensor] = {}
        for chunk in [context.batches] if self.sample == "new" else context.chunks or ():
            gradients = mean_gradients(model, chunk, context.loss, reach)
            running = running or {name: torch.zeros_like(gradient) for name, gradient in gradients.items()}
            self._step(list(running.values()), list(gradients.values()))
            del gradients  # free the memory before the next chunk needs as much
        return running

    def _step(self, running: list[Tensor], gradients: list[Tensor]) -> None:
        alpha = 0.0 if self.ema == "none" else self.alpha
        torch._foreach_mul_(running, 1 - alpha)
        # The cosine does not see the scale, so a plain sum stands for the limit of small alpha.
        torch._foreach_sub_(running, gradients, alpha=alpha or 1.0)

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
