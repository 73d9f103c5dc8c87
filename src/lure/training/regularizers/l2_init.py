"""L2 towards the initial weights: a penalty that keeps a network near where it could still learn everything."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lure.errors import InputError, require_within
from lure.settings import check_settings, setting
from lure.training.regularizers.contract import FitContext, RunningRegularizer
from lure.weights.layers import require_initial, trainable


@dataclass(frozen=True, kw_only=True)
class L2Init:
    """Add strength * ||w - w0||^2 to the loss, where w0 are the weights from before the first training.

    Weight decay pulls weights that the loss does not hold towards zero, where they stop learning; this pulls them to
    where they began, from where they can go anywhere. All trainable parameters are pulled, biases and norm scales
    included; frozen ones and buffers are not. The initial weights are the same at every stage. Nothing is averaged: the
    trained weights are evaluated and kept.

    Args:
        strength: at least 0; the paper uses 1e-2 to 1e-5.

    Raises:
        InputError: by `start`, if the initial weights are not given, or do not fit the model.

    Example:
        >>> net = nn.Linear(1, 1)
        >>> initial = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        >>> pull = L2Init(strength=0.1).start(net, FitContext(initial=initial))
        >>> with torch.no_grad():
        ...     _ = net.weight.add_(2.0)
        >>> round(pull.loss_term().item(), 6)  # to be added to the loss
        0.4

    Reference:
        Kumar, Marklund, Van Roy, "Maintaining Plasticity in Continual Learning via Regenerative Regularization",
        arXiv 2308.11958, 2023.
    """

    strength: float = setting(1e-3, "factor of the squared distance from the initial weights", 0)

    def __post_init__(self) -> None:
        check_settings(self)

    def start(self, model: nn.Module, context: FitContext) -> RunningRegularizer:
        """Take the initial weights to the model's device."""
        if not self.strength:
            return RunningRegularizer()
        if context.initial is None:
            raise InputError("l2-init needs the initial weights: pass initial=, the state dict before the first stage")
        parameters = trainable(model)
        require_initial(parameters, context.initial)
        initial = {name: context.initial[name].to(parameter) for name, parameter in parameters.items()}
        return RunningRegularizer(loss_term=lambda *_: l2_init_penalty(model, initial, self.strength))


def l2_init_penalty(model: nn.Module, initial: Mapping[str, Tensor], strength: float) -> Tensor:
    """Return strength * ||w - w0||^2 over all trainable parameters, to be added to the loss at every step.

    Args:
        model: the network.
        initial: name -> weight from before the first training, such as a copied state dict; best kept on the model's
            device, for it is read at every step.
        strength: at least 0; the paper uses 1e-2 to 1e-5.

    Returns:
        A scalar with a gradient, 2 * strength * (w - w0) for each weight.

    Raises:
        InputError: if an initial weight is missing or of another shape, or the strength is negative.

    Example:
        >>> net = nn.Linear(1, 1)
        >>> initial = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        >>> with torch.no_grad():
        ...     _ = net.weight.add_(2.0)
        >>> round(l2_init_penalty(net, initial, 0.1).item(), 6)
        0.4
    """
    require_within("strength", strength, 0)
    parameters = trainable(model)
    require_initial(parameters, initial)
    terms = [(parameter - initial[name].to(parameter)).square().sum() for name, parameter in parameters.items()]
    return strength * torch.stack(terms).sum() if terms else torch.zeros(())
