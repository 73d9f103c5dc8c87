"""A rehearsal on two examples: what cannot work fails before anything is trained."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lure.data.examples import Examples
from lure.errors import InputError
from lure.learner.opening import Opened
from lure.learner.task import Task, build_network, builder_by_classes
from lure.randomness import forked_rng
from lure.recipe import Recipe, own_code
from lure.training.loader import Loader
from lure.training.predict import arithmetic, mixed_precision, predict
from lure.training.regularizers import FitContext, Regularizers
from lure.unlearn import apply_
from lure.unlearners import Context, Probed
from lure.weights.cross_entropy import read_logits
from lure.weights.growth import grow_head_
from lure.weights.layers import snapshot
from lure.weights.modes import evaluating


def rehearse(opened: Opened, task: Task, two: Examples) -> None:
    """Build the network once, run it on two examples, unlearn, try the regularizers, and let its head grow if it may.

    Args:
        opened: recipe and builder count.
        task: what the data are.
        two: a few examples.

    Raises:
        InputError: if the network does not fit such inputs, unlearner or regularizers do not fit the network, or the
            recipe's augmentation does not fit the inputs.
    """
    recipe, builder = opened.recipe, opened.builder
    task.check_augmentation(recipe.augment)
    loader = Loader(two, "cpu")
    with arithmetic(recipe), forked_rng(None):
        model = build_network(recipe, task, builder)
        try:
            logits, _ = predict(model, loader, recipe)
        except InputError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
            raise InputError(
                f"the network {recipe.model} does not take {task.input_dtype} inputs of shape "
                f"{task.input_shape}: {error}"
            ) from error
    if logits.dim() != 2 or logits.shape[1] < task.num_classes:
        raise InputError(
            f"the network {recipe.model} must return logits (batch, {task.num_classes}), one for each class, "
            f"got shape (batch, {', '.join(map(str, logits.shape[1:]))})"
        )
    # Or a layer that the unlearner does not find would be missed only when the first stage has been trained.
    batches = list(loader.batches(None, len(two)))
    context = Context(
        batches=batches,
        initial=snapshot(model),
        draw=lambda: build_network(recipe, task, builder),
        all_batches=batches,
        chunks=[batches],
        shuffled=lambda size, generator: batches,
        probe=lambda probed, share: Probed(0.0, 0, 0),
        train_accuracy=1.0,
    )
    with arithmetic(recipe), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the weights are fresh: what is odd about them is not news
        with _blaming(recipe, "unlearner"):
            apply_(recipe.method, model, context)
        with _blaming(recipe, "regularizers"):
            acting = Regularizers(recipe.acting, model, FitContext(initial=context.initial, previous=model), {})
            inputs, labels = batches[0]
            with evaluating(model), forked_rng(None), mixed_precision(recipe, "cpu"):
                acting.add_terms(torch.zeros(()), inputs, read_logits(model(inputs)), labels)
            acting.after_step()
        if recipe.new_classes == "grow":
            grow_head_(model, logits.shape[1] + 1, draw=builder_by_classes(recipe, task, builder))


@contextmanager
def _blaming(recipe: Recipe, field: str) -> Iterator[None]:
    """Turn any error within the block into one line, if the field names code of the user's own."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if field not in own_code(recipe):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        noun = "the unlearner" if field == "unlearner" else field
        raise InputError(f"{noun} {own_code(recipe)[field]} failed on two examples: {reason}") from error
