"""Adversarial attacks: how far accuracy falls if every input may be changed a little, in the worst direction.

FGSM takes one step along the gradient, PGD many small ones, each projected onto the ball of radius epsilon around the
input and onto [0, 1]. A model is any callable from floats in [0, 1] (batch, ...) to logits (batch, classes);
normalisation must be part of it, or epsilon has another meaning.

The steps increase m = log(sum over wrong classes of exp(logit)) - logit of the true class. Cross-entropy is
log(1 + e^m), so both gradients have the same direction. But that of cross-entropy vanishes where the model is certain,
which would make an overconfident model look robust; that of m does not.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from lure.errors import InputError, require_within, unknown_name
from lure.weights.cross_entropy import read_logits
from lure.words import percent

Model = Callable[[Tensor], Tensor]
Norm = Literal["linf", "l2"]
NORMS = ("linf", "l2")
ATTACKS = ("fgsm", "pgd")


def fgsm(model: Model, inputs: Tensor, labels: Tensor, epsilon: float, norm: Norm = "linf") -> Tensor:
    """Return the inputs after one step of length epsilon along the gradient: x + epsilon * sign(g), clipped to [0, 1].

    In the L2 norm the step is epsilon * g / |g|.

    Args:
        model: floats in [0, 1] -> logits (batch, classes); in eval mode.
        inputs: floats in [0, 1], (batch, ...).
        labels: (batch,) int64, the true classes.
        epsilon: length of the step, at least 0, in units of the inputs (8/255 is usual for images, in L-infinity).
        norm: "linf" or "l2".

    Returns:
        changed inputs, of the inputs' shape, in [0, 1] and within epsilon of them.

    Raises:
        InputError: if epsilon is negative, the norm unknown, or inputs are not floats in [0, 1].

    Example:
        >>> model = torch.nn.Linear(2, 2, bias=False)
        >>> with torch.no_grad():
        ...     _ = model.weight.copy_(torch.tensor([[1.0, -1.0], [0.0, 0.0]]))
        >>> fgsm(model, torch.tensor([[0.5, 0.5]]), torch.tensor([0]), 0.125).tolist()
        [[0.375, 0.625]]

    Reference:
        Goodfellow, Shlens, Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015.
    """
    _check(inputs, epsilon, norm)
    return _step(model, inputs, inputs, labels, epsilon, epsilon, norm)


def pgd(
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    epsilon: float,
    norm: Norm = "linf",
    *,
    steps: int = 20,
    step_size: float | None = None,
    restarts: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the worst inputs that projected gradient ascent finds within epsilon.

    The first candidate is the input itself, the second the result of `fgsm`. Then every restart begins at a random
    point of the ball and takes `steps` steps; each point on the way is a candidate. A misclassified candidate is
    returned if there is one, otherwise the one with the largest m. So PGD is never weaker than FGSM, and more restarts
    are never weaker than fewer.

    Args:
        model: floats in [0, 1] -> logits (batch, classes); in eval mode.
        inputs: floats in [0, 1], (batch, ...).
        labels: (batch,) int64, the true classes.
        epsilon: radius of the ball, at least 0, in units of the inputs.
        norm: "linf" or "l2".
        steps: steps of each restart, at least 1.
        step_size: length of a step; None takes 2.5 * epsilon / steps.
        restarts: number of random starting points, at least 1.
        generator: draws the starting points, on the CPU; None means seed 0.

    Returns:
        changed inputs, of the inputs' shape, in [0, 1] and within epsilon of them.

    Raises:
        InputError: if a number is out of range, the norm unknown, or inputs are not floats in [0, 1].

    Example:
        >>> model = torch.nn.Linear(2, 2, bias=False)
        >>> with torch.no_grad():
        ...     _ = model.weight.copy_(torch.tensor([[3.0, -4.0], [0.0, 0.0]]))
        >>> moved = pgd(model, torch.tensor([[0.5, 0.25]]), torch.tensor([0]), 0.05, "l2", steps=50)
        >>> [round(value, 2) for value in moved[0].tolist()]  # 0.05 * (-3, 4) / 5
        [0.47, 0.29]

    Reference:
        Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards Deep Learning Models Resistant to Adversarial Attacks",
        ICLR 2018.
    """
    _check(inputs, epsilon, norm)
    require_within("steps", steps, 1)
    require_within("restarts", restarts, 1)
    length = 2.5 * epsilon / steps if step_size is None else step_size
    require_within("step_size", length, 0)
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    worst = inputs.clone()
    height, wrong = _hardness(model, inputs, labels)

    def consider(candidate: Tensor) -> None:
        nonlocal height, wrong
        new_height, new_wrong = _hardness(model, candidate, labels)
        better = ~wrong & (new_wrong | (new_height > height))
        worst[better] = candidate[better]
        height, wrong = torch.where(better, new_height, height), wrong | new_wrong

    consider(fgsm(model, inputs, labels, epsilon, norm))
    for _ in range(restarts):
        point = _random_point(inputs, epsilon, norm, generator)
        for _ in range(steps):
            point = _step(model, point, inputs, labels, length, epsilon, norm)
            consider(point)
    return worst


