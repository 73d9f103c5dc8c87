"""What can be said about new data before any training: class balance, repeats, and how the version in use does on them.

The method assumes that all chunks come from one distribution, the holdout's. Testing the model in use on the new chunk
first (prequential evaluation, test then train) and comparing class counts shows when that may not hold. Both
comparisons are chi-squared tests of homogeneity; a warning decides nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lure.data.examples import Examples
from lure.metrics.statistics import homogeneity
from lure.store.chunks import Digests

WARNING_LEVEL = 0.01  # one false alarm in a hundred chunks, for each of the two comparisons


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """What a chunk looks like on arrival.

    Attributes:
        examples: how many there are.
        class_counts: how many there are of each class, in order of labels.
        in_holdout: how many have the same input as an example of the holdout.
        in_earlier_chunks: how many have the same input as an example of an earlier chunk.
        repeated: how many repeat an input that stands earlier in the chunk.
        prequential_accuracy: of the version in use, on the chunk; None before the first version.
        warnings: what departs from the holdout, as sentences.
        name: of the file or folder that it came from; None where it is not known.
    """

    examples: int
    class_counts: tuple[int, ...]
    in_holdout: int
    in_earlier_chunks: int
    repeated: int
    prequential_accuracy: float | None
    warnings: tuple[str, ...]
    name: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for the ledger."""
        return asdict(self) | {"class_counts": list(self.class_counts), "warnings": list(self.warnings)}


class KnownRows:
    """The rows of all chunks so far, by their digests: eight bytes a row, and a lookup that does not read the data."""

    def __init__(self, chunks: Iterable[Digests] = ()) -> None:
        every = list(chunks)
        self._sorted: Digests = np.sort(np.concatenate(every)) if every else np.empty(0, np.uint64)

    def add(self, rows: Digests) -> None:
        """Add the rows of one more chunk."""
        rows = np.sort(rows)
        self._sorted = np.insert(self._sorted, np.searchsorted(self._sorted, rows), rows)

    def count(self, rows: Digests) -> int:
        """Return how many of these rows are known."""
        places = np.searchsorted(self._sorted, rows)
        inside = places < len(self._sorted)
        return int((self._sorted[places[inside]] == rows[inside]).sum())


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """How many examples of a chunk have an input that was seen elsewhere; the attributes are those of `Arrival`."""

    in_holdout: int
    in_earlier_chunks: int
    repeated: int

    @classmethod
    def of(cls, rows: Digests, holdout: Digests, earlier: KnownRows) -> "Repeats":
        """Count them from the digests of the rows: of the chunk, of the holdout, of all earlier chunks."""
        return cls(
            in_holdout=int(np.isin(rows, holdout).sum()),
            in_earlier_chunks=earlier.count(rows),
            repeated=len(rows) - len(np.unique(rows)),
        )


def examine(
    chunk: Examples,
    holdout: Examples,
    repeats: Repeats,
    class_names: Sequence[str],
    correct: Tensor | None,
    holdout_correct: Tensor | None,
    name: str | None = None,
    more_warnings: Iterable[str] = (),
    num_known: int | None = None,
) -> Arrival:
    """Inspect a chunk.

    Both comparisons leave out the examples of new classes, which must differ.

    Args:
        chunk: the new examples.
        holdout: what every version is measured on.
        repeats: which of its inputs were seen elsewhere.
        class_names: the classes in order of labels.
        correct: which examples of the chunk the version in use gets right, bool (N,); None before the first version.
        holdout_correct: the same for the holdout.
        name: of the file or folder that the chunk came from.
        more_warnings: what else departs from the holdout.
        num_known: how many of the classes, the first ones, the version in use knows; None for all.
    """
    num_known = len(class_names) if num_known is None else num_known
    counts, expected = (torch.bincount(e.labels, minlength=len(class_names)).tolist() for e in (chunk, holdout))
    warnings = [
        f"class {class_name} is new, and the holdout shows no example of it: nothing will be known about it "
        f"(--holdout-add FILE brings some)"
        for class_name, here, there in list(zip(class_names, counts, expected, strict=False))[num_known:]
        if here and not there
    ]
    if repeats.in_holdout:
        warnings.append(
            f"{repeats.in_holdout} of {len(chunk)} examples are in the holdout, too: its accuracy will flatter the new "
            f"version"
        )
    if repeats.in_earlier_chunks:
        warnings.append(f"{repeats.in_earlier_chunks} of {len(chunk)} examples are in earlier chunks, too")
    old = counts[:num_known], expected[:num_known]
    here, there = map(sum, old)
    p_value = homogeneity(*old)
    if p_value < WARNING_LEVEL:
        shares = zip(*old, class_names, strict=False)
        furthest = max(shares, key=lambda item: abs(item[0] / here - item[1] / there))
        warnings.append(
            f"the class balance departs from the holdout's (p = {p_value:.2g}), most for class {furthest[2]}: "
            f"{100 * furthest[0] / here:.1f} % here, {100 * furthest[1] / there:.1f} % there"
        )
    accuracy = None
    if correct is not None and holdout_correct is not None:
        accuracy = float(correct.double().mean())
        ours = correct[chunk.labels < num_known]
        theirs = holdout_correct[holdout.labels[: len(holdout_correct)] < num_known]
        p_value = homogeneity(*([int(hits.sum()), int((~hits).sum())] for hits in (ours, theirs)))
        if p_value < WARNING_LEVEL:
            of_known = " of known classes" if len(ours) < len(correct) else ""
            share, usual = (100 * float(hits.double().mean()) for hits in (ours, theirs))
            warnings.append(
                f"the version in use gets {share:.1f} % of this chunk{of_known} right and {usual:.1f} % of the holdout "
                f"(p = {p_value:.2g}): do both come from one distribution?"
            )
    return Arrival(
        examples=len(chunk),
        class_counts=tuple(counts),
        in_holdout=repeats.in_holdout,
        in_earlier_chunks=repeats.in_earlier_chunks,
        repeated=repeats.repeated,
        prequential_accuracy=accuracy,
        warnings=(*warnings, *more_warnings),
        name=name,
    )
