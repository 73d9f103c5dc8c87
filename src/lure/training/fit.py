"""The only optimisation loop.

Each epoch's data order, augmentation and dropout come from generators derived from (seed, stage, purpose, epoch), so a
fit that was stopped goes on from the last checkpoint exactly as if nothing had happened.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from lure.distributed import (
    agree_on_buffers,
    check_sharing,
    in_parallel,
    number_of_processes,
    process_rank,
    share_weight,
    sum_over_processes,
)
from lure.errors import InputError
from lure.randomness import derive_generator, forked_rng
from lure.recipe import Recipe
from lure.training.loader import Loader, cut_batches
from lure.training.predict import mixed_precision, predict
from lure.training.regularizers import FitContext, Regularizers
from lure.training.schedule import build_optimizer, learning_rate, reached
from lure.training.state import FitState, model_tensors, restore_model, restore_training, training_tensors
from lure.weights.cross_entropy import read_logits


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a fit stands; what progress bars show. `accuracy` is None until the first epoch has ended."""

    stage: int
    epoch: int
    epochs: int
    step: int
    steps: int
    accuracy: float | None


Watch = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Epoch:
    """The result of one epoch; what experiment trackers log.

    `train_loss` and `train_accuracy` are means over the epoch's own (augmented) batches; `validation_accuracy` is None
    where no epoch is chosen by it.
    """

    stage: int
    epoch: int
    train_loss: float
    train_accuracy: float
    validation_accuracy: float | None
    learning_rate: float


OnEpoch = Callable[[Epoch], None]


class Diverged(InputError):
    """The loss or the outputs are not finite; `found` says which and where, without the advice of the message."""

    def __init__(self, found: str, recipe: Recipe) -> None:
        super().__init__(f"{found}: lower the learning rate (lr = {recipe.lr:g}) or look for bad values in the data")
        self.found = found


def fit(
    model: nn.Module,
    train: Loader,
    validation: Loader,
    recipe: Recipe,
    *,
    stage: int = 1,
    optimizer: torch.optim.Optimizer | None = None,
    state: FitState | None = None,
    checkpoint: Callable[[FitState], None] | None = None,
    watch: Watch | None = None,
    on_epoch: OnEpoch | None = None,
    initial: Mapping[str, Tensor] | None = None,
    previous: nn.Module | None = None,
) -> FitState:
    """Train a model for the epochs of a stage, and leave it with the weights of the epoch that is kept.

    Equal to the loop `for epoch: for batch: loss.backward(); optimizer.step()`, plus the schedule, the choice of the
    epoch by validation accuracy (the first of equals), and the chance to stop between epochs and go on. A limit of
    steps or seconds may end it inside an epoch, which then counts as one.

    Args:
        model: trained in place; left in training mode.
        train: what to train on.
        validation: chooses the epoch when the recipe keeps the best; may be empty, and then the last epoch is kept.
        recipe: epochs, batch size, optimiser, schedule, augmentation, precision, seed.
        stage: names the generators, and the place in error messages.
        optimizer: a carried one, over this model's parameters; a new one is built when it is None.
        state: where an interrupted fit stood; model and optimiser must already be as they were then.
        checkpoint: called after each epoch; may write model, optimiser and state down.
        watch: called after the first step of each epoch and every 20th, for progress bars.
        on_epoch: called with the result of each epoch, for experiment trackers.
        initial: state dict from before stage 1, for a regularizer that pulls towards it.
        previous: the version in use as it was before unlearning, for a regularizer that reads it.

    Returns:
        What the fit reached: `epoch` of `kept_epoch`, seconds.

    Raises:
        Diverged: if the loss becomes NaN or infinite; the message says stage, epoch and step.
        InputError: if the recipe has patience, and there is nothing to validate on, or a regularizer does not fit.
    """
    state = state or FitState()
    optimizer = optimizer or build_optimizer(model, recipe)
    check_sharing(recipe.batch_size, recipe.max_seconds)
    runner: Callable[..., Tensor] = in_parallel(model)
    if recipe.compile:
        runner = torch.compile(runner)
    choose = recipe.keep == "best" and len(validation) > 0
    if recipe.patience is not None and not choose:
        raise InputError(f"patience needs validation examples, and stage {stage} has none: raise validation_fraction")
    context = FitContext(initial=initial, previous=previous)
    regularizers = Regularizers(recipe.acting, model, context, state.regularizers)
    trainer = _Trainer(recipe, stage, runner, optimizer, regularizers, watch)
    accuracy: float | None = None
    while not (limit := reached(recipe, state, stage)):
        began = time.perf_counter()
        state.epoch += 1
        model.train()
        with forked_rng(derive_generator(recipe.seed, stage, "model", state.epoch, process_rank())):
            loss = trainer.train_epoch(train, state, accuracy)
        state.regularizers = regularizers.state_dict()
        agree_on_buffers(model)
        accuracy = state.train_accuracy
        if choose:
            augmentation = recipe.augment if recipe.validation_augmented else "none"
            generator = derive_generator(recipe.seed, stage, "validate", state.epoch)
            with regularizers.serving():
                logits, labels = predict(model, validation, recipe, augmentation, generator)
                accuracy = float((logits.argmax(1) == labels).double().mean())
                if accuracy > state.kept_accuracy:
                    state.kept_epoch, state.kept_accuracy = state.epoch, accuracy
                    state.kept = training_tensors(model, optimizer) if state.epoch < recipe.epochs_of(stage) else {}
        else:
            state.kept_epoch = state.epoch
        state.seconds += time.perf_counter() - began
        if on_epoch:
            rate = optimizer.param_groups[0]["lr"]
            on_epoch(Epoch(stage, state.epoch, loss, state.train_accuracy, accuracy if choose else None, rate))
        if checkpoint:
            checkpoint(state)
    if state.kept_epoch != state.epoch:
        if recipe.carry_as_released:
            restore_model(model, model_tensors(state.kept))
        else:
            restore_training(model, optimizer, state.kept)
    else:
        regularizers.serve()
    state.kept, state.regularizers, state.stopped_by = {}, {}, limit
    return state


