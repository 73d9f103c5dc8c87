"""Labelled examples: inputs and labels side by side, sliced and joined without copying the data.

`Examples` is a list of parts. A part is a store of inputs (a tensor in memory, a memory-mapped file, or any object that
decodes rows on demand), its labels, and the numbers of the rows that belong to the part. Indexing and joining only
rearrange row numbers, so a replay memory over a large file costs eight bytes per example and never copies inputs.
"""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from lure.errors import InputError
from lure.words import count, dtype_name

HASH_ROWS = 4096


class InputStore(Protocol):
    """Rows of inputs: a `torch.Tensor`, or any object that loads rows on demand."""

    @property
    def shape(self) -> torch.Size:
        """(rows, ...): the number of rows, then the shape of one row."""

    @property
    def dtype(self) -> torch.dtype:
        """uint8 for images, a floating type for tables, an integer type for tokens."""

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        """Return the rows with these numbers (int64, any order, repeats allowed), stacked."""


@runtime_checkable
class HashedStore(Protocol):
    """A store that can hash its rows without loading them, such as encoded images."""

    def hash_rows(self, rows: Tensor, /) -> bytes:
        """Return bytes that identify the content of the rows with these numbers."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of one store, in order; `rows` is None for all of them."""

    inputs: InputStore
    labels: Tensor
    rows: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels) if self.rows is None else len(self.rows)

    def take(self, positions: Tensor) -> "Part":
        """Return a part of this one: only the rows at these positions."""
        return Part(self.inputs, self.labels, positions if self.rows is None else self.rows[positions])

    def load(self) -> Tensor:
        """Return the inputs of this part as one tensor; the store's own tensor if it has all rows."""
        if self.rows is None and isinstance(self.inputs, Tensor):
            return self.inputs
        return self.inputs[torch.arange(len(self)) if self.rows is None else self.rows]


