"""Distillation against the formula in Python loops, its teacher, and what it costs."""

import copy
import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from unlearners.sample_networks import NETWORKS, trained

from lure import Distill, Examples, FitContext, InputError, Learner, Recipe
from lure.training.regularizers.distill import distillation_loss


def softmax(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def slow_twin(logits: Tensor, targets: Tensor, labels: Tensor, temperature: float, focal: bool) -> float:
    total = 0.0
    for mine, old, label in zip(logits.tolist(), targets.tolist(), labels.tolist(), strict=True):
        student, teacher = softmax(mine, temperature), softmax(old, temperature)
        divergence = sum(t * math.log(t / s) for t, s in zip(teacher, student, strict=True))
        right = old.index(max(old)) == label
        total += (6 if focal and right else 1) * temperature**2 * divergence
    return total / len(logits)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("focal", [False, True])
def test_the_term_is_the_formula(focal: bool, temperature: float) -> None:
    network = NETWORKS["mlp"]
    old, new = trained(network, seed=3), trained(network, seed=4).eval()
    inputs, labels = network.batch(5)
    distill = Distill(strength=0.7, focal=focal, temperature=temperature).start(new, FitContext(previous=old))
    logits = new(inputs)
    term = distill.loss_term(inputs, logits, labels)
    targets = copy.deepcopy(old).eval()(inputs)  # dropout is off
    assert 0 < (targets.argmax(1) == labels).sum() < 12
    assert ((targets.argmax(1) == labels) != (logits.argmax(1) == labels)).any()
    assert term.item() == pytest.approx(0.7 * slow_twin(logits, targets, labels, temperature, focal), rel=1e-5)
    (gradient,) = torch.autograd.grad(term, logits)
    weights = 1 + 5 * focal * (targets.argmax(1) == labels).float()
    difference = (logits / temperature).softmax(1) - (targets / temperature).softmax(1)
    torch.testing.assert_close(gradient, 0.7 * temperature * weights[:, None] * difference / 12)


def test_the_teacher_is_a_copy_that_stays_as_it_was() -> None:
    """So it may be taken from the model itself, before its weights are prepared and trained."""
    network = NETWORKS["convolutions"]
    model = trained(network)
    inputs, _ = network.batch(1)
    before = copy.deepcopy(model).eval()(inputs).detach()
    distill = Distill().start(model, FitContext(previous=model))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    after = model(inputs)
    assert distill.loss_term(inputs, after).item() == pytest.approx(distillation_loss(after, before).item())
    assert distill.loss_term(inputs, before).item() == pytest.approx(0, abs=1e-7)
    assert all(p.requires_grad for p in model.parameters())


def test_half_precision_is_compared_in_float32() -> None:
    logits, targets = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    low = distillation_loss(logits, targets)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, distillation_loss(logits.float(), targets.float()))


def test_the_teacher_runs_in_the_precision_of_the_forward_pass() -> None:
    model = nn.Linear(4, 3)
    inputs = torch.randn(6, 4)
    distill = Distill().start(model, FitContext(previous=model))
    with torch.autocast("cpu", torch.bfloat16):
        assert distill.loss_term(inputs, model(inputs)).item() == 0


def test_of_a_model_that_has_grown_the_old_classes_are_compared() -> None:
    old = nn.Linear(2, 3)
    new = nn.Linear(2, 5)
    with torch.no_grad():
        new.weight[:3], new.bias[:3] = old.weight, old.bias
    inputs, labels = torch.rand(4, 2), torch.tensor([0, 1, 4, 3])
    distill = Distill(focal=True).start(new, FitContext(previous=old))
    assert distill.loss_term(inputs, new(inputs), labels).item() == pytest.approx(0, abs=1e-7)


def test_a_teacher_may_return_its_logits_in_an_object() -> None:
    class Named(nn.Linear):
        def forward(self, inputs: Tensor) -> SimpleNamespace:
            return SimpleNamespace(logits=super().forward(inputs))

    model = Named(2, 3)
    distill = Distill().start(model, FitContext(previous=model))
    inputs = torch.rand(4, 2)
    assert distill.loss_term(inputs, model(inputs).logits).item() == pytest.approx(0, abs=1e-7)


def test_outputs_of_another_shape_are_refused() -> None:
    distill = Distill().start(nn.Linear(2, 3), FitContext(previous=nn.Linear(2, 4)))
    with pytest.raises(InputError, match=r"outputs of shape \(5, 4\), the model \(5, 3\): they must agree"):
        distill.loss_term(torch.rand(5, 2), torch.rand(5, 3))


def test_focal_needs_the_labels() -> None:
    model = nn.Linear(2, 3)
    distill = Distill(focal=True).start(model, FitContext(previous=model))
    with pytest.raises(InputError, match=r"needs the labels: call loss_term\(inputs, logits, labels\)"):
        distill.loss_term(torch.rand(4, 2), torch.rand(4, 3))


CHUNKS = [
    Examples(torch.randn(30, 6, generator=torch.Generator().manual_seed(seed)), torch.arange(30) % 3)
    for seed in range(2)
]
RECIPE = Recipe(
    model="mlp:width=16", unlearner="scratch", epochs=8, batch_size=10, lr=0.1, milestones=(), threads=1, replay="none",
    keep="last",
)  # fmt: skip


def test_the_learner_distils_from_the_version_in_use_before_it_was_unlearnt(tmp_path: Path) -> None:
    """A network that was redrawn comes near to the outputs of the version before, which it has never seen."""
    distance, stages = {}, {}
    for name in ("", "distill:strength=20"):
        recipe = dataclasses.replace(RECIPE, regularizers=(name,) if name else ())
        with Learner.open(tmp_path / (name or "plain"), recipe=recipe, test=CHUNKS[0]) as learner:
            learner.learn(CHUNKS[0])
            before = learner.predict(CHUNKS[1])
            learner.learn(CHUNKS[1])
            distance[name] = distillation_loss(learner.predict(CHUNKS[1]), before).item()
            stages[name] = list(learner.stages)
    assert distance["distill:strength=20"] < 0.2 * distance[""]
    plain, distilled = stages.values()
    # In the first stage there is no teacher; then its forward pass is a third of a step in addition.
    assert distilled[0].train_flops == plain[0].train_flops
    assert distilled[1].train_flops == pytest.approx(plain[1].train_flops * 4 / 3, abs=1)
