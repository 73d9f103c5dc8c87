"""What a replay regime remembers: for each mega-batch that it still needs, the rows that it keeps.

Rows are numbers into the stored mega-batch, never copies of transformed images. Training and validation examples are
treated alike. A memory that points into hundreds of mega-batches holds a few long tensors, not hundreds of short ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from lure.data.examples import Examples, Split


@dataclass
class Memory:
    """The rows kept of each mega-batch: `train[i]` and `validation[i]` are row numbers into `mega_batches[i]`."""

    mega_batches: list[Split] = field(default_factory=list)
    train: list[Tensor] = field(default_factory=list)
    validation: list[Tensor] = field(default_factory=list)

    def add(self, mega_batch: Split) -> None:
        """Keep a whole mega-batch."""
        self.mega_batches.append(mega_batch)
        self.train.append(torch.arange(len(mega_batch.train)))
        self.validation.append(torch.arange(len(mega_batch.validation)))

    def examples(self) -> Split:
        """Return everything kept, in order of arrival."""
        return Split(
            train=_chosen([mega_batch.train for mega_batch in self.mega_batches], self.train),
            validation=_chosen([mega_batch.validation for mega_batch in self.mega_batches], self.validation),
            arrivals=tuple(rows.shape[0] for rows in self.train if rows.shape[0]),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the lists by name."""
        return {"mega_batches": self.mega_batches, "train": self.train, "validation": self.validation}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the memory that `state_dict` described."""
        return cls(list(state["mega_batches"]), list(state["train"]), list(state["validation"]))


def _chosen(sets: Sequence[Examples], rows: Sequence[Tensor]) -> Examples:
    """Join the chosen rows of each set in order; a set of which none is chosen gives no part."""
    pairs = [(examples, chosen) for examples, chosen in zip(sets, rows, strict=True) if chosen.shape[0]]
    return Examples.select(pairs) if pairs else Examples.concatenate([examples[:0] for examples in sets])


@dataclass
class Side:
    """The training (or validation) examples that a sampled memory keeps, side by side in order of arrival.

    Attributes:
        owners: number of the mega-batch that each belongs to, int64 (n,), rising.
        rows: its row there, int64 (n,).
        keys: the number in [0, 1) that it drew on arrival, float32 (n,).
    """

    owners: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    rows: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    keys: Tensor = field(default_factory=lambda: torch.empty(0))

    @classmethod
    def from_lists(cls, rows: Sequence[Tensor], keys: Sequence[Tensor]) -> Self:
        """Return the same from a list of rows and of keys for each mega-batch."""
        counts = torch.tensor([len(each) for each in rows], dtype=torch.int64)
        if not len(counts):
            return cls()
        return cls(torch.arange(len(rows)).repeat_interleave(counts), torch.cat(list(rows)), torch.cat(list(keys)))

    def counts(self, count: int) -> list[int]:
        """Return how many examples belong to each of `count` mega-batches; `torch.split` then cuts rows and keys."""
        return torch.bincount(self.owners, minlength=count).tolist()

    def add(self, owner: int, count: int, generator: torch.Generator) -> None:
        """Add `count` examples, all rows of a new mega-batch, which draw their keys."""
        self.owners = torch.cat([self.owners, torch.full((count,), owner)])
        self.rows = torch.cat([self.rows, torch.arange(count)])
        self.keys = torch.cat([self.keys, torch.rand(count, generator=generator)])

    def keep(self, positions: Tensor) -> None:
        """Keep the examples at these positions (repeats allowed), each mega-batch's together."""
        positions = positions[self.owners[positions].argsort(stable=True)]
        self.owners, self.rows, self.keys = self.owners[positions], self.rows[positions], self.keys[positions]


class SampledMemory:
    """A memory of which only chosen examples are kept; every example draws a random key in [0, 1) on arrival.

    Attributes:
        mega_batches: those of which an example is kept.
        train: the training examples that are kept.
        validation: the validation examples that are kept.
    """

    def __init__(self) -> None:
        self.mega_batches: list[Split] = []
        self.train, self.validation = Side(), Side()

    def add(self, mega_batch: Split, generator: torch.Generator) -> Split:
        """Take in a whole mega-batch, draw its keys, and return everything held now, in order of arrival."""
        self.train.add(len(self.mega_batches), len(mega_batch.train), generator)
        self.validation.add(len(self.mega_batches), len(mega_batch.validation), generator)
        self.mega_batches.append(mega_batch)
        count = len(self.mega_batches)
        train, validation = (list(torch.split(s.rows, s.counts(count))) for s in (self.train, self.validation))
        return Memory(self.mega_batches, train, validation).examples()

    def keep(self, train: Tensor, validation: Tensor) -> None:
        """Keep the examples at these positions of what `add` returned (repeats allowed), and drop all others."""
        self.train.keep(train)
        self.validation.keep(validation)
        used = torch.cat([self.train.owners, self.validation.owners]).unique()  # type: ignore[no-untyped-call]
        for side in (self.train, self.validation):
            side.owners = torch.searchsorted(used, side.owners)
        self.mega_batches = [self.mega_batches[i] for i in used.tolist()]

    def state_dict(self) -> dict[str, Any]:
        """Return lists by name: the mega-batches, and for each of them the rows and the keys that are kept."""
        count = len(self.mega_batches)
        train, validation = self.train.counts(count), self.validation.counts(count)
        return {
            "mega_batches": self.mega_batches,
            "train": list(torch.split(self.train.rows, train)),
            "validation": list(torch.split(self.validation.rows, validation)),
            "train_keys": list(torch.split(self.train.keys, train)),
            "validation_keys": list(torch.split(self.validation.keys, validation)),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the memory that `state_dict` described."""
        memory = cls()
        memory.mega_batches = list(state["mega_batches"])
        memory.train = Side.from_lists(state["train"], state["train_keys"])
        memory.validation = Side.from_lists(state["validation"], state["validation_keys"])
        return memory
