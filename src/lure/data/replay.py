"""Replay: which of the examples seen so far are trained on now.

There is a class for each regime, and `REPLAYS` is the table of their names. The learner reads and writes the state of a
regime together with the stage, so a stage that is tried again admits its mega-batch once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from lure.data.examples import Split
from lure.data.memory import Memory, SampledMemory
from lure.data.released import ReleasedBuffer
from lure.errors import InputError
from lure.settings import check_settings, setting


class Replay(Protocol):
    """Takes in one mega-batch after another and says what to train on."""

    def admit(self, mega_batch: Split, generator: torch.Generator) -> Split:
        """Take in a mega-batch; return what to train on and to validate on now, in order of arrival."""

    def state_dict(self) -> dict[str, Any]:
        """Return {"mega_batches": list[Split], "train": list[Tensor], "validation": list[Tensor], ...}."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""


@dataclass(kw_only=True)
class FullReplay:
    """Train on all mega-batches so far.

    Example:
        >>> from lure.data.examples import Examples
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
        """Restore the memory."""
        self._memory = Memory.from_state(state)


@dataclass(kw_only=True)
class NoReplay:
    """Train on the new mega-batch only.

    Example:
        >>> from lure.data.examples import Examples
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
        """There is nothing to restore."""


@dataclass(kw_only=True)
class LastReplay:
    """Train on the new mega-batch and the one before.

    Example:
        >>> from lure.data.examples import Examples
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
        """Restore the memory."""
        self._memory = Memory.from_state(state)


@dataclass(kw_only=True)
class BufferReplay:
    """Train on the new mega-batch and a buffer of earlier examples.

    The buffer holds at most `capacity` examples, each example ever seen with equal probability: every example draws a
    random key on arrival and the smallest keys stay. With `balanced`, each class seen so far has an equal share.

    Example:
        >>> from lure.data.examples import Examples
        >>> chunk = Examples(torch.zeros(8, 2), torch.zeros(8, dtype=torch.int64))
        >>> replay, generator = BufferReplay(capacity=5), torch.Generator()
        >>> [len(replay.admit(Split(chunk, chunk[:0]), generator).train) for _ in range(3)]
        [8, 13, 13]

    Reference:
        Vitter, "Random Sampling with a Reservoir", 1985 (here with random keys).
    """

    capacity: int = setting(182, "training examples in the buffer", 1)
    validation_capacity: int = setting(182, "validation examples in the buffer", 0)
    balanced: bool = setting(False, "give every class an equal share of the buffer")

    def __post_init__(self) -> None:
        check_settings(self)
        self._memory = SampledMemory()

    def admit(self, mega_batch: Split, generator: torch.Generator) -> Split:
        """Return the buffer and the new mega-batch, then update the buffer."""
        offered = self._memory.add(mega_batch, generator)
        self._memory.keep(
            _smallest_keys(self._memory.train.keys, offered.train.labels, self.capacity, self.balanced),
            _smallest_keys(
                self._memory.validation.keys, offered.validation.labels, self.validation_capacity, self.balanced
            ),
        )
        return offered

    def state_dict(self) -> dict[str, Any]:
        """Return the memory and the keys."""
        return self._memory.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the memory and the keys."""
        self._memory = SampledMemory.from_state(state)


def _smallest_keys(keys: Tensor, labels: Tensor, capacity: int, balanced: bool) -> Tensor:
    """Return the positions, in order, of the `capacity` smallest keys; in equal shares of the classes if balanced."""
    order = keys.argsort(stable=True)
    if not balanced:
        return order[:capacity].sort().values
    # Deal the ranked examples out in turns: the k-th of every class comes before the (k+1)-th of any.
    ranked = labels[order]
    turn = torch.empty_like(ranked)
    for label in torch.unique(ranked):
        members = ranked == label
        turn[members] = torch.arange(int(members.sum()))
    return order[turn.argsort(stable=True)[:capacity]].sort().values


def buffer(
    *,
    capacity: int = 182,
    validation_capacity: int = 182,
    rule: Literal["reservoir", "released"] = "reservoir",
    balanced: bool = False,
) -> BufferReplay | ReleasedBuffer:
    """Return the buffer with the given rule: a `BufferReplay`, or the one of LURE's released code.

    Raises:
        InputError: for a value out of range, or a balanced buffer with the released rule.
    """
    if rule == "reservoir":
        return BufferReplay(capacity=capacity, validation_capacity=validation_capacity, balanced=balanced)
    if balanced:
        raise InputError("balanced needs rule=reservoir: the released rule knows no classes")
    return ReleasedBuffer(capacity=capacity, validation_capacity=validation_capacity)


REPLAYS: dict[str, Callable[..., Replay]] = {
    "full": FullReplay,
    "none": NoReplay,
    "last": LastReplay,
    "buffer": buffer,
}
