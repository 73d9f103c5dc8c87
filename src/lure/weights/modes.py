"""Modes of a model while a block of code runs: eval mode, gradients of recurrent layers in it, and no compiled code.

All restore afterwards what they changed.
"""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

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


def uncompiled() -> AbstractContextManager[object]:
    """Run a block without the code that `torch.compile` made: it does not notice hooks that come later."""
    # Whoever has compiled something has imported the compiler; nobody else waits the second that this takes.
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
