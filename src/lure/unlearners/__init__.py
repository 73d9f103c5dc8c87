"""Unlearners: one file for each published method, one contract (`contract.py`), one table of names.

A new method is a new file and one line in `UNLEARNERS`; the contract suite of the tests then covers it. One that stays
outside this package is chosen by its path, `my_package.my_module:MyClass`.
"""

from collections.abc import Callable
from typing import Any

from lure.errors import InputError
from lure.settings import build_choice, format_choice
from lure.unlearners.auto import Auto
from lure.unlearners.contract import Context, Probed, Unlearner, require_context
from lure.unlearners.dash import Dash
from lure.unlearners.fire import Fire
from lure.unlearners.fisher_reset import FisherReset
from lure.unlearners.head_reset import HeadReset
from lure.unlearners.knowledge_evolution import KnowledgeEvolution
from lure.unlearners.later_layers import LaterLayers
from lure.unlearners.lure import Lure
from lure.unlearners.lure_as_released import LureAsReleased, read_differences
from lure.unlearners.magnitude_reset import MagnitudeReset
from lure.unlearners.random_reset import RandomReset
from lure.unlearners.redo import Redo
from lure.unlearners.scratch import Scratch
from lure.unlearners.shrink_perturb import ShrinkPerturb
from lure.unlearners.warm_start import WarmStart

UNLEARNERS: dict[str, Callable[..., Unlearner]] = {
    "warm-start": WarmStart,
    "scratch": Scratch,
    "lure": Lure,
    "random-reset": RandomReset,
    "magnitude-reset": MagnitudeReset,
    "fisher-reset": FisherReset,
    "shrink-perturb": ShrinkPerturb,
    "head-reset": HeadReset,
    "later-layers": LaterLayers,
    "knowledge-evolution": KnowledgeEvolution,
    "dash": Dash,
    "fire": Fire,
    "redo": Redo,
    "auto": Auto,
}


def build_unlearner(choice: str, /, **options: Any) -> Unlearner:
    """Return the unlearner that a choice names, such as "lure" or "lure:forget_fraction=0.3".

    Args:
        choice: a name in `UNLEARNERS`, or `package.module:Class` for one of the user's own, which is imported; with
            options or without.
        **options: further options, as values; they win over those in the choice.

    Raises:
        InputError: for an unknown name or option, a value out of range, or a class of the user's own that cannot be
            imported or breaks the contract.

    Example:
        >>> build_unlearner("shrink-perturb:shrink=0.3", perturb=0.2)
        ShrinkPerturb(shrink=0.3, perturb=0.2)
    """
    unlearner = read_differences(choice, options) or build_choice("unlearner", choice, UNLEARNERS, **options)
    if not callable(unlearner):
        raise InputError(f"unlearner {choice} cannot be called: give its class __call__(self, model, context)")
    return unlearner


def name_unlearner(unlearner: Unlearner) -> str:
    """Return the choice that names an unlearner, by its path if it is not registered; `build_unlearner` reads it.

    Raises:
        InputError: if the unlearner's class is neither registered nor found by its path.

    Example:
        >>> name_unlearner(Lure(forget_fraction=0.3))
        'lure:forget_fraction=0.3'
    """
    return unlearner.choice() if isinstance(unlearner, LureAsReleased) else format_choice(unlearner, UNLEARNERS)


__all__ = [
    "UNLEARNERS",
    "Auto",
    "Context",
    "Dash",
    "Fire",
    "FisherReset",
    "HeadReset",
    "KnowledgeEvolution",
    "LaterLayers",
    "Lure",
    "LureAsReleased",
    "MagnitudeReset",
    "Probed",
    "RandomReset",
    "Redo",
    "Scratch",
    "ShrinkPerturb",
    "Unlearner",
    "WarmStart",
    "build_unlearner",
    "name_unlearner",
    "require_context",
]
