"""When a fit ends, and how fast it learns on the way: limits and learning rates, as functions of recipe and step."""

import math

import torch
from torch import nn

from lure.recipe import Recipe
from lure.training.state import FitState
from lure.weights.layers import trainable


def reached(recipe: Recipe, state: FitState, stage: int = 1) -> str:
    """Return which limit of the recipe a stage's fit has reached; "" for none.

    Example:
        >>> reached(Recipe(epochs=9, max_steps=100), FitState(epoch=3, steps=100))
        'max_steps'
    """
    if state.epoch >= recipe.epochs_of(stage):
        return "epochs"
    if recipe.patience is not None and state.epoch - state.kept_epoch >= recipe.patience:
        return "patience"
    if recipe.max_steps is not None and state.steps >= recipe.max_steps:
        return "max_steps"
    if recipe.max_seconds is not None and state.seconds >= recipe.max_seconds:
        return "max_seconds"
    if recipe.target_accuracy is not None and state.epoch and state.train_accuracy >= recipe.target_accuracy:
        return "target_accuracy"
    return ""


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return a new optimiser over the trainable parameters, as the recipe says."""
    parameters = list(trainable(model).values())
    fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=fused
        )
    maker = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return maker(parameters, recipe.lr, weight_decay=recipe.weight_decay, fused=fused)


def learning_rate(recipe: Recipe, epoch: int, step: int, steps: int, stage: int = 1) -> float:
    """Return the learning rate of one step: the recipe's schedule, times the rise of the warm-up.

    The schedule begins anew at each stage, and is as long as the stage: with `budget` = 0.1, milestones, warm-up and
    cool-down lie at a tenth of their epochs. A cosine and a cool-down reach zero after the last step.

    Args:
        recipe: its lr, later_lr, epochs, budget, schedule, warmup, milestones, gamma and cooldown count.
        epoch: from 1.
        step: from 1, within the epoch.
        steps: steps in an epoch.
        stage: from 1; `later_lr` and `budget` count from stage 2 on.

    Example:
        >>> recipe = Recipe(lr=1.0, milestones=(2,), gamma=0.1, warmup=1)
        >>> [learning_rate(recipe, epoch, step, 2) for epoch in (1, 2, 3) for step in (1, 2)]
        [0.5, 1.0, 1.0, 1.0, 0.1, 0.1]
        >>> recipe = Recipe(lr=1.0, epochs=4, schedule="cooldown", cooldown=0.5)
        >>> [learning_rate(recipe, epoch, 1, 1) for epoch in (1, 2, 3, 4)]
        [1.0, 1.0, 1.0, 0.5]

    Reference:
        Cosine: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017. Cool-down:
        Haegele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations", NeurIPS 2024.
    """
    rate = recipe.lr if stage == 1 or recipe.later_lr is None else recipe.later_lr
    # Positions are whole numbers, in units of 1 / `epochs` of a step, so that a scaled milestone is met exactly.
    full, scaled = recipe.epochs, recipe.epochs_of(stage)
    before = (epoch - 1) * steps + step - 1
    left = 1 - before / (scaled * steps)
    if recipe.schedule == "steps":
        for milestone in recipe.milestones:
            if before * full >= milestone * scaled * steps:
                rate *= recipe.gamma
    elif recipe.schedule == "cosine":
        rate *= (1 - math.cos(math.pi * left)) / 2
    elif recipe.schedule == "cooldown":
        rate *= min(1.0, left / recipe.cooldown)
    if recipe.warmup:
        rate *= min(1.0, (before + 1) * full / (recipe.warmup * scaled * steps))
    return rate
