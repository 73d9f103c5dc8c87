"""A slow average of the weights, to which the fast ones are set back now and then: Hare & Tortoise."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from lure.errors import require_within
from lure.settings import check_settings, setting
from lure.training.regularizers.contract import FitContext, RunningRegularizer
from lure.training.regularizers.weight_average import WeightAverage


class HareTortoise:
    """Keep an exponential moving average of a model's weights, and set the model back to it at intervals.

    The model that is trained is the hare, the average the tortoise: slow <- decay * slow + (1 - decay) * fast after
    each step, and fast <- slow after every `interval` steps. The hare adapts fast, the tortoise keeps what lasts. This
    acts while training, so it is not an unlearner. In a recipe it is `HareAndTortoise`.

    Averaged and set back: all trainable parameters, biases and norm scales included, and BatchNorm's running mean and
    variance. Frozen parameters and integer buffers stay as they are in the model. The average is kept in float32 at
    least. The optimiser's state is left alone. Meanwhile there is a second copy of the model in memory.

    Args:
        model: the network; the average begins with its weights.
        decay: share of the average that a step keeps, in [0, 1]. 0.999 is our default: an average over about the last
            thousand steps.
        interval: steps between two times the hare is set back; None averages only.

    Raises:
        InputError: if a value is out of range, or the model cannot be copied.

    Example:
        >>> net = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.zeros_(net.weight)
        >>> tortoise = HareTortoise(net, decay=0.5, interval=2)
        >>> for target in (1.0, 2.0):
        ...     _ = nn.init.constant_(net.weight, target)  # an optimiser step
        ...     print(tortoise.step(net), net.weight.item())
        False 1.0
        True 1.25

    Reference:
        Lee, Cho, Kim, Kim, Min, Choo, Lyle, "Slow and Steady Wins the Race: Maintaining Plasticity with Hare and
        Tortoise Networks", ICML 2024.
    """

    def __init__(self, model: nn.Module, *, decay: float = 0.999, interval: int | None = None) -> None:
        require_within("decay", decay, 0, 1)
        if interval is not None:
            require_within("interval", interval, 1)
        self.decay, self.interval = decay, interval
        self._average = WeightAverage(model)

    @property
    def num_steps(self) -> int:
        """Steps that were taken into the average."""
        return self._average.num_steps

    def step(self, model: nn.Module) -> bool:
        """Take one step of the fast weights into the average; call it after each step of the optimiser.

        Returns:
            Whether the model was set back to the average.

        Raises:
            InputError: if the model has a weight that had no part in the average from the start.
        """
        self._average.follow(model, self.decay)
        if self.interval is None or self.num_steps % self.interval:
            return False
        self.copy_to_(model)
        return True

    def copy_to_(self, model: nn.Module) -> None:
        """Set a model's weights to the average; evaluate a copy of the model with it."""
        self._average.copy_to_(model)

    def grow_(self, model: nn.Module) -> None:
        """Take up the rows that a model has gained (`lure.grow_head_`): their average begins with the weights at hand.

        Raises:
            InputError: if the model differs otherwise.
        """
        self._average.grow_(model)

    def state_dict(self) -> dict[str, Tensor]:
        """Return what a checkpoint must hold: the average under the model's names, and the number of steps."""
        return self._average.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            InputError: if it was given for another model.
        """
        self._average.load_state_dict(state)


@dataclass(frozen=True, kw_only=True)
class HareAndTortoise:
    """Set the weights back to their slow average at intervals.

    This is `HareTortoise` as a recipe names it. Each stage begins a new average, with the weights that the unlearner
    left. The trained weights, not the average, are evaluated, kept and served.

    Args:
        decay: share of the average that a step keeps, in [0, 1].
        interval: steps between two times the weights are set back; None never does, and then nothing is averaged.

    Example:
        >>> net = nn.Linear(1, 1)
        >>> running = HareAndTortoise(interval=10).start(net, FitContext())
        >>> running.after_step()  # after optimizer.step(): whether the weights were set back
        False

    Reference:
        Lee, Cho, Kim, Kim, Min, Choo, Lyle, "Slow and Steady Wins the Race: Maintaining Plasticity with Hare and
        Tortoise Networks", ICML 2024.
    """

    decay: float = setting(0.999, "share of the average that a step keeps", 0, 1)
    interval: int | None = setting(1000, "steps between two times the weights are set back; none: never", 1)

    def __post_init__(self) -> None:
        check_settings(self)

    def start(self, model: nn.Module, context: FitContext) -> RunningRegularizer:
        """Begin an average with the model's weights."""
        if self.interval is None:
            return RunningRegularizer()
        tortoise = HareTortoise(model, decay=self.decay, interval=self.interval)
        return RunningRegularizer(
            after_step=lambda: tortoise.step(model),
            state_dict=tortoise.state_dict,
            load_state_dict=tortoise.load_state_dict,
        )
