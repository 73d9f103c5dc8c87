"""The stream of the released code, row by row. Its buffer is tested with the others, in test_replay.py."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lure import Examples, InputError
from lure.data.released import released_order


def numbered(count: int, classes: int = 3) -> Examples:
    """Examples whose input is their own row number."""
    return Examples(torch.arange(float(count))[:, None], torch.arange(count) % classes)


def rows(examples: Examples) -> list[int]:
    return [int(value) for value in examples.inputs.flatten()]


@given(
    count=st.integers(1, 8),
    size=st.integers(5, 40),
    spare=st.integers(0, 40),
    fraction=st.sampled_from([0, 0.1, 0.25, 0.8]),
)
@settings(max_examples=80, deadline=None)
def test_released_order_gives_whole_disjoint_parts(count: int, size: int, spare: int, fraction: float) -> None:
    data = numbered(count * size + spare)
    stream = released_order(data, count, size, fraction)
    num_train = size - math.ceil(size * fraction - 1e-9)
    assert [row for split in stream for row in rows(split.train)] == list(range(count * num_train))
    held = [row for split in stream if len(split.validation) for row in rows(split.validation)]
    assert [len(split.validation) for split in stream] == [size - num_train] * count
    assert held == list(range(held[0], held[0] + len(held))) if held else fraction == 0 or num_train == size
    assert not held or (held[0] >= count * num_train and held[-1] < len(data))


def test_released_order_has_the_rows_of_the_protocol() -> None:
    labels = torch.arange(50_000) % 10
    stream = released_order(Examples(torch.arange(50_000.0)[:, None], labels), 8, 6250, 0.1)
    for stage, split in enumerate(stream, start=1):
        assert rows(split.train) == list(range(5625 * (stage - 1), 5625 * stage))
        assert rows(split.validation) == list(range(45_000 + 625 * (stage - 1), 45_000 + 625 * stage))


@pytest.mark.parametrize(
    ("total", "count", "size", "first_validation", "num_train"),
    [
        (50_000, 5, 5000, 45_000, 4500),  # where less than all is used, validation still starts at image 45,000
        (89_517, 3, 29_839, 80_565, 26_855),  # Restricted ImageNet; the constant of the released code
        (89_517, 53, 1689, 80_560, 1520),  # there the released constant runs five images past the end
        (7560, 10, 756, 6800, 680),  # few-shot: the released constant
        (7560, 30, 252, 6780, 226),
        (7560, 70, 108, 6790, 97),
    ],
)
def test_released_order_starts_its_validation_where_the_released_code_does(
    total: int, count: int, size: int, first_validation: int, num_train: int
) -> None:
    stream = released_order(numbered(total), count, size, 0.1)
    assert (len(stream[0].train), rows(stream[0].validation)[0]) == (num_train, first_validation)
    assert len(stream[-1].validation) == size - num_train


def test_released_order_with_few_shots() -> None:
    data = Examples(torch.arange(400.0)[:, None], torch.arange(400) // 200)  # sorted by class, like a folder tree
    stream = released_order(data, 2, 20, 0.1, shots=20)
    assert rows(stream[0].train) == list(range(18))
    assert rows(stream[1].train) == [18, 19, *range(200, 216)]
    assert rows(stream[1].validation) == [218, 219]


def test_released_order_refuses_too_few_examples() -> None:
    with pytest.raises(InputError, match="19 examples are too few for 2 mega-batches of 10"):
        released_order(numbered(19), 2, 10, 0.1)
    with pytest.raises(InputError, match="leaves none to train on"):
        released_order(numbered(19), 2, 1, 0.1)
