"""From stored examples to batches on the device.

Data that fit stay on the device as they are stored (images as uint8), and every batch is gathered, augmented and turned
into floats there: no worker processes, no copy per epoch. Larger data are read row by row by worker processes. Which
examples stand in which batch is decided by the caller, so both ways give the same batches. Encoded images that are to
be cropped as is usual for ImageNet are always read row by row: the crops come out of the whole photograph.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lure.data.augmentation import Crops, augment, draw_crops
from lure.data.examples import Examples
from lure.data.sources.images import EncodedImages
from lure.distributed import my_share, number_of_processes, process_rank
from lure.randomness import derive_generator

RESIDENT_BYTES = 4 * 2**30  # data sets up to this size are held on the device whole


class _Rows(Dataset[tuple[Tensor, Tensor]]):
    """A map-style data set whose items are whole batches, for `DataLoader` without its own batching."""

    def __init__(self, examples: Examples, batches: Sequence[Tensor], crops: Sequence[Crops] | None) -> None:
        self.examples, self.batches, self.crops = examples, batches, crops

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        chosen = self.examples[self.batches[number]]
        if self.crops is None:
            return chosen.inputs, chosen.labels
        return _cropped(chosen, self.crops[number]), chosen.labels


def _are_encoded(examples: Examples) -> bool:
    return all(isinstance(part.inputs, EncodedImages) for part in examples.parts)


def _cropped(examples: Examples, crops: Crops) -> Tensor:
    pieces, start = [], 0
    for part in examples.parts:
        rows = torch.arange(len(part)) if part.rows is None else part.rows
        if isinstance(part.inputs, EncodedImages):
            pieces.append(part.inputs.crop(rows, crops[start : start + len(part)]))
        start += len(part)
    return torch.cat(pieces)


class Loader:
    """Examples placed for a device, drawn batch by batch.

    Args:
        examples: the data; uint8 inputs leave as floats in [0, 1], others as they are.
        device: where batches are wanted.
        channels_last: lay out image batches with the channels innermost, as convolutions like them.
        workers: processes that read data too large for the device.

    Example:
        >>> loader = Loader(Examples(torch.full((3, 1, 2, 2), 255, dtype=torch.uint8), torch.arange(3)), "cpu")
        >>> [(x.max().item(), y.tolist()) for x, y in loader.batches(torch.tensor([2, 0, 1]), 2)]
        [(1.0, [2, 0, 1])]
    """

    def __init__(
        self, examples: Examples, device: torch.device | str, channels_last: bool = False, workers: int = 0
    ) -> None:
        self.examples = examples
        self.device = torch.device(device)
        self.channels_last = channels_last and len(examples.input_shape) == 3
        self.workers = workers
        row_bytes = torch.Size(examples.input_shape).numel() * examples.input_dtype.itemsize
        self.resident = len(examples) * row_bytes <= RESIDENT_BYTES

    @cached_property
    def _on_device(self) -> tuple[Tensor, Tensor]:
        """The inputs and labels of all examples; made when they are first asked for, which crops may never do."""
        return self.examples.inputs.to(self.device), self.examples.labels.to(self.device)

    def __len__(self) -> int:
        return len(self.examples)

    def load(self) -> None:
        """Read what is held on the device now, and not with the first batch, so that damage shows before any training.

        Raises:
            InputError: if an example cannot be read.
        """
        if self.resident:
            _ = self._on_device

    def batches(
        self,
        order: Tensor | None,
        batch_size: int,
        augmentation: str = "none",
        generator: torch.Generator | None = None,
        shared: bool = False,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (inputs, labels) batches on the device.

        Args:
            order: row numbers, int64; None takes all rows as they are stored.
            batch_size: rows in each batch; the last one as `cut_batches` has it.
            augmentation: what `lure.data.augmentation` offers.
            generator: the randomness of the augmentation.
            shared: among several processes, yield only this one's share of each batch.
        """
        rows = torch.arange(len(self)) if order is None else order
        from_photographs = augmentation == "imagenet" and _are_encoded(self.examples)
        resident = self.resident and not from_photographs
        pieces = cut_batches(rows.to(self.device) if resident else rows, batch_size)
        if shared:
            pieces = [my_share(piece) for piece in pieces]
        crops = None
        if from_photographs:
            generator = generator or torch.Generator().manual_seed(0)
            augmentation, crops = "none", [draw_crops(len(piece), generator) for piece in pieces]
        for inputs, labels in self._resident(pieces) if resident else self._row_by_row(pieces, crops):
            if augmentation != "none":
                inputs = augment(inputs, augmentation, generator)
            yield self._as_floats(inputs), labels

    def _resident(self, pieces: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        inputs, labels = self._on_device
        yield from ((inputs[piece], labels[piece]) for piece in pieces)

    def _row_by_row(self, pieces: Sequence[Tensor], crops: Sequence[Crops] | None) -> Iterator[tuple[Tensor, Tensor]]:
        loader = DataLoader(
            _Rows(self.examples, pieces, crops),
            batch_size=None,
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # its own, or it would draw from the caller's global random state
        )
        for inputs, labels in loader:
            yield inputs.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)

    def _as_floats(self, inputs: Tensor) -> Tensor:
        layout = torch.channels_last if self.channels_last else torch.preserve_format
        if inputs.dtype == torch.uint8:
            return inputs.to(torch.float32, memory_format=layout).div_(255)
        return inputs.to(memory_format=layout)


