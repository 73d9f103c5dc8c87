"""L2 towards the initial weights: a penalty that keeps a network near where it could still learn everything."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lure.errors import require_within
from lure.weights.layers import require_initial, trainable


def l2_init_penalty(model: nn.Module, initial: Mapping[str, Tensor], strength: float) -> Tensor:
    """Return strength * ||w - w0||^2 over all trainable parameters, to be added to the loss at every step.

    Weight decay pulls weights that the loss does not hold towards zero, where they stop learning; this pulls them to
    where they began, from where they can go anywhere. Biases and norm scales are pulled too. This acts while training,
    so it is no unlearner.

    Args:
        model: the network.
        initial: name -> weight from before the first training, such as a copied state dict; best kept on the model's
            device, for it is read at every step.
        strength: at least 0; the paper uses 1e-3 to 1e-5.

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

    Reference:
        Kumar, Marklund, Van Roy, "Maintaining Plasticity in Continual Learning via Regenerative Regularization",
        arXiv 2308.11958, 2023.
    """
    require_within("strength", strength, 0)
    parameters = trainable(model)
    require_initial(parameters, initial)
    terms = [(parameter - initial[name].to(parameter)).square().sum() for name, parameter in parameters.items()]
    return strength * torch.stack(terms).sum() if terms else torch.zeros(())
