"""DASH against Python loops, and its special cases."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_networks import NETWORKS, trained
from torch import Tensor, nn

from lure.errors import InputError
from lure.unlearn import unlearn_
from lure.unlearners import Context, Dash, build_unlearner, name_unlearner

NETWORK = NETWORKS["convolutions"]


def descents(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> list[dict[str, Tensor]]:
    """The negative gradient of each batch."""
    model = copy.deepcopy(model).eval()
    found = []
    for inputs, labels in batches:
        model.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        found.append({name: -p.grad for name, p in model.named_parameters()})
    return found


def factor(descent: list[float], weight: list[float], floor: float) -> float:
    product = sum(d * w for d, w in zip(descent, weight, strict=True))
    norms = (sum(d * d for d in descent) * sum(w * w for w in weight)) ** 0.5
    return min(max(product / norms if norms else 0.0, floor), 1.0)


def naive(model: nn.Module, batches: list[tuple[Tensor, Tensor]], alpha: float, floor: float) -> dict[str, Tensor]:
    """The weights after the authors' rule, kernel by kernel."""
    steps = descents(model, batches)
    result = {}
    for name, parameter in model.named_parameters():
        weight = parameter.detach().clone()
        running = torch.zeros_like(weight)
        for step in steps:
            running = (1 - alpha) * running + alpha * step[name]
        layer = model.get_submodule(name.rpartition(".")[0])
        if isinstance(layer, nn.BatchNorm2d):
            pass
        elif weight.dim() == 1:
            weight *= factor(running.tolist(), weight.tolist(), floor)
        elif weight.dim() == 2:
            for row in range(len(weight)):
                weight[row] *= factor(running[row].tolist(), weight[row].tolist(), floor)
        else:
            for out in range(weight.shape[0]):
                for into in range(weight.shape[1]):
                    kernel = weight[out, into]
                    kernel *= factor(running[out, into].flatten().tolist(), kernel.flatten().tolist(), floor)
        result[name] = weight
    return result


@pytest.mark.parametrize(("alpha", "floor"), [(0.3, 0.3), (1.0, 0.05), (0.6, 0.0)])
def test_dash_agrees_with_loops(alpha: float, floor: float) -> None:
    model = trained(NETWORK)
    batches = [NETWORK.batch(seed) for seed in range(3)]
    expected = naive(model, batches, alpha, floor)
    Dash(alpha=alpha, shrink_floor=floor)(model, Context(batches=[], all_batches=batches))
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name], rtol=1e-4, atol=1e-6)


def test_alpha_zero_is_the_plain_sum() -> None:
    model, other = trained(NETWORK), trained(NETWORK)
    batches = [NETWORK.batch(seed) for seed in range(3)]
    Dash(alpha=0.0, sample="new")(model, Context(batches=batches))
    Dash(alpha=1e-4, sample="new")(other, Context(batches=batches))
    for first, second in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-2, atol=1e-3)
    Dash(alpha=1.0, sample="new")(other, Context(batches=batches))
    assert any(not torch.allclose(f, s, atol=1e-2) for f, s in zip(model.parameters(), other.parameters(), strict=True))


def test_biases_stay_if_asked_to() -> None:
    model = trained(NETWORK)
    before = copy.deepcopy(model)
    Dash(biases=False, shrink_floor=0.0, sample="new")(model, Context(batches=[NETWORK.batch(0)]))
    for name, parameter in model.named_parameters():
        is_weight = name.endswith("weight") and parameter.dim() > 1
        assert torch.equal(parameter, before.get_parameter(name)) == (not is_weight), name


def test_the_sample_is_the_new_data_or_all() -> None:
    old, new = NETWORK.batch(0), NETWORK.batch(1)
    results = []
    for sample, batches in [("new", [new]), ("all", [new]), ("all", [old, new])]:
        model = trained(NETWORK)
        Dash(sample=sample)(model, Context(batches=[new], all_batches=batches))
        results.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[1], results[2])


def test_a_floor_of_one_is_a_warm_start() -> None:
    model = trained(NETWORK)
    before = copy.deepcopy(model)
    Dash(shrink_floor=1.0, sample="new")(model, Context(batches=[NETWORK.batch(0)]))
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before.parameters(), strict=True))


