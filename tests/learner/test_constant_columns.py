"""Columns that are the same in a whole chunk are named where chance does not explain it."""

import torch

from lure.data.examples import Examples
from lure.data.sources.columns import Column, TableForm
from lure.learner.constant_columns import constant_columns

FORM = TableForm(
    columns=(
        Column(name="week", kind="numbers"),
        Column(name="rare", kind="truth values"),
        Column(name="plan", kind="text", levels=("basic", "pro")),
        Column(name="age", kind="numbers", mean=40.0),
        Column(name="same", kind="numbers"),
    )
)


def rows(count, seed, **fixed):
    """Weeks 0 to 9, one truth in fifty, three plans, half of the ages missing, and a column that never varies."""
    draw = torch.Generator().manual_seed(seed)
    missing = torch.arange(count) % 2 == 0
    plan = torch.eye(3)[torch.arange(count) % 3]
    columns = {
        "week": torch.arange(count).float() % 10,
        "rare": (torch.arange(count) % 50 == 49).float(),
        "plan": plan,
        "age": torch.where(missing, torch.tensor(40.0), torch.rand(count, generator=draw)),
        "missing": missing.float(),
        "same": torch.ones(count),
    }
    for name, value in fixed.items():
        columns[name] = torch.tensor(value).expand(columns[name].shape)
    return Examples(torch.cat([c.reshape(count, -1) for c in columns.values()], 1), torch.zeros(count).long())


def named(chunk, holdout=None, form=FORM):
    told = list(constant_columns(chunk, holdout or rows(1000, 0), form))
    return [sentence.split(" in all")[0] for sentence in told]


def test_a_column_that_varies_in_the_holdout_only_is_named_with_its_value():
    assert named(rows(40, 1)) == []
    assert named(rows(40, 1, week=7.0)) == ["column 'week' is 7"]
    assert named(rows(40, 1, week=99.0, plan=[0.0, 1.0, 0.0])) == ["column 'week' is 99", "column 'plan' is pro"]
    assert named(rows(40, 1, plan=[0.0, 0.0, 1.0])) == ["column 'plan' is another"]
    assert named(rows(40, 1, age=40.0, missing=1.0)) == ["column 'age' is missing"]
    assert named(rows(10_000, 1, week=7.0)) == ["column 'week' is 7"]


def test_chance_is_not_blamed():
    # All of 40 rows false, where one in fifty is true: nearly one chunk in two looks so.
    assert named(rows(40, 1, rare=0.0)) == []
    assert named(rows(400, 1, rare=0.0)) == ["column 'rare' is 0"]
    assert named(rows(1, 1)) == []
    assert named(rows(2, 1, week=3.0)) == []


def test_arrays_have_no_columns():
    assert named(rows(40, 1, week=7.0), form=None) == []
