"""What LURE is not, for the ablations of the suite: unlearners of one's own, as anybody may write them."""

from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lure import Context, Lure, lowest_fraction, reinitialize_, snip_saliency
from lure.weights.ranking import Reach, ranked_entries


@dataclass(frozen=True, kw_only=True)
class MostSalient:
    """LURE upside down: redraw the share of weights with the highest SNIP saliency."""

    forget_fraction: float = 0.2

    def __call__(self, model: nn.Module, context: Context) -> None:
        """Redraw the most salient weights in place."""
        reach = Reach()
        saliency = snip_saliency(model, context.batches, context.loss, reach)
        ranked = ranked_entries(model, "weights", reach, "keep", context.left_out)
        upside_down = {name: -scores for name, scores in saliency.items()}
        mask = lowest_fraction(upside_down, self.forget_fraction, context.generator, among=ranked)
        reinitialize_(model, mask, context.generator, context.draw)


@dataclass(frozen=True, kw_only=True)
class WithoutStatistics:
    """LURE, and the statistics of BatchNorm as they were at the start."""

    forget_fraction: float = 0.2

    def __call__(self, model: nn.Module, context: Context) -> None:
        """Redraw the least salient weights in place, and reset the statistics."""
        Lure(forget_fraction=self.forget_fraction)(model, context)
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.reset_running_stats()
