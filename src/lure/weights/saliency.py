"""How much each weight matters: SNIP saliency, Fisher information and magnitude, for every trainable parameter.

Gradients are taken in eval mode, so dropout is off and BatchNorm uses its running statistics. The model is left as it
was: modes, buffers, `.grad` and the global random state. `accumulate_gradients` is the loop behind them, for a method
that needs another sum over gradients.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from lure.distributed import sum_over_processes
from lure.errors import InputError
from lure.randomness import forked_rng
from lure.weights.cross_entropy import classification_loss
from lure.weights.layers import refuse_unmaterialized, trainable, unwrap
from lure.weights.modes import differentiable_in_eval, evaluating, uncompiled
from lure.weights.ranking import Reach

Batch: TypeAlias = Any  # what the loss understands: usually a pair (inputs, labels)
Loss: TypeAlias = Callable[[nn.Module, Batch], Tensor]


def snip_saliency(
    model: nn.Module, batches: Iterable[Batch], loss: Loss = classification_loss, reach: Reach | None = None
) -> dict[str, Tensor]:
    """Return the SNIP saliency of every trainable parameter: how much the loss would notice its removal.

    s = |w| * sum over batches of |gradient of the batch's mean loss|. The absolute value is taken for each batch before
    the sum, as the released code of LURE does; the SNIP paper reads a single batch, for which the two are the same.

    Args:
        model: the network; left as it was.
        batches: re-iterable or not; pairs (inputs, labels), or what `loss` understands.
        loss: (model, batch) -> mean loss of the batch; cross-entropy by default.
        reach: is filled with what the batches reached; what they did not reach scores 0.

    Returns:
        name -> scores >= 0, of the parameter's shape, in float32 at least.

    Raises:
        InputError: if there is no batch, or a loss is not finite.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> net = nn.Linear(2, 2, bias=False)
        >>> scores = snip_saliency(net, [(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))])
        >>> scores["weight"][:, 1].tolist()  # the second feature is always zero, so its weights do not matter
        [0.0, 0.0]

    Reference:
        Lee, Ajanthan, Torr, "SNIP: Single-shot Network Pruning based on Connection Sensitivity", ICLR 2019, eq. 4;
        Ramkumar, Arani, Zonooz, "Learn, Unlearn and Relearn", TMLR 2023.
    """

    def add_absolute(running: list[Tensor], gradients: list[Tensor]) -> None:
        torch._foreach_abs_(gradients)
        torch._foreach_add_(running, gradients)

    scores = accumulate_gradients(model, batches, loss, add_absolute, reach)
    parameters = trainable(model)
    with torch.no_grad():
        for name, score in scores.items():
            score.mul_(parameters[name].abs())
    return scores


def fisher(
    model: nn.Module, batches: Iterable[Batch], loss: Loss = classification_loss, reach: Reach | None = None
) -> dict[str, Tensor]:
    """Return the mean over batches of the squared gradient of the batch's mean loss, for every trainable parameter.

    This is the diagonal of the empirical Fisher information at the granularity of batches (labels as given); with
    batches of one example it is the usual empirical Fisher.

    Args:
        model: the network; left as it was.
        batches: pairs (inputs, labels), or what `loss` understands.
        loss: (model, batch) -> mean loss of the batch.
        reach: is filled with what the batches reached; what they did not reach has 0.

    Returns:
        name -> values >= 0, of the parameter's shape, in float32 at least.

    Raises:
        InputError: if there is no batch, or a loss is not finite.

    Example:
        >>> net = nn.Linear(2, 2, bias=False)
        >>> values = fisher(net, [(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))])
        >>> bool((values["weight"][:, 0] > 0).all()), values["weight"][:, 1].tolist()
        (True, [0.0, 0.0])
    """
    num_batches = 0

    def add_square(running: list[Tensor], gradients: list[Tensor]) -> None:
        nonlocal num_batches
        num_batches += 1
        torch._foreach_addcmul_(running, gradients, gradients)

    sums = accumulate_gradients(model, batches, loss, add_square, reach)
    count = torch.tensor(float(num_batches), device=next(iter(sums.values())).device)
    torch._foreach_div_(list(sums.values()), float(sum_over_processes(count)))
    return sums


def mean_gradients(
    model: nn.Module, batches: Iterable[Batch], loss: Loss = classification_loss, reach: Reach | None = None
) -> dict[str, Tensor]:
    """Return the gradient of the mean loss over all examples of the batches, for every trainable parameter.

    Each batch counts by its number of examples, so it does not matter how the examples are cut into batches.

    Args:
        model: the network; left as it was.
        batches: pairs (inputs, labels), or what `loss` understands.
        loss: (model, batch) -> mean loss of the batch.
        reach: is filled with what the batches reached; what they did not reach has 0.

    Returns:
        name -> gradient, of the parameter's shape, in float32 at least.

    Raises:
        InputError: if there is no batch, a loss is not finite, or a batch holds no tensor.

    Example:
        >>> net = nn.Linear(2, 2, bias=False)
        >>> inputs, labels = torch.rand(3, 2), torch.tensor([0, 1, 1])
        >>> whole, cut = [(inputs, labels)], [(inputs[:1], labels[:1]), (inputs[1:], labels[1:])]
        >>> torch.allclose(mean_gradients(net, whole)["weight"], mean_gradients(net, cut)["weight"], atol=1e-6)
        True
    """
    num_examples = 0

    def total_loss(network: nn.Module, batch: Batch) -> Tensor:
        nonlocal num_examples
        size = count_examples(batch)
        num_examples += size
        return loss(network, batch) * size

    sums = accumulate_gradients(model, batches, total_loss, torch._foreach_add_, reach)
    count = torch.tensor(float(num_examples), device=next(iter(sums.values())).device)
    torch._foreach_div_(list(sums.values()), float(sum_over_processes(count)))
    return sums


def magnitude(model: nn.Module) -> dict[str, Tensor]:
    """Return |w| for every trainable parameter.

    Example:
        >>> net = nn.Linear(1, 1, bias=False)
        >>> with torch.no_grad():
        ...     _ = net.weight.fill_(-2.0)
        >>> magnitude(net)["weight"].tolist()
        [[2.0]]
    """
    return {name: parameter.detach().abs() for name, parameter in trainable(model).items()}


def accumulate_gradients(
    model: nn.Module,
    batches: Iterable[Batch],
    loss: Loss,
    fold: Callable[[list[Tensor], list[Tensor]], None],
    reach: Reach | None = None,
) -> dict[str, Tensor]:
    """Fold the gradient of every batch's mean loss into one running tensor for each trainable parameter.

    Where several processes train together, their sums are added, so that all of them continue with the same values.

    Args:
        model: the network; read in eval mode, without its DDP and compile wrappers, and left as it was.
        batches: what `loss` understands; at least one.
        loss: (model, batch) -> scalar, the mean over the batch.
        fold: called as fold(running, gradients) for each batch; updates `running` in place. Both lists go parameter by
            parameter; `running` starts at zero. A parameter that the loss does not reach has gradient zero.
        reach: is filled with what the batches reached.

    Returns:
        name -> running tensor, of the parameter's shape, in float32 at least.

    Raises:
        InputError: if there is no batch; if a loss has no gradient or is not finite (the message names the batch); if
            there is no trainable parameter, or a complex one.
    """
    refuse_unmaterialized(model)
    inner, parameters = unwrap(model), trainable(model)
    if not parameters:
        raise InputError("the model has no trainable parameter")
    for name, parameter in parameters.items():
        if parameter.is_complex():
            raise InputError(f"parameter {name!r} is complex: saliency is defined for real weights only")
    tensors = list(parameters.values())
    running = [torch.zeros_like(p, dtype=torch.promote_types(p.dtype, torch.float32)) for p in tensors]
    num_batches, watched = 0, reach.watching(inner) if reach else nullcontext()
    with (
        watched,
        evaluating(inner),
        differentiable_in_eval(inner),
        uncompiled(),
        forked_rng(None),
        torch.enable_grad(),
    ):
        for num_batches, batch in enumerate(batches, start=1):
            value = mean_loss(loss, inner, batch)
            if not value.requires_grad:
                raise InputError("the loss has no gradient: it must be computed by the model, and not detached from it")
            if not bool(torch.isfinite(value)):
                raise InputError(
                    f"the loss of saliency batch {num_batches} is {value.item()}: the model or the data are not finite"
                )
            gradients = torch.autograd.grad(value, tensors, allow_unused=True)
            with torch.no_grad():
                if reach:
                    reach.add(list(parameters), gradients)
                # An embedding may give sparse gradients.
                fold(
                    running,
                    [
                        torch.zeros_like(r) if g is None else g.to_dense().to(r.dtype)
                        for g, r in zip(gradients, running, strict=True)
                    ],
                )
            del gradients, value  # free the memory before the next batch needs as much
    read = torch.tensor(float(num_batches), device=running[0].device)
    for tensor in (read, *running):
        sum_over_processes(tensor)
    if reach:
        reach.join_processes(inner, running[0].device)
    if read == 0:
        raise InputError("this method reads data, but its sample holds no batch: pass a loader with at least one")
    return dict(zip(parameters, running, strict=True))


def mean_loss(loss: Loss, model: nn.Module, batch: Batch) -> Tensor:
    """Return the loss of a batch, checked to be a single number.

    Raises:
        InputError: if it is anything else, such as a loss for each example.
        Exception: whatever the loss raises, with a note on the mode of the model.

    Example:
        >>> mean_loss(classification_loss, nn.Linear(2, 3), (torch.rand(4, 2), torch.tensor([0, 1, 2, 0]))).dim()
        0
    """
    try:
        value = loss(model, batch)
    except InputError:
        raise
    except Exception as error:
        if not model.training:
            error.add_note(
                "lure: the model was in eval mode when the loss was computed, in which it may return something else "
                "than while training"
            )
        raise
    if not isinstance(value, Tensor) or value.numel() != 1:
        found = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise InputError(f"the loss must be a tensor of one number, the mean over the batch, got {found}")
    return value


def join_examples(batches: Iterable[Batch], size: int) -> Batch:
    """Join the first examples of some batches into a single batch.

    Args:
        batches: tensors, or tuples, lists or dicts of tensors, whose first dimension counts examples.
        size: number of examples; fewer if there are not so many.

    Raises:
        InputError: if there is no batch, one holds something else, or their examples differ in shape.

    Example:
        >>> batches = [(torch.rand(2, 5), torch.tensor([0, 1])), (torch.rand(2, 5), torch.tensor([2, 3]))]
        >>> inputs, labels = join_examples(batches, 3)
        >>> inputs.shape, labels.tolist()
        (torch.Size([3, 5]), [0, 1, 2])
    """
    taken: list[Batch] = []
    num_taken = 0
    with forked_rng(None):  # a DataLoader draws from the global random state when it is asked for its batches
        for batch in batches:
            taken.append(batch)
            num_taken += count_examples(batch)
            if num_taken >= size:
                break
    if not taken:
        raise InputError("this method reads data, but its sample holds no batch: pass a loader with at least one")
    return _join(taken, size)


def count_examples(batch: Batch) -> int:
    """Return the number of examples of a batch: the length of the first tensor in it.

    Raises:
        InputError: if there is none.

    Example:
        >>> count_examples({"pixels": torch.rand(3, 5), "labels": torch.tensor([0, 1, 2])})
        3
    """
    while not isinstance(batch, Tensor):
        if not isinstance(batch, tuple | list | Mapping) or not batch:
            raise InputError(f"cannot count the examples of a batch of type {type(batch).__name__}")
        batch = next(iter(batch.values() if isinstance(batch, Mapping) else batch))
    return len(batch)


def _join(batches: list[Batch], size: int) -> Batch:
    first = batches[0]
    if isinstance(first, Tensor):
        shapes = {tuple(batch.shape[1:]) for batch in batches}
        if len(shapes) > 1:
            raise InputError(f"examples of shapes {', '.join(map(str, sorted(shapes)))} do not join into one batch")
        return torch.cat(batches)[:size]
    if isinstance(first, Mapping):
        return {key: _join([batch[key] for batch in batches], size) for key in first}
    if not isinstance(first, tuple | list):
        raise InputError(f"batches that hold {type(first).__name__} do not join into one: leave only tensors in them")
    return [_join(list(parts), size) for parts in zip(*batches, strict=True)]
