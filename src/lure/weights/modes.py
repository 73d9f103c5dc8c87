"""Modes of a model while a block of code runs: eval mode, and gradients of recurrent layers in it.

Both restore afterwards what they changed.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Run a block with the whole model in eval mode, then restore the mode of each layer.

    A layer that its owner keeps in eval mode while the rest trains (frozen BatchNorm) stays so.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def differentiable_in_eval(model: nn.Module) -> Iterator[None]:
    """Run a block without cuDNN if the model is recurrent: cuDNN's recurrent layers refuse gradients in eval mode."""
    recurrent = any(isinstance(layer, nn.RNNBase) for layer in model.modules())
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = before and not recurrent
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before
