"""The stream and the buffer of LURE's released code, for whoever compares with published numbers.

`mega_batches` (data/stream.py) and `BufferReplay` (data/replay.py) are what to use otherwise; docs/paper.md lists the
differences.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lure.data.examples import Examples, Split
from lure.data.memory import SampledMemory
from lure.data.stream import few_shot_rows
from lure.errors import InputError, require_within
from lure.settings import check_settings, setting


def released_order(
    examples: Examples, count: int, size: int, validation_fraction: float, shots: int | None = None
) -> list[Split]:
    """Cut a data set as the released code of LURE does: in file order, validation from the end of the file.

    Stage t trains on rows [n (t-1), n t), where n is size * (1 - validation_fraction) rounded down, and validates on
    `size - n` rows, which follow those of the stage before. The first validation row is where the training share of
    the whole file ends (image 45,000 of CIFAR-10), or earlier if the last stage would not find its rows there; the
    released code fails then. The seed plays no part; a file sorted by class gives a class-incremental stream.

    Args:
        examples: the whole training set.
        count: number of mega-batches, at least 1.
        size: examples in each, validation examples included, at least 1.
        validation_fraction: share of each that is validated on, in [0, 1).
        shots: keep only the first so many rows of each class before the stream is cut.

    Raises:
        InputError: if there are fewer than count * size examples, or a stage would have nothing to train on.

    Example:
        >>> data = Examples(torch.arange(20.0)[:, None], torch.zeros(20, dtype=torch.int64))
        >>> second = released_order(data, 2, 10, 0.1)[1]
        >>> second.train.inputs.flatten()[:3].tolist(), second.validation.inputs.flatten().tolist()
        ([9.0, 10.0, 11.0], [19.0])

    Reference:
        The data loading of LURE's released code.
    """
    for name, value in (("the number of mega-batches", count), ("the size of a mega-batch", size)):
        require_within(name, value, 1)
    if shots is not None:
        examples = examples[few_shot_rows(examples.labels, shots)]
    if len(examples) < count * size:
        raise InputError(f"{len(examples)} examples are too few for {count} mega-batches of {size}")
    # A product such as 0.9 * 10 may fall just short of the whole number that it stands for.
    num_train = math.floor(size * (1 - validation_fraction) + 1e-9)
    num_validation = size - num_train
    if not num_train:
        raise InputError(f"a mega-batch of {size} examples leaves none to train on")
    start = min(round(len(examples) * (1 - validation_fraction)), len(examples) - count * num_validation)
    return [
        Split(
            train=examples[num_train * stage : num_train * (stage + 1)],
            validation=examples[start + num_validation * stage : start + num_validation * (stage + 1)],
        )
        for stage in range(count)
    ]


@dataclass(kw_only=True)
class ReleasedBuffer:
    """Train on the new mega-batch and on a buffer that grows at every stage.

    After each mega-batch, `capacity` examples drawn from the new ones and the buffer together are added to the buffer.
    So it grows without bound and can hold an example more than once.

    Example:
        >>> chunk = Examples(torch.zeros(8, 2), torch.zeros(8, dtype=torch.int64))
        >>> replay, generator = ReleasedBuffer(capacity=5), torch.Generator()
        >>> [len(replay.admit(Split(chunk, chunk[:0]), generator).train) for _ in range(3)]
        [8, 13, 18]

    Reference:
        `-buffer_replay` of LURE's released code.
    """

    capacity: int = setting(182, "training examples added to the buffer at each stage", 1)
    validation_capacity: int = setting(182, "validation examples added to the buffer at each stage", 0)

    def __post_init__(self) -> None:
        check_settings(self)
        self._memory = SampledMemory()  # whose keys play no part here

    def admit(self, mega_batch: Split, generator: torch.Generator) -> Split:
        """Return the buffer and the new mega-batch, then update the buffer."""
        offered = self._memory.add(mega_batch, generator)
        self._memory.keep(
            _grown(len(offered.train), len(mega_batch.train), self.capacity, generator),
            _grown(len(offered.validation), len(mega_batch.validation), self.validation_capacity, generator),
        )
        return offered

    def state_dict(self) -> dict[str, Any]:
        """Return the memory and the keys."""
        return self._memory.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the memory and the keys."""
        self._memory = SampledMemory.from_state(state)


def _grown(num_offered: int, num_new: int, capacity: int, generator: torch.Generator) -> Tensor:
    """Return the positions of the buffer, which come first, and of the examples drawn to be added to it."""
    drawn = torch.randperm(num_offered, generator=generator)[:capacity]
    return torch.cat([torch.arange(num_offered - num_new), drawn.sort().values])
