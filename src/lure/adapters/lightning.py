"""Lightning: unlearn when a fit starts."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from lure.adapters.callback import unlearn_once
from lure.errors import InputError
from lure.unlearn import UnlearnReport

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise ImportError("this adapter needs Lightning: pip install 'lightning>=2.4,!=2.6.2,!=2.6.3'") from error


class UnlearnCallback(Callback):
    """Run `unlearn_` on the module before the first training step of each fit; `report` says what it did.

    The data are the fit's own training batches, as `training_step` gets them, and the loss is cross-entropy of (inputs,
    labels), unless `loader` and `loss` say otherwise. A fit that resumes from a checkpoint (`ckpt_path`) is not a new
    one: nothing is done.

    Args:
        method: name of the method, as in `unlearn_`.
        **options: other arguments of `unlearn_`, except the optimiser, which is the trainer's. The seed goes up by 1
            with each use of the callback.

    Example:
        >>> callback = UnlearnCallback("dash", alpha=0.1)  # Trainer(callbacks=[callback]).fit(module, next_loader)
    """

    def __init__(self, method: str = "lure", **options: Any) -> None:
        self.method, self.options, self.num_uses = method, options, 0
        self.report: UnlearnReport | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Unlearn. By now the optimiser exists, and its state has been restored if there was one."""
        if trainer.ckpt_path is not None:
            return
        if len(trainer.optimizers) > 1:
            raise InputError(f"the state of one optimiser can be cleared, but the module has {len(trainer.optimizers)}")
        optimizer = next((o for o in trainer.optimizers if isinstance(o, torch.optim.Optimizer)), None)
        unlearn_once(self, pl_module, {"loader": TrainingBatches(trainer)}, optimizer=optimizer)


@dataclass(frozen=True)
class TrainingBatches:
    """The fit's batches as `training_step` gets them: in the trainer's precision, after the module's batch hooks."""

    trainer: Trainer

    def __iter__(self) -> Iterator[Any]:
        for batch in self.trainer.train_dataloader:  # type: ignore[union-attr]
            yield self.trainer.strategy.batch_to_device(self.trainer.precision_plugin.convert_input(batch))