def cut_batches(rows: Tensor, batch_size: int) -> list[Tensor]:
    """Cut row numbers into batches; a single left-over row joins the batch before it.

    BatchNorm cannot train on one example. Among several processes, each of which takes a share of every batch, a last
    batch of fewer than two rows a process joins the one before.

    Example:
        >>> [piece.tolist() for piece in cut_batches(torch.arange(5), 2)]
        [[0, 1], [2, 3, 4]]
    """
    pieces: list[Tensor] = list(torch.split(rows, batch_size)) if len(rows) else []
    if len(pieces) > 1 and len(pieces[-1]) < 2 * number_of_processes():
        pieces[-2:] = [torch.cat(pieces[-2:])]
    return pieces


class Sample:
    """Batches that can be iterated again and again, and that count how many examples were drawn.

    The unlearner's window on the data: rows in stored order, augmented (each time alike) only if asked. Several
    processes deal the batches out among themselves, so that the union is what one process would read.

    Args:
        loader: the examples.
        batch_size: rows in each batch.
        augmentation: what `lure.data.augmentation` offers.
        seed: of the run; decides the augmentation.
        stage: likewise.
        arrivals: how many of the examples came with each mega-batch, in their order; () for a single one.
    """

    def __init__(
        self,
        loader: Loader,
        batch_size: int,
        augmentation: str,
        seed: int,
        stage: int,
        arrivals: Sequence[int] = (),
    ) -> None:
        self.loader, self.batch_size, self.augmentation = loader, batch_size, augmentation
        self.seed, self.stage, self.arrivals = seed, stage, arrivals
        self.examples_drawn = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.read(torch.arange(len(self.loader)), self.batch_size)

    def chunks(self) -> list["Selection"]:
        """Return the same batches, but each mega-batch's by themselves: no batch holds rows of two."""
        rows = torch.arange(len(self.loader))
        return [
            Selection(self, piece, self.batch_size) for piece in torch.split(rows, list(self.arrivals) or [len(rows)])
        ]

    def shuffled(self, batch_size: int, generator: torch.Generator) -> "Selection":
        """Return all rows in another order, in batches of another size."""
        return Selection(self, torch.randperm(len(self.loader), generator=generator), batch_size)

    def read(self, rows: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this process's batches of some rows, and count what all processes draw."""
        generator = derive_generator(self.seed, self.stage, "sample")
        pieces = cut_batches(rows, batch_size)
        count = number_of_processes()
        mine = torch.cat(pieces[process_rank() :: count] or [rows[:0]])
        for number, batch in enumerate(self.loader.batches(mine, batch_size, self.augmentation, generator)):
            self.examples_drawn += sum(len(piece) for piece in pieces[number * count : (number + 1) * count])
            yield batch


@dataclass(frozen=True)
class Selection:
    """Some rows of a sample, batch by batch, again and again; what is drawn counts for the sample."""

    sample: Sample
    rows: Tensor
    batch_size: int

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.sample.read(self.rows, self.batch_size)
