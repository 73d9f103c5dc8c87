"""Fresh weights: the only module that draws new ones.

The redraw law: a fresh value comes from a newly built model of the same architecture if a builder (`draw`) is given,
and otherwise from the layer's own `reset_parameters`, run on a copy, and then from the `_init_weights(layer)` of the
innermost module around it that has one, as the models of Hugging Face, timm and nanoGPT do. Builder and resets differ
where a network initialises its layers in another way: a convolution's `reset_parameters` is Kaiming-uniform with
a = sqrt(5), our ResNets' own initialisation is not. A parameter that neither can redraw is an error, nothing is skipped
silently, and a spread far from that of the weights at hand gives a warning.
"""

import copy
import inspect
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lure.errors import InputError
from lure.randomness import forked_rng
from lure.weights.layers import (
    forgettable,
    owner,
    pruning_masks,
    refuse_unmaterialized,
    require_initial,
    trainable,
    unwrap,
)

FAR = 10.0  # a spread so many times another is not what training alone makes of it
ENOUGH = 100  # entries, for a spread to say something


def fresh_parameters(
    model: nn.Module,
    names: Iterable[str],
    generator: torch.Generator | None = None,
    draw: Callable[[], nn.Module] | None = None,
) -> dict[str, Tensor]:
    """Draw new values for the named parameters, leaving the model alone.

    Args:
        model: the network whose architecture counts. Its weights decide nothing; without a builder, a matrix of 100
            entries or more that is drawn with a spread ten times its present one, or a tenth, gives a warning.
        names: parameters to draw, named as in `named_parameters()` of the inner module.
        generator: the source of randomness; None means seed 0.
        draw: builds a freshly initialised model of the same architecture; called once, under a forked global random
            state. Without it each layer's own `reset_parameters` draws, and the `_init_weights` of the model.

    Returns:
        name -> tensor of the parameter's shape and type, on its device.

    Raises:
        InputError: if a parameter can be drawn by neither, or the built model has another architecture.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
        >>> fresh = fresh_parameters(net, ["1.weight"])
        >>> list(fresh), fresh["1.weight"].shape, bool((fresh["1.weight"] != net[1].weight).all())
        (['1.weight'], torch.Size([2, 3]), True)
    """
    refuse_unmaterialized(model)
    parameters = dict(unwrap(model).named_parameters())
    wanted = list(names)
    if not wanted:
        return {}
    with forked_rng(generator):
        source = dict(_built(model, draw).named_parameters()) if draw else _reset_copy(unwrap(model), wanted)
    fresh, pruned = {}, pruning_masks(model)
    for name in wanted:
        target, value = parameters[name], source.get(name)
        if value is None and name in pruned:  # a builder may well build the network as it was before it was pruned
            value = source.get(name.removesuffix("_orig"))
        if value is None or value.shape != target.shape:
            found = "has no such parameter" if value is None else f"has shape {tuple(value.shape)} there"
            raise InputError(f"cannot redraw {name!r} of shape {tuple(target.shape)}: the freshly built model {found}")
        fresh[name] = value.detach().to(device=target.device, dtype=target.dtype)
    if draw is None:
        _warn_of_spreads(parameters, fresh)
    return fresh


