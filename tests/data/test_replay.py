"""Replay: what each regime offers and keeps, checked against slow models of the rules; the state survives a restart."""

import dataclasses
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lure import BufferReplay, Examples, FullReplay, InputError, LastReplay, NoReplay, Recipe, Split
from lure.data.examples import InputStore
from lure.data.released import ReleasedBuffer
from lure.data.replay import REPLAYS, Replay


def arriving(sizes: list[tuple[int, int]], classes: int = 3) -> list[Split]:
    """Mega-batches of (train, validation) examples whose inputs are numbered throughout, in order of arrival."""
    splits, start = [], 0
    for train, validation in sizes:
        values = torch.arange(float(start), start + train + validation)[:, None]
        whole = Examples(values, (values[:, 0].long() * 7 // 3) % classes)
        splits.append(Split(whole[:train], whole[train:]))
        start += train + validation
    return splits


def rows(examples: Examples) -> list[int]:
    return [int(value) for value in examples.inputs.flatten()]


def generator(stage: int) -> torch.Generator:
    return torch.Generator().manual_seed(stage)


def offers(replay: Replay, splits: list[Split]) -> list[tuple[list[int], list[int]]]:
    offered = [replay.admit(split, generator(stage)) for stage, split in enumerate(splits)]
    return [(rows(split.train), rows(split.validation)) for split in offered]


def joined(pairs: list[tuple[list[int], list[int]]]) -> tuple[list[int], list[int]]:
    return [row for train, _ in pairs for row in train], [row for _, validation in pairs for row in validation]


sizes = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 6)), min_size=1, max_size=6)
choices = st.sampled_from(
    [
        "full",
        "none",
        "last",
        "buffer:capacity=5:validation_capacity=2",
        "buffer:capacity=5:validation_capacity=2:balanced=true",
        "buffer:capacity=4:validation_capacity=3:rule=released",
    ]
)


@given(sizes=sizes)
@settings(max_examples=50, deadline=None)
def test_full_none_and_last_offer_what_they_say(sizes: list[tuple[int, int]]) -> None:
    splits = arriving(sizes)
    alone = [(rows(split.train), rows(split.validation)) for split in splits]
    assert offers(NoReplay(), splits) == alone
    for stage, offered in enumerate(offers(FullReplay(), splits)):
        assert offered == joined(alone[: stage + 1])
    for stage, offered in enumerate(offers(LastReplay(), splits)):
        assert offered == joined(alone[max(0, stage - 1) : stage + 1])


def naive_reservoir(seen: list[int], labels: list[int], keys: list[float], capacity: int, balanced: bool) -> list[int]:
    """The rule over everything ever seen: smallest keys first, a class taking turns with the others if balanced."""
    ranked = sorted(range(len(seen)), key=lambda i: keys[i])
    if balanced:
        turns = Counter[int]()
        order = []
        for rank, i in enumerate(ranked):
            order.append((turns[labels[i]], rank, i))
            turns[labels[i]] += 1
        ranked = [i for _, _, i in sorted(order)]
    return [seen[i] for i in sorted(ranked[:capacity])]


@given(
    sizes=sizes,
    capacity=st.integers(1, 9),
    validation_capacity=st.integers(0, 5),
    balanced=st.booleans(),
    classes=st.integers(1, 4),
)
@settings(max_examples=80, deadline=None)
def test_a_reservoir_filled_in_steps_is_one_drawn_from_all_at_once(
    sizes: list[tuple[int, int]], capacity: int, validation_capacity: int, balanced: bool, classes: int
) -> None:
    splits = arriving(sizes, classes)
    replay = BufferReplay(capacity=capacity, validation_capacity=validation_capacity, balanced=balanced)
    found = offers(replay, splits)
    held: tuple[list[int], list[int]] = [], []
    seen: tuple[list[int], list[int]] = [], []
    labels: tuple[list[int], list[int]] = [], []
    keys: tuple[list[float], list[float]] = [], []
    for stage, split in enumerate(splits):
        draws = generator(stage)
        for side, (part, limit) in enumerate(((split.train, capacity), (split.validation, validation_capacity))):
            assert found[stage][side] == held[side] + rows(part)
            seen[side].extend(rows(part))
            labels[side].extend(part.labels.tolist())
            keys[side].extend(torch.rand(len(part), generator=draws).tolist())
            held[side][:] = naive_reservoir(seen[side], labels[side], keys[side], limit, balanced)


