"""Parseval against Gram matrices in Python loops: which weights, which side, and what it leads to."""

import math

import pytest
import torch
from torch import Tensor, nn
from unlearners.sample_networks import NETWORKS, trained

from lure import FitContext, InputError, Parseval
from lure.training.regularizers.parseval import parseval_penalty


def slow_twin(matrix: list[list[float]], scale: float) -> float:
    """||G - scale * I||^2 for the Gram matrix of the rows, or of the columns where these are fewer."""
    vectors = matrix if len(matrix) <= len(matrix[0]) else [list(column) for column in zip(*matrix, strict=True)]
    total = 0.0
    for i, one in enumerate(vectors):
        for j, other in enumerate(vectors):
            total += (sum(a * b for a, b in zip(one, other, strict=True)) - scale * (i == j)) ** 2
    return total


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (3, 2, 3, 3), (20, 1, 3, 3)])
def test_the_penalty_is_the_formula_on_the_smaller_side(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    penalty = parseval_penalty(weight, 0.5)
    flat = weight.detach().flatten(1)
    assert penalty.item() == pytest.approx(slow_twin(flat.tolist(), 0.5), rel=1e-5)
    penalty.backward()
    side = flat @ flat.T if len(flat) <= flat.shape[1] else flat.T @ flat
    residual = side - 0.5 * torch.eye(len(side))
    expected = 4 * (residual @ flat if len(flat) <= flat.shape[1] else flat @ residual)
    torch.testing.assert_close(weight.grad.flatten(1), expected)


def held(model: nn.Module, choice: Parseval) -> set[str]:
    choice.start(model, FitContext()).loss_term().backward()
    return {name for name, p in model.named_parameters() if p.grad is not None}


def test_the_weights_that_are_held() -> None:
    assert held(trained(NETWORKS["convolutions"]), Parseval()) == {"0.weight", "3.weight", "6.weight", "10.weight"}
    with_head = {"0.weight", "3.weight", "6.weight", "10.weight", "12.weight"}
    assert held(trained(NETWORKS["convolutions"]), Parseval(head=True)) == with_head
    assert held(trained(NETWORKS["frozen"]), Parseval()) == {"2.weight", "4.weight"}
    # A decoder that is its embedding is held by neither, and the classifier is the last layer before it.
    assert held(trained(NETWORKS["tied"]), Parseval(head=True)) == {"first.weight", "second.weight"}
    assert held(trained(NETWORKS["tied"]), Parseval()) == {"first.weight"}
    attention = nn.MultiheadAttention(4, 2)
    term = Parseval(strength=1.0, head=True).start(attention, FitContext()).loss_term()
    expected = [slow_twin(part.tolist(), 1.0) for part in attention.in_proj_weight.detach().chunk(3)]
    expected.append(slow_twin(attention.out_proj.weight.tolist(), 1.0))
    assert term.item() == pytest.approx(sum(expected), rel=1e-5)


def test_mixed_precision_does_not_touch_it() -> None:
    weight = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(parseval_penalty(weight), parseval_penalty(weight.clone()))
        inside: Tensor = parseval_penalty(weight)
    assert torch.equal(inside, parseval_penalty(weight))


def test_weights_become_near_orthogonal() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2))
    running = Parseval(strength=1.0, scale=2.0).start(model, FitContext())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    for _ in range(500):
        optimizer.zero_grad()
        running.loss_term().backward()
        optimizer.step()
    assert torch.linalg.svdvals(model[0].weight.detach()).tolist() == pytest.approx([math.sqrt(2)] * 4, rel=1e-3)


def test_what_cannot_be_held_is_refused() -> None:
    with pytest.raises(InputError, match="no trainable linear, convolution or attention weight but its classifier"):
        Parseval().start(nn.Linear(2, 2), FitContext())
    with pytest.raises(InputError, match="is computed by a parametrisation"):
        Parseval().start(trained(NETWORKS["normalised-weights"]), FitContext())
    with pytest.raises(InputError, match="scale must be above 0, got 0"):
        Parseval(scale=0)
