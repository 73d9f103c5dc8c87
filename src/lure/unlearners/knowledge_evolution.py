"""Knowledge evolution: always keep the same half of the weights, redraw the other half at every stage."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lure.settings import check_settings, setting
from lure.unlearners.contract import Context
from lure.weights.layers import forgettable
from lure.weights.reinit import reinitialize_


@dataclass(frozen=True, kw_only=True)
class KnowledgeEvolution:
    """Redraw all weights outside a fixed random mask: w <- w0 where the weight is not in the fit hypothesis.

    The kept part carries the knowledge from one generation to the next; the redrawn part starts again. The mask is a
    pure function of (mask_seed, parameter name, shape), so it is the same at every stage.

    Kept: in each weight tensor exactly `keep_fraction` of the entries; all biases, norm scales and BatchNorm
    statistics. Redrawn: the other entries of the weights of linear, convolution, embedding and attention layers.

    This is the authors' weight-level split; they also have a kernel-level one, which keeps the first filters and so
    allows a smaller network to be cut out at the end. Their code redraws from Kaiming-uniform(sqrt 5) and draws each
    entry of the mask by itself, so that its count is not exact.

    Args:
        keep_fraction: the authors' split rate, 0.5 or 0.8.
        mask_seed: the same seed gives the same mask at every stage and in every run.

    Example:
        >>> net = nn.Linear(4, 3)
        >>> before = net.weight.detach().clone()
        >>> KnowledgeEvolution()(net, Context(batches=[]))
        >>> kept = net.weight == before
        >>> KnowledgeEvolution()(net, Context(batches=[], generator=torch.Generator().manual_seed(1)))
        >>> int(kept.sum()), torch.equal(net.weight == before, kept)
        (6, True)

    Reference:
        Taha, Shrivastava, Davis, "Knowledge Evolution in Neural Networks", CVPR 2021.
    """

    keep_fraction: float = setting(0.5, "share of each weight tensor that is kept", 0, 1)
    mask_seed: int = setting(0, "chooses the mask; the run's seed does not")

    def __post_init__(self) -> None:
        check_settings(self)

    def __call__(self, model: nn.Module, context: Context) -> None:
        """Redraw the part outside the fixed mask in place."""
        mask = {name: self.forget_mask(name, weight.shape) for name, weight in forgettable(model).items()}
        reinitialize_(model, mask, context.generator, context.draw)

    def forget_mask(self, name: str, shape: torch.Size) -> Tensor:
        """Return the mask of one tensor, True = forget, on the CPU; always the same for this name and shape."""
        digest = hashlib.sha256(f"{self.mask_seed}/{name}/{tuple(shape)}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        mask = torch.zeros(shape.numel(), dtype=torch.bool)
        order = torch.randperm(shape.numel(), generator=generator)
        mask[order[round(self.keep_fraction * shape.numel()) :]] = True
        return mask.view(shape)
