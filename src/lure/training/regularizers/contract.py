"""The contract of a regularizer: it acts while a fit runs, through a term of the loss and a call after each step."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class FitContext:
    """All that a regularizer may look at when a fit begins.

    Attributes:
        initial: state dict from before the first training, never updated; None where it was not kept.
        previous: the model as it was before this stage prepared its weights, for a regularizer that says
            `reads_previous`; None in the first stage. It is read at the start only, so it may be the model itself.
    """

    initial: Mapping[str, Tensor] | None = None
    previous: nn.Module | None = None


def no_term(*_: object) -> Tensor:
    """Return zero: the term of a regularizer that has none."""
    return torch.zeros(())


def _nothing(*_: object) -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningRegularizer:
    """A regularizer at work on one model: functions, each of which does nothing unless it is given.

    Attributes:
        loss_term: (inputs, logits, labels) of a batch -> a number to add to its mean loss, called with the precision of
            the forward pass; one that reads only the weights ignores what it is called with.
        after_step: called after each step of the optimiser.
        state_dict: returns what a checkpoint must hold, name -> tensor.
        load_state_dict: goes on from that, on a regularizer that was just started on the same model.
        serving: a block within which the model holds the weights that are evaluated, kept and served, where these are
            not the ones that are trained.
        serve: sets the model to them for good, at the end of a fit.
        forward_passes: how many passes forward over the batch a term takes; they are counted in the cost.
    """

    loss_term: Callable[..., Tensor] = no_term
    after_step: Callable[[], object] = _nothing
    state_dict: Callable[[], Mapping[str, Tensor]] = dict
    load_state_dict: Callable[[Mapping[str, Tensor]], object] = _nothing
    serving: Callable[[], AbstractContextManager[object]] = nullcontext
    serve: Callable[[], object] = _nothing
    forward_passes: int = 0


class Regularizer(Protocol):
    """What acts while a fit runs.

    Implementations are frozen keyword-only dataclasses whose fields are all hyperparameters, declared by `setting` with
    default, meaning and range, and checked on construction by `check_settings`.
    """

    def start(self, model: nn.Module, context: FitContext) -> RunningRegularizer:
        """Begin to act on `model`; leave mode, `.grad`, buffers and global state alone."""


def reads_previous(regularizer: Regularizer) -> bool:
    """Tell whether a regularizer needs the previous version, and so cannot act in the first stage."""
    return bool(getattr(regularizer, "reads_previous", False))
