"""What a replay regime remembers: for each mega-batch that it still needs, the rows that it keeps.

Rows are numbers into the stored mega-batch, never copies of transformed images. Training and validation examples are
treated alike.
"""

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
            train=Examples.concatenate([m.train[r] for m, r in zip(self.mega_batches, self.train, strict=True)]),
            validation=Examples.concatenate(
                [m.validation[r] for m, r in zip(self.mega_batches, self.validation, strict=True)]
            ),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the lists by name."""
        return {"mega_batches": self.mega_batches, "train": self.train, "validation": self.validation}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the memory that `state_dict` described."""
        return cls(list(state["mega_batches"]), list(state["train"]), list(state["validation"]))


@dataclass
class SampledMemory:
    """A memory of which only chosen examples are kept; every example draws a random key in [0, 1) on arrival.

    `train_keys[i]` and `validation_keys[i]` are the keys of the rows that are kept of mega-batch i.
    """

    memory: Memory = field(default_factory=Memory)
    train_keys: list[Tensor] = field(default_factory=list)
    validation_keys: list[Tensor] = field(default_factory=list)

    def add(self, mega_batch: Split, generator: torch.Generator) -> Split:
        """Take in a whole mega-batch, draw its keys, and return everything held now, in order of arrival."""
        self.memory.add(mega_batch)
        self.train_keys.append(torch.rand(len(mega_batch.train), generator=generator))
        self.validation_keys.append(torch.rand(len(mega_batch.validation), generator=generator))
        return self.memory.examples()

    def keep(self, train: Tensor, validation: Tensor) -> None:
        """Keep the examples at these positions of what `add` returned (repeats allowed), and drop all others."""
        _keep_positions(self.memory.train, self.train_keys, train)
        _keep_positions(self.memory.validation, self.validation_keys, validation)
        memory = self.memory
        used = [i for i in range(len(memory.train)) if len(memory.train[i]) or len(memory.validation[i])]
        self.memory = Memory(
            [memory.mega_batches[i] for i in used],
            [memory.train[i] for i in used],
            [memory.validation[i] for i in used],
        )
        self.train_keys = [self.train_keys[i] for i in used]
        self.validation_keys = [self.validation_keys[i] for i in used]

    def state_dict(self) -> dict[str, Any]:
        """Return the lists by name."""
        keys = {"train_keys": self.train_keys, "validation_keys": self.validation_keys}
        return {**self.memory.state_dict(), **keys}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the memory that `state_dict` described."""
        return cls(Memory.from_state(state), list(state["train_keys"]), list(state["validation_keys"]))


def _keep_positions(rows: list[Tensor], keys: list[Tensor], keep: Tensor) -> None:
    """Keep these positions of the joined lists (repeats allowed), each in its own mega-batch's list."""
    start = 0
    for number, (mine, my_keys) in enumerate(zip(list(rows), list(keys), strict=True)):
        inside = keep[(keep >= start) & (keep < start + len(mine))] - start
        rows[number], keys[number] = mine[inside], my_keys[inside]
        start += len(mine)
