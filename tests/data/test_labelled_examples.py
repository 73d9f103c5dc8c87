"""Chosen rows of many data sets are joined as if one after the other."""

import pytest
import torch

from lure.data.examples import Examples
from lure.errors import InputError


def test_selected_rows_are_those_of_each_data_set_in_turn() -> None:
    generator = torch.Generator().manual_seed(0)
    sets = [Examples(torch.rand(n, 2, generator=generator), torch.arange(n) % 3) for n in (5, 1, 7)]
    sets.append(Examples.concatenate(sets[:2])[torch.tensor([5, 0, 3])])  # of several parts, in another order
    rows = [torch.randint(len(each), (4,), generator=generator) for each in sets]
    pairs = list(zip(sets, rows, strict=True))
    plain = Examples.concatenate([examples[chosen] for examples, chosen in pairs])
    found = Examples.select(pairs)
    assert len(found) == len(plain) == 16
    assert torch.equal(found.inputs, plain.inputs)
    assert torch.equal(found.labels, plain.labels)
    assert found.fingerprint == plain.fingerprint


def test_rows_of_different_shapes_do_not_join() -> None:
    pairs = [
        (Examples(torch.zeros(2, width), torch.zeros(2, dtype=torch.int64)), torch.tensor([0])) for width in (2, 3)
    ]
    with pytest.raises(InputError, match="cannot join inputs of different shapes"):
        Examples.select(pairs)
