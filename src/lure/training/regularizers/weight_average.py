"""A running average of a model's weights, and the model's own weights put aside while the average stands in."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from lure.errors import InputError
from lure.weights.layers import refuse_unmaterialized, trainable, unwrap


class WeightAverage:
    """An exponential moving average: slow <- decay * slow + (1 - decay) * fast. The averaging is torch's.

    Averaged are all trainable parameters, biases and norm scales included, and floating-point buffers: BatchNorm's
    running mean and variance. Frozen parameters and integer buffers stay as they are in the model. The average is kept
    in float32 at least.

    Args:
        model: the network; the average begins with its weights.

    Attributes:
        num_steps: steps that were taken into the average.

    Raises:
        InputError: if the model cannot be copied.
    """

    def __init__(self, model: nn.Module) -> None:
        refuse_unmaterialized(model)
        self.num_steps, self._decay = 0, 0.0
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
        return slow.lerp(fast.to(slow.dtype), 1 - self._decay)

    def _slow(self) -> dict[str, Tensor]:
        tensors = {**dict(self._average.module.named_parameters()), **dict(self._average.module.named_buffers())}
        return {name: tensors[name].detach() for name in self._names}

    @torch.no_grad()
    def follow(self, model: nn.Module, decay: float) -> None:
        """Take one step of the fast weights into the average, which keeps the share `decay` of itself.

        Raises:
            InputError: if the model has a weight that had no part in the average from the start.
        """
        self._known(model)
        self.num_steps, self._decay = self.num_steps + 1, decay
        self._average.update_parameters(unwrap(model))

    @torch.no_grad()
    def copy_to_(self, model: nn.Module) -> None:
        """Set a model's weights to the average."""
        slow = self._slow()
        for name, fast in self._known(model).items():
            fast.copy_(slow[name])

    def grow_(self, model: nn.Module) -> None:
        """Take up the rows that a model has gained (`lure.grow_head_`): an average begins with the weights at hand.

        Raises:
            InputError: if a tensor differs otherwise.
        """
        grown = WeightAverage(model)
        slow, longer = self._slow(), grown._slow()
        for name, tensor in longer.items():
            if name not in slow or slow[name].shape[1:] != tensor.shape[1:] or slow[name].numel() > tensor.numel():
                raise InputError(
                    f"the average holds no {name!r} that could grow to {tuple(tensor.shape)}: begin a new one"
                )
        with torch.no_grad():
            for name, tensor in longer.items():
                (tensor[: len(slow[name])] if tensor.dim() else tensor).copy_(slow[name])
        self._average, self._names = grown._average, grown._names
        self._average.avg_fn = self._follow

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
