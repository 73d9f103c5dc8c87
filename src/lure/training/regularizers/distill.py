"""Distillation from the previous version: keep near to what the version in use says of each example."""

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lure.errors import InputError
from lure.settings import check_settings, setting
from lure.training.regularizers.contract import FitContext, RunningRegularizer
from lure.weights.cross_entropy import read_logits
from lure.weights.layers import unwrap

FOCUS = 5.0  # added to the weight 1 of an example that the previous version has right


@dataclass(frozen=True, kw_only=True)
class Distill:
    """Add strength * KL(previous version's outputs || outputs) to the loss of each batch.

    The teacher is the version in use, as it was before the stage's unlearner touched it: what unlearning forgets, the
    teacher still knows. With `focal`, examples that it has right weigh 1 + 5 and the others 1, which aims at fewer
    examples that the old version had right and the new one gets wrong. In the first stage there is no version in use,
    and nothing is added.

    The teacher sees the batch as the student does, augmented and in the same precision, in eval mode and without
    gradients. KL is taken in float32 at least, per example, and averaged over the batch; it is multiplied by
    temperature^2, so that the size of its gradient depends little on the temperature. Each step takes one more forward
    pass, which `train_flops` counts as a third of a forward and backward pass. A second copy of the model is in memory.
    Where the model has got outputs for new classes since, behind the old ones, the old ones are compared.

    Args:
        strength: at least 0; 0 adds nothing and needs no teacher.
        temperature: divides the logits of both; above 1 it brings out how the teacher ranks the wrong classes.
        focal: weigh what the teacher has right; needs the labels.

    Example:
        >>> old = nn.Linear(2, 3)
        >>> new = copy.deepcopy(old)
        >>> distill = Distill(strength=0.7).start(new, FitContext(previous=old))
        >>> inputs, labels = torch.rand(4, 2), torch.tensor([0, 1, 2, 0])
        >>> round(distill.loss_term(inputs, new(inputs), labels).item(), 6)  # to be added to the loss
        0.0

    Reference:
        Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531, 2015. Over a stream of
        data: Shen et al., "Step Out and Seek Around: On Warm-Start Training with Incremental Data", arXiv 2406.04484,
        2024. Focal: Yan et al., "Positive-Congruent Training: Towards Regression-Free Model Updates", CVPR 2021,
        arXiv 2011.09161; the weights 1 and 5 were not checked against its code.
    """

    reads_previous: ClassVar[bool] = True

    strength: float = setting(1.0, "factor of the divergence from the previous version's outputs", 0)
    temperature: float = setting(1.0, "divides the logits of both versions", above=0)
    focal: bool = setting(False, "weigh examples that the previous version has right 6, the others 1")

    def __post_init__(self) -> None:
        check_settings(self)

    def start(self, model: nn.Module, context: FitContext) -> RunningRegularizer:
        """Take a frozen copy of the previous version; without one, do nothing."""
        if context.previous is None or not self.strength:
            return RunningRegularizer()
        try:
            teacher = copy.deepcopy(unwrap(context.previous)).requires_grad_(False).eval()
        except (RuntimeError, TypeError) as error:
            raise InputError(f"the previous version cannot be copied to distill from it: {error}") from error

        def loss_term(inputs: Tensor, logits: Tensor, labels: Tensor | None = None) -> Tensor:
            if self.focal and labels is None:
                raise InputError("distill with focal needs the labels: call loss_term(inputs, logits, labels)")
            with torch.no_grad():
                targets = read_logits(teacher(inputs))
            return self.strength * distillation_loss(logits, targets, labels if self.focal else None, self.temperature)

        return RunningRegularizer(loss_term=loss_term, forward_passes=1)


def distillation_loss(logits: Tensor, targets: Tensor, labels: Tensor | None = None, temperature: float = 1) -> Tensor:
    """Return the mean over the batch of temperature^2 * KL(softmax(targets / t) || softmax(logits / t)).

    Args:
        logits: of the student, (batch, classes, ...).
        targets: logits of the teacher, of the same shape, or for the first of the classes.
        labels: (batch, ...); given them, examples that the teacher has right weigh 6 and the others 1.
        temperature: above 0.

    Raises:
        InputError: if the shapes differ otherwise.

    Example:
        >>> distillation_loss(torch.zeros(1, 2), torch.tensor([[0.0, 100.0]]))
        tensor(0.6931)
    """
    logits = logits[:, : targets.shape[1]]
    if logits.shape != targets.shape:
        found, given = tuple(targets.shape), tuple(logits.shape)
        raise InputError(f"the previous version gives outputs of shape {found}, the model {given}: they must agree")
    wide = torch.promote_types(logits.dtype, torch.float32)
    student = F.log_softmax(logits.to(wide) / temperature, 1)
    teacher = F.log_softmax(targets.to(wide) / temperature, 1)
    divergence = F.kl_div(student, teacher, reduction="none", log_target=True).sum(1) * temperature**2
    if labels is not None:
        divergence = divergence * (1 + FOCUS * (targets.argmax(1) == labels))
    return divergence.mean()