def adversarial_accuracy(
    model: Model,
    batches: Sequence[tuple[Tensor, Tensor]],
    epsilons: Sequence[float],
    *,
    attack: str = "pgd",
    norm: Norm = "linf",
    steps: int = 20,
    restarts: int = 1,
    seed: int = 0,
) -> dict[str, Any]:
    """Return accuracy under an attack as epsilon grows.

    Every batch has its own generator, the same for every model, so that models are attacked from the same starting
    points.

    Args:
        model: floats in [0, 1] -> logits (batch, classes); in eval mode.
        batches: pairs (inputs, labels); use the same for all models that are compared.
        epsilons: radii, each at least 0.
        attack: "pgd" or "fgsm".
        norm: "linf" or "l2".
        steps: as `pgd`.
        restarts: as `pgd`.
        seed: of the random starting points.

    Returns:
        `attack`, `norm`, `steps`, `restarts` (the last two None for FGSM), `examples`, `curve`: a list of
        {`epsilon`, `accuracy`} by increasing epsilon, and `warning`: see `masking_warning`.

    Raises:
        InputError: if the attack or norm is unknown, a number is out of range, or inputs are not floats in [0, 1].

    Example:
        >>> model = torch.nn.Linear(2, 2)
        >>> batch = torch.rand(8, 2), torch.zeros(8, dtype=torch.int64)
        >>> result = adversarial_accuracy(model, [batch], [0.0, 1.0])
        >>> [point["epsilon"] for point in result["curve"]], result["examples"]
        ([0.0, 1.0], 8)
    """
    if attack not in ATTACKS:
        raise unknown_name("attack", attack, ATTACKS)
    if not batches:
        raise InputError("there must be at least one batch to attack")
    total = sum(len(labels) for _, labels in batches)
    curve = []
    for epsilon in sorted(epsilons):
        right = 0
        for number, (inputs, labels) in enumerate(batches):
            if attack == "fgsm":
                moved = fgsm(model, inputs, labels, epsilon, norm)
            else:
                generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
                moved = pgd(model, inputs, labels, epsilon, norm, steps=steps, restarts=restarts, generator=generator)
            right += int((~_hardness(model, moved, labels)[1]).sum())
        curve.append({"epsilon": float(epsilon), "accuracy": right / total})
    return {
        "attack": attack,
        "norm": norm,
        "steps": steps if attack == "pgd" else None,
        "restarts": restarts if attack == "pgd" else None,
        "examples": total,
        "curve": curve,
        "warning": masking_warning([point["epsilon"] for point in curve], [point["accuracy"] for point in curve]),
    }


def masking_warning(epsilons: Sequence[float], accuracies: Sequence[float]) -> str | None:
    """Return a warning if accuracy is above zero and does not fall from one epsilon to the next; else None.

    An attack that works does more harm with a larger epsilon. If it does not, the gradients are probably useless
    (masked), and the model is less robust than it looks.

    Example:
        >>> masking_warning([0.0, 0.1, 0.2], [0.9, 0.5, 0.5])
        'accuracy did not fall from epsilon 0.1 (50.0 %) to 0.2 (50.0 %): perhaps the attack fails, not the model holds'
    """
    for place in range(1, len(epsilons)):
        before, after = accuracies[place - 1], accuracies[place]
        if epsilons[place] > epsilons[place - 1] and after >= before > 0:
            # Evaluations on disk contain this sentence.
            return (
                f"accuracy did not fall from epsilon {epsilons[place - 1]:.3g} ({percent(before)} %) to "
                f"{epsilons[place]:.3g} ({percent(after)} %): perhaps the attack fails, not the model holds"
            )
    return None


def _check(inputs: Tensor, epsilon: float, norm: str) -> None:
    require_within("epsilon", epsilon, 0)
    if norm not in NORMS:
        raise unknown_name("norm", norm, NORMS)
    if not inputs.is_floating_point() or not len(inputs) or not bool(((inputs >= 0) & (inputs <= 1)).all()):
        raise InputError("an attack needs at least one input, and inputs must be floats in [0, 1]")


def _heights(model: Model, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return m (see the module's docstring) of each example, and whether it is misclassified."""
    logits = read_logits(model(inputs))
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    true = torch.nn.functional.one_hot(labels, logits.shape[1]).bool()
    others = logits.masked_fill(true, -torch.inf).logsumexp(dim=1)
    return others - logits[true], logits.argmax(dim=1) != labels


@torch.no_grad()
def _hardness(model: Model, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return _heights(model, inputs, labels)


def _step(
    model: Model, point: Tensor, centre: Tensor, labels: Tensor, length: float, epsilon: float, norm: Norm
) -> Tensor:
    """Take a step of `length` from `point` that increases m; project onto the ball around `centre` and onto [0, 1]."""
    with torch.enable_grad():
        leaf = point.detach().requires_grad_(True)
        heights, _ = _heights(model, leaf, labels)
        (gradient,) = torch.autograd.grad(heights.sum(), leaf)
    direction = gradient.sign() if norm == "linf" else gradient / _length(gradient).clamp_min(1e-30)
    away = point.detach() + length * direction - centre
    return (centre + _into_ball(away, epsilon, norm)).clamp(0, 1)


def _random_point(centre: Tensor, epsilon: float, norm: Norm, generator: torch.Generator) -> Tensor:
    """Draw a point of the ball, uniform in volume, clipped to [0, 1]."""
    if norm == "linf":
        away = epsilon * (2 * torch.rand(centre.shape, generator=generator) - 1)
    else:
        away = torch.randn(centre.shape, generator=generator)
        share = torch.rand(len(centre), generator=generator) ** (1 / centre[0].numel())
        away = away / _length(away) * epsilon * share.view(-1, *[1] * (centre.dim() - 1))
    return (centre + away.to(centre)).clamp(0, 1)


def _into_ball(away: Tensor, epsilon: float, norm: Norm) -> Tensor:
    if norm == "linf":
        return away.clamp(-epsilon, epsilon)
    return away * (epsilon / _length(away).clamp_min(1e-30)).clamp_max(1)


def _length(vectors: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(vectors.flatten(1), dim=1)
    return lengths.view(-1, *[1] * (vectors.dim() - 1))
