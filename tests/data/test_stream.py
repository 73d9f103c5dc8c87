"""Streams: every example once, in the order and number that was asked for; noise, few-shot and imbalance as defined."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lure import Examples, InputError, mega_batches
from lure.data.stream import few_shot_rows, first_of_each_class, imbalanced_counts
from lure.randomness import derive_generator


def numbered(count: int, classes: int = 3) -> Examples:
    """Examples whose input is their own row number."""
    return Examples(torch.arange(float(count))[:, None], torch.arange(count) % classes)


def rows(examples: Examples) -> list[int]:
    return [int(value) for value in examples.inputs.flatten()]


counts = st.integers(1, 60)


@given(total=counts, count=st.integers(1, 12), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_a_number_of_mega_batches_deals_every_example_once_and_evenly(total: int, count: int, seed: int) -> None:
    if total < count:
        with pytest.raises(InputError, match=f"{total} examples are too few for {count} mega-batches"):
            mega_batches(numbered(total), count, seed=seed)
        return
    stream = mega_batches(numbered(total), count, seed=seed)
    sizes = [len(m) for m in stream]
    assert (len(sizes), max(sizes) - min(sizes) <= 1) == (count, True)
    assert sorted(row for m in stream for row in rows(m)) == list(range(total))


@given(total=counts, size=st.integers(1, 70), order=st.sampled_from(["iid", "file", "class"]))
@settings(max_examples=60, deadline=None)
def test_a_size_alone_takes_everything_and_only_the_last_is_shorter(total: int, size: int, order: str) -> None:
    stream = mega_batches(numbered(total), size=size, order=order)
    sizes = [len(m) for m in stream]
    assert sizes[:-1] == [size] * (len(sizes) - 1)
    assert 1 <= sizes[-1] <= size
    assert sorted(row for m in stream for row in rows(m)) == list(range(total))


@given(total=counts, count=st.integers(1, 8), size=st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_number_and_size_leave_the_rest_out(total: int, count: int, size: int) -> None:
    if total <= (count - 1) * size:
        with pytest.raises(InputError, match=f"too few for {count} mega-batches of {size}"):
            mega_batches(numbered(total), count, size, order="file")
        return
    stream = mega_batches(numbered(total), count, size, order="file")
    assert len(stream) == count
    assert [row for m in stream for row in rows(m)] == list(range(min(total, count * size)))


def test_file_order_ignores_the_seed_and_iid_does_not() -> None:
    orders = {
        (order, seed): [row for m in mega_batches(numbered(50), 5, order=order, seed=seed) for row in rows(m)]
        for order in ("iid", "file")
        for seed in (0, 1)
    }
    assert orders["file", 0] == orders["file", 1] == list(range(50))
    assert orders["iid", 0] != orders["iid", 1]
    assert orders["iid", 0] == torch.randperm(50, generator=derive_generator(0, 0, "stream")).tolist()


def test_a_permutation_mixes_the_classes_of_a_sorted_file() -> None:
    data = Examples(torch.arange(300.0)[:, None], torch.arange(300) // 100)
    assert all(len(m.labels.unique()) == 3 for m in mega_batches(data, 5))
    assert len(mega_batches(data, 3, order="file")[0].labels.unique()) == 1


@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=50), shots=st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_few_shot_keeps_the_first_of_each_class_in_file_order(labels: list[int], shots: int) -> None:
    expected, seen = [], dict.fromkeys(range(5), 0)
    for row, label in enumerate(labels):
        seen[label] += 1
        if seen[label] <= shots:
            expected.append(row)
    assert few_shot_rows(torch.tensor(labels), shots).tolist() == expected
    data = Examples(torch.arange(float(len(labels)))[:, None], torch.tensor(labels))
    assert rows(mega_batches(data, 1, shots=shots, order="file")[0]) == expected


@given(
    classes=st.integers(2, 20),
    smallest=st.integers(1, 100),
    more=st.integers(1, 1000),
    gamma=st.floats(0.2, 3),
)
@settings(max_examples=60, deadline=None)
def test_the_power_law_falls_from_the_largest_to_the_smallest(
    classes: int, smallest: int, more: int, gamma: float
) -> None:
    largest = smallest + more
    found = imbalanced_counts((largest, smallest, gamma), classes)
    assert (found[0], found[-1], found) == (largest, smallest, sorted(found, reverse=True))
    # n_c = a / (b + c^gamma): its reciprocal grows linearly in c^gamma.
    slope = (1 / smallest - 1 / largest) / (classes - 1) ** gamma
    for label, count in enumerate(found):
        assert abs(count - 1 / (1 / largest + slope * label**gamma)) < 0.5 + 1e-6


def test_the_published_example_of_the_power_law() -> None:
    assert imbalanced_counts((5000, 250, 1), 10) == [5000, 1607, 957, 682, 529, 433, 366, 317, 280, 250]


def test_imbalance_cuts_the_classes_down() -> None:
    data = numbered(300)
    kept = mega_batches(data, 1, imbalance=(90, 10, 1), order="file")[0]
    assert torch.bincount(kept.labels).tolist() == imbalanced_counts((90, 10, 1), 3)
    assert rows(kept) == first_of_each_class(data.labels, imbalanced_counts((90, 10, 1), 3)).tolist()


@pytest.mark.parametrize("bad", [(5, 10, 1), (10, 0, 1), (10, 5, 0), (10, 5, 1e6), (10, 5)])
def test_a_law_that_does_not_fall_is_refused(bad: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="largest > smallest > 0 and gamma in"):
        imbalanced_counts(bad, 10)


@given(probability=st.sampled_from([0.0, 0.3, 1.0]), seed=st.integers(0, 3))
@settings(max_examples=12, deadline=None)
def test_noise_strikes_the_asked_share_and_no_input(probability: float, seed: int) -> None:
    clean = mega_batches(numbered(6000), 3, seed=seed)
    noisy = mega_batches(numbered(6000), 3, seed=seed, label_noise=probability)
    changed = torch.cat([a.labels != b.labels for a, b in zip(clean, noisy, strict=True)]).double()
    assert [rows(m) for m in noisy] == [rows(m) for m in clean]
    # A struck label stays what it was with probability 1/3; five standard deviations of the mean are allowed.
    expected = probability * 2 / 3
    assert abs(float(changed.mean()) - expected) <= 5 * math.sqrt(expected * (1 - expected) / 6000)
    if probability == 1:
        shares = torch.bincount(torch.cat([m.labels for m in noisy])) / 6000
        assert float((shares - 1 / 3).abs().max()) < 0.04


def test_classes_arrive_over_time_each_mega_batch_in_the_order_of_its_permutation() -> None:
    stream, permuted = mega_batches(numbered(90), 4, order="class"), mega_batches(numbered(90), 1)[0]
    assert [m.labels.unique().tolist() for m in stream] == [[0], [0, 1], [1, 2], [2]]
    place = {row: number for number, row in enumerate(rows(permuted))}
    for mega_batch in stream:
        places = [place[row] for row in rows(mega_batch)]
        assert places == sorted(places)
    assert rows(mega_batches(numbered(90), 4, order="class", seed=1)[0]) != rows(stream[0])


def test_noise_brings_no_class_before_its_time() -> None:
    stream = mega_batches(numbered(900), 3, order="class", label_noise=0.9)
    assert [m.labels.unique().tolist() for m in stream] == [[0], [0, 1], [0, 1, 2]]


def test_noise_of_one_mega_batch_does_not_depend_on_the_others() -> None:
    whole = mega_batches(numbered(90), size=30, order="file", label_noise=0.5)
    first = mega_batches(numbered(90)[:60], size=30, order="file", label_noise=0.5)
    assert [m.labels.tolist() for m in whole[:2]] == [m.labels.tolist() for m in first]
    assert whole[0].labels.tolist() != whole[1].labels.tolist()


def test_the_stored_labels_stay_as_they_are() -> None:
    data = numbered(60)
    mega_batches(data, 2, label_noise=1.0)
    assert data.labels.tolist() == [row % 3 for row in range(60)]


BAD = {
    "neither": ({}, "give the number or the size of the mega-batches"),
    "no mega-batch": ({"count": 0}, "the number of mega-batches must be at least 1, got 0"),
    "no size": ({"size": 0}, "the size of a mega-batch must be at least 1, got 0"),
    "no shot": ({"count": 1, "shots": 0}, "shots must be at least 1, got 0"),
    "noise": ({"count": 1, "label_noise": 1.5}, r"label_noise must lie in \[0, 1\], got 1.5"),
    "order": (
        {"count": 1, "order": "files"},
        r"unknown order 'files': did you mean 'file'\? \(valid: class, file, iid\)",
    ),
    "label": ({"count": 1, "num_classes": 2}, r"label 2 is not one of 2 classes: labels must lie in \[0, 1\]"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_settings_are_refused(name: str) -> None:
    arguments, message = BAD[name]
    with pytest.raises(InputError, match=f"^{message}$"):
        mega_batches(numbered(9), **arguments)


def test_an_empty_data_set_is_refused() -> None:
    with pytest.raises(InputError, match="no examples to cut"):
        mega_batches(numbered(9)[:0], size=3)
    with pytest.raises(InputError, match="0 examples are too few for 2"):
        mega_batches(numbered(9)[:0], 2)