@dataclass(frozen=True)
class _Trainer:
    """What stays the same from epoch to epoch of a fit."""

    recipe: Recipe
    stage: int
    runner: Callable[..., Tensor]
    optimizer: torch.optim.Optimizer
    regularizers: Regularizers
    watch: Watch | None

    def train_epoch(self, train: Loader, state: FitState, accuracy: float | None) -> float:
        """Train the epoch that `state` names, or as much of it as the budget allows; count; return the mean loss.

        Args:
            train: what to train on.
            state: its counts go on.
            accuracy: that of the epoch before, for progress bars.
        """
        recipe, stage, optimizer, epoch = self.recipe, self.stage, self.optimizer, state.epoch
        last_step = None if recipe.max_steps is None else recipe.max_steps - state.steps
        deadline = None if recipe.max_seconds is None else time.perf_counter() + recipe.max_seconds - state.seconds
        order = torch.randperm(len(train), generator=derive_generator(recipe.seed, stage, "shuffle", epoch))
        generator = derive_generator(recipe.seed, stage, "augment", epoch, process_rank())
        pieces = cut_batches(order, recipe.batch_size)
        counts, weights = [len(piece) for piece in pieces], [share_weight(piece) for piece in pieces]
        steps = len(pieces)
        moved = [weight for group in optimizer.param_groups for weight in group["params"]]
        # Losses and hits stay on the device until the epoch has ended: reading one would make every step wait for it.
        losses = torch.zeros(steps, device=train.device)
        hits = torch.zeros((), dtype=torch.int64, device=train.device)
        batches = train.batches(order, recipe.batch_size, recipe.augment, generator, shared=True)
        step = seen = 0
        for step, (inputs, labels) in enumerate(batches, start=1):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, epoch, step, steps, stage)
            with mixed_precision(recipe, train.device):
                logits = read_logits(self.runner(inputs))
                loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
                objective = self.regularizers.add_terms(loss, inputs, logits, labels)
            if weights[step - 1] != 1:  # among several processes the shares of a batch may differ by a row
                loss, objective = loss * weights[step - 1], objective * weights[step - 1]
            optimizer.zero_grad(set_to_none=True)
            objective.backward()  # type: ignore[no-untyped-call]
            if recipe.clip_norm is not None:
                clip_grad_norm_(moved, recipe.clip_norm)
            optimizer.step()
            self.regularizers.after_step()
            losses[step - 1] = loss.detach()
            hits += (logits.detach().argmax(1) == labels).sum()
            seen += counts[step - 1]
            if self.watch and step % 20 == 1:
                self.watch(Progress(stage, epoch, recipe.epochs_of(stage), step, steps, accuracy))
            if step == last_step or (deadline is not None and time.perf_counter() >= deadline):
                break
        losses = sum_over_processes(losses) / number_of_processes()
        broken = torch.nonzero(~torch.isfinite(losses)).flatten()
        if len(broken):
            first = int(broken[0])
            found = f"the loss became {float(losses[first])} at stage {stage}, epoch {epoch}, step {first + 1}"
            raise Diverged(found, recipe)
        state.steps, state.examples = state.steps + step, state.examples + seen
        state.forwards += seen * self.regularizers.forward_passes
        state.train_accuracy = int(sum_over_processes(hits)) / seen
        return float(losses[:step].mean())
