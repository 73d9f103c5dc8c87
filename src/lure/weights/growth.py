"""A head that grows: rows for new classes, while nothing about the old ones changes."""

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lure.errors import InputError
from lure.models import takes_num_classes
from lure.weights.grown_layers import blocks_of, compute_in_blocks_
from lure.weights.layers import growing_head, owner, refuse_unmaterialized, shared_parameters, trainable, unwrap
from lure.weights.optimizer_state import grow_optimizer_state_, require_clearable
from lure.weights.reinit import ENOUGH, build_fresh, fresh_parameters

# Attributes that repeat the number of outputs.
OF_LAYERS = ("out_features", "out_channels", "num_features")
OF_MODELS = ("num_classes", "num_labels")


@torch.no_grad()
def grow_head_(
    model: nn.Module,
    num_classes: int,
    optimizer: torch.optim.Optimizer | None = None,
    draw: Callable[..., nn.Module] | None = None,
    *,
    head: str | None = None,
    generator: torch.Generator | None = None,
) -> list[str]:
    """Give a classifier outputs for new classes, in place; its outputs for the old ones stay as they are, bit for bit.

    The old rows of weight and bias are kept. The new ones are drawn by the redraw law: those of a freshly built network
    where there is a builder, else of the layer's own reset. Nothing else moves. Put it before the fit, and before
    `unlearn_`, when a chunk brings new classes:

        if num_classes > known:
            lure.grow_head_(model, num_classes, optimizer)

    A product with more columns may round the old sums in another way. So a plain `nn.Linear` or `nn.Conv2d` computes
    its outputs in blocks from then on, the old ones by the same product as before; it stays the same object, with the
    same parameter names. The head of another class (a subclass, or one under weight norm) keeps its rows bit for bit,
    and its outputs up to that rounding.

    The head's parameters are replaced by longer ones, without gradients. The optimiser is told; any other list of
    parameters that you keep is yours to renew. `HareTortoise.grow_` takes an average along. Where the model, or its
    `config`, says the old number as `num_classes` or `num_labels`, it says the new one.

    Args:
        model: the network, changed in place; may be wrapped by `torch.compile`.
        num_classes: how many outputs there are to be. As many as now changes nothing.
        optimizer: keeps the state of the old rows; new rows begin with none (momentum and moments zero).
        draw: builds a freshly initialised network for `num_classes` classes: a function that takes them by that name,
            or one without arguments. It also says which tensors grow, and then `head` is not needed.
        head: the layer that grows, as in `model.named_modules()`; None takes the last registered Linear.
        generator: the source of the fresh rows; None means seed 0.

    Returns:
        The names of the layers that grew; none if there are as many classes as now.

    Raises:
        InputError: for fewer classes than now, a head that is not found, shares its weight or cannot grow, a builder
            that builds something else, or an optimiser that does not keep its state by entries. Nothing has changed.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> inputs = torch.rand(3, 4)
        >>> before = net(inputs)
        >>> grow_head_(net, 5)
        ['2']
        >>> net(inputs).shape, torch.equal(net(inputs)[:, :2], before)
        (torch.Size([3, 5]), True)
    """
    if any(isinstance(layer, DistributedDataParallel) for layer in model.modules()):
        raise InputError("grow the head first, and wrap the model then: DistributedDataParallel holds its parameters")
    refuse_unmaterialized(model)
    if optimizer is not None:
        require_clearable(optimizer, trainable(model))
    inner = unwrap(model)
    before = _tensors(inner)
    built = None if draw is None else _tensors(_build_wider(model, num_classes, draw, generator))
    names, old = _of_the_head(inner, head) if built is None else _differing(inner, built, num_classes)
    if old == num_classes:
        return []
    if old > num_classes:
        raise InputError(f"the model has {old} classes, and a head only grows: num_classes cannot be {num_classes}")
    try:
        for name in names:
            # Until there are fresh ones, the old rows again and again: a draw is compared with the spread at hand.
            rows = before[name].detach()[torch.arange(num_classes) % old]
            _put(inner, name, rows if before[name].numel() >= ENOUGH else torch.zeros_like(rows))
        fresh = fresh_parameters(model, names, generator) if built is None else built
        after = _tensors(inner)
        for name in names:
            after[name].detach()[:old] = before[name]
            after[name].detach()[old:] = fresh[name].detach()[old:].to(after[name])
    except BaseException:
        for name in names:
            _put(inner, name, before[name])
        raise
    if optimizer is not None:
        parameters = {name: value for name, value in after.items() if isinstance(value, nn.Parameter)}
        grow_optimizer_state_(optimizer, [(before[name], parameters[name]) for name in names if name in parameters])
    layers = {owner(inner, name)[1]: owner(inner, name)[0] for name in names}
    for layer in layers.values():
        compute_in_blocks_(layer, *blocks_of(layer, old), num_classes - old)
    _say(inner, layers.values(), old, num_classes)
    return list(layers)


