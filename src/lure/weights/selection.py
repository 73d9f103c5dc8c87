"""Which entries are forgotten: exactly the lowest share of all scores, with ties broken at random."""

import functools
from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor

from lure.errors import InputError, require_within
from lure.weights.ranking import among_ranked, over_all

PIECE = 2**18  # entries that are read at once while the threshold is searched


def lowest_fraction(
    scores: Mapping[str, Tensor],
    fraction: float,
    generator: torch.Generator | None = None,
    *,
    ties: Literal["random", "all"] = "random",
    among: Mapping[str, Tensor | None] | None = None,
) -> dict[str, Tensor]:
    """Choose the lowest-scoring share of all entries, ranked over all tensors together.

    Exactly round(fraction * total) entries are chosen. Ties at the threshold (dead units all score 0) are broken at
    random, so that no layer is preferred. The threshold is found by counting, not by sorting, a piece of a tensor at a
    time: time is linear, and no copy of the scores is made.

    Args:
        scores: name -> scores of any shapes; lower means less important.
        fraction: share to choose, in [0, 1].
        generator: breaks ties; None means seed 0.
        ties: "random" chooses among equal scores at random; "all" takes every entry that scores as low as the last one
            chosen, which may be more than was asked for (as the released code of LURE does).
        among: name -> bool tensor of the scores' shape: only these entries are ranked, counted and chosen; None for all
            of a tensor. Tensors that it does not name are left out. Without it everything is ranked; see
            `ranked_entries`.

    Returns:
        name -> bool tensor of the scores' shape, True = forget.

    Raises:
        InputError: if `fraction` is out of range, or a score is NaN (the tensor is named).

    Example:
        >>> masks = lowest_fraction({"a": torch.tensor([3.0, 1.0]), "b": torch.tensor([[2.0], [0.5]])}, 0.5)
        >>> masks["a"].tolist(), masks["b"].tolist()
        ([False, True], [[False], [True]])
    """
    require_within("fraction", fraction, 0, 1)
    if among is not None:
        masks = lowest_fraction(among_ranked(scores, among), fraction, generator, ties=ties)
        return over_all(masks, among)
    for name, score in scores.items():
        if bool(torch.isnan(score).any()):
            raise InputError(f"the scores of {name!r} hold NaN: the model or its gradients are not finite")
    total = sum(score.numel() for score in scores.values())
    count = round(fraction * total)
    if count in (0, total):
        return {name: torch.full_like(score, count > 0, dtype=torch.bool) for name, score in scores.items()}
    kinds = {score.dtype for score in scores.values()}
    if len(kinds) > 1:
        # A threshold must not be rounded when it is compared with scores of a coarser type.
        widest = functools.reduce(torch.promote_types, kinds)
        scores = {name: score.to(widest) for name, score in scores.items()}
    if ties == "all":
        threshold = _smallest(scores.values(), count)
        return {name: score <= threshold for name, score in scores.items()}
    return _choose(scores, count, generator or torch.Generator().manual_seed(0))


def _choose(scores: Mapping[str, Tensor], count: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Return masks of exactly the `count` lowest scores, 0 < count <= total; equal scores draw lots."""
    threshold = _smallest(scores.values(), count)
    chosen = {name: score < threshold for name, score in scores.items()}
    equal = {name: score == threshold for name, score in scores.items()}
    missing = count - sum(int(mask.sum()) for mask in chosen.values())
    num_equal = {name: int(mask.sum()) for name, mask in equal.items()}
    if missing == sum(num_equal.values()):
        return {name: mask.logical_or_(equal[name]) for name, mask in chosen.items()}
    # Lots of one byte tie as well, 256 times less often each round. A permutation of all ties would need more memory.
    device, byte = generator.device, torch.uint8
    lots = {n: torch.randint(256, (k,), generator=generator, device=device, dtype=byte) for n, k in num_equal.items()}
    for name, drawn in _choose(lots, missing, generator).items():
        chosen[name].masked_scatter_(equal[name], drawn.to(equal[name].device))
    return chosen


def _smallest(scores: Iterable[Tensor], count: int) -> Tensor:
    """Return the count-th smallest entry of all tensors together (none is NaN), counted from 1, on the CPU.

    Entries are counted by the upper 16 bits of their floating-point form: sign, exponent and the first digits. The
    entry is then found among the few that share those bits with it.
    """
    pieces = [piece for score in scores for piece in torch.split(score.detach().flatten(), PIECE) if len(piece)]
    dtype = functools.reduce(torch.promote_types, {piece.dtype for piece in pieces}, torch.float32)
    counts = torch.zeros(2**16, dtype=torch.int64)
    for piece in pieces:
        counts += torch.bincount(_upper_bits(piece.to(dtype)), minlength=2**16).cpu()
    cumulative = counts.cumsum(0)
    level = int(torch.searchsorted(cumulative, count))
    rank = count - int(cumulative[level] - counts[level])
    matching = [piece[_upper_bits(piece.to(dtype)) == level].cpu() for piece in pieces]
    candidates = [torch.unique(piece, return_counts=True) for piece in matching]
    values, order = torch.cat([value for value, _ in candidates]).sort()
    cumulative = torch.cat([repeats for _, repeats in candidates])[order].cumsum(0)
    return values[torch.searchsorted(cumulative, rank)]


def _upper_bits(values: Tensor) -> Tensor:
    """Return the upper 16 bits of floats as integers in [0, 65535] that are ordered as the floats are."""
    integer, bits = (torch.int64, 64) if values.dtype == torch.float64 else (torch.int32, 32)
    upper = values.view(integer) >> (bits - 16)
    # The patterns of negative floats grow as the floats fall.
    return torch.where(upper < 0, -1 - upper, upper + 2**15)
