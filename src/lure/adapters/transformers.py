"""Hugging Face Trainer: unlearn when training begins."""

from typing import Any

from torch import Tensor, nn

from lure.adapters.callback import unlearn_once
from lure.unlearn import UnlearnReport

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ImportError as error:
    raise ImportError("this adapter needs transformers: pip install 'transformers>=4.46'") from error


class UnlearnCallback(TrainerCallback):
    """Run `unlearn_` on the model before the first step of each `train()`; `report` says what it did.

    The data are the Trainer's training batches, and the loss is the model's own, unless `loader` and `loss` say
    otherwise. When training resumes from a checkpoint, nothing is done.

    The Trainer passes its optimiser to callbacks, or None where it makes one later. If you keep an optimiser of your
    own from one `train()` to the next (`optimizers=(optimizer, scheduler)`), pass it in the options, to be sure.

    Args:
        method: name of the method, as in `unlearn_`.
        **options: other arguments of `unlearn_`. The seed goes up by 1 with each use of the callback.

    Example:
        >>> callback = UnlearnCallback("dash", alpha=0.1)  # Trainer(..., callbacks=[callback]).train()
    """

    def __init__(self, method: str = "lure", **options: Any) -> None:
        self.method, self.options, self.num_uses = method, options, 0
        self.report: UnlearnReport | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any
    ) -> None:
        """Unlearn, unless training resumes."""
        if state.global_step == 0:
            defaults = {"loader": objects.get("train_dataloader"), "optimizer": objects.get("optimizer")}
            unlearn_once(self, objects["model"], {**defaults, "loss": own_loss})


def own_loss(model: nn.Module, batch: Any) -> Tensor:
    """Return the loss that a Hugging Face model computes itself from a batch with labels."""
    loss: Tensor = model(**batch).loss
    return loss