def test_a_reservoir_holds_every_example_with_equal_probability() -> None:
    splits = arriving([(6, 0), (3, 0), (9, 0)])
    held: Counter[int] = Counter()
    trials = 1500
    for trial in range(trials):
        replay, draws = BufferReplay(capacity=4), torch.Generator().manual_seed(trial)
        for split in splits:
            replay.admit(split, draws)
        held.update(rows(replay.admit(arriving([(1, 0)])[0], draws).train)[:-1])
    # Binomial around 4/18, five standard deviations.
    expected, spread = trials * 4 / 18, (trials * 4 / 18 * 14 / 18) ** 0.5
    assert set(held) == set(range(18))
    assert max(abs(count - expected) for count in held.values()) < 5 * spread


def test_a_balanced_reservoir_gives_every_class_its_share() -> None:
    # 60 examples of class 0, 30 of class 1, and 3 of class 2, which is less than a share.
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 3)
    whole = Examples(torch.arange(93.0)[:, None], labels)
    replay = BufferReplay(capacity=21, balanced=True)
    replay.admit(Split(whole, whole[:0]), generator(0))
    held = replay.admit(Split(whole[:1], whole[:0]), generator(1)).train[:-1]
    assert torch.bincount(held.labels).tolist() == [9, 9, 3]


@given(sizes=sizes, capacity=st.integers(1, 6), validation_capacity=st.integers(0, 4))
@settings(max_examples=50, deadline=None)
def test_the_released_rule_only_adds(sizes: list[tuple[int, int]], capacity: int, validation_capacity: int) -> None:
    splits = arriving(sizes)
    replay = ReleasedBuffer(capacity=capacity, validation_capacity=validation_capacity)
    found = offers(replay, splits)
    buffers: tuple[Counter[int], Counter[int]] = Counter(), Counter()
    for stage, split in enumerate(splits):
        limits = (split.train, capacity), (split.validation, validation_capacity)
        for side, (part, limit) in enumerate(limits):
            offered = Counter(found[stage][side])
            assert offered == buffers[side] + Counter(rows(part))  # the new ones once, the buffer as it was
            if stage + 1 < len(splits):
                following = [splits[stage + 1].train, splits[stage + 1].validation][side]
                after = Counter(found[stage + 1][side]) - Counter(rows(following))
                added = after - buffers[side]
                assert after & buffers[side] == buffers[side]  # nothing is ever dropped
                assert added.total() == min(limit, offered.total())
                assert not added - offered  # drawn without replacement from what was offered
                buffers[side].clear()
                buffers[side].update(after)


def test_the_released_rule_can_hold_an_example_twice() -> None:
    replay = ReleasedBuffer(capacity=3, validation_capacity=0)
    splits = arriving([(3, 0), (1, 0), (1, 0)])
    train = [train for train, _ in offers(replay, splits)]
    assert [len(t) for t in train] == [3, 4, 7]
    assert len(set(train[2])) < 7


def stored(state: dict[str, Any]) -> dict[str, Any]:
    """The state after a way through a file: other tensors of the same values, and the same mega-batches."""
    return {
        key: [value.clone() if isinstance(value, Tensor) else value for value in values]
        for key, values in state.items()
    }


@given(choice=choices, sizes=sizes, stop=st.integers(0, 5))
@settings(max_examples=80, deadline=None)
def test_a_restart_between_any_two_stages_changes_nothing(choice: str, sizes: list[tuple[int, int]], stop: int) -> None:
    splits = arriving(sizes)
    straight = offers(Recipe(replay=choice).new_replay(), splits)
    replay, found = Recipe(replay=choice).new_replay(), []
    for stage, split in enumerate(splits):
        if stage == stop:
            state = stored(replay.state_dict())
            replay = Recipe(replay=choice).new_replay()
            replay.load_state_dict(state)
        offered = replay.admit(split, generator(stage))
        found.append((rows(offered.train), rows(offered.validation)))
    assert found == straight


