"""Regularizers: what acts while a fit runs, through two seams only, one file each.

The seams are a term of the loss, and a call after each step of the optimiser.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from lure.errors import InputError
from lure.recipe import Recipe
from lure.training.regularizers.hare_tortoise import HareTortoise
from lure.training.regularizers.l2_init import l2_init_penalty
from lure.training.state import stored_copy
from lure.weights.layers import trainable


class Regularizers:
    """The regularizers of one fit.

    Args:
        model: what is trained.
        recipe: `l2_init`, `average_interval` and `average_decay` count.
        initial: state dict from before stage 1, for the pull towards it.
        average: the running average of an interrupted fit; empty at its start.

    Raises:
        InputError: if the recipe pulls towards the initial weights, and they are not given.
    """

    def __init__(
        self, model: nn.Module, recipe: Recipe, initial: Mapping[str, Tensor] | None, average: Mapping[str, Tensor]
    ) -> None:
        self._model, self._strength, self._initial = model, recipe.l2_init, dict[str, Tensor]()
        if recipe.l2_init:
            if initial is None:
                raise InputError("l2_init needs the initial weights: pass initial=, the state dict before stage 1")
            self._initial = {name: initial[name].to(p.device) for name, p in trainable(model).items()}
        self._tortoise: HareTortoise | None = None
        if recipe.average_interval is not None:
            self._tortoise = HareTortoise(model, decay=recipe.average_decay, interval=recipe.average_interval)
            if average:
                self._tortoise.load_state_dict(average)

    def add_gradients(self) -> None:
        """Add the gradients of the terms of the loss to those that are there."""
        if self._strength:
            l2_init_penalty(self._model, self._initial, self._strength).backward()  # type: ignore[no-untyped-call]

    def after_step(self) -> None:
        """Follow a step of the optimiser; may set the model back to the average."""
        if self._tortoise is not None:
            self._tortoise.step(self._model)

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of the running average for a checkpoint; empty where there is none."""
        return {name: stored_copy(t) for name, t in self._tortoise.state_dict().items()} if self._tortoise else {}
