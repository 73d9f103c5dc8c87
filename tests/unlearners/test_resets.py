"""What each of the short methods redraws, and what it keeps."""

import copy

import pytest
import torch
from sample_networks import NETWORKS, trained
from torch import Tensor, nn

from lure.errors import InputError
from lure.unlearners import (
    Context,
    FisherReset,
    HeadReset,
    KnowledgeEvolution,
    LaterLayers,
    MagnitudeReset,
    RandomReset,
    Scratch,
    ShrinkPerturb,
    Unlearner,
)
from lure.weights.layers import forgettable
from lure.weights.reinit import fresh_parameters
from lure.weights.saliency import fisher


def moved(unlearner: Unlearner, name: str, seed: int = 0) -> tuple[nn.Module, nn.Module, dict[str, Tensor]]:
    """The network after and before, and for each parameter what changed."""
    network = NETWORKS[name]
    model = trained(network)
    before = copy.deepcopy(model)
    unlearner(model, Context(batches=[network.batch(1)], generator=torch.Generator().manual_seed(seed)))
    return model, before, {key: p != before.get_parameter(key) for key, p in model.named_parameters()}


@pytest.mark.parametrize("kind", [RandomReset, MagnitudeReset, FisherReset])
@pytest.mark.parametrize("fraction", [0.0, 0.2, 1.0])
def test_fractions_are_exact_and_biases_stay(kind: type, fraction: float) -> None:
    model, _, masks = moved(kind(forget_fraction=fraction), "convolutions")
    weights = forgettable(model)
    total = sum(weight.numel() for weight in weights.values())
    assert sum(int(mask.sum()) for mask in masks.values()) == round(fraction * total)
    assert not any(mask.any() for name, mask in masks.items() if name not in weights)


def test_random_reset_takes_from_every_layer_alike() -> None:
    _, _, masks = moved(RandomReset(forget_fraction=0.5), "convolutions")
    _, _, others = moved(RandomReset(forget_fraction=0.5), "convolutions", seed=1)
    for name in ("3.weight", "6.weight", "10.weight"):
        assert 0.4 < float(masks[name].float().mean()) < 0.6
        assert not torch.equal(masks[name], others[name])


def test_magnitude_and_fisher_take_the_lowest() -> None:
    network = NETWORKS["mlp"]
    information = fisher(trained(network), [network.batch(1)])
    for kind, scores in [
        (MagnitudeReset, {name: p.detach().abs() for name, p in trained(network).named_parameters()}),
        (FisherReset, information),
    ]:
        model, _, masks = moved(kind(forget_fraction=0.4), "mlp")
        gone = torch.cat([scores[name][masks[name]] for name in forgettable(model)])
        kept = torch.cat([scores[name][~masks[name]] for name in forgettable(model)])
        assert float(gone.max()) <= float(kept.min())


def test_scratch_redraws_everything_but_what_is_frozen() -> None:
    model, before, masks = moved(Scratch(), "convolutions")
    assert all(bool(mask.any()) for mask in masks.values())
    assert bool(masks["0.weight"].all())
    assert model[1].num_batches_tracked == 0
    assert before[1].num_batches_tracked == 3
    _, _, masks = moved(Scratch(), "frozen")
    assert {name for name, mask in masks.items() if not mask.any()} == {"0.weight", "0.bias", "1.weight", "1.bias"}


def test_scratch_takes_buffers_from_the_beginning() -> None:
    model = trained(NETWORKS["convolutions"])
    initial = {name: torch.full_like(tensor, 5) for name, tensor in model.state_dict().items()}
    Scratch()(model, Context(batches=[], initial=initial))
    assert all((buffer == 5).all() for buffer in model.buffers())
    assert not any((parameter == 5).any() for parameter in model.parameters())


def test_scratch_can_go_back_to_where_it_began() -> None:
    network = NETWORKS["encoder"]
    model = trained(network)
    model.head.requires_grad_(False)
    frozen = model.head.weight.clone()
    initial = {name: torch.full_like(tensor, 5) for name, tensor in model.state_dict().items()}
    Scratch(reload=True)(model, Context(batches=[], initial=initial))  # though nobody could redraw its position table
    assert all((parameter == 5).all() for parameter in model.parameters() if parameter.requires_grad)
    assert torch.equal(model.head.weight, frozen)
    with pytest.raises(InputError, match="reload=true needs initial="):
        Scratch(reload=True)(model, Context(batches=[]))


@pytest.mark.parametrize("reload", [False, True])
def test_a_beginning_that_does_not_fit_is_never_passed_over(reload: bool) -> None:
    model = trained(NETWORKS["convolutions"])
    whole = {name: torch.full_like(tensor, 5) for name, tensor in model.state_dict().items()}
    before = copy.deepcopy(model.state_dict())
    wrong = "1.running_mean" if not reload else "0.weight"
    with pytest.raises(InputError, match=f"initial weight of '{wrong}', of shape .* is of shape \\(1,\\)"):
        Scratch(reload=reload)(model, Context(batches=[], initial={**whole, wrong: torch.ones(1)}))
    wrapped = {f"module.{name}": tensor for name, tensor in whole.items()}  # a state dict of the DDP wrapper
    if reload:
        with pytest.raises(InputError, match=r"initial weight of '0.weight', of shape \(6, 2, 3, 3\), is missing"):
            Scratch(reload=True)(model, Context(batches=[], initial=wrapped))
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    else:
        Scratch()(model, Context(batches=[], initial=wrapped))
        assert model[1].num_batches_tracked == 0


