"""One line for anybody's training loop: `unlearn_` prepares a model for its next fit, and reports what it did.

What an unlearner did is measured here, for all methods alike, by comparing the weights before and after. The comparison
also says which entries of the optimiser's state belong to replaced weights: the momentum of a redrawn weight would drag
its fresh value to where the old one was going, so it is cleared, and no other is.
"""

import dataclasses
import hashlib
import io
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lure.errors import InputError
from lure.unlearners import Context, Unlearner, build_unlearner, name_unlearner
from lure.unlearners.warm_start import WarmStart
from lure.weights.cross_entropy import classification_loss
from lure.weights.layers import refuse_unmaterialized, trainable, unwrap
from lure.weights.optimizer_state import clear_optimizer_state_, require_clearable
from lure.weights.saliency import Batch, Loss
from lure.words import choice_text, percent


@dataclass(frozen=True)
class TensorChange:
    """What happened to one parameter tensor.

    Attributes:
        name: the parameter's name in the inner module.
        count: number of entries.
        changed: number of entries whose value changed.
        distance: Euclidean norm of (after - before).
        norm: Euclidean norm of the tensor before.
    """

    name: str
    count: int
    changed: int
    distance: float
    norm: float

    @property
    def changed_fraction(self) -> float:
        """Share of the entries whose value changed, in [0, 1]."""
        return self.changed / self.count if self.count else 0.0

    @property
    def relative_distance(self) -> float:
        """||after - before|| / ||before||: 0 where nothing moved, infinite where zeros moved."""
        return _ratio(self.distance, self.norm)


@dataclass(frozen=True)
class UnlearnReport:
    """What an unlearner did to a model; `print` shows it as a table.

    Attributes:
        method: the unlearner as a choice: "lure:forget_fraction=0.3".
        tensors: one entry for each trainable parameter, in order.
        seconds: time that the unlearner itself took.
        seed: what decided the random choices, where `unlearn_` made the report.
        left_out: parameter name -> why the method could not judge it, or part of it: "no batch reaches it".
        choices: what a method that chooses has tried, each a dict, with "taken" for what it chose; else empty.
    """

    method: str
    tensors: tuple[TensorChange, ...]
    seconds: float
    left_out: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None
    choices: tuple[Mapping[str, Any], ...] = ()

    @property
    def count(self) -> int:
        """Number of trainable entries."""
        return sum(tensor.count for tensor in self.tensors)

    @property
    def changed_count(self) -> int:
        """Number of trainable entries whose value changed."""
        return sum(tensor.changed for tensor in self.tensors)

    @property
    def changed_fraction(self) -> float:
        """Share of all trainable entries whose value changed, in [0, 1]."""
        return self.changed_count / self.count if self.count else 0.0

    @property
    def relative_distance(self) -> float:
        """||after - before|| / ||before|| over all trainable entries together."""
        distance = math.hypot(*(tensor.distance for tensor in self.tensors))
        return _ratio(distance, math.hypot(*(tensor.norm for tensor in self.tensors)))

    def __str__(self) -> str:
        from rich.console import Console  # only a report that is printed needs it
        from rich.table import Table

        table = Table("tensor", box=None, pad_edge=False)
        for heading in ("entries", "changed", "share %", "relative distance"):
            table.add_column(heading, justify="right", no_wrap=True)
        rows = [(t.name, t.count, t.changed, t.changed_fraction, t.relative_distance) for t in self.tensors]
        rows.append(("total", self.count, self.changed_count, self.changed_fraction, self.relative_distance))
        for name, count, changed, fraction, distance in rows:
            table.add_row(name, f"{count:,}", f"{changed:,}", percent(fraction), f"{distance:.3f}")
        text = io.StringIO()
        width = 60 + max(len(row[0]) for row in rows)
        Console(file=text, width=width, color_system=None, markup=False, highlight=False, emoji=False).print(table)
        lines = [line.rstrip() for line in text.getvalue().splitlines()]
        lines += [f"left out of the ranking: {name} ({reason})" for name, reason in self.left_out.items()]
        if not self.changed_count:
            lines.append("no weight changed")
        if chosen := choice_text(self.choices):
            lines.append(f"chose {chosen}")
        seed = "" if self.seed is None else f", seed {self.seed}"
        return "\n".join([f"{self.method}: {self.seconds:.3f} seconds{seed}", *lines])


def _ratio(distance: float, norm: float) -> float:
    if norm:
        return distance / norm
    return math.inf if distance else 0.0


