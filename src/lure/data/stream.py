"""Mega-batches: a labelled data set cut into the chunks in which it arrives.

The steps have a fixed order: few-shot and imbalance choose rows in file order, a seeded permutation (or file order, or
the order of classes) arranges them, the stream is cut, and label noise is drawn for each mega-batch by itself.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from lure.data.examples import Examples
from lure.errors import InputError, require_within, unknown_name
from lure.randomness import derive_generator

LARGEST_GAMMA = 50  # beyond it the counts of a million classes are too large for floats


def mega_batches(
    examples: Examples,
    count: int | None = None,
    size: int | None = None,
    *,
    order: Literal["iid", "file", "class"] = "iid",
    shots: int | None = None,
    imbalance: Sequence[float] = (),
    label_noise: float = 0.0,
    num_classes: int | None = None,
    seed: int = 0,
) -> list[Examples]:
    """Cut a data set into mega-batches (the released code of LURE says meta batches).

    With `count` alone the examples are divided as evenly as possible; with `size` alone the last mega-batch may be
    smaller; with both, `count` mega-batches of `size` are taken, the last one smaller if necessary, and the remaining
    examples are left out.

    Args:
        examples: the whole training set.
        count: number of mega-batches, at least 1.
        size: examples in each, at least 1.
        order: "iid" permutes the rows with the seed; "file" keeps the order of the file. With "class", classes arrive
            over time, by rising label: the permuted rows are sorted by class and then cut, so that a mega-batch holds
            a few classes, each row of it in permuted order again; a class may be cut in two.
        shots: keep only the first so many rows of each class.
        imbalance: (largest, smallest, gamma): class c keeps its first a / (b + c^gamma) rows, where a and b make the
            first class `largest` and the last one `smallest`; () keeps all.
        label_noise: probability in [0, 1] that a label is replaced by a uniformly random class (its own included); with
            the order "class", by one that has arrived.
        num_classes: number of classes; the largest label + 1 when not given.
        seed: decides permutation and noise.

    Returns:
        The mega-batches in the order of arrival; none is empty.

    Raises:
        InputError: if neither `count` nor `size` is given, one is below 1, there are too few examples, the order is
            unknown, or a label is not below the number of classes.

    Example:
        >>> data = Examples(torch.arange(10.0)[:, None], torch.arange(10) % 2)
        >>> [len(m) for m in mega_batches(data, count=3)], [len(m) for m in mega_batches(data, size=4)]
        ([4, 3, 3], [4, 4, 2])
        >>> mega_batches(data, 2, 3, order="file")[1].inputs.flatten().tolist()
        [3.0, 4.0, 5.0]
        >>> [m.labels.unique().tolist() for m in mega_batches(data, 2, order="class")]
        [[0], [1]]

    Reference:
        Caccia et al., "On Anytime Learning at Macroscale", 2021, arXiv 2106.09563; the power law of class counts is the
        one the LURE authors use.
    """
    require_within("label_noise", label_noise, 0, 1)
    if order not in ("iid", "file", "class"):
        raise unknown_name("order", order, ["iid", "file", "class"])
    largest = int(examples.labels.max()) if len(examples) else 0
    classes = num_classes or largest + 1
    if largest >= classes:
        raise InputError(f"label {largest} is not one of {classes} classes: labels must lie in [0, {classes - 1}]")
    rows = torch.arange(len(examples)) if shots is None else few_shot_rows(examples.labels, shots)
    if imbalance:
        rows = rows[first_of_each_class(examples.labels[rows], imbalanced_counts(imbalance, classes))]
    if order != "file":
        rows = rows[torch.randperm(len(rows), generator=derive_generator(seed, 0, "stream"))]
    if order == "class":
        places = examples.labels[rows].argsort(stable=True)  # of the rows by class, in permuted order within each
        pieces = [rows[piece.sort().values] for piece in _cut(places, count, size)]
    else:
        pieces = _cut(rows, count, size)
    stream = [examples[piece] for piece in pieces]
    if label_noise:
        arrived = [classes] * len(stream)
        if order == "class":  # a class that has not come yet is no mistake that anybody could make
            arrived = [int(piece.labels.max()) + 1 for piece in stream]
        stream = [
            _with_noise(m, label_noise, k, seed, t) for t, (m, k) in enumerate(zip(stream, arrived, strict=True), 1)
        ]
    return stream


def _cut(rows: Tensor, count: int | None, size: int | None) -> list[Tensor]:
    for name, value in (("the number of mega-batches", count), ("the size of a mega-batch", size)):
        if value is not None:
            require_within(name, value, 1)
    if count is None and size is None:
        raise InputError("give the number or the size of the mega-batches")
    if count is not None and len(rows) < (count if size is None else (count - 1) * size + 1):
        of_size = "" if size is None else f" of {size}"
        raise InputError(f"{len(rows)} examples are too few for {count} mega-batches{of_size}")
    if size is None:
        return list(torch.tensor_split(rows, count or 1))
    if not len(rows):
        raise InputError("there are no examples to cut into mega-batches")
    return list(torch.split(rows, size))[:count]


def few_shot_rows(labels: Tensor, shots: int) -> Tensor:
    """Return the row numbers, in order, of the first `shots` examples of each class.

    Raises:
        InputError: if `shots` is below 1.

    Example:
        >>> few_shot_rows(torch.tensor([0, 0, 2, 0, 2, 2]), 2).tolist()
        [0, 1, 2, 4]
    """
    require_within("shots", shots, 1)
    return first_of_each_class(labels, [shots] * (int(labels.max()) + 1 if len(labels) else 1))


def first_of_each_class(labels: Tensor, counts: Sequence[int]) -> Tensor:
    """Return the row numbers, in order, of the first `counts[c]` examples of each class c.

    Example:
        >>> first_of_each_class(torch.tensor([0, 1, 0, 0, 1]), [2, 1]).tolist()
        [0, 1, 2]
    """
    chosen = [torch.nonzero(labels == label).flatten()[:count] for label, count in enumerate(counts)]
    return torch.cat(chosen).sort().values


def imbalanced_counts(imbalance: Sequence[float], num_classes: int) -> list[int]:
    """Return how many examples each class keeps under the power law n_c = a / (b + c^gamma).

    Args:
        imbalance: (largest, smallest, gamma): the counts of the first and the last class, and the exponent.
        num_classes: number of classes, at least 2.

    Raises:
        InputError: if the three numbers do not describe a falling curve.

    Example:
        >>> imbalanced_counts((5000, 250, 1), 10)
        [5000, 1607, 957, 682, 529, 433, 366, 317, 280, 250]
    """
    falls = len(imbalance) == 3 and math.inf > imbalance[0] > imbalance[1] > 0 and 0 < imbalance[2] <= LARGEST_GAMMA
    if num_classes < 2 or not falls:
        raise InputError(
            f"imbalance must be largest,smallest,gamma with largest > smallest > 0 and gamma in (0, {LARGEST_GAMMA}], "
            f"got {','.join(f'{number:g}' for number in imbalance)} for {num_classes} classes"
        )
    largest, smallest, gamma = imbalance
    offset = (num_classes - 1) ** gamma * smallest / (largest - smallest)
    return [round(largest * offset / (offset + label**gamma)) for label in range(num_classes)]


def _with_noise(mega_batch: Examples, probability: float, num_classes: int, seed: int, stage: int) -> Examples:
    generator = derive_generator(seed, stage, "noise")
    labels = mega_batch.labels
    struck = torch.rand(len(labels), generator=generator) < probability
    random = torch.randint(num_classes, (len(labels),), generator=generator)
    return mega_batch.with_labels(torch.where(struck, random, labels))
