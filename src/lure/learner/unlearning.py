"""Unlearn: prepare the weights of stage 2 and later for their next fit."""

from lure.learner.mega_batch import MegaBatch
from lure.learner.probe import StageProbe
from lure.learner.record import Offered, Running, Unlearned
from lure.learner.state import WorkingState
from lure.randomness import derive_generator
from lure.training.loader import Sample
from lure.training.schedule import build_optimizer
from lure.training.state import restore_optimizer
from lure.unlearn import apply_
from lure.unlearners import Context


def unlearn(state: WorkingState, arrived: MegaBatch, offered: Offered) -> Running:
    """Run the recipe's unlearner on the version in use; before the first stage there is nothing to unlearn.

    Args:
        state: holds the network, and the optimiser's state where the recipe carries it on.
        arrived: the new mega-batch; the recipe's `sample` says whether the unlearner reads it or all data.
        offered: all that replay offers.

    Returns:
        The stage, about to train: a new optimiser, and what was unlearnt.
    """
    recipe, model = state.opened.recipe, state.trained_model()
    optimizer = build_optimizer(model, recipe)
    if state.opened.directory.standing.current == 0:
        return Running(optimizer, None, Unlearned.nothing())
    if recipe.carry_optimizer:
        restore_optimizer(model, optimizer, state.optimizer_tensors)
    number = arrived.stage
    augmentation = recipe.augment if recipe.sample_augmented else "none"
    everything = Sample(offered.train, recipe.batch_size, augmentation, recipe.seed, number, offered.arrivals)
    sample = everything
    if recipe.sample == "new":
        sample = Sample(state.place(arrived.split.train), recipe.batch_size, augmentation, recipe.seed, number)
    stages, standing = state.opened.directory.stages, state.opened.directory.standing
    context = Context(
        batches=sample,
        initial=state.initial,
        draw=state.build,
        generator=derive_generator(recipe.seed, number, "unlearn"),
        all_batches=everything,
        chunks=everything.chunks(),
        shuffled=everything.shuffled,
        probe=StageProbe(recipe, offered, number, state.initial),
        effort=recipe.epochs_of(number) * len(offered.train) / stages[0].examples_seen,
        train_accuracy=stages[standing.current - 1].train_accuracy,
        num_known=state.num_known,
    )
    cleared = optimizer if recipe.carry_optimizer and not recipe.carry_as_released else None
    report = apply_(recipe.method, model, context, cleared)
    if report.choices:  # a method that chooses tells itself what it cost
        return Running(optimizer, None, Unlearned.of_choices(report))
    drawn = everything.examples_drawn + (sample.examples_drawn if sample is not everything else 0)
    return Running(optimizer, None, Unlearned.of(report, drawn))
