"""The only optimisation loop, and the evaluation that reads a model's logits once.

Each epoch's data order, augmentation and dropout come from generators derived from (seed, stage, purpose, epoch), so a
fit that was stopped goes on from the last checkpoint exactly as if nothing had happened.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
from lure.training.regularizers.hare_tortoise import HareTortoise
from lure.training.regularizers.l2_init import l2_init_penalty
from lure.training.schedule import build_optimizer, learning_rate, reached
from lure.training.state import FitState, _of_model, _stored, restore_model, restore_training, training_tensors
from lure.weights.layers import trainable


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a fit stands; what progress bars show. `accuracy` is None until the first epoch has ended."""

    stage: int
    epoch: int
    epochs: int
    step: int
    steps: int
    accuracy: float | None


Watch = Callable[[Moment], None]


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch came to; what experiment trackers log.

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
) -> FitState:
    """Train a model for the recipe's epochs or budget, and leave it with the weights of the epoch that is kept.

    Equal to the loop `for epoch: for batch: loss.backward(); optimizer.step()`, plus the schedule, the choice of the
    epoch by validation accuracy (the first of equals), and the chance to stop between epochs and go on. A budget of
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
        on_epoch: called with what each epoch came to, for experiment trackers.
        initial: state dict from before stage 1, for a recipe that pulls towards it (`l2_init`).

    Returns:
        What the fit reached: `epoch` of `kept_epoch`, seconds.

    Raises:
        InputError: if the loss becomes NaN or infinite; the message says stage, epoch and step.
    """
    state = state or FitState()
    optimizer = optimizer or build_optimizer(model, recipe)
    check_sharing(recipe.batch_size, recipe.max_seconds)
    runner: Callable[..., Tensor] = in_parallel(model)
    if recipe.compile:
        runner = torch.compile(runner)
    choose = recipe.keep == "best" and len(validation) > 0
    beside = _Beside(model, recipe, initial, state.average)
    accuracy: float | None = None
    while not (limit := reached(recipe, state)):
        began = time.perf_counter()
        state.epoch += 1
        model.train()
        with forked_rng(derive_generator(recipe.seed, stage, "model", state.epoch, process_rank())):
            loss = _train_epoch(runner, train, recipe, stage, state, optimizer, beside, watch, accuracy)
        state.average = beside.tensors()
        agree_on_buffers(model)
        accuracy = state.train_accuracy
        if choose:
            augmentation = recipe.augment if recipe.validation_augmented else "none"
            generator = derive_generator(recipe.seed, stage, "validate", state.epoch)
            logits, labels = predict(model, validation, recipe, augmentation, generator)
            accuracy = float((logits.argmax(1) == labels).double().mean())
            if accuracy > state.kept_accuracy:
                state.kept_epoch, state.kept_accuracy = state.epoch, accuracy
                state.kept = training_tensors(model, optimizer) if state.epoch < recipe.epochs else {}
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
            restore_model(model, _of_model(state.kept))
        else:
            restore_training(model, optimizer, state.kept)
    state.kept, state.average, state.stopped_by = {}, {}, limit
    return state


def _train_epoch(
    runner: Callable[..., Tensor],
    train: Loader,
    recipe: Recipe,
    stage: int,
    state: FitState,
    optimizer: torch.optim.Optimizer,
    beside: "_Beside",
    watch: Watch | None,
    accuracy: float | None,
) -> float:
    """Train the epoch that `state` names, or as much of it as the budget allows, and count; return the mean loss."""
    epoch = state.epoch
    last_step = None if recipe.max_steps is None else recipe.max_steps - state.steps
    deadline = None if recipe.max_seconds is None else time.perf_counter() + recipe.max_seconds - state.seconds
    order = torch.randperm(len(train), generator=derive_generator(recipe.seed, stage, "shuffle", epoch))
    generator = derive_generator(recipe.seed, stage, "augment", epoch, process_rank())
    pieces = cut_batches(order, recipe.batch_size)
    counts, weights = [len(piece) for piece in pieces], [share_weight(piece) for piece in pieces]
    steps = len(pieces)
    # Losses and hits stay on the device until the epoch has ended: reading one would make every step wait for it.
    losses = torch.zeros(steps, device=train.device)
    hits = torch.zeros((), dtype=torch.int64, device=train.device)
    batches = train.batches(order, recipe.batch_size, recipe.augment, generator, shared=True)
    step = seen = 0
    for step, (inputs, labels) in enumerate(batches, start=1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, epoch, step, steps, stage)
        with mixed_precision(recipe, train.device):
            logits = runner(inputs)
            loss = F.cross_entropy(logits, labels)
        if weights[step - 1] != 1:  # among several processes the shares of a batch may differ by a row
            loss = loss * weights[step - 1]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        beside.pull()
        optimizer.step()
        beside.average()
        losses[step - 1] = loss.detach()
        hits += (logits.detach().argmax(1) == labels).sum()
        seen += counts[step - 1]
        if watch and step % 20 == 1:
            watch(Moment(stage, epoch, recipe.epochs, step, steps, accuracy))
        if step == last_step or (deadline is not None and time.perf_counter() >= deadline):
            break
    losses = sum_over_processes(losses) / number_of_processes()
    broken = torch.nonzero(~torch.isfinite(losses)).flatten()
    if len(broken):
        first = int(broken[0])
        raise InputError(
            f"the loss became {float(losses[first])} at stage {stage}, epoch {epoch}, step {first + 1}: "
            f"lower the learning rate (lr = {recipe.lr:g}) or look for bad values in the data"
        )
    state.steps, state.examples = state.steps + step, state.examples + seen
    state.train_accuracy = int(sum_over_processes(hits)) / seen
    return float(losses[:step].mean())


class _Beside:
    """What acts beside the loss while training: the pull towards the initial weights, and the running average."""

    def __init__(
        self, model: nn.Module, recipe: Recipe, initial: Mapping[str, Tensor] | None, average: Mapping[str, Tensor]
    ) -> None:
        self._model, self._strength, self._initial = model, recipe.l2_init, dict[str, Tensor]()
        if recipe.l2_init:
            if initial is None:
                raise InputError("l2_init needs the initial weights: pass initial=, the state dict before stage 1")
            self._initial = {name: initial[name].to(p.device) for name, p in trainable(model).items()}
        self._tortoise = None
        if recipe.average_interval is not None:
            self._tortoise = HareTortoise(model, decay=recipe.average_decay, interval=recipe.average_interval)
            if average:
                self._tortoise.load_state_dict(average)

    def pull(self) -> None:
        """Add the gradient of the penalty to that of the loss."""
        if self._strength:
            l2_init_penalty(self._model, self._initial, self._strength).backward()  # type: ignore[no-untyped-call]

    def average(self) -> None:
        """Take an optimiser step into the average; may set the model back to it."""
        if self._tortoise is not None:
            self._tortoise.step(self._model)

    def tensors(self) -> dict[str, Tensor]:
        """Return copies of the average for a checkpoint."""
        return {name: _stored(t) for name, t in self._tortoise.state_dict().items()} if self._tortoise else {}
