"""The contract of an unlearner: it acts once, before a fit, on the weights, in place."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from lure.errors import InputError
from lure.weights.cross_entropy import classification_loss
from lure.weights.saliency import Batch, Loss


class Probed(NamedTuple):
    """What a probe has found: the validation loss in nats, and the examples that it trained on and only read."""

    loss: float
    trained: int
    read: int


Probe = Callable[[nn.Module, float], Probed]
"""(model, share) -> what became of it: trains the model in place for that share of the coming fit's steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """All that an unlearner may look at.

    Attributes:
        batches: the sample of data; can be iterated again and again. Drawn from the new mega-batch, or from all data
            (the recipe's `sample`).
        loss: (model, batch) -> mean loss of the batch; cross-entropy of (inputs, labels) by default.
        initial: detached CPU state dict from before stage 1, never updated; None where it was not kept.
        draw: builds a freshly initialised model of the same architecture; None where there is no builder.
        generator: the only source of randomness; None means seed 0.
        all_batches: batches over all that the replay regime offers, in order of arrival; None where unknown.
        chunks: the same examples, the batches of each mega-batch by themselves, oldest first; None where unknown.
        shuffled: (batch size, generator) -> the same examples in shuffled batches; None where they come as they come.
        probe: trains a model a little and tells how good it has become; None where there is no recipe to train by.
        effort: how many examples the coming fit sees, as a multiple of what the first fit saw; None where unknown.
        train_accuracy: of the model on the data that it was trained on last, in [0, 1]; None where unknown.
        num_known: how many of the classes, the first ones, the model was trained on; None for all.
        left_out: where a method notes what it could not judge: parameter name -> reason. Goes into the report.
        choices: where a method that chooses notes each candidate, in order: its name under "candidate", whether it was
            "taken", and what it cost, as "examples_trained" and "examples_read". Goes into report and ledger.
    """

    batches: Iterable[Batch]
    loss: Loss = classification_loss
    initial: Mapping[str, Tensor] | None = None
    draw: Callable[..., nn.Module] | None = None
    generator: torch.Generator | None = None
    all_batches: Iterable[Batch] | None = None
    chunks: Sequence[Iterable[Batch]] | None = None
    shuffled: Callable[[int, torch.Generator], Iterable[Batch]] | None = None
    probe: Probe | None = None
    effort: float | None = None
    train_accuracy: float | None = None
    num_known: int | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    choices: list[dict[str, Any]] = field(default_factory=list)


class Unlearner(Protocol):
    """Prepares a model in place for the next fit.

    Implementations are frozen keyword-only dataclasses whose fields are all hyperparameters, declared by `setting` with
    default, meaning and range, and checked on construction by `check_settings`.
    """

    def __call__(self, model: nn.Module, context: Context) -> None:
        """Change `model` in place; leave mode, `.grad`, buffers not named in the docstring, and global state alone."""


def require_context(unlearner: Unlearner, context: Context) -> None:
    """Refuse a method that lacks what it needs, before the first training and not when it is over.

    A method that cannot do without an optional field of the context has `require(context)`, which raises if the field
    is missing. It reads a batch at most. Others have no such method.

    Raises:
        InputError: from the method's `require`; the message says what to give.

    Example:
        >>> from lure.unlearners import Scratch
        >>> require_context(Scratch(reload=True), Context(batches=[]))
        Traceback (most recent call last):
        lure.errors.InputError: scratch:reload=true needs initial=, a state dict from before the first training
    """
    if require := getattr(unlearner, "require", None):
        require(context)


def sample_batches(context: Context, sample: Literal["new", "all"]) -> Iterable[Batch]:
    """Return the batches that a method asks for: the given sample, or all data so far in order of arrival.

    Raises:
        InputError: if all data are asked for and the context does not have them.

    Example:
        >>> sample_batches(Context(batches=["new"], all_batches=["old", "new"]), "all")
        ['old', 'new']
    """
    if sample == "new":
        return context.batches
    if context.all_batches is None:
        raise InputError("this method reads all data so far: give the context all_batches, or ask for sample='new'")
    return context.all_batches
