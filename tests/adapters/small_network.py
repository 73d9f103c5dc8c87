"""A small network, its data, and records of its weights, for the tests of all adapters."""

import torch
from torch import Tensor, nn

COUNT = round(0.2 * (40 + 24))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(48, 5, generator=generator), torch.randint(3, (48,), generator=generator)


class Record:
    """A copy of weights and momentum."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters()}
        self.momentum = {
            name: optimizer.state[p]["momentum_buffer"].clone()
            for name, p in model.named_parameters()
            if "momentum_buffer" in optimizer.state.get(p, {})
        }


def assert_unlearnt(before: Record, after: Record, count: int) -> None:
    """`count` weights changed, and momentum is zero there and unchanged elsewhere."""
    assert before.momentum.keys() == before.weights.keys()
    changed = {name: after.weights[name] != old for name, old in before.weights.items()}
    assert sum(int(mask.sum()) for mask in changed.values()) == count
    for name, mask in changed.items():
        assert torch.equal(after.momentum[name][~mask], before.momentum[name][~mask])
        assert not after.momentum[name][mask].any()
        assert before.momentum[name][mask].any() or not mask.any()
