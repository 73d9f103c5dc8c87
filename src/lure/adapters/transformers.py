"""Hugging Face Trainer: unlearn when training begins."""

from typing import Any

from torch import Tensor, nn

from lure.unlearn import UnlearnReport, unlearn_

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ImportError as error:
    raise ImportError("this adapter needs transformers: pip install 'transformers>=4.46'") from error


class UnlearnCallback(TrainerCallback):
    """Run `unlearn_` on the model before the first step of each `train()`; `report` says what it did.

    The data are the Trainer's training batches, and the loss is the model's own, unless `loader` and `loss` say
    otherwise. Training that resumes from a checkpoint is not begun: nothing is done.

    The Trainer hands its optimiser to callbacks, or none where it makes it later. An optimiser of your own that goes on
    from one `train()` to the next (`optimizers=(optimizer, scheduler)`) can be named in the options, to be sure.

    Args:
        method: name of the method, as in `unlearn_`.
        **options: whatever else `unlearn_` takes. The seed counts on by 1 from one use of the callback to the next.

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
            given: dict[str, Any] = {"optimizer": objects.get("optimizer"), "loss": own_loss}
            given |= {"loader": objects.get("train_dataloader"), **self.options}
            given["seed"] = self.options.get("seed", 0) + self.num_uses
            self.report = unlearn_(objects["model"], method=self.method, **given)
            self.num_uses += 1


def own_loss(model: nn.Module, batch: Any) -> Tensor:
    """Return the loss that a Hugging Face model computes itself from a batch with labels."""
    loss: Tensor = model(**batch).loss
    return loss
