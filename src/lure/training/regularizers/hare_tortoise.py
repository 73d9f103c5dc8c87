"""A slow average of the weights, to which the fast ones are set back now and then: Hare & Tortoise."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from lure.errors import InputError, require_within
from lure.weights.layers import refuse_unmaterialized, trainable, unwrap


class HareTortoise:
    """Keep an exponential moving average of a model's weights, and set the model back to it at intervals.

    The model that is trained is the hare, the average the tortoise: slow <- decay * slow + (1 - decay) * fast after
    each step, and fast <- slow after every `interval` steps. The hare adapts fast, the tortoise keeps what lasts. This
    acts while training, so it is not an unlearner. The averaging is torch's `AveragedModel`.

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
        >>> with torch.no_grad():
        ...     _ = net.weight.zero_()
        >>> tortoise = HareTortoise(net, decay=0.5, interval=2)
        >>> for _ in range(2):
        ...     with torch.no_grad():
        ...         _ = net.weight.add_(1.0)  # an optimiser step
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
        refuse_unmaterialized(model)
        self.decay, self.interval, self.num_steps = decay, interval, 0
        inner = unwrap(model)
        try:
            self._average = AveragedModel(inner, avg_fn=self._follow, use_buffers=True)
        except (RuntimeError, TypeError) as error:
            raise InputError(f"the model cannot be copied to average its weights: {error}") from error
        self._average.n_averaged.fill_(1)  # it begins with the model's weights, so the first step averages already
        self._names = list(_averaged(inner))
        for tensor in _averaged(self._average.module).values():
            tensor.data = tensor.data.to(torch.promote_types(tensor.dtype, torch.float32))

    def _follow(self, slow: Tensor, fast: Tensor, _: Tensor | int) -> Tensor:
        if not (slow.is_floating_point() or slow.is_complex()):
            return fast  # a counter has no average
        return slow.lerp(fast.to(slow.dtype), 1 - self.decay)

    def _slow(self) -> dict[str, Tensor]:
        tensors = {**dict(self._average.module.named_parameters()), **dict(self._average.module.named_buffers())}
        return {name: tensors[name].detach() for name in self._names}

    @torch.no_grad()
    def step(self, model: nn.Module) -> bool:
        """Take one step of the fast weights into the average; call it after each step of the optimiser.

        Returns:
            Whether the model was set back to the average.

        Raises:
            InputError: if the model has a weight that had no part in the average from the start.
        """
        self._known(model)
        self.num_steps += 1
        self._average.update_parameters(unwrap(model))
        if self.interval is None or self.num_steps % self.interval:
            return False
        self.copy_to_(model)
        return True

    @torch.no_grad()
    def copy_to_(self, model: nn.Module) -> None:
        """Set a model's weights to the average; evaluate a copy of the model with it."""
        slow = self._slow()
        for name, fast in self._known(model).items():
            fast.copy_(slow[name])

    def _known(self, model: nn.Module) -> dict[str, Tensor]:
        weights, slow = _averaged(model), self._slow()
        for name, fast in weights.items():
            if name not in slow or slow[name].shape != fast.shape:
                raise InputError(f"the average holds no {name!r} of shape {tuple(fast.shape)}: begin a new one")
        return weights

    def state_dict(self) -> dict[str, Tensor]:
        """Return what a checkpoint must hold: the average under the model's names, and the number of steps."""
        return {
            **{f"slow.{name}": slow for name, slow in self._slow().items()},
            "num_steps": torch.tensor(self.num_steps),
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            InputError: if it was given for another model.
        """
        expected = self.state_dict()
        if state.keys() != expected.keys() or any(state[name].shape != expected[name].shape for name in expected):
            raise InputError("the state to go on from holds the averages of another model")
        for name, slow in self._slow().items():
            slow.copy_(state[f"slow.{name}"])
        self.num_steps = int(state["num_steps"])


def _averaged(model: nn.Module) -> dict[str, Tensor]:
    buffers = {name: buffer for name, buffer in unwrap(model).named_buffers() if buffer.is_floating_point()}
    return {**trainable(model), **buffers}
