"""Fisher reset: forget the weights to which the loss is flattest."""

from dataclasses import dataclass

from torch import nn

from lure.settings import check_settings, setting
from lure.unlearners.contract import Context
from lure.weights.ranking import Reach, UnseenRows, ranked_entries
from lure.weights.reinit import reinitialize_
from lure.weights.saliency import fisher
from lure.weights.selection import lowest_fraction


@dataclass(frozen=True, kw_only=True)
class FisherReset:
    """Redraw the share of weights with the lowest Fisher information: w <- w0 where mean g^2 is lowest.

    g is the gradient of a batch's mean loss; its mean square is the diagonal of the empirical Fisher information at the
    granularity of batches. Unlike SNIP saliency it ignores the weight itself: both methods forget a large weight to
    which the loss is flat, but only this one keeps a small weight to which the loss is steep.

    Kept: the other weights, all biases, norm scales and BatchNorm statistics. Redrawn: the lowest `forget_fraction` of
    the weights of linear, convolution, embedding and attention layers, ranked over all of them together.

    Args:
        forget_fraction: 0.2 as for LURE, so that the two compare.
        unseen_rows: as in `Lure`.

    Example:
        >>> import torch
        >>> net = nn.Linear(2, 2, bias=False)
        >>> before = net.weight.detach().clone()
        >>> batch = torch.tensor([[1.0, 0.1]]), torch.tensor([0])  # the second feature is always small
        >>> FisherReset(forget_fraction=0.5)(net, Context(batches=[batch]))
        >>> (net.weight != before).tolist()
        [[False, True], [False, True]]

    Reference:
        An ablation of Ramkumar, Arani, Zonooz, "Learn, Unlearn and Relearn", TMLR 2023, and of later work of its
        authors; Fisher information of weights: Kirkpatrick et al., "Overcoming catastrophic forgetting in neural
        networks", PNAS 2017.
    """

    forget_fraction: float = setting(0.2, "share of the weights to redraw", 0, 1)
    unseen_rows: UnseenRows = setting("keep", "embedding rows and inputs that the data lack: keep, or rank (lowest)")

    def __post_init__(self) -> None:
        check_settings(self)

    def __call__(self, model: nn.Module, context: Context) -> None:
        """Redraw the least informed weights in place."""
        reach = Reach()
        information = fisher(model, context.batches, context.loss, reach)
        ranked = ranked_entries(model, "weights", reach, self.unseen_rows, context.left_out)
        mask = lowest_fraction(information, self.forget_fraction, context.generator, among=ranked)
        reinitialize_(model, mask, context.generator, context.draw)
