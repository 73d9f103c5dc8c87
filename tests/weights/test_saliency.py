"""Saliency against central differences, selection against a full sort, and what both refuse."""

from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from torch import Tensor, nn

from lure.errors import InputError
from lure.weights.saliency import fisher, join_examples, magnitude, snip_saliency
from lure.weights.selection import lowest_fraction


def small_network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 3, bias=False), nn.Linear(3, 2)
    ).double()
    net(torch.randn(16, 3, dtype=torch.float64))  # gives the norm layer statistics of its own
    return net


def batches(count: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(6, 3, generator=generator, dtype=torch.float64), torch.randint(2, (6,), generator=generator))
        for _ in range(count)
    ]


@torch.no_grad()
def central_differences(net: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """The gradient of the mean loss, entry by entry, from two runs of the network in eval mode."""
    net.eval()
    slopes = {}
    for name, parameter in net.named_parameters():
        slopes[name] = torch.zeros_like(parameter)
        for index in range(parameter.numel()):
            losses = []
            for shift in (1e-5, -1e-5):
                parameter.view(-1)[index] += shift
                losses.append(nn.functional.cross_entropy(net(batch[0]), batch[1]))
                parameter.view(-1)[index] -= shift
            slopes[name].view(-1)[index] = (losses[0] - losses[1]) / 2e-5
    net.train()
    return slopes


def test_snip_saliency_agrees_with_central_differences() -> None:
    net, data = small_network(), batches(3)
    slopes = [central_differences(net, batch) for batch in data]
    for name, scores in snip_saliency(net, data).items():
        expected = net.get_parameter(name).abs() * sum(slope[name].abs() for slope in slopes)
        torch.testing.assert_close(scores, expected.detach(), rtol=1e-5, atol=1e-9)


def test_fisher_agrees_with_central_differences() -> None:
    net, data = small_network(), batches(3)
    slopes = [central_differences(net, batch) for batch in data]
    for name, values in fisher(net, data).items():
        torch.testing.assert_close(values, sum(slope[name] ** 2 for slope in slopes) / 3, rtol=1e-5, atol=1e-9)


def test_saliency_does_not_depend_on_the_mode_and_leaves_no_trace() -> None:
    net = small_network()
    net[1].eval()
    modes = [layer.training for layer in net.modules()]
    buffers = [buffer.clone() for buffer in net.buffers()]
    first = snip_saliency(net, batches(2))
    assert [layer.training for layer in net.modules()] == modes
    assert all(torch.equal(b, old) for b, old in zip(net.buffers(), buffers, strict=True))
    assert all(parameter.grad is None for parameter in net.parameters())
    second = snip_saliency(net.eval(), batches(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_parameter_out_of_reach_has_no_saliency() -> None:
    net = nn.ModuleDict({"used": nn.Linear(3, 2), "unused": nn.Linear(3, 2)})
    inputs, labels = torch.randn(4, 3), torch.zeros(4, dtype=torch.int64)
    scores = snip_saliency(net, [(inputs, labels)], lambda m, b: nn.functional.cross_entropy(m["used"](b[0]), b[1]))
    assert scores["unused.weight"].count_nonzero() == 0
    assert scores["used.weight"].count_nonzero() == 6


def test_low_precision_is_summed_in_float32() -> None:
    net = nn.Linear(3, 2).to(torch.bfloat16)
    batch = torch.randn(4, 3, dtype=torch.bfloat16), torch.zeros(4, dtype=torch.int64)
    assert {score.dtype for score in snip_saliency(net, [batch] * 3).values()} == {torch.float32}


def test_magnitude_is_the_absolute_value() -> None:
    net = nn.Linear(3, 2)
    assert torch.equal(magnitude(net)["weight"], net.weight.detach().abs())


@pytest.mark.parametrize("score", [snip_saliency, fisher])
def test_bad_data_are_refused(score: Callable[..., dict[str, Tensor]]) -> None:
    net, good = nn.Linear(3, 2), (torch.ones(1, 3), torch.tensor([0]))
    with pytest.raises(InputError, match="at least one"):
        score(net, [])
    with pytest.raises(InputError, match="saliency batch 2 is nan"):
        score(net, [good, (torch.full((1, 3), torch.nan), torch.tensor([0]))])
    with pytest.raises(InputError, match=r"a batch must be a pair \(inputs, labels\), got dict: pass loss="):
        score(net, [{"inputs": torch.ones(1, 3)}])
    with pytest.raises(InputError, match="meta device"):
        score(nn.Linear(3, 2, device="meta"), [good])
    with pytest.raises(InputError, match="no shape yet"):
        score(nn.LazyLinear(2), [good])


@pytest.mark.parametrize("score", [snip_saliency, fisher])
@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1], reduction="none"), r"got a tensor of shape \(2,\)"),
        (
            lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1]).item(),
            "one number, the mean over the batch, got float",
        ),
        (lambda m, b: None, "got NoneType"),
        (lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1]).detach(), "the loss has no gradient"),
    ],
    ids=["one for each example", "float", "nothing", "detached"],
)
def test_a_loss_that_is_not_one_number_with_a_gradient_is_refused(
    score: Callable[..., dict[str, Tensor]], loss: Callable[..., object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        score(nn.Linear(3, 2), [(torch.ones(2, 3), torch.tensor([0, 1]))], loss)


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_numbers_are_not_taken_for_classes(shape: tuple[int, ...]) -> None:
    net = nn.Sequential(nn.Linear(3, 1), nn.Unflatten(1, (1,)) if len(shape) == 2 else nn.Flatten(0))
    with pytest.raises(InputError, match="the labels are numbers, not classes: pass loss="):
        snip_saliency(net, [(torch.ones(4, 3), torch.rand(shape))])
    probabilities = torch.tensor([[0.2, 0.8]] * 4)
    assert bool(snip_saliency(nn.Linear(3, 2), [(torch.ones(4, 3), probabilities)])["weight"].all())


def test_what_has_no_gradient_to_read_is_refused() -> None:
    batch = torch.ones(1, 3), torch.tensor([0])
    with pytest.raises(InputError, match="no trainable parameter"):
        snip_saliency(nn.Linear(3, 2).requires_grad_(False), [batch])
    with pytest.raises(InputError, match="parameter 'weight' is complex"):
        snip_saliency(nn.Linear(3, 2, dtype=torch.complex64), [batch])


@pytest.mark.parametrize("score", [snip_saliency, fisher])
def test_sparse_gradients_of_an_embedding_count_like_dense_ones(score: Callable[..., dict[str, Tensor]]) -> None:
    table, head = torch.randn(9, 4), nn.Linear(4, 3)
    data = [
        (torch.tensor([[1, 1, 5], [2, 5, 5]]), torch.tensor([0, 2])),
        (torch.tensor([[7, 1, 0]]), torch.tensor([1])),
    ]
    scores = []
    for sparse in (False, True):
        embedding = nn.Embedding.from_pretrained(table.clone(), freeze=False, sparse=sparse)
        scores.append(score(nn.Sequential(embedding, nn.AvgPool2d((3, 1)), nn.Flatten(), head), data))
    for name, expected in scores[0].items():
        torch.testing.assert_close(scores[1][name], expected)


def naive_lowest(scores: dict[str, Tensor], fraction: float) -> tuple[int, float, int]:
    """Count to choose, threshold, and how many scores lie strictly below it: all by sorting everything."""
    ranked = sorted(score for tensor in scores.values() for score in tensor.flatten().tolist())
    count = round(fraction * len(ranked))
    threshold = ranked[count - 1] if count else -torch.inf
    return count, threshold, sum(score < threshold for score in ranked)


# Few distinct values make ties; the others reach all exponents, both signs and the infinities.
values = st.one_of(st.sampled_from([-1.0, -0.0, 0.0, 0.5]), st.floats(allow_nan=False, width=32))
tensors = st.lists(st.lists(values, min_size=0, max_size=9), min_size=1, max_size=4)
kinds = st.sampled_from([torch.float32, torch.float64, torch.bfloat16])


@settings(max_examples=200, deadline=None)
@given(tensors, st.floats(0, 1), kinds, kinds, st.integers(0, 5))
def test_lowest_fraction_agrees_with_a_full_sort(
    entries: list[list[float]], fraction: float, kind: torch.dtype, other: torch.dtype, seed: int
) -> None:
    scores = {
        f"tensor {index}": torch.tensor(entry, dtype=kind if index % 2 else other)
        for index, entry in enumerate(entries)
    }
    count, threshold, below = naive_lowest(scores, fraction)
    mask = lowest_fraction(scores, fraction, torch.Generator().manual_seed(seed))
    assert sum(int(m.sum()) for m in mask.values()) == count
    for name, score in scores.items():
        assert mask[name].shape == score.shape
        assert bool(mask[name][score.double() < threshold].all())
        assert not bool(mask[name][score.double() > threshold].any())
    if 0 < count < sum(map(len, entries)):
        everything = lowest_fraction(scores, fraction, ties="all")
        for name, score in scores.items():
            assert torch.equal(everything[name], score.double() <= threshold)
        assert below < count <= sum(int(m.sum()) for m in everything.values())


def test_selection_is_right_where_a_tensor_is_longer_than_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lure.weights.selection.PIECE", 7)
    scores = {"a": torch.randn(40, generator=torch.Generator().manual_seed(0)).view(5, 8), "b": torch.randn(9)}
    mask = lowest_fraction(scores, 0.3)
    everything = torch.cat([score.flatten() for score in scores.values()])
    chosen = torch.cat([m.flatten() for m in mask.values()])
    assert torch.equal(everything[chosen].sort().values, everything.sort().values[:15])


def test_scores_that_differ_in_the_last_digits_only_are_told_apart() -> None:
    scores = {"a": 1 + torch.randperm(500, generator=torch.Generator().manual_seed(0)) * 1e-6}
    for count in (1, 7, 250, 499):
        mask = lowest_fraction(scores, count / 500)["a"]
        assert torch.equal(scores["a"][mask].sort().values, scores["a"].sort().values[:count])


def test_repeated_scores_of_several_tensors_are_counted_together() -> None:
    repeats = {"a": [20, 1, 0, 7], "b": [0, 3, 1, 9]}
    scores = {name: torch.cat([torch.full((k,), 1 + i * 1e-6) for i, k in enumerate(repeats[name])]) for name in "ab"}
    everything = torch.cat(list(scores.values()))
    for count in range(1, 41):
        chosen = torch.cat(list(lowest_fraction(scores, count / 41).values()))
        assert torch.equal(everything[chosen].sort().values, everything.sort().values[:count])


def test_a_threshold_is_not_rounded_between_types() -> None:
    fine = 1 + torch.arange(10, dtype=torch.float64) * 1e-8
    coarse = torch.full((10,), 1 + 2**-23)  # the next float32 after 1, to which most of the fine ones would be rounded
    mask = lowest_fraction({"fine": fine, "coarse": coarse}, 0.5)
    assert [int(m.sum()) for m in mask.values()] == [10, 0]


def test_ties_fall_on_all_tensors_alike_and_as_the_generator_says() -> None:
    scores = {"dead": torch.zeros(1000), "also dead": torch.zeros(100, 10), "alive": torch.ones(1000)}
    masks = [lowest_fraction(scores, 0.25, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert 300 < int(masks[0]["dead"].sum()) < 450
    assert int(masks[0]["dead"].sum() + masks[0]["also dead"].sum()) == 750
    assert masks[0]["alive"].sum() == 0
    assert torch.equal(masks[0]["dead"], masks[1]["dead"])
    assert not torch.equal(masks[0]["dead"], masks[2]["dead"])
    assert torch.equal(lowest_fraction(scores, 0.25)["dead"], masks[0]["dead"])  # no generator means seed 0


def test_the_ends_of_the_range_choose_nothing_and_everything() -> None:
    scores = {"a": torch.zeros(3), "b": torch.tensor([torch.inf])}
    assert not any(m.any() for m in lowest_fraction(scores, 0.0).values())
    assert all(m.all() for m in lowest_fraction(scores, 1.0).values())
    assert lowest_fraction({}, 0.5) == {}


def test_bad_scores_are_refused() -> None:
    with pytest.raises(InputError, match=r"fraction must lie in \[0, 1\], got 1.5"):
        lowest_fraction({"a": torch.zeros(3)}, 1.5)
    with pytest.raises(InputError, match="scores of 'b' hold NaN"):
        lowest_fraction({"a": torch.zeros(3), "b": torch.tensor([torch.nan])}, 0.5)


def test_examples_are_joined_in_order_and_cut() -> None:
    pairs = [(torch.arange(i, i + 2), {"labels": torch.arange(i, i + 2)}) for i in (0, 2, 4)]
    inputs, rest = join_examples(iter(pairs), 3)
    assert inputs.tolist() == rest["labels"].tolist() == [0, 1, 2]
    remaining = iter(pairs)
    join_examples(remaining, 3)
    assert len(list(remaining)) == 1  # no batch is read that is not needed
    assert join_examples(pairs, 100)[0].tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(InputError, match="at least one"):
        join_examples([], 3)
    with pytest.raises(InputError, match="batch of type str"):
        join_examples(["text"], 3)
    with pytest.raises(InputError, match="batches that hold str do not join"):
        join_examples([(torch.ones(2), ["first", "second"])], 2)
    with pytest.raises(InputError, match=r"examples of shapes \(5,\), \(7,\) do not join"):
        join_examples([(torch.ones(2, 7), torch.ones(2)), (torch.ones(2, 5), torch.ones(2))], 4)


def saliency_of_one_rank(rank: int, directory: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{directory}/store", rank=rank, world_size=2)
    data = batches(3)
    mine = data[:1] if rank == 0 else data[1:]
    torch.save([snip_saliency(small_network(), mine), fisher(small_network(), mine)], f"{directory}/{rank}")
    dist.destroy_process_group()


def test_every_rank_has_the_saliency_of_all_batches(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(saliency_of_one_rank, (str(tmp_path),), nprocs=2)
    alone = [snip_saliency(small_network(), batches(3)), fisher(small_network(), batches(3))]
    ranks = [torch.load(tmp_path / str(rank)) for rank in (0, 1)]
    for first, second, expected in zip(*ranks, alone, strict=True):
        for name in expected:
            assert torch.equal(first[name], second[name])
            torch.testing.assert_close(first[name], expected[name])