def unlearn_(
    model: nn.Module,
    loader: Iterable[Batch] | None,
    method: str | Unlearner = "lure",
    optimizer: torch.optim.Optimizer | None = None,
    loss: Loss | None = None,
    seed: int | None = None,
    initial: Mapping[str, Tensor] | None = None,
    draw: Callable[..., nn.Module] | None = None,
    chunks: Sequence[Iterable[Batch]] | None = None,
    **hyperparameters: Any,
) -> UnlearnReport:
    """Prepare a model in place for its next fit, by any registered method, and report what was done.

    Equal to building the unlearner and calling `unlearner(model, Context(batches=loader, ...))`, with the batches moved
    to the model's device. Put it before each fit but the first:

        for chunk, loader in enumerate(loaders):
            if chunk:
                lure.unlearn_(model, loader, optimizer=optimizer)
            fit(model, loader, optimizer)

    Args:
        model: the network, changed in place; may be wrapped by DDP or `torch.compile`.
        loader: the data that the method may look at: anything that yields tuples, lists or dicts of tensors. You choose
            whether these are the new chunk or all data so far. None for a method that reads no data.
        method: a name in `lure.UNLEARNERS`, with options or without ("lure:forget_fraction=0.3"), or an unlearner.
        optimizer: its per-entry state (momentum, Adam's moments) is cleared where weights changed, and nowhere else.
            Step counts are kept for each tensor, not each entry, so they stay: Adam no longer corrects the bias of the
            cleared moments, and under a steady gradient a fresh weight's first updates are 3 to 7 times those of a new
            Adam. Make a new optimiser instead if that is too much.
        loss: (model, batch) -> mean loss of the batch; cross-entropy of pairs (inputs, labels) by default.
        seed: decides the method's random choices; torch's global random state is left alone. None takes a seed from the
            weights themselves, and reports it: the same model gives the same draw, and a model that was trained since
            another. If you give seeds, give a different one at each call: the same draws the same fresh weights again.
        initial: state dict from before the first training, for methods that go back to it.
        draw: builds a freshly initialised model of the same architecture. It must not set a seed, or each draw would
            be the same. Without it each layer's own `reset_parameters` draws the fresh weights.
        chunks: a loader for each chunk that arrived so far, oldest first, the new one last, for a method that takes a
            step for each (`dash:ema=chunk`) or compares the new one with the others (`auto`).
        **hyperparameters: those of the method, such as forget_fraction=0.3.

    Returns:
        The report: entries changed, in number and share, relative distance and seconds.

    Raises:
        InputError: for an unknown method or hyperparameter, a method that lacks what it needs (the message says what to
            pass), or an optimiser whose state cannot be cleared by entries. Model and optimiser are then unchanged.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> net = nn.Sequential(nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 2))
        >>> loader = [(torch.rand(8, 4), torch.randint(2, (8,)))]
        >>> report = unlearn_(net, loader, forget_fraction=0.5)
        >>> report.method, report.changed_count
        ('lure:forget_fraction=0.5', 30)
    """
    method = choose_method(method, **hyperparameters)
    refuse_unmaterialized(model)
    parameter = next(unwrap(model).parameters(), None)
    device = parameter.device if parameter is not None else torch.device("cpu")
    batches: Iterable[Batch] = [] if loader is None else OnDevice(loader, device)
    seed = seed_of_weights(model) if seed is None else seed
    context = Context(
        batches=batches,
        loss=loss or classification_loss,
        initial=initial,
        draw=draw,
        generator=torch.Generator().manual_seed(seed),
        all_batches=batches,
        chunks=None if chunks is None else [OnDevice(chunk, device) for chunk in chunks],
    )
    report = dataclasses.replace(apply_(method, model, context, optimizer), seed=seed)
    # A method that chooses may have found that there is nothing to forget.
    if not report.changed_count and not report.choices and not isinstance(method, WarmStart):
        warnings.warn(
            f"{report.method} changed no weight of the model (seed {seed}): give another seed if the fresh weights are "
            f"those that were there, or options by which something is to change",
            stacklevel=2,
        )
    return report


def choose_method(method: str | Unlearner, /, **hyperparameters: Any) -> Unlearner:
    """Return the unlearner that the arguments of `unlearn_` name.

    Raises:
        InputError: for an unknown method or hyperparameter, or hyperparameters beside an unlearner that is built.

    Example:
        >>> choose_method("lure", forget_fraction=0.3).forget_fraction
        0.3
    """
    if isinstance(method, str):
        return build_unlearner(method, **hyperparameters)
    if isinstance(method, type) or not callable(method):
        raise InputError(f"method must be the name of an unlearner or an unlearner, such as Lure(), got {method!r}")
    if hyperparameters:
        raise InputError(f"give {', '.join(hyperparameters)} to the unlearner itself: it was passed already built")
    return method


