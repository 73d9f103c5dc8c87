"""The reader of outputs: logits of a whole data set in eval mode, in the recipe's arithmetic."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lure.data.examples import Examples
from lure.randomness import forked_rng
from lure.recipe import Recipe
from lure.training.loader import Loader
from lure.weights.cross_entropy import read_logits
from lure.weights.layers import trainable
from lure.weights.modes import evaluating

EVALUATION_BATCH = 512  # examples that are read at once; fewer if they are larger than 3 x 32 x 32


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
    with evaluating(model), mixed_precision(recipe, examples.device):
        return read_outputs(model, examples, augmentation, generator)


def read_outputs(
    model: Callable[[Tensor], Tensor],
    examples: Loader,
    augmentation: str = "none",
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the same from any function of inputs, in the mode and the precision that the caller has set."""
    outputs, labels = [], []
    with torch.inference_mode():
        size = evaluation_batch(examples.examples)
        for inputs, targets in examples.batches(None, size, augmentation, generator):
            outputs.append(read_logits(model(inputs)).float().cpu())
            labels.append(targets.cpu())
    return torch.cat(outputs), torch.cat(labels)


def stream_outputs(
    model: Callable[[Tensor], Tensor], examples: Examples, device: torch.device | str, channels_last: bool = False
) -> Iterator[Tensor]:
    """Yield the outputs piece by piece, (n, classes), so that the examples need not fit into memory."""
    size = evaluation_batch(examples)
    for start in range(0, len(examples), size):
        yield read_outputs(model, Loader(examples[start : start + size], device, channels_last))[0]


def evaluation_batch(examples: Examples) -> int:
    """Return how many examples are read at once, so that large images take no more memory than small ones."""
    values = max(1, torch.Size(examples.input_shape).numel())
    return max(1, min(EVALUATION_BATCH, EVALUATION_BATCH * 3 * 32 * 32 // values))


def count_flops(model: nn.Module, loader: Loader) -> int:
    """Return the floating-point operations of one forward and backward pass over one example.

    Counted by torch's own counter on a batch of two (matrix products, convolutions, attention; a multiply-add is two).
    """
    inputs, labels = next(loader.batches(torch.arange(min(2, len(loader))), 2))
    parameters = list(trainable(model).values())
    with evaluating(model), forked_rng(None), torch.enable_grad(), FlopCounterMode(display=False) as counter:
        loss = F.cross_entropy(read_logits(model(inputs)), labels)
        torch.autograd.grad(loss, parameters, allow_unused=True)
    return int(counter.get_total_flops()) // len(labels)