class Examples:
    """A labelled data set: `inputs` (N, ...) and integer `labels` (N,).

    Images are uint8 (N, channels, height, width), 0 to 255; a model gets them as floats in [0, 1]. Other inputs
    (tables, tokens) reach the model as they are.

    Args:
        inputs: a tensor or another `InputStore`, one row per example.
        labels: integers from 0, one per row; stored as int64.

    Raises:
        InputError: if inputs and labels differ in length, or labels are not a vector of integers from 0.

    Example:
        >>> examples = Examples(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]))
        >>> len(examples), examples.input_shape, examples[torch.tensor([3, 0])].labels.tolist()
        (4, (1, 2, 2), [1, 0])
        >>> len(Examples.concatenate([examples, examples[:1]]))
        5
    """

    def __init__(self, inputs: InputStore, labels: Tensor) -> None:
        labels = torch.as_tensor(labels)
        if labels.dim() != 1 or labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
            raise InputError(
                f"labels must be a vector of integers, got {dtype_name(labels.dtype)} of shape {tuple(labels.shape)}"
            )
        if len(inputs.shape) < 2:
            raise InputError(f"inputs must have a row of features for each example, got shape {tuple(inputs.shape)}")
        if inputs.shape[0] != len(labels):
            raise InputError(f"inputs and labels differ in length: {inputs.shape[0]} and {len(labels)}")
        labels = labels.to(torch.int64)
        if len(labels) and int(labels.min()) < 0:
            raise InputError(f"labels must count from 0, got {int(labels.min())}")
        self.parts: tuple[Part, ...] = (Part(inputs, labels),)

    @classmethod
    def _of(cls, parts: Sequence[Part]) -> "Examples":
        examples = cls.__new__(cls)
        kept = [part for part in parts if len(part)]
        examples.parts = tuple(kept or parts[:1])
        return examples

    @classmethod
    def concatenate(cls, pieces: Sequence["Examples"]) -> "Examples":
        """Join data sets in order, without copying inputs.

        Raises:
            InputError: if `pieces` is empty, or inputs differ in shape or type.
        """
        if not pieces:
            raise InputError("there must be at least one data set to join")
        kinds = {(piece.input_shape, piece.input_dtype) for piece in pieces}
        if len(kinds) > 1:
            raise InputError(f"cannot join inputs of different shapes or types: {sorted(map(str, kinds))}")
        return cls._of([part for piece in pieces for part in piece.parts])

    @classmethod
    def select(cls, pairs: Sequence[tuple["Examples", Tensor]]) -> "Examples":
        """Join chosen rows of several data sets: `concatenate([examples[rows], ...])`, quick where there are hundreds.

        Args:
            pairs: data sets, and the numbers of the rows that are chosen of each, int64.

        Raises:
            InputError: as `concatenate`.
        """
        parts: list[Part] = []
        for examples, rows in pairs:
            parts += [examples.parts[0].take(rows)] if len(examples.parts) == 1 else examples[rows].parts
        kinds = {(part.inputs.shape[1:], part.inputs.dtype) for part in parts}
        return cls._of(parts) if len(kinds) == 1 else cls.concatenate([examples[rows] for examples, rows in pairs])

    def __len__(self) -> int:
        return self._length

    @cached_property
    def _length(self) -> int:
        return sum(len(part) for part in self.parts)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, such as (3, 32, 32)."""
        return tuple(self.parts[0].inputs.shape[1:])

    @property
    def input_dtype(self) -> torch.dtype:
        """Type of the stored inputs."""
        return self.parts[0].inputs.dtype

    @cached_property
    def labels(self) -> Tensor:
        """The labels of all examples, int64 (N,)."""
        return torch.cat([part.labels if part.rows is None else part.labels[part.rows] for part in self.parts])

    @property
    def inputs(self) -> Tensor:
        """The inputs of all examples as one tensor (N, ...); copies them if there are several parts."""
        loaded = [part.load() for part in self.parts]
        return loaded[0] if len(loaded) == 1 else torch.cat(loaded)

    def __getitem__(self, rows: Tensor | slice | Sequence[int]) -> "Examples":
        """Return the chosen rows (a slice, or row numbers in any order, repeats allowed), without copying inputs."""
        if isinstance(rows, slice):
            rows = torch.arange(len(self))[rows]
        rows = torch.as_tensor(rows, dtype=torch.int64)
        if len(self.parts) == 1:
            return Examples._of([self.parts[0].take(rows)])
        ends = torch.tensor([len(part) for part in self.parts]).cumsum(0)
        owner = torch.bucketize(rows, ends, right=True)
        # A run of rows from one part becomes one new part, so any order of rows is kept.
        cuts = [0, *(torch.nonzero(owner[1:] != owner[:-1]).flatten() + 1).tolist(), len(rows)]
        pieces = []
        for start, stop in itertools.pairwise(cuts):
            if stop > start:
                number = int(owner[start])
                offset = int(ends[number]) - len(self.parts[number])
                pieces.append(self.parts[number].take(rows[start:stop] - offset))
        return Examples._of(pieces or [self.parts[0].take(rows)])

    def with_labels(self, labels: Tensor) -> "Examples":
        """Return the same inputs with other labels, int64 (N,), such as noisy ones.

        Raises:
            InputError: if a row occurs twice in one part.
        """
        pieces, start = [], 0
        for part in self.parts:
            rows = torch.arange(len(part)) if part.rows is None else part.rows
            relabelled = part.labels.clone()
            if len(torch.unique(rows)) != len(rows):
                raise InputError("examples that repeat a row cannot be given new labels")
            relabelled[rows] = labels[start : start + len(part)]
            pieces.append(Part(part.inputs, relabelled, part.rows))
            start += len(part)
        return Examples._of(pieces)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the content (shape, type, inputs and labels in order), in hexadecimal.

        Two data sets with equal fingerprints are equal, wherever they are stored.
        """
        digest = hashlib.sha256(f"{self.input_shape} {self.input_dtype} {len(self)}".encode())
        for part in self.parts:
            for start in range(0, len(part), HASH_ROWS):
                piece = part.take(torch.arange(start, min(start + HASH_ROWS, len(part))))
                if isinstance(part.inputs, HashedStore) and piece.rows is not None:
                    digest.update(part.inputs.hash_rows(piece.rows))
                else:
                    digest.update(piece.load().contiguous().view(torch.uint8).numpy().tobytes())
        digest.update(np.ascontiguousarray(self.labels.numpy()).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Split:
    """Training and validation examples: a mega-batch, cut once on arrival, or all that replay offers.

    Validation may be empty.

    Attributes:
        train: training examples.
        validation: validation examples.
        arrivals: how many of the training examples came with each mega-batch, in their order; () for a single one.
    """

    train: Examples
    validation: Examples
    arrivals: tuple[int, ...] = ()

    @property
    def fingerprint(self) -> str:
        """SHA-256 over both parts, in hexadecimal."""
        return hashlib.sha256((self.train.fingerprint + self.validation.fingerprint).encode()).hexdigest()


def split_examples(examples: Examples, validation_fraction: float, generator: torch.Generator) -> Split:
    """Split a mega-batch into training and validation examples at random.

    Args:
        examples: the mega-batch.
        validation_fraction: share that goes to validation, in [0, 1); rounded to the nearest example.
        generator: decides which examples go where. Each part keeps the order of the mega-batch.

    Raises:
        InputError: if nothing would be left to train on.
    """
    train, validation = split_rows(len(examples), validation_fraction, generator)
    return Split(train=examples[train], validation=examples[validation])


def split_rows(num_examples: int, validation_fraction: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the row numbers of training and of validation examples, each in order; as `split_examples` cuts.

    Raises:
        InputError: if nothing would be left to train on.

    Example:
        >>> train, validation = split_rows(10, 0.2, torch.Generator().manual_seed(0))
        >>> len(train), len(validation)
        (8, 2)
    """
    num_validation = round(validation_fraction * num_examples)
    if num_validation >= num_examples:
        raise InputError(f"a mega-batch of {count(num_examples, 'example')} leaves none to train on")
    order = torch.randperm(num_examples, generator=generator)
    return order[num_validation:].sort().values, order[:num_validation].sort().values


@dataclass(frozen=True)
class DecodedRows:
    """The inputs of examples as they come out, whatever they are decoded from; an `InputStore`."""

    examples: Examples

    @property
    def shape(self) -> torch.Size:
        """(rows, ...)."""
        return torch.Size((len(self.examples), *self.examples.input_shape))

    @property
    def dtype(self) -> torch.dtype:
        """As the examples have it."""
        return self.examples.input_dtype

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Return the rows with these numbers."""
        return self.examples[rows].inputs


def as_stored(examples: Examples) -> Examples:
    """Return examples as a run directory stores them: encoded images decoded, and fingerprinted by that."""
    encoded = any(isinstance(part.inputs, HashedStore) for part in examples.parts)
    return Examples(DecodedRows(examples), examples.labels) if encoded else examples
