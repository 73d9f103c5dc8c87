"""A rehearsal on two examples: what cannot work fails before anything is trained."""

import warnings

from lure.data.examples import Examples
from lure.errors import InputError
from lure.learner.opening import Opened
from lure.learner.task import Task, build_network
from lure.randomness import forked_rng
from lure.recipe import own_code
from lure.training.loader import Loader
from lure.training.predict import arithmetic, predict
from lure.unlearn import apply_
from lure.unlearners import Context
from lure.weights.layers import snapshot


def rehearse(opened: Opened, task: Task, two: Examples) -> None:
    """Build the network once, run it on two examples, and unlearn.

    Args:
        opened: recipe and builder count.
        task: what the data are.
        two: a few examples.

    Raises:
        InputError: if the network does not fit such inputs, the unlearner does not fit the network, or the recipe's
            augmentation does not fit the inputs.
    """
    recipe, builder = opened.recipe, opened.builder
    task.check_augmentation(recipe.augment)
    loader = Loader(two, "cpu")
    with arithmetic(recipe), forked_rng(None):
        model = build_network(recipe, task, builder)
        try:
            logits, _ = predict(model, loader, recipe)
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
    )
    with arithmetic(recipe), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the weights are fresh: what is odd about them is not news
        try:
            apply_(recipe.method, model, context)
        except InputError:
            raise
        except Exception as error:
            if "unlearner" not in own_code(recipe):
                raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(f"the unlearner {recipe.unlearner} failed on two examples: {reason}") from error
