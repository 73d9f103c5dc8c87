"""The reader of outputs: logits of a whole data set in eval mode, in the recipe's arithmetic."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lure.randomness import forked_rng
from lure.recipe import Recipe
from lure.training.loader import Loader
from lure.weights.layers import trainable
from lure.weights.modes import evaluating

EVALUATION_BATCH = 512


@contextmanager
def arithmetic(recipe: Recipe) -> Iterator[None]:
    """Run a block with the recipe's number of threads and TF32 setting, then restore the caller's."""
    threads, tf32 = torch.get_num_threads(), torch.backends.cuda.matmul.allow_tf32
    cudnn_tf32 = torch.backends.cudnn.allow_tf32
    try:
        if recipe.threads:
            torch.set_num_threads(recipe.threads)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = recipe.tf32
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32, cudnn_tf32


def mixed_precision(recipe: Recipe, device: torch.device | str) -> torch.autocast:
    """Return the context in which forward passes run."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=recipe.precision == "bf16")


def predict(
    model: nn.Module,
    examples: Loader,
    recipe: Recipe,
    augmentation: str = "none",
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the logits (N, classes), float32, and the labels (N,) of all examples, on the CPU, in stored order.

    The model is read in eval mode and comes back as it was. `augmentation` and its `generator` are those of
    `Loader.batches`.
    """
    logits, labels = [], []
    with evaluating(model), torch.inference_mode(), mixed_precision(recipe, examples.device):
        for inputs, targets in examples.batches(None, EVALUATION_BATCH, augmentation, generator):
            logits.append(model(inputs).float().cpu())
            labels.append(targets.cpu())
    return torch.cat(logits), torch.cat(labels)


def count_flops(model: nn.Module, loader: Loader) -> int:
    """Return the floating-point operations of one forward and backward pass over one example.

    Counted by torch's own counter on a batch of two (matrix products, convolutions, attention; a multiply-add is two).
    """
    inputs, labels = next(loader.batches(torch.arange(min(2, len(loader))), 2))
    parameters = list(trainable(model).values())
    with evaluating(model), forked_rng(None), torch.enable_grad(), FlopCounterMode(display=False) as counter:
        loss = F.cross_entropy(model(inputs), labels)
        torch.autograd.grad(loss, parameters, allow_unused=True)
    return int(counter.get_total_flops()) // len(labels)
