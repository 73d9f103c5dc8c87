"""LURE: forget the weights that matter least to the data, by SNIP saliency."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import nn

from lure.errors import require_within
from lure.unlearners.contract import Context, require_kinds, sample_batches
from lure.weights.layers import forgettable
from lure.weights.reinit import kaiming_uniform_copy, reinitialize_
from lure.weights.saliency import join_examples, snip_saliency
from lure.weights.selection import lowest_fraction


@dataclass(frozen=True, kw_only=True)
class Lure:
    """Redraw the share of weights with the lowest SNIP saliency: s = |w * dL/dw|, w <- w0 where s is lowest.

    The loss would hardly notice the removal of such a weight, so its place is better used for something new.

    Kept: the salient weights, all biases, norm scales and BatchNorm statistics. Redrawn: the lowest `forget_fraction`
    of the weights of linear, convolution, embedding and attention layers, ranked over all of them together.

    The defaults mend what the released code does otherwise than its description says; `Lure.as_released()` does as the
    code does, each difference being an option here. One remains: it forgets int(fraction * total) entries and what ties
    with the last, we round.

    Args:
        forget_fraction: share of the ranked entries to redraw, in [0, 1]; 0.2 is the released code's `snip_size`.
        scope: what is ranked and redrawn. "weights": as above. "all": every trainable parameter, biases and norm
            scales too. "released": all are ranked, but of the lowest only those in parameters with "weight" in their
            name are redrawn, which takes in norm scales and leaves out biases.
        law: where fresh values come from. "own": the redraw law, by which a layer starts as its network starts it.
            "kaiming-uniform": uniform with bound 1/sqrt(fan in) everywhere, which is 0.41 times the spread of He's
            initialisation, and uniform in [-1, 1] for norm scales.
        sample: "new" reads the sample of the new data; "all" all data so far in order of arrival, so that with a
            `sample_size` the oldest examples are read at every stage.
        sample_size: number of examples, read as one batch; None reads all batches of the sample.
        ties: "random" breaks ties at the threshold by chance, so that the count is exact; "all" redraws all of them,
            such as every weight of a dead unit.

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

    forget_fraction: float = 0.2
    scope: Literal["weights", "all", "released"] = "weights"
    law: Literal["own", "kaiming-uniform"] = "own"
    sample: Literal["new", "all"] = "new"
    sample_size: int | None = None
    ties: Literal["random", "all"] = "random"

    def __post_init__(self) -> None:
        require_kinds(self)
        require_within("forget_fraction", self.forget_fraction, 0, 1)
        if self.sample_size is not None:
            require_within("sample_size", self.sample_size, 1)

    @classmethod
    def as_released(cls, forget_fraction: float = 0.2) -> "Lure":
        """Return LURE as its released code does it, where that departs from the description.

        Example:
            >>> from lure.unlearners import name_unlearner
            >>> name_unlearner(Lure.as_released())
            'lure:scope=released:law=kaiming-uniform:sample=all:sample_size=100:ties=all'
        """
        return cls(
            forget_fraction=forget_fraction,
            scope="released",
            law="kaiming-uniform",
            sample="all",
            sample_size=100,
            ties="all",
        )

    def __call__(self, model: nn.Module, context: Context) -> None:
        """Redraw the least salient weights in place."""
        batches = sample_batches(context, self.sample)
        if self.sample_size is not None:
            batches = [join_examples(batches, self.sample_size)]
        scores = snip_saliency(model, batches, context.loss)
        ranked = forgettable(model, "weights" if self.scope == "weights" else "all")
        scores = {name: scores[name] for name in ranked}
        mask = lowest_fraction(scores, self.forget_fraction, context.generator, ties=self.ties)
        if self.scope == "released":
            mask = {name: forget for name, forget in mask.items() if "weight" in name}
        draw = partial(kaiming_uniform_copy, model) if self.law == "kaiming-uniform" else context.draw
        reinitialize_(model, mask, context.generator, draw)
