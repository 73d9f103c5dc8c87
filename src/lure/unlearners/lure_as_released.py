"""LURE as its released code does it: every difference from the paper's description, each an option of its own.

For whoever compares with published numbers. The method itself is in `lure.py`. A choice of `lure` that names one of the
differences, such as `lure:ties=all` or `lure:scope=released:law=kaiming-uniform`, is read here: it has the differences
that it names, and no other.
"""

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from lure.settings import build_choice, check_settings, format_value, setting, split_choice
from lure.unlearners.contract import Context, sample_batches
from lure.weights.layers import Scope, unwrap
from lure.weights.ranking import Reach, UnseenRows, ranked_entries
from lure.weights.reinit import reinitialize_
from lure.weights.saliency import join_examples, snip_saliency
from lure.weights.selection import lowest_fraction

ReleasedScope: TypeAlias = Literal["released", "weights", "all"]
Law: TypeAlias = Literal["kaiming-uniform", "own"]
Sample: TypeAlias = Literal["all", "new"]
Ties: TypeAlias = Literal["all", "random"]


@dataclass(frozen=True, kw_only=True)
class LureAsReleased:
    """LURE with the differences of its released code, all of them by default.

    Two differences remain: the released code forgets int(fraction * total) entries and whatever ties with the last of
    them, this one round(fraction * total) and whatever ties; and what no batch can reach does not count here.

    Kept: BatchNorm statistics, and by default biases. Redrawn: the least salient entries of parameters that have
    "weight" in their name, norm scales included.

    Args:
        forget_fraction: the released code's `snip_size`.
        scope: "released" ranks all parameters, but of the lowest redraws only those in parameters with "weight" in
            their name, which includes norm scales and leaves out biases; "weights" and "all" are those of `Lure`.
        law: "kaiming-uniform" is uniform with bound 1/sqrt(fan in) everywhere, which is 0.41 times the spread of He's
            initialisation, and uniform in [-1, 1] for norm scales; "own" starts a layer as its network starts it.
        sample: "all" reads in order of arrival, so that the oldest examples are read at every stage.
        sample_size: as in `Lure`.
        ties: "all" redraws everything that ties with the threshold, such as every weight of a dead unit; "random" is
            the exact count of `Lure`.
        unseen_rows: as in `Lure`.

    Example:
        >>> LureAsReleased().choice()
        'lure:scope=released:law=kaiming-uniform:sample=all:sample_size=100:ties=all'

    Reference:
        The released code of Ramkumar, Arani, Zonooz, "Learn, Unlearn and Relearn", TMLR 2023; docs/paper.md lists all
        differences.
    """

    forget_fraction: float = setting(0.2, "share of the ranked entries to redraw", 0, 1)
    scope: ReleasedScope = setting("released", "what is ranked, and which of the lowest are redrawn")
    law: Law = setting("kaiming-uniform", "where fresh values come from")
    sample: Sample = setting("all", "data to read: all so far, or the new mega-batch")
    sample_size: int | None = setting(100, "number of examples to read; none: all of the sample", 1)
    ties: Ties = setting("all", "what happens to entries that tie with the threshold")
    unseen_rows: UnseenRows = setting("keep", "embedding rows and inputs that the data lack: keep, or rank (lowest)")

    def __post_init__(self) -> None:
        check_settings(self)

    def __call__(self, model: nn.Module, context: Context) -> None:
        """Redraw the least salient weights in place."""
        batches = sample_batches(context, self.sample)
        if self.sample_size is not None:
            batches = [join_examples(batches, self.sample_size)]
        reach = Reach()
        saliency = snip_saliency(model, batches, context.loss, reach)
        scope: Scope = "weights" if self.scope == "weights" else "all"
        ranked = ranked_entries(model, scope, reach, self.unseen_rows, context.left_out)
        mask = lowest_fraction(saliency, self.forget_fraction, context.generator, ties=self.ties, among=ranked)
        if self.scope == "released":
            mask = {name: forget for name, forget in mask.items() if "weight" in name}
        draw = partial(kaiming_uniform_copy, model) if self.law == "kaiming-uniform" else context.draw
        reinitialize_(model, mask, context.generator, draw)

    def choice(self) -> str:
        """Return the choice that names it: `lure`, and each option in which it departs from the method."""
        methods_own = inspect.signature(_with_differences).parameters
        departures = [name for name in methods_own if getattr(self, name) != methods_own[name].default]
        return ":".join(["lure", *(f"{name}={format_value(getattr(self, name))}" for name in departures)])


def read_differences(choice: str, options: Mapping[str, Any]) -> LureAsReleased | None:
    """Return what a choice of `lure` names if it, or one of the further options, names a difference; None if not.

    Raises:
        InputError: for an unknown option, or a value of another type or out of range.

    Example:
        >>> read_differences("lure:ties=all", {}).choice(), read_differences("lure:scope=all", {})
        ('lure:ties=all', None)
    """
    name, words = split_choice(choice)
    given = {**words, **options}
    if name != "lure" or not (given.keys() & {"law", "ties"} or given.get("scope") == "released"):
        return None
    return build_choice("unlearner", choice, {"lure": _with_differences}, **options)


def _with_differences(
    *,
    forget_fraction: float = 0.2,
    scope: ReleasedScope = "weights",
    law: Law = "own",
    sample: Sample = "new",
    sample_size: int | None = None,
    ties: Ties = "random",
    unseen_rows: UnseenRows = "keep",
) -> LureAsReleased:
    """Return LURE with the differences that are named; the defaults here are the method's own."""
    return LureAsReleased(
        forget_fraction=forget_fraction,
        scope=scope,
        law=law,
        sample=sample,
        sample_size=sample_size,
        ties=ties,
        unseen_rows=unseen_rows,
    )


@torch.no_grad()
def kaiming_uniform_copy(model: nn.Module) -> nn.Module:
    """Return a copy of the model with every parameter uniform in [-b, b], b = 1/sqrt(fan in); a builder for `draw`.

    This is Kaiming-uniform with a = sqrt(5), whatever each layer's own initialisation is. Fan in is the number of
    entries of one output; of a vector it is 1, so biases and norm scales are uniform in [-1, 1]. The values come from
    the global random state: call it inside `forked_rng`.

    Example:
        >>> copied = kaiming_uniform_copy(nn.Linear(100, 3))
        >>> bool((copied.weight.abs() <= 0.1).all()), bool((copied.weight.abs() > 0.05).any())
        (True, True)
    """
    copied = copy.deepcopy(unwrap(model)).requires_grad_(False).cpu()
    for parameter in copied.parameters():
        fan_in = parameter[0].numel() if parameter.dim() > 1 else 1
        parameter.uniform_(-(fan_in**-0.5), fan_in**-0.5)
    return copied
