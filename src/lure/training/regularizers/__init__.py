"""Regularizers: what acts while a fit runs. One file for each method, one contract (`contract.py`), one table of names.

A new method is a new file and one line in `REGULARIZERS`; the contract suite of the tests then covers it. One that
stays outside this package is chosen by its path, `my_package.my_module:MyClass`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn

from lure.distributed import agree_on_buffers
from lure.errors import InputError
from lure.settings import build_choice, split_choice
from lure.training.regularizers.contract import FitContext, Regularizer, RunningRegularizer, no_term, reads_previous
from lure.training.regularizers.distill import Distill
from lure.training.regularizers.ema import Ema
from lure.training.regularizers.hare_tortoise import HareAndTortoise, HareTortoise
from lure.training.regularizers.l2_init import L2Init
from lure.training.regularizers.parseval import Parseval
from lure.weights.layers import stored_copy

REGULARIZERS: dict[str, Callable[..., Regularizer]] = {
    "l2-init": L2Init,
    "hare-tortoise": HareAndTortoise,
    "ema": Ema,
    "distill": Distill,
    "parseval": Parseval,
}


def build_regularizers(choices: Sequence[str]) -> dict[str, Regularizer]:
    """Return name -> regularizer for choices such as "ema:decay=0.99", in their order.

    Raises:
        InputError: for an unknown name or option, a value out of range, a name that stands twice, or a class of the
            user's own that cannot be imported or breaks the contract.

    Example:
        >>> build_regularizers(["ema", "l2-init:strength=0.1"])
        {'ema': Ema(decay=0.99), 'l2-init': L2Init(strength=0.1)}
    """
    built: dict[str, Regularizer] = {}
    for choice in choices:
        name = split_choice(choice)[0]
        if name in built:
            raise InputError(f"regularizers names {name} twice: leave one out")
        built[name] = build_choice("regularizer", choice, REGULARIZERS)
        if not callable(getattr(built[name], "start", None)):
            raise InputError(f"regularizer {choice} cannot start: give its class start(self, model, context)")
    return built


class Regularizers:
    """The regularizers of one fit.

    Args:
        chosen: name -> regularizer.
        model: what is trained.
        context: what they may look at.
        state: of an interrupted fit, as `state_dict` gave it; empty at the start of one.
    """

    def __init__(
        self, chosen: Mapping[str, Regularizer], model: nn.Module, context: FitContext, state: Mapping[str, Tensor]
    ) -> None:
        self._model = model
        self._running = {name: regularizer.start(model, context) for name, regularizer in chosen.items()}
        for name, running in self._running.items():
            prefix = f"{name}/"
            if own := {key.removeprefix(prefix): t for key, t in state.items() if key.startswith(prefix)}:
                running.load_state_dict(own)

    @property
    def forward_passes(self) -> int:
        """How many passes forward over a batch the terms take."""
        return sum(running.forward_passes for running in self._running.values())

    def add_terms(self, loss: Tensor, inputs: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss with the terms added; the loss itself where there are none."""
        for running in self._running.values():
            if running.loss_term is not no_term:
                loss = loss + running.loss_term(inputs, logits, labels)
        return loss

    def after_step(self) -> None:
        """Follow a step of the optimiser; may change the weights."""
        for running in self._running.values():
            running.after_step()

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Run a block with the weights that are evaluated, kept and served in the model."""
        with ExitStack() as stack:
            for running in self._running.values():
                stack.enter_context(running.serving())
            agree_on_buffers(self._model)
            yield

    def serve(self) -> None:
        """Set the model to these weights for good."""
        for running in self._running.values():
            running.serve()
        agree_on_buffers(self._model)

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies on the CPU of what a checkpoint must hold."""
        return {
            f"{name}/{key}": stored_copy(tensor)
            for name, running in self._running.items()
            for key, tensor in running.state_dict().items()
        }


__all__ = [
    "REGULARIZERS",
    "Distill",
    "Ema",
    "FitContext",
    "HareAndTortoise",
    "HareTortoise",
    "L2Init",
    "Parseval",
    "Regularizer",
    "Regularizers",
    "RunningRegularizer",
    "build_regularizers",
    "reads_previous",
]