def test_shrink_and_perturb_is_the_sum_of_old_and_fresh() -> None:
    model, before, _ = moved(ShrinkPerturb(shrink=0.3, perturb=0.2), "convolutions", seed=4)
    fresh = fresh_parameters(before, forgettable(before, "all"), torch.Generator().manual_seed(4))
    for name, parameter in model.named_parameters():
        expected = 0.3 * before.get_parameter(name) + 0.2 * fresh[name]
        torch.testing.assert_close(parameter.detach(), expected.detach())


def test_shrink_one_and_perturb_zero_is_a_warm_start() -> None:
    _, _, masks = moved(ShrinkPerturb(shrink=1.0, perturb=0.0), "convolutions")
    assert not any(mask.any() for mask in masks.values())


def test_without_perturbation_nothing_need_be_redrawn() -> None:
    moved(ShrinkPerturb(perturb=0.0), "encoder")  # it has a parameter that only a builder could draw


def test_the_head_alone_is_redrawn_whole() -> None:
    _, _, masks = moved(HeadReset(), "convolutions")
    assert bool(masks.pop("12.weight").all())
    assert bool(masks.pop("12.bias").all())
    assert not any(mask.any() for mask in masks.values())


def test_a_named_head_is_redrawn_with_all_that_is_under_it() -> None:
    _, _, masks = moved(HeadReset(head="encoder.layers.1"), "encoder")
    changed = {name for name, mask in masks.items() if mask.any()}
    assert all(name.startswith("encoder.layers.1.") for name in changed)
    assert "encoder.layers.1.self_attn.in_proj_weight" in changed
    assert "encoder.layers.1.linear2.bias" in changed


def test_a_head_that_cannot_be_redrawn_is_refused() -> None:
    with pytest.raises(InputError, match="all parameters of the head '0' are frozen"):
        moved(HeadReset(head="0"), "frozen")
    with pytest.raises(InputError, match="no layer named 'fc'"):
        moved(HeadReset(head="fc"), "mlp")


@pytest.mark.parametrize(
    ("unlearner", "first"),
    [
        (LaterLayers(), 2),  # five layers with weights: two kept, three redrawn
        (LaterLayers(forget_fraction=0.2), 4),
        (LaterLayers(forget_fraction=0.0), 5),
        (LaterLayers(forget_fraction=1.0), 0),
        (LaterLayers(first_layer="5"), 1),
    ],
)
def test_later_layers_are_counted_from_the_end(unlearner: LaterLayers, first: int) -> None:
    def build() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(
            *(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.ReLU()),
            *(nn.Sequential(nn.ReLU()), nn.ReLU(), nn.Linear(3, 3)),
            *(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)),
        )

    net, before = build(), build()
    unlearner(net, Context(batches=[]))
    layers = [name for name, layer in net.named_modules() if isinstance(layer, nn.Linear)]
    for index, name in enumerate(layers):
        for local in ("weight", "bias"):
            changed = net.get_parameter(f"{name}.{local}") != before.get_parameter(f"{name}.{local}")
            assert bool(changed.all() if index >= first else not changed.any()), name
    assert torch.equal(net[1].weight, before[1].weight)


def test_an_unknown_first_layer_is_refused() -> None:
    with pytest.raises(InputError, match=r"unknown layer with weights '9' \(valid: 0, 3, 5\)"):
        moved(LaterLayers(first_layer="9"), "mlp")
    with pytest.raises(InputError, match="no trainable weight to forget"):
        LaterLayers()(nn.LayerNorm(3), Context(batches=[]))


def test_knowledge_evolution_keeps_the_same_part_for_ever() -> None:
    network = NETWORKS["convolutions"]
    model = trained(network)
    before = copy.deepcopy(model)
    for seed in range(3):
        KnowledgeEvolution(keep_fraction=0.8)(
            model, Context(batches=[], generator=torch.Generator().manual_seed(seed), draw=network.build)
        )
        for name, weight in forgettable(model).items():
            kept = weight == before.get_parameter(name)
            assert int(kept.sum()) == round(0.8 * weight.numel())
            assert torch.equal(~kept, KnowledgeEvolution(keep_fraction=0.8).forget_mask(name, weight.shape))


def test_the_mask_of_knowledge_evolution_is_a_function_of_seed_name_and_shape() -> None:
    first = KnowledgeEvolution().forget_mask("a", torch.Size([10, 10]))
    torch.manual_seed(3)
    assert torch.equal(first, KnowledgeEvolution().forget_mask("a", torch.Size([10, 10])))
    assert int(first.sum()) == 50
    for other in (
        KnowledgeEvolution(mask_seed=1).forget_mask("a", torch.Size([10, 10])),
        KnowledgeEvolution().forget_mask("b", torch.Size([10, 10])),
        KnowledgeEvolution().forget_mask("a", torch.Size([100])).view(10, 10),
    ):
        assert not torch.equal(first, other)