def _build_wider(
    model: nn.Module, num_classes: int, draw: Callable[..., nn.Module], generator: torch.Generator | None
) -> nn.Module:
    takes = not isinstance(draw, nn.Module) and takes_num_classes(draw)
    return build_fresh(model, partial(draw, num_classes=num_classes) if takes else draw, generator)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by name, a tied one under its first name."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _of_the_head(model: nn.Module, head: str | None) -> tuple[list[str], int]:
    """Return the names of the head's tensors, and how many outputs it has."""
    found, rows = growing_head(model, head)
    tensors = _tensors(model.get_submodule(found))
    for name, tensor in tensors.items():
        if not isinstance(tensor, nn.Parameter) or tensor.dim() < 1 or len(tensor) != rows:
            raise InputError(
                f"layer {found!r} cannot grow, for it holds {name!r} of shape {tuple(tensor.shape)} beside its weight: "
                f"remove what computes the weight from it, or pass draw=, a function that builds a wider model"
            )
    return [f"{found}.{name}".removeprefix(".") for name in tensors], rows


def _differing(model: nn.Module, built: dict[str, Tensor], num_classes: int) -> tuple[list[str], int]:
    """Return the names of the tensors that are longer in a freshly built network, and how many rows they have now."""
    before = _tensors(model)
    if before.keys() != built.keys():
        name = sorted(before.keys() ^ built.keys())[0]
        raise InputError(f"draw builds another architecture: only one of the two networks has {name!r}")
    names = [name for name in before if before[name].shape != built[name].shape]
    if not names:
        _, rows = growing_head(model)
        if rows != num_classes:
            raise InputError(
                f"draw builds {rows} outputs, as there are, and not {num_classes}: it must take num_classes by name, "
                f"or build a network for so many"
            )
        return [], num_classes
    rows = len(before[names[0]])
    for name in names:
        old, new = tuple(before[name].shape), tuple(built[name].shape)
        if old[1:] != new[1:] or (old[:1], new[:1]) != ((rows,), (num_classes,)):
            raise InputError(
                f"draw builds {name!r} of shape {new}, and the model holds {old}: only the first dimension of a head "
                f"may grow, to {num_classes}"
            )
    shared = shared_parameters(model)
    for name in names:
        if id(before[name]) in shared:
            raise InputError(f"{name!r} belongs to several layers: a tied head cannot grow")
    return names, rows


def _put(model: nn.Module, name: str, value: Tensor) -> None:
    """Put a tensor in the place of the one of that name; a parameter stays one, with all that was noted on it."""
    place, _, local = name.rpartition(".")
    holder = model.get_submodule(place)
    old = holder._parameters.get(local)
    if old is None:
        holder._buffers[local] = value
        return
    if not isinstance(value, nn.Parameter):
        value = nn.Parameter(value, requires_grad=old.requires_grad)
        value.__dict__.update(old.__dict__)
    holder._parameters[local] = value


def _say(model: nn.Module, layers: Iterable[nn.Module], old: int, new: int) -> None:
    """Bring up to date what the layers, and the model and its configuration, say of the number of classes."""
    of_layers = [(layer, name) for layer in layers for name in OF_LAYERS]
    places = [model, getattr(model, "config", None)]
    for place, name in of_layers + [(place, name) for place in places for name in OF_MODELS]:
        if getattr(place, name, None) == old:
            setattr(place, name, new)
