"""Where a fit stands, and the tensors of model and optimiser on their way to and from disk."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lure.errors import InputError
from lure.weights.layers import stored_copy, trainable


@dataclass
class FitState:
    """What a fit has reached: enough, with model and optimiser, to go on exactly.

    Attributes:
        epoch: epochs finished.
        kept_epoch: the epoch whose weights are kept so far; 0 before the first.
        kept_accuracy: its validation accuracy; -1 before the first, and where there is no validation set.
        kept: tensors of model ("model.NAME") and optimiser ("optimizer.KEY.NAME") at the kept epoch, on the CPU; empty
            where the last epoch is always the one kept.
        train_accuracy: running accuracy on the (augmented) batches of the last epoch.
        seconds: time spent in training, checkpoints and interruptions not counted.
        steps: optimiser steps taken.
        examples: examples trained on, repeats counted.
        stopped_by: what ended the fit: "epochs", "patience" or a limit ("max_steps", "max_seconds", "target_accuracy").
        forwards: examples that regularizers passed forward in addition, repeats counted.
        regularizers: what the regularizers must find again, on the CPU.
    """

    epoch: int = 0
    kept_epoch: int = 0
    kept_accuracy: float = -1.0
    kept: dict[str, Tensor] = field(default_factory=dict)
    train_accuracy: float = 0.0
    seconds: float = 0.0
    steps: int = 0
    examples: int = 0
    stopped_by: str = ""
    forwards: int = 0
    regularizers: dict[str, Tensor] = field(default_factory=dict)


def training_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return copies of all tensors of a model and its optimiser on the CPU, under names that survive a restart."""
    tensors = {f"model.{name}": stored_copy(value) for name, value in model.state_dict().items()}
    for name, parameter in trainable(model).items():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{key}.{name}"] = stored_copy(value)
    return tensors


@torch.no_grad()
def restore_training(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `training_tensors` gave; values only, so the memory layout of the model stays.

    Raises:
        InputError: if the tensors are not those of this model.
    """
    restore_model(model, model_tensors(tensors))
    restore_optimizer(model, optimizer, tensors)


def model_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the model's state dict out of what `training_tensors` gave."""
    return {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}


def restore_model(model: nn.Module, values: dict[str, Tensor]) -> None:
    """Copy a state dict into a model.

    Raises:
        InputError: if names or shapes are not those of this model.
    """
    try:
        model.load_state_dict(values)
    except RuntimeError as error:
        detail = " ".join(str(error).split())
        raise InputError(f"the stored weights do not fit the model: {detail}") from None


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Copy the optimiser's tensors back, each to its parameter's device and layout."""
    for name, parameter in trainable(model).items():
        state = {}
        for key in {name.split(".", 2)[1] for name in tensors if name.startswith("optimizer.")}:
            stored = tensors.get(f"optimizer.{key}.{name}")
            if stored is None:
                continue
            if stored.shape == parameter.shape:
                state[key] = torch.empty_like(parameter, dtype=stored.dtype, requires_grad=False).copy_(stored)
            else:
                state[key] = stored.to(parameter.device)
        optimizer.state[parameter] = state
        if not state:
            del optimizer.state[parameter]