def seed_of_weights(model: nn.Module) -> int:
    """Return a seed that depends on every bit of the model's parameters, and on nothing else.

    Example:
        >>> one, other = nn.Linear(2, 2), nn.Linear(2, 2)
        >>> seed_of_weights(one) == seed_of_weights(one) != seed_of_weights(other)
        True
    """
    digest = hashlib.blake2b(digest_size=7)
    for parameter in unwrap(model).parameters():
        digest.update(parameter.detach().flatten().cpu().view(torch.uint8).numpy().tobytes())
    return int.from_bytes(digest.digest(), "little")


def apply_(
    unlearner: Unlearner, model: nn.Module, context: Context, optimizer: torch.optim.Optimizer | None = None
) -> UnlearnReport:
    """Run an unlearner, measure what it did, and clear the optimiser's state where weights changed.

    If the unlearner raises, weights and buffers are restored and the optimiser is untouched. Measuring needs one copy
    of the model.

    Args:
        unlearner: what acts on the model.
        model: the network, changed in place.
        context: what the unlearner may look at.
        optimizer: whose state to clear; None if a new one is made anyway.

    Raises:
        InputError: for an optimiser whose state cannot be cleared by entries, before anything is changed; or from the
            unlearner.

    Example:
        >>> from lure.unlearners import Scratch
        >>> report = apply_(Scratch(), nn.Linear(3, 2), Context(batches=[]))
        >>> report.changed_fraction, report.tensors[0].name, report.tensors[0].changed
        (1.0, 'weight', 6)
    """
    refuse_unmaterialized(model)
    parameters = trainable(model)
    if optimizer is not None:
        require_clearable(optimizer, parameters)
    tensors = {id(t): t for t in (*unwrap(model).parameters(), *unwrap(model).buffers())}
    copies = {key: tensor.detach().clone() for key, tensor in tensors.items()}
    started = _now(parameters.values())
    try:
        unlearner(model, context)
        seconds = _now(parameters.values()) - started
    except BaseException:
        with torch.no_grad():
            for key, tensor in tensors.items():
                tensor.copy_(copies[key])
        raise
    changes, masks = [], {}
    for name, parameter in parameters.items():
        before, after = copies[id(parameter)], parameter.detach()
        # NaN differs from itself; a NaN that stays NaN has not changed.
        mask = masks[parameter] = (after != before) & ~(after.isnan() & before.isnan())
        wide = torch.promote_types(after.dtype, torch.float32)
        distance = torch.linalg.vector_norm(after.to(wide) - before.to(wide))
        norm = torch.linalg.vector_norm(before, dtype=wide)
        changes.append(TensorChange(name, after.numel(), int(mask.sum()), float(distance), float(norm)))
    if optimizer is not None:
        clear_optimizer_state_(optimizer, masks)
    return UnlearnReport(
        _name(unlearner), tuple(changes), seconds, dict(context.left_out), choices=tuple(context.choices)
    )


def _name(unlearner: Unlearner) -> str:
    try:
        return name_unlearner(unlearner)
    except InputError:  # it is the user's own
        return getattr(unlearner, "__name__", type(unlearner).__name__)


def _now(tensors: Iterable[Tensor]) -> float:
    for device in {tensor.device for tensor in tensors if tensor.is_cuda}:
        torch.cuda.synchronize(device)
    return time.perf_counter()


@dataclass(frozen=True)
class OnDevice:
    """A loader whose batches arrive on a device; re-iterable if the loader is.

    Example:
        >>> pair = [torch.zeros(2), {"mask": torch.ones(2), "name": "first"}]
        >>> next(iter(OnDevice([pair], torch.device("meta"))))[1]["mask"].device
        device(type='meta')
    """

    loader: Iterable[Batch]
    device: torch.device

    def __iter__(self) -> Iterator[Batch]:
        return (_move(batch, self.device) for batch in self.loader)


def _move(batch: Batch, device: torch.device) -> Batch:
    if hasattr(batch, "to"):  # tensors, and batches that move their own parts, such as transformers' BatchEncoding
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: _move(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_move(value, device) for value in batch))
    if type(batch) in (tuple, list):
        return type(batch)(_move(value, device) for value in batch)
    return batch