@given(choice=choices, sizes=sizes)
@settings(max_examples=50, deadline=None)
def test_the_state_names_only_mega_batches_that_are_needed(choice: str, sizes: list[tuple[int, int]]) -> None:
    splits = arriving(sizes)
    replay = Recipe(replay=choice).new_replay()
    offers(replay, splits)
    state = replay.state_dict()
    lists = [values for key, values in state.items() if key != "mega_batches"]
    assert all(len(values) == len(state["mega_batches"]) for values in lists)
    assert all(any(kept is split for split in splits) for kept in state["mega_batches"])
    if choice.startswith("buffer"):
        held = zip(state["train"], state["validation"], strict=True)
        assert all(len(train) or len(validation) for train, validation in held)
    if choice == "last":
        assert state["mega_batches"] == [splits[-1]]


class Watched:
    """An input store that counts the rows it is asked for."""

    def __init__(self, count: int) -> None:
        self.shape, self.dtype, self.read = torch.Size((count, 2)), torch.float32, 0

    def __getitem__(self, numbers: Tensor) -> Tensor:
        self.read += len(numbers)
        return torch.zeros(len(numbers), 2)


@pytest.mark.parametrize("name", REPLAYS)
def test_no_input_is_read_or_copied(name: str) -> None:
    store: InputStore = Watched(100)
    whole = Examples(store, torch.arange(100) % 5)
    replay = Recipe(replay=name).new_replay()
    for start in (0, 30, 60):
        offered = replay.admit(Split(whole[start : start + 25], whole[start + 25 : start + 30]), generator(start))
    assert isinstance(store, Watched)
    assert store.read == 0
    assert all(part.inputs is store for part in offered.train.parts + offered.validation.parts)


@given(choice=choices, sizes=sizes)
@settings(max_examples=30, deadline=None)
def test_only_the_given_generator_is_drawn_from(choice: str, sizes: list[tuple[int, int]]) -> None:
    before = torch.get_rng_state()
    first = offers(Recipe(replay=choice).new_replay(), arriving(sizes))
    assert torch.equal(before, torch.get_rng_state())
    assert first == offers(Recipe(replay=choice).new_replay(), arriving(sizes))


BAD = {
    "buffer:capacity=0": "capacity must be at least 1, got 0",
    "buffer:validation_capacity=-1": "validation_capacity must be at least 0, got -1",
    "buffer:rule=fifo": "unknown value of buffer:rule 'fifo'",
    "buffer:rule=released:balanced=true": "balanced needs rule=reservoir",
    "buffr": "unknown replay regime 'buffr': did you mean 'buffer'",
    "full:capacity=3": "unknown option of full 'capacity'",
}


@pytest.mark.parametrize("choice", BAD)
def test_bad_choices_are_refused(choice: str) -> None:
    with pytest.raises(InputError, match=BAD[choice]):
        Recipe(replay=choice).new_replay()


@pytest.mark.parametrize("kind", [BufferReplay, ReleasedBuffer])
def test_bad_values_are_refused_from_python_too(kind: type) -> None:
    with pytest.raises(InputError, match="capacity must be at least 1, got 0"):
        kind(capacity=0)
    with pytest.raises(InputError, match=r"validation_capacity must be a whole number, got 2\.5"):
        kind(validation_capacity=2.5)


@pytest.mark.parametrize("rule", ["reservoir", "released"])
def test_a_buffer_has_the_rule_that_is_asked_for(rule: str) -> None:
    """And by default the size and the shares of the classes that the class itself has."""
    kind = {"reservoir": BufferReplay, "released": ReleasedBuffer}[rule]
    assert Recipe(replay=f"buffer:rule={rule}").new_replay() == kind()
    assert Recipe(replay=f"buffer:rule={rule}:capacity=7:validation_capacity=3").new_replay() == kind(
        capacity=7, validation_capacity=3
    )
    assert Recipe(replay="buffer:balanced=true").new_replay() == BufferReplay(balanced=True)


def test_regimes_have_only_hyperparameters_for_fields() -> None:
    for maker in REPLAYS.values():
        replay: Any = maker()
        assert all(field.default is not dataclasses.MISSING for field in dataclasses.fields(replay))
