"""A running average of a model's weights, and the model's own weights put aside while the average stands in."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lure.errors import InputError
from lure.weights.layers import refuse_unmaterialized, trainable, unwrap


class WeightAverage:
    """An exponential moving average: slow <- decay * slow + (1 - decay) * fast.

    All tensors take their step in one call, because a step of a small network is no longer than the calls of a loop.

    Averaged are all trainable parameters, biases and norm scales included, and floating-point buffers: BatchNorm's
    running mean and variance. Frozen parameters and integer buffers stay as they are in the model. The average is kept
    in float32 at least.

    Args:
        model: the network; the average begins with its weights.

    Attributes:
        num_steps: steps that were taken into the average.

    Raises:
        InputError: if the model has lazy parameters that have no shape yet.
    """

    def __init__(self, model: nn.Module) -> None:
        refuse_unmaterialized(model)
        self.num_steps = 0
        self._slow = _started(model)

    @torch.no_grad()
    def follow(self, model: nn.Module, decay: float) -> None:
        """Take one step of the fast weights into the average, which keeps the share `decay` of itself.

        Raises:
            InputError: if the model has a weight that had no part in the average from the start.
        """
        weights = self._known(model)
        self.num_steps += 1
        slow = [self._slow[name] for name in weights]
        fast = [weight.to(slow.dtype) for weight, slow in zip(weights.values(), slow, strict=True)]
        torch._foreach_lerp_(slow, fast, 1 - decay)

    @torch.no_grad()
    def copy_to_(self, model: nn.Module) -> None:
        """Set a model's weights to the average."""
        for name, fast in self._known(model).items():
            fast.copy_(self._slow[name])

    def grow_(self, model: nn.Module) -> None:
        """Take up the rows that a model has gained (`lure.grow_head_`): an average begins with the weights at hand.

        Raises:
            InputError: if a tensor differs otherwise.
        """
        slow, longer = self._slow, _started(model)
        for name, tensor in longer.items():
            if name not in slow or slow[name].shape[1:] != tensor.shape[1:] or slow[name].numel() > tensor.numel():
                raise InputError(
                    f"the average holds no {name!r} that could grow to {tuple(tensor.shape)}: begin a new one"
                )
        with torch.no_grad():
            for name, tensor in longer.items():
                (tensor[: len(slow[name])] if tensor.dim() else tensor).copy_(slow[name])
        self._slow = longer

    @contextmanager
    def serving(self, model: nn.Module) -> Iterator[None]:
        """Run a block with the average in the model, then put the model's own weights back, bit for bit."""
        own = {name: fast.detach().clone() for name, fast in self._known(model).items()}
        self.copy_to_(model)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, tensor in _averaged(model).items():
                    tensor.copy_(own[name])

    def _known(self, model: nn.Module) -> dict[str, Tensor]:
        weights = _averaged(model)
        for name, fast in weights.items():
            if name not in self._slow or self._slow[name].shape != fast.shape:
                raise InputError(f"the average holds no {name!r} of shape {tuple(fast.shape)}: begin a new one")
        return weights

    def state_dict(self) -> dict[str, Tensor]:
        """Return what a checkpoint must hold: the average under the model's names, and the number of steps."""
        return {
            **{f"slow.{name}": slow for name, slow in self._slow.items()},
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
        for name, slow in self._slow.items():
            slow.copy_(state[f"slow.{name}"])
        self.num_steps = int(state["num_steps"])


def _averaged(model: nn.Module) -> dict[str, Tensor]:
    buffers = {name: buffer for name, buffer in unwrap(model).named_buffers() if buffer.is_floating_point()}
    return {**trainable(model), **buffers}


def _started(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of what is averaged, in float32 at least."""
    return {
        name: tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32), copy=True)
        for name, tensor in _averaged(model).items()
    }
