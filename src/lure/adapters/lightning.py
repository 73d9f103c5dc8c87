"""Lightning: unlearn when a fit starts."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from lure.adapters.callback import FirstBatches, check_choice, has_learnt, mark_fitted, unlearn_once
from lure.errors import InputError
from lure.unlearn import UnlearnReport

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise ImportError("this adapter needs Lightning: pip install 'lightning>=2.4,!=2.6.2,!=2.6.3'") from error


class UnlearnCallback(Callback):
    """Run `unlearn_` on the module before the first training step of each fit but its first; see `report`.

    The data are the batches of one pass of the fit, as `training_step` gets them, no more than `limit_train_batches`
    and `max_steps` let it read, and at most 1,000 of a stream without length or limit. The loss is cross-entropy of
    (inputs, labels). `loader` and `loss` say otherwise. A fit that resumes from a checkpoint (`ckpt_path`) is not a new
    one: nothing is done.

    The callback remembers in the module that a fit with it has ended. A module whose weights were loaded, or that was
    fitted without the callback, looks new: pass `trained=True`.

    Args:
        method: name of the method, as in `unlearn_`.
        trained: True if the module has learnt earlier data already, so that its first fit is prepared, too; False if
            it has not; None, the default, takes it that it has not and warns.
        **options: other arguments of `unlearn_`, except the optimiser, which is the trainer's. A seed goes up by 1
            with each use of the callback. `dash:ema=chunk` and `auto` need `chunks`: a list of loaders, to which you
            append the new chunk's before each fit.

    Raises:
        InputError: for an unknown method or option, or if the method needs what the options do not hold.

    Example:
        >>> callback = UnlearnCallback("dash", alpha=0.1)  # Trainer(callbacks=[callback]).fit(module, next_loader)
    """

    def __init__(self, method: str = "lure", *, trained: bool | None = None, **options: Any) -> None:
        self.method, self.trained, self.options, self.num_uses = method, trained, options, 0
        self.report: UnlearnReport | None = None
        check_choice(self)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Unlearn. By now the optimiser exists, and its state has been restored if there was one."""
        if trainer.ckpt_path is not None or not has_learnt(self, pl_module):
            return
        if len(trainer.optimizers) > 1:
            raise InputError(f"the state of one optimiser can be cleared, but the module has {len(trainer.optimizers)}")
        optimizer = next((o for o in trainer.optimizers if isinstance(o, torch.optim.Optimizer)), None)
        unlearn_once(self, pl_module, {"loader": TrainingBatches(trainer)}, optimizer=optimizer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember that the module has been fitted."""
        mark_fitted(pl_module)


@dataclass(frozen=True)
class TrainingBatches:
    """The batches of one pass of the fit as `training_step` gets them: in its precision, after the batch hooks."""

    trainer: Trainer

    def __iter__(self) -> Iterator[Any]:
        trainer = self.trainer
        # `trainer.train_dataloader` is what the user gave: iterating over a dict or list of loaders gives no batches.
        loader = copy.copy(trainer.fit_loop._combined_loader)
        assert loader is not None
        loader.flattened = [_apart(each) for each in loader.flattened]
        for batch, _, _ in FirstBatches(loader, _batches_in_a_pass(trainer)):
            yield trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))


def _apart(loader: Any) -> Any:
    """Return the loader without lasting workers: they belong to the iterator that the fit has already begun."""
    if getattr(loader, "persistent_workers", False):
        loader = copy.copy(loader)
        vars(loader)["persistent_workers"] = False  # a DataLoader lets nobody set it
    return loader


def _batches_in_a_pass(trainer: Trainer) -> int | None:
    bounds = [trainer.num_training_batches]
    if trainer.max_steps >= 0:
        bounds.append((trainer.max_steps - trainer.global_step) * trainer.accumulate_grad_batches)
    return None if math.isinf(min(bounds)) else int(min(bounds))
