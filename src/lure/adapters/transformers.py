"""Hugging Face Trainer: unlearn when training begins."""

from typing import Any

from torch import Tensor, nn

from lure.adapters.callback import FirstBatches, check_choice, has_learnt, mark_fitted, unlearn_once
from lure.unlearn import UnlearnReport

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ImportError as error:
    raise ImportError("this adapter needs transformers: pip install 'transformers>=4.46'") from error


class UnlearnCallback(TrainerCallback):
    """Run `unlearn_` on the model before the first step of each `train()` but its first; see `report`.

    The data are the Trainer's training batches of one epoch, no more than `max_steps` lets it read, and the loss is the
    model's own, unless `loader` and `loss` say otherwise. When training resumes from a checkpoint, nothing is done.

    The callback remembers in the model that a `train()` with it has ended. A model that was loaded
    (`from_pretrained`), or trained without the callback, looks new: pass `trained=True` if it has learnt your earlier
    data.

    The Trainer passes its optimiser to callbacks, or None where it makes one later. If you keep an optimiser of your
    own from one `train()` to the next (`optimizers=(optimizer, scheduler)`), pass it in the options, to be sure.

    Args:
        method: name of the method, as in `unlearn_`.
        trained: True if the model has learnt earlier data already, so that its first `train()` is prepared, too; False
            if it has not; None, the default, takes it that it has not and warns.
        **options: other arguments of `unlearn_`. A seed goes up by 1 with each use of the callback. `dash:ema=chunk`
            and `auto` need `chunks`: a list of loaders, to which you append the new chunk's before each `train()`.

    Raises:
        InputError: for an unknown method or option, or if the method needs what the options do not hold.

    Example:
        >>> callback = UnlearnCallback("dash", alpha=0.1)  # Trainer(..., callbacks=[callback]).train()
    """

    def __init__(self, method: str = "lure", *, trained: bool | None = None, **options: Any) -> None:
        self.method, self.trained, self.options, self.num_uses = method, trained, options, 0
        self.report: UnlearnReport | None = None
        check_choice(self)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any
    ) -> None:
        """Unlearn, unless training resumes or the model has not learnt anything yet."""
        if state.global_step or not has_learnt(self, objects["model"]):
            return
        loader = objects.get("train_dataloader")
        if loader is not None:
            loader = FirstBatches(loader, state.max_steps * args.gradient_accumulation_steps)
        defaults = {"loader": loader, "optimizer": objects.get("optimizer"), "loss": own_loss}
        unlearn_once(self, objects["model"], defaults)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any
    ) -> None:
        """Remember that the model has been trained."""
        mark_fitted(objects["model"])


def own_loss(model: nn.Module, batch: Any) -> Tensor:
    """Return the loss that a Hugging Face model computes itself from a batch with labels."""
    loss: Tensor = model(**batch).loss
    return loss
