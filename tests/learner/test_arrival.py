"""What is said of a chunk before training: repeats, class balance, and the accuracy of the version in use."""

import numpy as np
import torch
from torch import Tensor

from lure.data.examples import Examples
from lure.learner.arrival import Arrival, KnownRows, Repeats, examine
from lure.store.chunks import Digests, digest_rows

NAMES = ["cat", "dog"]


def data(seed: int, labels: Tensor) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    return Examples(torch.rand(len(labels), 5, generator=generator), labels)


HOLDOUT = data(0, torch.arange(200) % 2)
CHUNK = data(1, torch.arange(100) % 2)


def digests(examples: Examples) -> Digests:
    return digest_rows(examples.inputs.numpy())


def look(chunk: Examples, *earlier: Examples, correct: Tensor | None = None, there: Tensor | None = None) -> Arrival:
    repeats = Repeats.of(digests(chunk), digests(HOLDOUT), KnownRows(map(digests, earlier)))
    return examine(chunk, HOLDOUT, repeats, NAMES, correct, there)


def test_a_chunk_like_the_holdout_gives_no_warning() -> None:
    arrival = look(CHUNK, data(2, torch.zeros(3, dtype=torch.int64)))
    assert arrival.warnings == ()
    assert (arrival.examples, arrival.class_counts) == (100, (50, 50))
    assert (arrival.in_holdout, arrival.in_earlier_chunks, arrival.repeated) == (0, 0, 0)
    assert arrival.prequential_accuracy is None


def test_repeats_are_counted_by_input_whatever_the_label() -> None:
    relabelled = HOLDOUT[:3].with_labels(torch.tensor([1, 1, 1]))
    first, second = data(3, torch.tensor([0, 1])), data(4, torch.tensor([0, 1]))
    chunk = Examples.concatenate([CHUNK, relabelled, first, second[:1], CHUNK[:4]])
    arrival = look(chunk, first, second)
    assert (arrival.in_holdout, arrival.in_earlier_chunks, arrival.repeated) == (3, 3, 4)
    assert arrival.warnings[0].startswith("3 of 110 examples are in the holdout, too")
    assert arrival.warnings[1].startswith("3 of 110 examples are in earlier chunks, too")


def test_row_digests_tell_inputs_apart_by_every_bit() -> None:
    inputs = torch.zeros(3, 2)
    inputs[1, 1] = -0.0
    found = digest_rows(inputs.numpy())
    assert found[0] == found[2] != found[1]
    images = torch.arange(12, dtype=torch.uint8).view(2, 1, 2, 3)
    assert len(set(digest_rows(images.numpy()).tolist())) == 2


def test_known_rows_are_those_of_all_chunks_in_whatever_order_they_came() -> None:
    generator = np.random.default_rng(0)
    chunks = [generator.integers(0, 60, count).astype(np.uint64) for count in (0, 7, 1, 20, 3)]
    grown = KnownRows()
    for number, chunk in enumerate(chunks):
        grown.add(chunk)
        every = {int(row) for earlier in chunks[: number + 1] for row in earlier}
        for known in (grown, KnownRows(chunks[: number + 1])):
            assert known.count(np.arange(61, dtype=np.uint64)) == len(every)


def test_another_class_balance_is_warned_of() -> None:
    arrival = look(data(5, torch.tensor([0] * 75 + [1] * 25)))
    assert len(arrival.warnings) == 1
    assert "the class balance departs from the holdout's (p = " in arrival.warnings[0]
    assert "most for class cat: 75.0 % here, 50.0 % there" in arrival.warnings[0]
    assert look(data(5, torch.tensor([0] * 55 + [1] * 45))).warnings == ()


def test_another_accuracy_is_warned_of_in_both_directions() -> None:
    there = torch.tensor([True] * 160 + [False] * 40)
    for right, warned in ((50, True), (80, False), (76, False), (99, True)):
        correct = torch.tensor([True] * right + [False] * (100 - right))
        arrival = look(CHUNK, correct=correct, there=there)
        assert arrival.prequential_accuracy == right / 100
        assert bool(arrival.warnings) is warned
    assert "gets 99.0 % of this chunk right and 80.0 % of the holdout" in arrival.warnings[0]
