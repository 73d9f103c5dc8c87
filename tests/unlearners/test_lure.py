"""LURE: exact counts, and which weights are forgotten."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_networks import NETWORKS, trained
from torch import Tensor, nn

from lure.errors import InputError
from lure.unlearners import Context, Lure
from lure.weights.layers import forgettable
from lure.weights.saliency import snip_saliency


def changed(model: nn.Module, before: nn.Module) -> dict[str, Tensor]:
    return {name: parameter != before.get_parameter(name) for name, parameter in model.named_parameters()}


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 1), st.integers(0, 3))
def test_the_count_is_exact_whatever_the_fraction(fraction: float, seed: int) -> None:
    network = NETWORKS["convolutions"]
    model = trained(network)
    with torch.no_grad():
        model[0].weight[:4] = 0  # dead filters, so that scores tie at zero
    before = copy.deepcopy(model)
    context = Context(batches=[network.batch(1)], generator=torch.Generator().manual_seed(seed))
    Lure(forget_fraction=fraction)(model, context)
    total = sum(weight.numel() for weight in forgettable(model).values())
    assert sum(int(mask.sum()) for mask in changed(model, before).values()) == round(fraction * total)


def test_the_least_salient_weights_go_and_no_others() -> None:
    network = NETWORKS["encoder"]
    model = trained(network)
    before = copy.deepcopy(model)
    batches = [network.batch(1), network.batch(2)]
    saliency = snip_saliency(model, batches)
    Lure(forget_fraction=0.3)(model, Context(batches=batches))
    masks = changed(model, before)
    gone = torch.cat([saliency[name][masks[name]] for name in forgettable(before)])
    kept = torch.cat([saliency[name][~masks[name]] for name in forgettable(before)])
    assert float(gone.max()) <= float(kept.min())
    assert not masks["positions"].any()
    assert not masks["head.bias"].any()


def test_the_ends_of_the_range_are_a_warm_start_and_a_full_redraw() -> None:
    network = NETWORKS["mlp"]
    for fraction, weights_changed in [(0.0, False), (1.0, True)]:
        model = trained(network)
        before = copy.deepcopy(model)
        Lure(forget_fraction=fraction)(model, Context(batches=[network.batch(1)]))
        for name, mask in changed(model, before).items():
            assert bool(mask.any() if not weights_changed else ~mask.all()) == (weights_changed and "bias" in name)


def test_a_wider_scope_forgets_biases_and_norm_scales() -> None:
    network = NETWORKS["convolutions"]
    model = trained(network)
    before = copy.deepcopy(model)
    Lure(forget_fraction=1.0, scope="all")(model, Context(batches=[network.batch(1)]))
    assert all(bool(mask.any()) for mask in changed(model, before).values())


def test_the_sample_is_what_was_asked_for() -> None:
    network = NETWORKS["mlp"]
    old, new = network.batch(1), network.batch(2)
    context = Context(batches=[new], all_batches=[old, new])

    def forgotten(unlearner: Lure, context: Context = context) -> list[Tensor]:
        model = trained(network)
        unlearner(model, context)
        return list(model.parameters())

    def equal(first: list[Tensor], second: list[Tensor]) -> bool:
        return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))

    both = forgotten(Lure(sample="all"))
    assert equal(both, forgotten(Lure(), Context(batches=[old, new])))
    assert not equal(both, forgotten(Lure()))
    few = old[0][:5], old[1][:5]
    assert equal(forgotten(Lure(sample="all", sample_size=5)), forgotten(Lure(), Context(batches=[few])))
    with pytest.raises(InputError, match="all_batches"):
        forgotten(Lure(sample="all"), Context(batches=[new]))
    with pytest.raises(InputError, match="sample_size must be at least 1, got 0"):
        Lure(sample_size=0)