def test_the_size_of_the_gradient_does_not_matter() -> None:
    def scaled(scale: float) -> Tensor:
        model = trained(NETWORKS["mlp"])

        def loss(net: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
            return scale * nn.functional.cross_entropy(net(batch[0]), batch[1])

        Dash(sample="new")(model, Context(batches=[NETWORKS["mlp"].batch(0)], loss=loss))
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    torch.testing.assert_close(scaled(1e-20), scaled(1.0), rtol=1e-4, atol=1e-6)


exponents = st.lists(st.integers(-32, 8), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(exponents, exponents, st.floats(0, 1), st.integers(0, 50))
def test_kernels_of_any_size_beside_each_other_are_compared_exactly(
    gradient_sizes: list[int], weight_sizes: list[int], floor: float, seed: int
) -> None:
    rows = min(len(gradient_sizes), len(weight_sizes))
    generator = torch.Generator().manual_seed(seed)
    descent, weight = (
        torch.randn(rows, 5, generator=generator) * 10.0 ** torch.tensor(sizes[:rows])[:, None]
        for sizes in (gradient_sizes, weight_sizes)
    )
    net = nn.Linear(5, rows, bias=False)
    with torch.no_grad():
        net.weight.copy_(weight)
    context = Context(batches=[descent], loss=lambda model, batch: -(model.weight * batch).sum())
    Dash(alpha=1.0, shrink_floor=floor, sample="new")(net, context)
    expected = [factor(d, w, floor) for d, w in zip(descent.tolist(), weight.tolist(), strict=True)]
    for row, by in enumerate(expected):
        torch.testing.assert_close(net.weight[row].detach(), weight[row] * by, rtol=1e-4, atol=0)


def test_a_kernel_without_gradient_shrinks_to_the_floor() -> None:
    net = nn.Linear(2, 2, bias=False)
    before = net.weight.detach().clone()
    Dash(sample="new")(net, Context(batches=[(torch.zeros(1, 2), torch.tensor([0]))]))
    torch.testing.assert_close(net.weight.detach(), 0.3 * before)


def test_a_weight_behind_a_parametrisation_is_refused() -> None:
    network = NETWORKS["normalised-weights"]
    model = trained(network)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(InputError, match=r"'0.parametrizations.weight.original' is computed by a parametrisation"):
        Dash(sample="new")(model, Context(batches=[network.batch(0)]))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


# The three published forms


def weights_after(unlearner: Dash, context: Context) -> list[Tensor]:
    model = trained(NETWORK)
    unlearner(model, context)
    return [p.detach() for p in model.parameters()]


def test_a_step_a_chunk_reads_the_mean_loss_over_the_whole_chunk() -> None:
    sizes = (5, 12, 8)
    whole = [tuple(part[:size] for part in NETWORK.batch(seed)) for seed, size in enumerate(sizes)]
    assert len({len(labels) for _, labels in whole}) > 1
    # Batches of another size in each chunk, and the last one smaller.
    chunks = [[(inputs[i : i + 3], labels[i : i + 3]) for i in range(0, len(labels), 3)] for inputs, labels in whole]
    expected = naive(trained(NETWORK), whole, 0.3, 0.3)
    found = weights_after(Dash(ema="chunk"), Context(batches=chunks[-1], chunks=chunks))
    for tensor, wanted in zip(found, expected.values(), strict=True):
        torch.testing.assert_close(tensor, wanted, rtol=1e-4, atol=1e-6)
    alone = weights_after(Dash(ema="chunk", sample="new"), Context(batches=chunks[-1], chunks=chunks))
    for tensor, wanted in zip(alone, naive(trained(NETWORK), whole[-1:], 0.3, 0.3).values(), strict=True):
        torch.testing.assert_close(tensor, wanted, rtol=1e-4, atol=1e-6)


def test_the_plain_sum_does_not_know_alpha() -> None:
    context = Context(batches=[], all_batches=[NETWORK.batch(seed) for seed in range(3)])
    by_limit = weights_after(Dash(alpha=0.0), context)
    for alpha in (0.3, 1.0):
        found = weights_after(Dash(ema="none", alpha=alpha), context)
        assert all(torch.equal(tensor, wanted) for tensor, wanted in zip(found, by_limit, strict=True))


def test_shuffled_batches_are_asked_for_by_size() -> None:
    batches = [NETWORK.batch(seed) for seed in range(3)]
    asked = []

    def shuffled(size: int, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
        asked.append((size, float(torch.rand((), generator=generator))))
        return batches[::-1]

    context = Context(batches=[], all_batches=batches, shuffled=shuffled, generator=torch.Generator().manual_seed(1))
    found = weights_after(Dash(shuffled=256, shrink_floor=0.05), context)
    expected = naive(trained(NETWORK), batches[::-1], 0.3, 0.05)
    for tensor, wanted in zip(found, expected.values(), strict=True):
        torch.testing.assert_close(tensor, wanted, rtol=1e-4, atol=1e-6)
    weights_after(Dash(shuffled=256), context)
    (size, first), (_, second) = asked
    assert size == 256
    assert first != second  # the context's generator decides, so the next stage has another order


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("dash:ema=chunk", r"give a loader for each, oldest first \(chunks=\[...\] of unlearn_, of a trainer's"),
        ("dash:shuffled=256", "give a loader that shuffles, with batches of that size, and leave shuffled out"),
        ("dash:shuffled=256:ema=chunk", "shuffled mixes all data so far"),
        ("dash:shuffled=256:sample=new", "shuffled mixes all data so far"),
    ],
)
def test_data_that_are_not_in_the_form_asked_for_are_refused(choice: str, message: str) -> None:
    model = trained(NETWORK)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(InputError, match=message):
        unlearn_(model, [NETWORK.batch(0)], choice)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_one_line_takes_the_chunks() -> None:
    chunks = [[NETWORK.batch(0)], [NETWORK.batch(1)]]
    model = trained(NETWORK)
    unlearn_(model, chunks[-1], "dash:ema=chunk", chunks=chunks)
    expected = weights_after(Dash(ema="chunk"), Context(batches=[], chunks=chunks))
    assert all(torch.equal(p.detach(), wanted) for p, wanted in zip(model.parameters(), expected, strict=True))


def test_every_preset_is_a_setting() -> None:
    presets = list(Dash.presets)
    assert presets == ["dash:ema=chunk", "dash:shrink_floor=0.05:shuffled=256", "dash:ema=none", "dash"]
    assert [name_unlearner(build_unlearner(preset)) for preset in presets] == presets
