"""EMA of weights: train one set of weights, and use their running average."""

from dataclasses import dataclass

from torch import nn

from lure.settings import check_settings, setting
from lure.training.regularizers.contract import FitContext, RunningRegularizer
from lure.training.regularizers.weight_average import WeightAverage


@dataclass(frozen=True, kw_only=True)
class Ema:
    """Evaluate, keep, serve and go on from the running average of the weights, while the weights themselves train on.

    After each step: average <- d * average + (1 - d) * weights, with d = min(decay, (1 + n) / (10 + n)) at step n = 0,
    1, 2, ... of the stage. So the average follows closely at first and soon forgets where the stage began. An average
    does for the noise of the steps what a falling learning rate does, and nothing is added to the loss.

    The average is what validation measures, so the kept epoch is the best epoch of the average. It is what a stage
    commits, and the next stage's unlearner and fit start from it. Accuracy on the batches of an epoch, and with it
    `target_accuracy`, is that of the trained weights. With `carry_optimizer` the optimiser's state goes on as it was at
    the kept epoch: it belongs to the trained weights, which end with the stage.

    Averaged: all trainable parameters, biases and norm scales included. BatchNorm's running mean and variance belong to
    the average: they are averaged with the same d, and no further pass over the data measures them. That is close as
    long as the weights move little over the span of the average; where they do not, a last epoch at a small learning
    rate, or a smaller decay, helps. Integer buffers are the trained model's. The average is kept in float32 at least: a
    second copy of the model in memory, and a third while the average is evaluated.

    Args:
        decay: share of the average that a step keeps, in [0, 1); 0.99 averages about the last hundred steps. 0 is
            training without an average.

    Example:
        >>> net = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.zeros_(net.weight)
        >>> ema = Ema(decay=0.99).start(net, FitContext())
        >>> _ = nn.init.constant_(net.weight, 10.0)  # an optimiser step
        >>> ema.after_step()
        >>> with ema.serving():
        ...     print(net.weight.item())
        9.0
        >>> net.weight.item()
        10.0

    Reference:
        Morales-Brotons, Vogels, Hendrikx, "Exponential Moving Average of Weights in Deep Learning: Dynamics and
        Benefits", TMLR 2024, arXiv 2411.18704. The warm-up of the decay is that of TensorFlow's
        `ExponentialMovingAverage` (its argument `num_updates`).
    """

    decay: float = setting(0.99, "share of the average that a step keeps, once warmed up", 0, below=1)

    def __post_init__(self) -> None:
        check_settings(self)

    def start(self, model: nn.Module, context: FitContext) -> RunningRegularizer:
        """Begin an average with the model's weights."""
        if not self.decay:
            return RunningRegularizer()
        average = WeightAverage(model)

        def after_step() -> None:
            n = average.num_steps
            average.follow(model, min(self.decay, (1 + n) / (10 + n)))

        return RunningRegularizer(
            after_step=after_step,
            state_dict=average.state_dict,
            load_state_dict=average.load_state_dict,
            serving=lambda: average.serving(model),
            serve=lambda: average.copy_to_(model),
        )
