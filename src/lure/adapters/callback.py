"""What the callbacks of all trainers do: run `unlearn_` with the user's options, and keep count."""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import nn

from lure.unlearn import UnlearnReport, unlearn_


class UnlearnCallback(Protocol):
    """A trainer's callback that unlearns.

    Attributes:
        method: name of the method, as in `unlearn_`.
        options: the user's further arguments of `unlearn_`.
        num_uses: how often it has unlearned.
        report: what the last use did; None before the first.
    """

    method: str
    options: dict[str, Any]
    num_uses: int
    report: UnlearnReport | None


def unlearn_once(callback: UnlearnCallback, model: nn.Module, defaults: Mapping[str, Any], **fixed: Any) -> None:
    """Run `unlearn_` on the model, with a seed that is 1 higher at each use; update `report` and `num_uses`.

    Args:
        callback: gives the method and the user's options.
        model: changed in place.
        defaults: arguments of `unlearn_` that the trainer offers; the user's options win.
        **fixed: arguments of `unlearn_` that the trainer decides.

    Raises:
        InputError: as `unlearn_`.
    """
    given = {**defaults, **callback.options}
    given["seed"] = callback.options.get("seed", 0) + callback.num_uses
    callback.report = unlearn_(model, method=callback.method, **given, **fixed)
    callback.num_uses += 1
