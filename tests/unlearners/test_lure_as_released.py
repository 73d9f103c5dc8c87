"""LURE as released: the released code's rule written out again, and the differences one by one."""

import copy
import dataclasses
import math

import pytest
import torch
from sample_networks import NETWORKS, trained
from torch import Tensor, nn

from lure import InputError, unlearn_
from lure.randomness import forked_rng
from lure.unlearners import Context, Lure, LureAsReleased, build_unlearner, name_unlearner
from lure.unlearners.lure_as_released import kaiming_uniform_copy

ALL = "lure:scope=released:law=kaiming-uniform:sample=all:sample_size=100:ties=all"


def changed(model: nn.Module, before: nn.Module) -> dict[str, Tensor]:
    return {name: parameter != before.get_parameter(name) for name, parameter in model.named_parameters()}


def released(model: nn.Module, batches: list[tuple[Tensor, Tensor]], fraction: float) -> dict[str, Tensor]:
    """What the released code forgets, step by step: True = redrawn."""
    model = copy.deepcopy(model).eval()
    inputs = torch.cat([batch[0] for batch in batches])[:100]
    labels = torch.cat([batch[1] for batch in batches])[:100]
    nn.functional.cross_entropy(model(inputs), labels).backward()
    scores = {name: (p.grad * p).abs() for name, p in model.named_parameters()}
    ranked = sorted(value for score in scores.values() for value in score.flatten().tolist())
    threshold = ranked[round(fraction * len(ranked)) - 1]
    return {name: (score <= threshold) & ("weight" in name) for name, score in scores.items()}


def test_as_released_does_what_the_released_code_does() -> None:
    network = NETWORKS["convolutions"]
    model = trained(network)
    with torch.no_grad():
        model[0].weight[:2] = 0
    before = copy.deepcopy(model)
    batches = [network.batch(seed) for seed in range(10)]  # 120 examples, of which the first 100 count
    expected = released(model, batches, 0.3)
    Lure.as_released(0.3)(model, Context(batches=[], all_batches=batches))
    for name, mask in changed(model, before).items():
        assert torch.equal(mask, expected[name]), name
    assert bool(expected["1.weight"].any())  # norm scales are redrawn
    bound = (2 * 9) ** -0.5
    fresh = model[0].weight[expected["0.weight"]]
    assert float(fresh.detach().abs().max()) <= bound
    assert bool((model[1].weight[expected["1.weight"]] < 0.5).any())


def test_kaiming_uniform_ignores_how_a_network_begins() -> None:
    model = nn.Sequential(nn.Conv2d(4, 50, 5), nn.BatchNorm2d(50), nn.Linear(64, 50))
    with forked_rng(None):
        copied = kaiming_uniform_copy(model)
    for name, bound in [("0.weight", 0.1), ("0.bias", 1.0), ("1.weight", 1.0), ("2.weight", 0.125)]:
        values = copied.get_parameter(name)
        assert float(values.abs().max()) <= bound
        assert float(values.std()) == pytest.approx(bound / math.sqrt(3), rel=0.25)
    assert not any(model.get_parameter(name) is p for name, p in copied.named_parameters())


def test_a_choice_of_lure_that_names_a_difference_has_it_and_no_other() -> None:
    released = LureAsReleased()
    methods_own = {"scope": "weights", "law": "own", "sample": "new", "sample_size": None, "ties": "random"}
    for name, value in (("scope", "released"), ("law", "kaiming-uniform"), ("ties", "all")):
        choice = f"lure:{name}={value}"
        assert build_unlearner(choice) == dataclasses.replace(released, **{**methods_own, name: value})
        assert name_unlearner(build_unlearner(choice)) == choice
    assert build_unlearner(ALL) == released == Lure.as_released()
    assert name_unlearner(released) == ALL
    assert type(build_unlearner("lure:scope=all:sample=all:sample_size=5")) is Lure
    assert build_unlearner("lure:forget_fraction=0.3:scope=all:ties=all") == dataclasses.replace(
        released, **{**methods_own, "forget_fraction": 0.3, "scope": "all", "ties": "all"}
    )


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("lure:law=normal", "unknown value of lure:law 'normal'"),
        ("lure:ties=all:tie=all", "unknown option of lure 'tie': did you mean 'ties'"),
        ("lure:ties=all:forget_fraction=2", r"forget_fraction must lie in \[0, 1\], got 2"),
        ("lure:scope=released:sample_size=0", "sample_size must be at least 1, got 0"),
    ],
)
def test_bad_values_are_refused(choice: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_unlearner(choice)


def test_without_the_differences_it_is_the_method() -> None:
    network = NETWORKS["convolutions"]
    context = Context(batches=[network.batch(1)], all_batches=[network.batch(2), network.batch(1)])
    for options in ("", ":scope=all", ":sample=all:sample_size=15"):
        models = trained(network), trained(network)
        build_unlearner(f"lure{options}")(models[0], context)
        build_unlearner(f"lure{options}:ties=random")(models[1], context)
        for first, second in zip(models[0].parameters(), models[1].parameters(), strict=True):
            assert torch.equal(first, second)


def test_the_one_line_takes_the_differences_as_hyperparameters() -> None:
    network = NETWORKS["mlp"]
    report = unlearn_(trained(network), [network.batch(1)], "lure:sample_size=10", ties="all", forget_fraction=0.3)
    assert report.method == "lure:forget_fraction=0.3:sample_size=10:ties=all"
    with pytest.raises(InputError, match="unknown option of lure 'tise'"):
        unlearn_(trained(network), [network.batch(1)], "lure", ties="all", tise="all")
