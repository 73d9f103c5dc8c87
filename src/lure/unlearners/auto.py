"""Auto: forget as much as was memorised, or make the weights orthogonal, whichever a short probe prefers."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lure.distributed import number_of_processes, sum_over_processes
from lure.errors import InputError
from lure.randomness import forked_rng
from lure.settings import check_settings, setting
from lure.unlearners.contract import Context, Unlearner
from lure.unlearners.fire import Fire
from lure.unlearners.shrink_perturb import ShrinkPerturb
from lure.weights.cross_entropy import read_logits
from lure.weights.layers import has_batch_norm, snapshot, unwrap
from lure.weights.modes import evaluating
from lure.weights.saliency import Batch
from lure.words import dtype_name

ENOUGH = 200  # new examples whose accuracy is read: its standard error is then below 4 points
WORTH_A_PROBE = 0.1  # share of what the model knew that it had only memorised
COUNTS = "auto counts right answers: let each chunk give pairs (inputs, labels) with one integer label for each example"


@dataclass(frozen=True, kw_only=True)
class Auto:
    """Choose by what the model has memorised and by a probe: w <- shrink * w + perturb * w0, or FIRE.

    **How much was memorised** is the accuracy on the data that the model was trained on, less that on the new
    mega-batch, which it has never seen: 0 for a model that has learned nothing by heart. **How much can be relearned**
    is the length of the coming fit beside that of the first, which began with fresh weights: at most 1. The first
    candidate forgets

        1 - shrink = strength * memorised * sqrt(relearnable),    perturb = (1 - shrink) / 4

    so that a model that generalises is left as it is, one that has memorised noise is pulled towards a fresh draw, and
    a short fit is not asked to relearn more than it can. The second candidate is FIRE, which keeps no sizes of weights;
    on the settings for choosing it won most of its probes in a transformer, and under label noise at the full budget.
    Each is trained for `probe_share` of the stage's steps, and the one with the lower validation loss goes on, its
    probe included.

    Probes cost something, so there are none where FIRE has little to offer: where less than a tenth of what the model
    had right was memorised, and in networks with BatchNorm, which keep their signals in shape by themselves. The first
    candidate is then taken untried.

    The report, and with it the ledger, say what was measured, tried and taken, and what it cost.

    Changed: what `ShrinkPerturb` or `Fire` change, and what training changes after it, BatchNorm statistics included.
    In a training loop of one's own there is no recipe to probe by, and the first candidate is taken, too.

    Args:
        strength: chosen, like all constants here, on the suite's settings for choosing (docs/suite.md).
        probe_share: share of the stage's optimiser steps that each of the two probes takes; 0 probes nothing.

    Raises:
        InputError: if it is not known how well the model knows its training data, or a chunk's batches are not pairs
            (inputs, labels) with one integer label for each example.

    Example:
        >>> net, new = nn.Linear(1, 2), [(torch.tensor([[1.0], [-1.0]]), torch.tensor([1, 1]))]
        >>> with torch.no_grad():
        ...     _ = net.weight.copy_(torch.tensor([[0.0], [4.0]])), net.bias.zero_()
        >>> context = Context(batches=new, all_batches=new, chunks=[new], train_accuracy=0.75)
        >>> Auto()(net, context)  # right on half of the new data: a quarter of what it knew was by heart
        >>> choice = context.choices[-1]
        >>> choice["candidate"], choice["memorised"], choice["taken"]
        ('shrink-perturb:shrink=0.5:perturb=0.125', 0.25, True)

    Reference:
        None: the rule is this project's. Its candidates are Ash and Adams, NeurIPS 2020, and Han et al., ICLR 2026.
    """

    strength: float = setting(2.0, "how much is forgotten of each share that was memorised", 0)
    probe_share: float = setting(0.1, "share of the stage's steps that each probe takes; 0: no probe", 0, 1)

    def __post_init__(self) -> None:
        check_settings(self)

    def require(self, context: Context) -> None:
        """Refuse a context without chunks, or one whose first batch has no answers that could be right."""
        for batch in itertools.islice(_chunks(context)[0], 1):
            _pair(batch)

    def __call__(self, model: nn.Module, context: Context) -> None:
        """Choose, and change the model in place."""
        chunks = _chunks(context)
        new, read = _accuracy(model, chunks[-1:], context.num_known)
        known = context.train_accuracy
        if known is None:
            if len(chunks) < 2:
                raise InputError(
                    "auto compares the new data with those that the model knows: give chunks=[...] with both, oldest "
                    "first, or train_accuracy="
                )
            known, more = _accuracy(model, chunks[-2::-1])
            read += more
        memorised = 0.0 if known is None or new is None else max(0.0, known - new)
        relearnable = 1.0 if context.effort is None else min(1.0, context.effort)
        shrink = round(max(0.0, 1 - self.strength * memorised * relearnable**0.5), 3)
        mild = ShrinkPerturb(shrink=shrink, perturb=round((1 - shrink) / 4, 4))
        name = f"shrink-perturb:shrink={mild.shrink:g}:perturb={mild.perturb:g}"
        facts = {"memorised": round(memorised, 4), "relearnable": round(relearnable, 4)}
        context.choices.append({"candidate": "version in use", "taken": False, "examples_read": read})
        by_heart = memorised / known if known else 0.0
        if context.probe is None or not self.probe_share or by_heart < WORTH_A_PROBE or has_batch_norm(model):
            mild(model, context)
            context.choices.append({"candidate": name, **facts, "taken": True})
            return
        start, tried, refusals = snapshot(model), [], list[InputError]()
        candidates: list[tuple[dict[str, Any], Unlearner]] = [
            ({"candidate": name, **facts}, mild),
            ({"candidate": "fire"}, Fire()),
        ]
        for row, method in candidates:
            context.choices.append(row)
            unwrap(model).load_state_dict(start)
            try:
                method(model, context)
                probed = context.probe(model, self.probe_share)
            except InputError as error:  # a weight that FIRE cannot change, or a probe that diverged
                refusals.append(error)
                row |= {"taken": False, "refused": str(error)}
            else:
                row |= {"loss": probed.loss, "examples_trained": probed.trained, "examples_read": probed.read}
                tried.append((probed.loss, row, snapshot(model)))
        if not tried:
            raise refusals[0]
        _, best, weights = min(tried, key=lambda each: each[0])
        unwrap(model).load_state_dict(weights)
        for _, row, _ in tried:
            row["taken"] = row is best


def _chunks(context: Context) -> Sequence[Iterable[Batch]]:
    if not context.chunks:
        raise InputError("auto reads the new data on their own: give chunks=[...], oldest first, the new one last")
    return context.chunks


def _pair(batch: Batch) -> tuple[Any, Tensor]:
    """Return inputs and labels of a batch."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise InputError(f"{COUNTS}, not a {type(batch).__name__}")
    inputs, labels = batch
    if not isinstance(labels, Tensor) or labels.dim() != 1 or labels.is_floating_point():
        kind = (
            f"{dtype_name(labels.dtype)} {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
        )
        raise InputError(f"{COUNTS}, got {kind}")
    return inputs, labels


def _accuracy(
    model: nn.Module, chunks: Sequence[Iterable[Batch]], num_known: int | None = None
) -> tuple[float | None, int]:
    """Return the accuracy on the first few hundred examples of some chunks, and how many were read.

    Only examples of the first `num_known` classes count: nobody can know others. The accuracy is None if there is none.
    """
    hits = seen = read = 0
    device = next(unwrap(model).parameters()).device
    with evaluating(model), forked_rng(None), torch.no_grad():  # a DataLoader draws when it is asked for its batches
        for inputs, labels in (_pair(batch) for chunk in chunks for batch in chunk):
            right = read_logits(model(inputs)).argmax(1) == labels
            known = torch.ones_like(right) if num_known is None else labels < num_known
            hits, seen, read = hits + int((right & known).sum()), seen + int(known.sum()), read + len(labels)
            if seen * number_of_processes() >= ENOUGH:
                break
    hits, seen, read = sum_over_processes(torch.tensor([hits, seen, read], device=device)).tolist()
    if not read:
        raise InputError("auto reads the accuracy on each chunk: pass a loader with at least one batch for each")
    return hits / seen if seen else None, read
