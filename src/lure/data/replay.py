"""Replay: which of the examples seen so far are trained on now.

Every regime holds the same kind of memory: for each mega-batch that it still needs, the rows it keeps. Rows are
numbers into the stored mega-batch, never copies of transformed images. Training and validation examples are treated
alike. The state is read and written by the learner together with the stage, so a stage that is tried again admits its
mega-batch once.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor

from lure.data.examples import Examples, Split
from lure.errors import InputError, require_within, unknown_name
from lure.settings import build_choice

Rule = Literal["reservoir", "released"]


class Replay(Protocol):
    """Takes in one mega-batch after another and says what to train on."""

    def admit(self, mega_batch: Split, generator: torch.Generator) -> Split:
        """Take in a mega-batch; return what to train on and to validate on now, in order of arrival."""

    def state_dict(self) -> dict[str, Any]:
        """Return {"mega_batches": list[Split], "train": list[Tensor], "validation": list[Tensor], ...}."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""


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

    def forget_empty(self) -> list[int]:
        """Drop the mega-batches of which no row is kept; return the numbers of those that stay."""
        kept = [i for i in range(len(self.train)) if len(self.train[i]) or len(self.validation[i])]
        self.mega_batches = [self.mega_batches[i] for i in kept]
        self.train = [self.train[i] for i in kept]
        self.validation = [self.validation[i] for i in kept]
        return kept

    def state_dict(self) -> dict[str, Any]:
        """Return the lists by name."""
        return {"mega_batches": self.mega_batches, "train": self.train, "validation": self.validation}


def _memory_of(state: dict[str, Any]) -> Memory:
    return Memory(list(state["mega_batches"]), list(state["train"]), list(state["validation"]))


@dataclass(kw_only=True)
class FullReplay:
    """Train on all mega-batches so far.

    Example:
        >>> chunk = Examples(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64))
        >>> replay, generator = FullReplay(), torch.Generator()
        >>> [len(replay.admit(Split(chunk[:3], chunk[3:]), generator).train) for _ in range(3)]
        [3, 6, 9]
    """

    def __post_init__(self) -> None:
        self._memory = Memory()

    def admit(self, mega_batch: Split, generator: torch.Generator) -> Split:
        """Keep the mega-batch and return everything."""
        self._memory.add(mega_batch)
        return self._memory.examples()

    def state_dict(self) -> dict[str, Any]:
        """Return the memory."""
        return self._memory.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a memory over."""
        self._memory = _memory_of(state)


@dataclass(kw_only=True)
class NoReplay:
    """Train on the new mega-batch only.

    Example:
        >>> chunk = Examples(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64))
        >>> replay, generator = NoReplay(), torch.Generator()
        >>> [len(replay.admit(Split(chunk[:3], chunk[3:]), generator).train) for _ in range(3)]
        [3, 3, 3]
    """

    def admit(self, mega_batch: Split, generator: torch.Generator) -> Split:
        """Return the mega-batch itself."""
        return mega_batch

    def state_dict(self) -> dict[str, Any]:
        """Return an empty memory."""
        return Memory().state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is nothing to take over."""


