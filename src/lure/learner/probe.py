"""Probes: train a model a little before a stage decides what to start from, and tell how good it has become."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from lure.distributed import agree_on_buffers, number_of_processes, sum_over_processes
from lure.learner.record import Offered
from lure.randomness import derive_generator, draw_seed, forked_rng
from lure.recipe import Recipe
from lure.training.fit import fit
from lure.training.loader import Loader
from lure.training.predict import predict
from lure.training.regularizers import reads_previous
from lure.unlearners import Probed
from lure.weights.layers import has_batch_norm

MOST_READ = 256  # examples that judge a probe; half as many give BatchNorm its statistics


@dataclass(frozen=True)
class StageProbe:
    """The probe of one stage: the recipe's own training at a constant rate, for a share of the stage's steps.

    A falling rate would flatter whatever starts low. At a constant one the weights are noisy, so their average is what
    is measured and what stays in the model. BatchNorm's running statistics lag behind so short a training: they are
    taken anew over some training examples. A regularizer that reads the previous version has no part.

    Attributes:
        recipe: how the stage will be trained.
        offered: what it is trained on. At most 256 of its validation examples judge the probes. Where there are none,
            a tenth of the training examples, at most as many, is kept from the probes and judges them.
        stage: number of the stage.
        initial: state dict from before stage 1, for a regularizer that pulls towards it.
    """

    recipe: Recipe
    offered: Offered
    stage: int
    initial: Mapping[str, Tensor] | None = None

    def __call__(self, model: nn.Module, share: float) -> Probed:
        """Train `model` in place for a share of the stage's steps, and measure it; every probe alike."""
        recipe, train, judges = self._recipe, *self._sets
        steps_an_epoch = math.ceil(len(self.offered.train) / recipe.batch_size)
        of_stage = steps_an_epoch * self.recipe.epochs_of(self.stage)
        steps = max(1, round(share * min(of_stage, self.recipe.max_steps or of_stage)))
        recipe = dataclasses.replace(recipe, max_steps=steps, epochs=math.ceil(steps / steps_an_epoch) + 1)
        nothing = _part(judges, torch.arange(0))
        trained = fit(model, train, nothing, recipe, stage=self.stage, initial=self.initial).examples
        read = len(judges)
        if has_batch_norm(model):
            generator = derive_generator(recipe.seed, self.stage, "probe")
            rows = torch.randperm(len(train), generator=generator)[: MOST_READ // 2]
            with forked_rng(None):  # dropout draws while the statistics are taken
                update_bn(train.batches(rows, recipe.batch_size, recipe.augment, generator), model)
            agree_on_buffers(model)
            read += len(rows)
        logits, labels = predict(model, judges, recipe)
        # Several processes must choose alike, or they would train different models.
        loss = sum_over_processes(F.cross_entropy(logits, labels).to(judges.device)) / number_of_processes()
        return Probed(float(loss), trained, read)

    @cached_property
    def _sets(self) -> tuple[Loader, Loader]:
        """What probes train on, and what judges them."""
        train, validation = self.offered.train, self.offered.validation
        generator = derive_generator(self.recipe.seed, self.stage, "probe")
        rows = torch.randperm(len(validation) or len(train), generator=generator)
        if len(validation):
            return train, _part(validation, rows[:MOST_READ])
        number = min(MOST_READ, max(1, len(rows) // 10))
        return _part(train, rows[number:]), _part(train, rows[:number])

    @cached_property
    def _recipe(self) -> Recipe:
        recipe, stage = self.recipe, self.stage
        acting = [name for name in recipe.regularizers if not reads_previous(recipe.acting[name.partition(":")[0]])]
        return dataclasses.replace(
            recipe,
            schedule="constant",
            warmup=0,
            keep="last",
            patience=None,
            max_seconds=None,
            target_accuracy=None,
            budget=1.0,
            regularizers=tuple(acting if "ema" in recipe.acting else [*acting, "ema"]),
            # Another order than the fit's first epoch will have.
            seed=draw_seed(derive_generator(recipe.seed, stage, "probe", 1)),
        )


def _part(loader: Loader, rows: Tensor) -> Loader:
    return Loader(loader.examples[rows.sort().values], loader.device, loader.channels_last, loader.workers)
