"""The optimiser's state, cleared entry by entry where weights were replaced.

`clear_optimizer_state_` clears it; `require_clearable` says beforehand whether it can be cleared. Where a parameter
gained rows, `grow_optimizer_state_` gives it longer state.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lure.errors import InputError

# Names under which optimisers of torch keep per-entry state that starts at zero.
ZERO_AT_START = {
    "momentum_buffer",
    "exp_avg",
    "exp_avg_sq",
    "max_exp_avg_sq",
    "exp_inf",
    "square_avg",
    "grad_avg",
    "acc_delta",
    "variance",
    "prev",
}


def require_clearable(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> None:
    """Raise unless all of the optimiser's state can be cleared entry by entry.

    Args:
        optimizer: whose state is to be cleared.
        parameters: name -> parameter of the model; the optimiser must hold at least one of them.

    Raises:
        InputError: if the optimiser holds none of the parameters (it was built for another model), or keeps state of
            whole rows (Adafactor), of all parameters at once (LBFGS), of a kind that is not known here, or elsewhere
            than in its `state` for each parameter: in an optimiser that it wraps, or in tensors of its own, such as
            slow weights towards which it would pull the fresh ones back.
    """
    if not hasattr(optimizer, "param_groups"):
        raise InputError(f"optimizer must be one optimiser of torch, got {type(optimizer).__name__}")
    held = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    if parameters and held.isdisjoint(parameters.values()):
        raise InputError("the optimiser holds none of the model's parameters: it was built for another model")
    kind = type(getattr(optimizer, "optimizer", optimizer)).__name__  # accelerate and others wrap it
    names = {parameter: repr(name) for name, parameter in parameters.items()}
    # LBFGS keeps the state of all parameters under the first one that it holds, which may not be the model's.
    for parameter in [*names, *(held - names.keys())]:
        name = names.get(parameter, f"a parameter of shape {tuple(parameter.shape)}")
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                known = value.dim() == 0 or (_is_known(key) and value.shape == parameter.shape)
            else:
                known = value is None or isinstance(value, bool | int | float | str)
            if not known:
                raise InputError(
                    f"the state {key!r} that {kind} keeps for {name} cannot be cleared entry by entry: "
                    f"make a new optimiser after unlearning, and pass none"
                )
    for place, found in _kept_elsewhere(optimizer, held):
        if not isinstance(found, Tensor):
            raise InputError(
                f"{kind} wraps another optimiser (.{place}) with a state of its own, which would be left uncleared: "
                f"make a new one after unlearning and pass none, or pass the one inside if it keeps all state there"
            )
        raise InputError(
            f"{kind} keeps tensors of its own (.{place}) beside its state, which cannot be cleared entry by entry: "
            f"make a new optimiser after unlearning, and pass none"
        )


def _kept_elsewhere(optimizer: Any, held: set[Any]) -> Iterator[tuple[str, Any]]:
    """Yield place and value of what an optimiser keeps that is no state of a parameter: tensors, other optimisers.

    Args:
        optimizer: one of torch, or what wraps one.
        held: its parameters, which it may keep in any list.
    """
    known = ("param_groups", "state", "defaults")
    places = [(name, value) for name, value in vars(optimizer).items() if name not in known]
    places += [("param_groups", [{**group, "params": []} for group in optimizer.param_groups])]
    places += [("state", value) for key, value in optimizer.state.items() if not isinstance(key, Tensor)]
    while places:
        place, value = places.pop()
        if isinstance(value, Mapping):
            places += [(place, item) for item in value.values()]
        elif isinstance(value, list | tuple):
            places += [(place, item) for item in value]
        elif isinstance(value, Tensor):
            if value.dim() and value not in held:
                yield place, value
        elif hasattr(value, "param_groups") and hasattr(value, "state"):
            if value.state is optimizer.state:
                yield from _kept_elsewhere(value, held)
            else:
                yield place, value


@torch.no_grad()
def clear_optimizer_state_(optimizer: torch.optim.Optimizer, changed: Mapping[nn.Parameter, Tensor]) -> None:
    """Reset the optimiser's per-entry state to its initial value where the mask is True, and nowhere else.

    The initial value is zero for momentum and moments, the initial accumulator for Adagrad's sum, the learning rate for
    Rprop's step sizes, and the new weight itself for ASGD's running average. State of the whole tensor (step counts)
    stays. A parameter that was never stepped has no state, and none is created.

    Args:
        optimizer: any optimiser of torch, or another that keeps its state under the same names.
        changed: parameter -> bool tensor of its shape, True = clear.

    Raises:
        InputError: for state that cannot be cleared by entries; nothing is then cleared.

    Example:
        >>> weight = nn.Parameter(torch.ones(3))
        >>> sgd = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
        >>> weight.grad = torch.ones(3)
        >>> sgd.step()
        >>> clear_optimizer_state_(sgd, {weight: torch.tensor([True, False, False])})
        >>> sgd.state[weight]["momentum_buffer"].tolist()
        [0.0, 1.0, 1.0]
    """
    groups = {parameter: group for group in optimizer.param_groups for parameter in group["params"]}
    require_clearable(optimizer, {})
    for parameter, mask in changed.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            if not isinstance(value, Tensor) or not _is_known(key) or value.shape != parameter.shape:
                continue
            initial: Tensor | float = 0.0
            if key == "sum":
                initial = groups[parameter]["initial_accumulator_value"]
            elif key == "step_size":
                initial = float(groups[parameter]["lr"])
            elif key == "ax":
                initial = parameter.to(value.dtype)
            value.copy_(torch.where(mask.to(value.device), initial, value))


@torch.no_grad()
def grow_optimizer_state_(optimizer: torch.optim.Optimizer, grown: Iterable[tuple[Tensor, nn.Parameter]]) -> None:
    """Put parameters that gained rows in the place of the old ones; their new rows begin with the initial state.

    Args:
        optimizer: one that `require_clearable` accepts.
        grown: pairs of an old parameter and the longer one that replaces it; the old rows come first.

    Example:
        >>> weight, longer = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
        >>> sgd = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
        >>> weight.grad = torch.ones(2)
        >>> sgd.step()
        >>> grow_optimizer_state_(sgd, [(weight, longer)])
        >>> sgd.state[longer]["momentum_buffer"].tolist(), sgd.param_groups[0]["params"][0] is longer
        ([1.0, 1.0, 0.0], True)
    """
    pairs = list(grown)
    replaced = {id(old): new for old, new in pairs}
    for group in optimizer.param_groups:
        group["params"] = [replaced.get(id(parameter), parameter) for parameter in group["params"]]
    fresh = {}
    for old, new in pairs:
        if old not in optimizer.state:
            continue
        state = optimizer.state.pop(old)
        for key, value in state.items():
            if isinstance(value, Tensor) and value.shape == old.shape:
                longer = torch.zeros_like(new, dtype=value.dtype)
                longer[: len(old)] = value
                state[key] = longer
        optimizer.state[new] = state
        fresh[new] = torch.ones_like(new, dtype=torch.bool)
        fresh[new][: len(old)] = False
    clear_optimizer_state_(optimizer, fresh)


def _is_known(key: Any) -> bool:
    return key in ZERO_AT_START or key in ("sum", "step_size", "ax")
