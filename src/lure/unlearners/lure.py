"""LURE: forget the weights that matter least to the data, by SNIP saliency."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch import nn

from lure.settings import check_settings, setting
from lure.unlearners.contract import Context, sample_batches
from lure.weights.layers import Scope
from lure.weights.ranking import Reach, UnseenRows, ranked_entries
from lure.weights.reinit import reinitialize_
from lure.weights.saliency import join_examples, snip_saliency
from lure.weights.selection import lowest_fraction

if TYPE_CHECKING:
    from lure.unlearners.lure_as_released import LureAsReleased


@dataclass(frozen=True, kw_only=True)
class Lure:
    """Redraw the share of weights with the lowest SNIP saliency: s = |w * dL/dw|, w <- w0 where s is lowest.

    The loss would hardly notice the removal of such a weight, so its place is better used for something new.

    Kept: the salient weights, all biases, norm scales and BatchNorm statistics. Redrawn: the lowest `forget_fraction`
    of the weights of linear, convolution, embedding and attention layers, ranked over all of them together. Exactly
    that share is redrawn; ties are broken at random.

    This is the method as the paper describes it. Its released code departs from that description:
    `lure_as_released.py` holds the differences, and `Lure.as_released()` returns the method with all of them.

    Args:
        forget_fraction: 0.2 is the released code's `snip_size`.
        scope: "weights" ranks and redraws what is named above; "all" every trainable parameter, biases and norm scales
            included.
        sample: "all" reads in order of arrival, so that with a `sample_size` the oldest examples are read at every
            stage.
        sample_size: so many examples are read as one batch; None reads all batches of the sample.
        unseen_rows: embedding rows that no batch mentions, and inputs of the network that are zero in every batch, have
            saliency zero, though nothing was learnt about them: "keep" leaves them out of ranking and count, as all
            that the data cannot reach; "rank" forgets them first.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
        >>> before = [p.detach().clone() for p in net.parameters()]
        >>> batch = torch.rand(8, 4), torch.randint(2, (8,))
        >>> Lure(forget_fraction=0.2)(net, Context(batches=[batch]))
        >>> [int((p != b).sum()) for p, b in zip(net.parameters(), before)][1::2]  # the biases
        [0, 0]
        >>> sum(int((p != b).sum()) for p, b in zip(net.parameters(), before))  # 0.2 * 30 weights
        6

    Reference:
        Ramkumar, Arani, Zonooz, "Learn, Unlearn and Relearn: An Online Learning Paradigm for Deep Neural Networks",
        TMLR 2023; SNIP: Lee, Ajanthan, Torr, ICLR 2019.
    """

    forget_fraction: float = setting(0.2, "share of the ranked weights to redraw", 0, 1)
    scope: Scope = setting("weights", "what is ranked and redrawn: weights, or all trainable parameters")
    sample: Literal["new", "all"] = setting("new", "data to read: the new mega-batch, or all so far")
    sample_size: int | None = setting(None, "number of examples to read; none: all of the sample", 1)
    unseen_rows: UnseenRows = setting("keep", "embedding rows and inputs that the data lack: keep, or rank (lowest)")

    def __post_init__(self) -> None:
        check_settings(self)

    def __call__(self, model: nn.Module, context: Context) -> None:
        """Redraw the least salient weights in place."""
        batches = sample_batches(context, self.sample)
        if self.sample_size is not None:
            batches = [join_examples(batches, self.sample_size)]
        reach = Reach()
        saliency = snip_saliency(model, batches, context.loss, reach)
        ranked = ranked_entries(model, self.scope, reach, self.unseen_rows, context.left_out)
        mask = lowest_fraction(saliency, self.forget_fraction, context.generator, among=ranked)
        reinitialize_(model, mask, context.generator, context.draw)

    @staticmethod
    def as_released(forget_fraction: float = 0.2) -> "LureAsReleased":
        """Return LURE as its released code does it, where that departs from the description."""
        from lure.unlearners.lure_as_released import LureAsReleased

        return LureAsReleased(forget_fraction=forget_fraction)