def _warn_of_spreads(parameters: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> None:
    """Warn once if matrices are drawn with quite another spread than they have: the model starts in another way."""
    far = {}
    for name, value in fresh.items():
        if value.dim() < 2 or value.numel() < ENOUGH or not value.is_floating_point():
            continue
        old, new = (_spread(tensor) for tensor in (parameters[name], value))
        if old > 0 and new > 0 and not 1 / FAR < new / old < FAR:
            far[name] = new / old
    if far:
        name = max(far, key=lambda each: abs(math.log(far[each])))
        warnings.warn(
            f"fresh weights of {len(far)} tensor(s) have a spread far from that at hand, {name!r} the furthest "
            f"({far[name]:.3g} times): if the model starts in another way than its layers' own reset_parameters, pass "
            f"draw=, a function that builds a fresh model",
            stacklevel=3,
        )


def build_fresh(model: nn.Module, draw: Callable[[], nn.Module], generator: torch.Generator | None = None) -> nn.Module:
    """Return the inner module of what a builder builds, under a forked global random state.

    Raises:
        InputError: if it is no builder, or what it built is no new model.
    """
    with forked_rng(generator):
        return _built(model, draw)


def _built(model: nn.Module, draw: Callable[[], nn.Module]) -> nn.Module:
    if isinstance(draw, nn.Module):
        raise InputError("draw must be a function that builds a new model, but it is a model")
    built = draw()
    if not isinstance(built, nn.Module):
        raise InputError(f"draw must build a model, but it returned {type(built).__name__}")
    refuse_unmaterialized(built)
    own = {id(parameter) for parameter in model.parameters()}
    if any(id(parameter) in own for parameter in built.parameters()):
        raise InputError("draw must build a new model at each call, but it returned the model's own parameters")
    return unwrap(built)


def _copy_on_cpu(model: nn.Module) -> nn.Module:
    try:
        memo = {}  # what a pruned layer computes from its weight and mask is no leaf, which cannot be copied
        for name in pruning_masks(model):
            layer, _, local = owner(model, name)
            computed = getattr(layer, local.removesuffix("_orig"))
            memo[id(computed)] = computed.detach().clone()
        return copy.deepcopy(model, memo).requires_grad_(False).cpu()
    except (RuntimeError, TypeError) as error:
        raise InputError(
            f"the model cannot be copied to redraw its layers ({str(error).splitlines()[0]}); "
            f"pass draw=, a function that builds a fresh model"
        ) from error


def _reset_copy(model: nn.Module, wanted: list[str]) -> dict[str, Tensor]:
    """Return the named parameters of a copy of the model after every layer in it has reset itself.

    Layers reset from the inside out, so that an outer layer which initialises its children (attention, a custom block)
    has the last word, and a tied tensor ends as its first holder draws it.
    """
    plain = _copy_on_cpu(model)
    unpruned = _unprune(plain)
    computed = {}
    for layer_name, layer in list(plain.named_modules()):
        if parametrize.is_parametrized(layer):
            for local in _make_plain(layer):
                prefix = f"{layer_name}.parametrizations.{local}.".removeprefix(".")
                if any(name.startswith(prefix) for name in wanted):
                    computed[prefix] = layer_name, local
    # NaN marks what no layer resets: a reset without effect must not go unnoticed.
    for tensor in plain.parameters():
        if tensor.is_floating_point() or tensor.is_complex():
            tensor.fill_(math.nan)
    for layer in reversed(list(plain.modules())):
        reset = getattr(layer, "reset_parameters", None) or getattr(layer, "_reset_parameters", None)
        if callable(reset) and _needs_no_arguments(reset):
            reset()
    for layer_name, layer in reversed(list(plain.named_modules())):
        if initialise := _own_initialisation(plain, layer_name):
            try:
                initialise(layer)
            except Exception as error:  # it is the user's own, and may need what a copy lacks
                raise InputError(
                    f"the model's _init_weights fails on the copy in which its layers are redrawn ({error}); "
                    f"pass draw=, a function that builds a fresh model"
                ) from error
    values: dict[str, Tensor] = dict(plain.named_parameters())
    values.update({name: values[whole] for name, whole in unpruned.items()})
    if computed:
        values.update(_parametrised_values(model, plain, computed))
    for name in wanted:
        value = values.get(name)
        if value is None or bool(torch.isnan(value).any()):
            layer, layer_name, _ = owner(model, name)
            raise InputError(
                f"cannot redraw {name!r}: layer {layer_name or 'the model'!r} ({type(layer).__name__}) does not "
                f"reset it; pass draw=, a function that builds a fresh model"
            )
    return values


def _unprune(copied: nn.Module) -> dict[str, str]:
    """Turn pruned tensors of a copy into ordinary parameters; return name of the original -> name of the ordinary."""
    whole = {}
    for name, parameter in list(copied.named_parameters()):
        layer, _, local = owner(copied, name)
        plain = local.removesuffix("_orig")
        if plain == local or f"{plain}_mask" not in layer._buffers:
            continue
        delattr(layer, local)
        delattr(layer, plain)
        layer.register_parameter(plain, nn.Parameter(parameter.detach(), requires_grad=False))
        whole[name] = name.removesuffix("_orig")
    return whole


def _spread(tensor: Tensor) -> float:
    values = tensor.detach().float()
    return float(values.std(correction=0))


def _own_initialisation(model: nn.Module, layer_name: str) -> Callable[[nn.Module], object] | None:
    """Return the `_init_weights(layer)` of the innermost module around a layer, the layer included, that has one."""
    parts = layer_name.split(".") if layer_name else []
    for length in range(len(parts), -1, -1):
        initialise = getattr(model.get_submodule(".".join(parts[:length])), "_init_weights", None)
        if callable(initialise) and _takes_a_layer(initialise):
            return cast("Callable[[nn.Module], object]", initialise)
    return None


def _takes_a_layer(initialise: Callable[..., object]) -> bool:
    """Tell whether a function must be given one argument, and one is enough."""
    if _needs_no_arguments(initialise):
        return False
    try:
        inspect.signature(initialise).bind(None)
    except TypeError:
        return False
    return True


def _needs_no_arguments(reset: Callable[..., object]) -> bool:
    try:
        inspect.signature(reset).bind()
    except TypeError:
        return False
    return True


def _make_plain(layer: nn.Module) -> list[str]:
    """Turn what a layer's parametrisations compute into ordinary parameters; return their names.

    `remove_parametrizations` would take the attribute from the class, which the copy shares with the user's own layer.
    """
    names = list(layer.parametrizations)  # type: ignore[arg-type]
    values = {local: getattr(layer, local).detach().clone() for local in names}
    layer.__class__ = parametrize.type_before_parametrizations(layer)
    del layer.parametrizations
    for local, value in values.items():
        layer.register_parameter(local, nn.Parameter(value, requires_grad=False))
    return names


def _parametrised_values(
    model: nn.Module, plain: nn.Module, computed: Mapping[str, tuple[str, str]]
) -> dict[str, Tensor]:
    """Return the original tensors behind parametrised weights such that they compute the freshly drawn weights."""
    rebuilt = _copy_on_cpu(model)
    began = {name: buffer.clone() for name, buffer in rebuilt.named_buffers()}
    values: dict[str, Tensor] = {}
    for prefix, (layer_name, local) in computed.items():
        layer = rebuilt.get_submodule(layer_name)
        weight = plain.get_submodule(layer_name).get_parameter(local).detach()
        if bool(torch.isnan(weight).any()):
            continue  # its layer does not reset it; the caller raises
        try:
            setattr(layer, local, weight)
        except (RuntimeError, NotImplementedError) as error:
            raise InputError(
                f"cannot redraw the {local} of layer {layer_name!r}: its parametrisation has no right_inverse; "
                f"pass draw=, a function that builds a fresh model"
            ) from error
        originals = layer.get_submodule(f"parametrizations.{local}").named_parameters(recurse=False)
        values.update({f"{prefix}{original}": tensor for original, tensor in originals})
    for name, buffer in rebuilt.named_buffers():
        if not torch.equal(buffer, began[name]):
            raise InputError(
                f"cannot redraw a parametrised weight that is partly kept in the buffer {name!r}; "
                f"pass draw=, a function that builds a fresh model"
            )
    return values


@torch.no_grad()
def reinitialize_(
    model: nn.Module,
    forget_mask: Mapping[str, Tensor],
    generator: torch.Generator | None = None,
    draw: Callable[[], nn.Module] | None = None,
) -> None:
    """Give fresh values to the entries where the mask is True; nothing else moves by a single bit.

    Args:
        model: the network, changed in place.
        forget_mask: parameter name -> bool tensor of the parameter's shape, True = forget. Other parameters stay.
        generator: the source of randomness; None means seed 0.
        draw: builds a freshly initialised model of the same architecture; without it `reset_parameters` draws.

    Raises:
        InputError: for an unknown or frozen parameter, a mask of another shape or type, or a parameter that cannot be
            redrawn; the model is then unchanged.

    Example:
        >>> net = nn.Linear(2, 2)
        >>> before = net.weight.detach().clone()
        >>> reinitialize_(net, {"weight": torch.tensor([[True, False], [False, False]])})
        >>> (net.weight != before).tolist()
        [[True, False], [False, False]]
    """
    parameters = trainable(model)
    for name, mask in forget_mask.items():
        if name not in parameters:
            raise InputError(f"the model has no trainable parameter named {name!r}")
        if mask.dtype != torch.bool or mask.shape != parameters[name].shape:
            raise InputError(
                f"the mask of {name!r} must be bool of shape {tuple(parameters[name].shape)}, "
                f"got {mask.dtype} of shape {tuple(mask.shape)}"
            )
    wanted = [name for name, mask in forget_mask.items() if bool(mask.any())]
    for name, value in fresh_parameters(model, wanted, generator, draw).items():
        mask = forget_mask[name].to(value.device)
        parameters[name].copy_(torch.where(mask, value, parameters[name]))


@torch.no_grad()
def redraw_all_(
    model: nn.Module,
    generator: torch.Generator | None = None,
    draw: Callable[[], nn.Module] | None = None,
    initial: Mapping[str, Tensor] | None = None,
) -> None:
    """Redraw every trainable parameter, and reset the buffers to their initial values.

    Each buffer comes from `initial` where that holds it, else from a freshly built model, or without a builder from the
    layers' own resets (BatchNorm resets its statistics). A buffer that has none of these sources stays.

    Args:
        model: the network, changed in place.
        generator: the source of randomness; None means seed 0.
        draw: builds a freshly initialised model of the same architecture.
        initial: a state dict from before the first training.

    Raises:
        InputError: if a parameter cannot be redrawn; the model is then unchanged.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        >>> _ = net(torch.randn(8, 2))
        >>> redraw_all_(net)
        >>> net[1].num_batches_tracked.item(), net[1].running_mean.tolist()
        (0, [0.0, 0.0])
    """
    fresh = fresh_parameters(model, forgettable(model, "all"), generator, draw)
    buffers_at_start = _initial_buffers(model, generator, draw, initial or {})
    parameters, buffers = trainable(model), dict(unwrap(model).named_buffers())
    for name, value in fresh.items():
        parameters[name].copy_(value)
    for name, value in buffers_at_start.items():
        buffers[name].copy_(value)


def _initial_buffers(
    model: nn.Module,
    generator: torch.Generator | None,
    draw: Callable[[], nn.Module] | None,
    initial: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Return the initial values of the buffers, each from the first source that has it."""
    inner = unwrap(model)
    buffers = dict(inner.named_buffers())
    began = {name: initial[name] for name in buffers if name in initial}
    if len(began) < len(buffers):
        if draw is not None:
            with forked_rng(generator):
                source = unwrap(draw())
        else:
            source = _copy_on_cpu(inner)
            for layer in source.modules():
                reset = getattr(layer, "reset_running_stats", None)
                if callable(reset):
                    reset()
        began = {name: buffer for name, buffer in source.named_buffers() if name in buffers} | began
    require_initial({name: buffers[name] for name in began}, began)
    return began
