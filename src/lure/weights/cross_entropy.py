"""The loss of those who give none: the cross-entropy of pairs (inputs, labels), and what it cannot take, in words."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lure.errors import InputError
from lure.words import dtype_name

IGNORED = -100  # the label that torch's cross-entropy leaves out
OWN_LOSS = "pass loss=lambda model, batch: ..."
SEVERAL = "pass loss=lambda model, batch: binary_cross_entropy_with_logits(model(batch[0]), batch[1])"


def classification_loss(model: nn.Module, batch: Any) -> Tensor:
    """Return the mean cross-entropy of a batch (inputs, labels).

    Args:
        model: returns logits (batch, classes, ...), or something that has them as `.logits`.
        batch: inputs (batch, ...), and labels: integers (batch, ...), or probabilities (batch, classes, ...) whose sum
            over the classes is 1.

    Raises:
        InputError: if the batch is not a pair, or its labels are not classes: pass a `loss` of your own then.
    """
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        found = f"a {type(batch).__name__} of {len(batch)}" if isinstance(batch, tuple | list) else type(batch).__name__
        raise InputError(f"a batch must be a pair (inputs, labels), got {found}: {OWN_LOSS}")
    inputs, labels = batch
    outputs = read_logits(model(inputs), f": {OWN_LOSS}")
    if not isinstance(labels, Tensor):
        raise InputError(f"the labels are a {type(labels).__name__}, and must be a tensor: {OWN_LOSS}")
    if labels.is_floating_point() and labels.numel() == len(labels):
        # Cross-entropy would take them for probabilities: over a single class it is 0, and so is every gradient.
        raise InputError(
            f"the labels are numbers, not classes: {OWN_LOSS} for a regression, or labels of an integer type"
        )
    if labels.is_complex() or labels.dtype == torch.bool:
        raise InputError(
            f"the labels are {dtype_name(labels.dtype)}, not classes: give integers from 0, or for several classes at "
            f"once {SEVERAL}"
        )
    if outputs.dim() > 1 and outputs.shape[1] == 1:
        raise InputError(f"the model has one output for each example, over which cross-entropy is always 0: {SEVERAL}")
    shape = outputs.shape if labels.is_floating_point() else outputs.shape[:1] + outputs.shape[2:]
    if outputs.dim() < 2 or labels.shape != shape:
        raise InputError(
            f"cross-entropy does not take outputs of shape {tuple(outputs.shape)} and labels of shape "
            f"{tuple(labels.shape)}: {OWN_LOSS}, or give one integer for each example"
        )
    if labels.is_floating_point():
        if not bool(((labels.sum(1) - 1).abs() < 1e-2).all()):
            raise InputError(f"the labels name several classes for an example, or none: {SEVERAL}")
    else:
        labels = labels if labels.dtype == torch.uint8 else labels.long()
        wrong = labels[((labels < 0) & (labels != IGNORED)) | (labels >= outputs.shape[1])]
        if len(wrong):
            raise InputError(
                f"label {int(wrong[0])} is none of the model's classes, 0 to {outputs.shape[1] - 1}: number them from "
                f"0, or {OWN_LOSS}"
            )
    return F.cross_entropy(outputs, labels)


def read_logits(outputs: Any, otherwise: str = "") -> Tensor:
    """Return a model's outputs, or their `logits`, as networks of Hugging Face return them.

    Args:
        outputs: what the model returned.
        otherwise: what else can be done, for the end of the message.

    Raises:
        InputError: if they are neither.

    Example:
        >>> read_logits(torch.zeros(2, 3)).shape
        torch.Size([2, 3])
    """
    found = outputs if isinstance(outputs, Tensor) else getattr(outputs, "logits", None)
    if isinstance(found, Tensor):
        return found
    raise InputError(
        f"the model returns a {type(outputs).__name__}, and must return logits, a tensor (batch, classes), or an "
        f"object that has them as .logits{otherwise}"
    )
