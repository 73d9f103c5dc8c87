"""An unlearner of your own: a frozen dataclass and one method. Used with `unlearn_`, and checked against the contract.

This one redraws whole units: in each hidden layer the share of units whose incoming weights have the smallest norm. The
contract is short: change the model in place, take randomness from `context.generator` only, and leave everything else
(mode, gradients, buffers, the global random state) as it was.

    python examples/my_unlearner.py

Wherever an unlearner is named, this one is named by its path; in the folder of this file:

    lure compare --unlearners warm-start,my_unlearner:SmallestUnits:forget_fraction=0.1
"""

import copy
from dataclasses import dataclass

import torch
from torch import nn

import lure
from lure.weights.layers import forgettable


@dataclass(frozen=True, kw_only=True)
class SmallestUnits:
    """Redraw the units with the smallest incoming weights; `forget_fraction` is their share, in [0, 1]."""

    forget_fraction: float = 0.25

    def __call__(self, model: nn.Module, context: lure.Context) -> None:
        """Redraw the units in place."""
        masks = {}
        for name, weight in forgettable(model).items():  # all weight matrices but norm scales, biases and frozen ones
            norms = weight.detach().flatten(1).norm(dim=1)  # (units,)
            smallest = lure.lowest_fraction({name: norms}, self.forget_fraction, context.generator)[name]
            masks[name] = smallest.view(-1, *[1] * (weight.dim() - 1)).expand_as(weight)
        lure.reinitialize_(model, masks, context.generator, context.draw)


if __name__ == "__main__":
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4)).train()
    loader = [(torch.randn(32, 8), torch.randint(4, (32,))) for _ in range(3)]
    before, twin = copy.deepcopy(model), copy.deepcopy(model)
    random_state = torch.get_rng_state()

    print(lure.unlearn_(model, loader, "my_unlearner:SmallestUnits", seed=1, forget_fraction=0.25))
    lure.unlearn_(twin, loader, SmallestUnits(forget_fraction=0.25), seed=1)

    pairs = list(zip(model.state_dict().items(), before.state_dict().values(), twin.state_dict().values(), strict=True))
    changed = {name: int((new != old).sum()) for (name, new), old, _ in pairs if not torch.equal(new, old)}
    checks = {
        "4 of 16 and 1 of 4 units are fresh, nothing else moved": changed == {"0.weight": 4 * 8, "3.weight": 16},
        "the same seed gives the same weights": all(torch.equal(new, other) for (_, new), _, other in pairs),
        "the mode is kept": model.training,
        "no gradients are left": all(parameter.grad is None for parameter in model.parameters()),
        "the global random state is untouched": torch.equal(torch.get_rng_state(), random_state),
    }
    for promise, kept in checks.items():
        print("kept  " if kept else "BROKEN", promise)
    raise SystemExit(0 if all(checks.values()) else 1)
