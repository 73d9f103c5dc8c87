"""When a fit ends, and how fast it learns on the way: budgets and learning rates, as functions of recipe and step."""

import torch
from torch import nn

from lure.recipe import Recipe
from lure.training.state import FitState
from lure.weights.layers import trainable


def reached(recipe: Recipe, state: FitState) -> str:
    """Return which limit of the recipe a fit has reached; "" for none.

    Example:
        >>> reached(Recipe(epochs=9, max_steps=100), FitState(epoch=3, steps=100))
        'max_steps'
    """
    if state.epoch >= recipe.epochs:
        return "epochs"
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
    """Return the learning rate of one step: warm-up, then a factor `gamma` at each milestone passed.

    Args:
        recipe: its lr, later_lr, warmup, milestones and gamma count.
        epoch: from 1.
        step: from 1, within the epoch.
        steps: steps in an epoch.
        stage: from 1; `later_lr` counts from stage 2 on.

    Example:
        >>> recipe = Recipe(lr=1.0, milestones=(2,), gamma=0.1, warmup=1)
        >>> [learning_rate(recipe, epoch, step, 2) for epoch in (1, 2, 3) for step in (1, 2)]
        [0.5, 1.0, 1.0, 1.0, 0.1, 0.1]
    """
    rate = recipe.lr if stage == 1 or recipe.later_lr is None else recipe.later_lr
    for milestone in recipe.milestones:
        if epoch > milestone:
            rate *= recipe.gamma
    done = (epoch - 1) * steps + step
    return rate * min(1.0, done / (recipe.warmup * steps)) if recipe.warmup else rate