@dataclass(kw_only=True)
class LastReplay:
    """Train on the new mega-batch and the one before.

    Example:
        >>> chunk = Examples(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64))
        >>> replay, generator = LastReplay(), torch.Generator()
        >>> [len(replay.admit(Split(chunk[:3], chunk[3:]), generator).train) for _ in range(3)]
        [3, 6, 6]
    """

    def __post_init__(self) -> None:
        self._memory = Memory()

    def admit(self, mega_batch: Split, generator: torch.Generator) -> Split:
        """Return the previous mega-batch and this one, and keep this one."""
        self._memory.add(mega_batch)
        offered = self._memory.examples()
        self._memory = Memory()
        self._memory.add(mega_batch)
        return offered

    def state_dict(self) -> dict[str, Any]:
        """Return the memory."""
        return self._memory.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a memory over."""
        self._memory = _memory_of(state)


@dataclass(kw_only=True)
class BufferReplay:
    """Train on the new mega-batch and a buffer of earlier examples.

    Two rules fill the buffer. "reservoir" holds at most `capacity` examples, each example ever seen with equal
    probability: every example draws a random key on arrival and the smallest keys stay. With `balanced`, each class
    seen so far has an equal share of the capacity. "released" is the rule of the released code of LURE: after each
    mega-batch, `capacity` examples drawn from the new ones and the buffer together are added to the buffer, which so
    grows without bound and can hold an example more than once.

    Args:
        capacity: training examples held (reservoir) or added at each stage (released), at least 1.
        validation_capacity: the same for validation examples, at least 0.
        rule: "reservoir" or "released".
        balanced: equal shares for the classes; for the reservoir only.

    Example:
        >>> chunk = Examples(torch.zeros(8, 2), torch.zeros(8, dtype=torch.int64))
        >>> replay, generator = BufferReplay(capacity=5), torch.Generator()
        >>> [len(replay.admit(Split(chunk, chunk[:0]), generator).train) for _ in range(3)]
        [8, 13, 13]

    Reference:
        Vitter, "Random Sampling with a Reservoir", 1985 (here with random keys); LURE's `-buffer_replay`.
    """

    capacity: int = 182
    validation_capacity: int = 182
    rule: Rule = "reservoir"
    balanced: bool = False

    def __post_init__(self) -> None:
        require_within("capacity", self.capacity, 1)
        require_within("validation_capacity", self.validation_capacity, 0)
        if self.rule not in get_args(Rule):
            raise unknown_name("value of rule", self.rule, get_args(Rule))
        if self.rule == "released" and self.balanced:
            raise InputError("balanced needs rule=reservoir: the released rule knows no classes")
        self._memory = Memory()
        self._train_keys: list[Tensor] = []
        self._validation_keys: list[Tensor] = []

    def admit(self, mega_batch: Split, generator: torch.Generator) -> Split:
        """Return the buffer and the new mega-batch, then update the buffer."""
        buffered = [len(rows) for rows in self._memory.train], [len(rows) for rows in self._memory.validation]
        self._memory.add(mega_batch)
        offered = self._memory.examples()
        self._train_keys.append(torch.rand(len(mega_batch.train), generator=generator))
        self._validation_keys.append(torch.rand(len(mega_batch.validation), generator=generator))
        sides = (
            (self._memory.train, self._train_keys, offered.train, self.capacity, buffered[0]),
            (self._memory.validation, self._validation_keys, offered.validation, self.validation_capacity, buffered[1]),
        )
        for rows, keys, examples, capacity, held in sides:
            if self.rule == "reservoir":
                keep = _smallest_keys(torch.cat(keys), examples.labels, capacity, self.balanced)
            else:
                old = torch.arange(sum(held))
                drawn = torch.randperm(len(examples), generator=generator)[:capacity]
                keep = torch.cat([old, drawn.sort().values])
            _keep_positions(rows, keys, keep)
        kept = self._memory.forget_empty()
        self._train_keys = [self._train_keys[i] for i in kept]
        self._validation_keys = [self._validation_keys[i] for i in kept]
        return offered

    def state_dict(self) -> dict[str, Any]:
        """Return the memory and the keys."""
        return {
            **self._memory.state_dict(),
            "train_keys": self._train_keys,
            "validation_keys": self._validation_keys,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a memory and its keys over."""
        self._memory = _memory_of(state)
        self._train_keys, self._validation_keys = list(state["train_keys"]), list(state["validation_keys"])


def _smallest_keys(keys: Tensor, labels: Tensor, capacity: int, balanced: bool) -> Tensor:
    """Return the positions, in order, of the `capacity` smallest keys; in equal shares of the classes if balanced."""
    order = keys.argsort(stable=True)
    if not balanced:
        return order[:capacity].sort().values
    # Deal the ranked examples out class by class: the k-th of every class goes before the k+1-th of any.
    ranked = labels[order]
    turn = torch.empty_like(ranked)
    for label in torch.unique(ranked):
        members = ranked == label
        turn[members] = torch.arange(int(members.sum()))
    return order[turn.argsort(stable=True)[:capacity]].sort().values


def _keep_positions(rows: list[Tensor], keys: list[Tensor], keep: Tensor) -> None:
    """Keep these positions of the joined lists (repeats allowed), each in its own mega-batch's list."""
    start = 0
    for number, (mine, my_keys) in enumerate(zip(list(rows), list(keys), strict=True)):
        inside = keep[(keep >= start) & (keep < start + len(mine))] - start
        rows[number], keys[number] = mine[inside], my_keys[inside]
        start += len(mine)


REPLAYS: dict[str, Callable[..., Replay]] = {
    "full": FullReplay,
    "none": NoReplay,
    "last": LastReplay,
    "buffer": BufferReplay,
}


def build_replay(choice: str) -> Replay:
    """Return the replay regime that a choice names, such as "full" or "buffer:capacity=1000".

    Raises:
        InputError: for an unknown name or option, or a value out of range.
    """
    return build_choice("replay regime", choice, REPLAYS)
