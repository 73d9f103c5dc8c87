"""What the callbacks of all trainers do: tell the first fit from later ones, bound what is read, run `unlearn_`."""

import itertools
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any, Protocol

from torch import nn

from lure.unlearn import UnlearnReport, choose_method, unlearn_
from lure.unlearners import Context, require_context
from lure.weights.layers import unwrap

FITTED = "_lure_fitted"  # an attribute of a module that has been fitted; copying and pickling the module keep it
STREAM_BATCHES = 1000  # what is read of a stream whose end nobody knows


class UnlearnCallback(Protocol):
    """A trainer's callback that unlearns.

    Attributes:
        method: name of the method, as in `unlearn_`.
        trained: whether the model that the first fit gets has learnt earlier data already; None where nobody said.
        options: the user's further arguments of `unlearn_`.
        num_uses: how often it has unlearned.
        report: what the last use did; None before the first.
    """

    method: str
    trained: bool | None
    options: dict[str, Any]
    num_uses: int
    report: UnlearnReport | None


def check_choice(callback: UnlearnCallback) -> None:
    """Find a mistake in a callback's method and options when it is made, and not when the first fit is over.

    Raises:
        InputError: as `unlearn_`, also if the method needs `chunks` or `initial` and the options hold none.
    """
    arguments, options = signature(unlearn_).parameters, callback.options
    method = choose_method(callback.method, **{name: options[name] for name in options if name not in arguments})
    given = options.get("chunks") is not None  # the list itself may be empty as yet
    require_context(method, Context(batches=[], initial=options.get("initial"), chunks=[[]] if given else None))


def has_learnt(callback: UnlearnCallback, model: nn.Module) -> bool:
    """Tell whether a model has been fitted before: it was marked by `mark_fitted`, or the user says so.

    Weights that were loaded look like any others, so a model that nobody knows anything about is left alone with a
    warning.

    Example:
        >>> from types import SimpleNamespace
        >>> model = nn.Linear(2, 2)
        >>> has_learnt(SimpleNamespace(trained=False), model), has_learnt(SimpleNamespace(trained=True), model)
        (False, True)
        >>> mark_fitted(model)
        >>> has_learnt(SimpleNamespace(trained=False), model)
        True
    """
    if callback.trained or unwrap(model).__dict__.get(FITTED, False):
        return True
    if callback.trained is None:
        warnings.warn(
            "UnlearnCallback: nothing was unlearnt, because the callback sees this model's first fit; "
            "pass trained=True if the model has learnt earlier data elsewhere, or trained=False if it has not",
            stacklevel=2,
        )
    return False


def mark_fitted(model: nn.Module) -> None:
    """Note in the module that a fit of it has ended, so that the next one is not its first."""
    unwrap(model).__dict__[FITTED] = True


def unlearn_once(callback: UnlearnCallback, model: nn.Module, defaults: Mapping[str, Any], **fixed: Any) -> None:
    """Run `unlearn_` on the model, with a given seed 1 higher at each use; update `report` and `num_uses`.

    Args:
        callback: gives the method and the user's options.
        model: changed in place.
        defaults: arguments of `unlearn_` that the trainer offers; the user's options win.
        **fixed: arguments of `unlearn_` that the trainer decides.

    Raises:
        InputError: as `unlearn_`.
    """
    given = {**defaults, **callback.options}
    if (seed := callback.options.get("seed")) is not None:
        given["seed"] = seed + callback.num_uses
    callback.report = unlearn_(model, method=callback.method, **given, **fixed)
    callback.num_uses += 1


@dataclass(frozen=True)
class FirstBatches:
    """The batches that one pass of a fit reads; re-iterable if the loader is.

    Attributes:
        loader: the fit's own.
        limit: number of batches that the fit reads at most; None where it reads the loader to its end. A loader that
            does not know its length either may be endless: then `STREAM_BATCHES` are read.

    Example:
        >>> list(FirstBatches("abc", None)), list(FirstBatches(itertools.count(), 2))
        (['a', 'b', 'c'], [0, 1])
        >>> len(list(FirstBatches(itertools.count(), None)))
        1000
    """

    loader: Iterable[Any]
    limit: int | None

    def __iter__(self) -> Iterator[Any]:
        limit = self.limit
        if limit is None:
            try:
                limit = len(self.loader)  # type: ignore[arg-type]
            except TypeError:  # a DataLoader has `__len__` even where its data have none
                limit = STREAM_BATCHES
        return itertools.islice(self.loader, limit)
