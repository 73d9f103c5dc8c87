"""Kinds of layers: which weights may be forgotten, which layer is the head, in which order the layers stand.

This is the only module that knows layer types; everything else asks it. Names are those of the inner module: wrappers
of `torch.compile` and of data-parallel training are stripped. A tensor that two layers share counts once, under the
name that is registered first. Frozen parameters (`requires_grad=False`) are never offered.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.utils import parametrize

from lure.errors import InputError

Scope = Literal["weights", "all"]

NORM_LAYERS: tuple[type[nn.Module], ...] = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm, nn.RMSNorm)
WEIGHT_LAYERS: tuple[type[nn.Module], ...] = (
    nn.Linear,
    nn.Bilinear,
    _ConvNd,
    nn.Embedding,
    nn.EmbeddingBag,
    nn.MultiheadAttention,
    nn.RNNBase,
    nn.RNNCellBase,
)


# Linear layers are told apart by the names that libraries and authors give them.
PACKED_PROJECTIONS = frozenset({"qkv", "to_qkv", "c_attn"})  # query, key and value, one below the other
QUERY_KEY_PROJECTIONS = frozenset(
    {"q", "k", "to_q", "to_k", "wq", "wk", "q_proj", "k_proj", "q_lin", "k_lin", "query", "key"}
    | {"query_proj", "key_proj", "q_proj_weight", "k_proj_weight"}
)


# What a layer calls the weight that its input is multiplied with, or looked up in.
MAIN_WEIGHTS = frozenset({"weight", "weight_ih", "weight_ih_l0", "weight_ih_l0_reverse"})


def unwrap(model: nn.Module) -> nn.Module:
    """Return the user's own module inside `torch.compile`, `DataParallel` and `DistributedDataParallel` wrappers.

    Example:
        >>> inner = nn.Linear(2, 2)
        >>> unwrap(DataParallel(inner)) is inner
        True
    """
    while True:
        if isinstance(model, DataParallel | DistributedDataParallel):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):
            # Asking for the compiled module's class would import the compiler, which takes a second.
            model = model._orig_mod  # type: ignore[assignment]
        else:
            return model


def has_batch_norm(model: nn.Module) -> bool:
    """Return whether a layer normalises by the batch, and so keeps statistics of what it saw.

    Example:
        >>> has_batch_norm(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))), has_batch_norm(nn.LayerNorm(2))
        (True, False)
    """
    return any(isinstance(module, _BatchNorm) for module in model.modules())


def suits_channels_last(model: nn.Module) -> bool:
    """Tell whether a model may, and should, run in channels_last: it has convolutions, and all of them are safe in it.

    On the CPU, the gradient of a strided 1x1 convolution of fewer than 16 channels is wrong in that layout, and
    computing it damages the memory of the process (oneDNN issue 6035: the kernel writes past its workspace).

    Example:
        >>> [suits_channels_last(nn.Conv2d(channels, 32, kernel_size=1, stride=2)) for channels in (8, 16)]
        [False, True]
    """

    def harmful(layer: nn.Module) -> bool:
        return (
            isinstance(layer, _ConvNd)
            and max(layer.kernel_size) == 1
            and max(layer.stride) > 1
            and min(layer.in_channels, layer.out_channels) // layer.groups < 16
        )

    has_convolutions = any(parameter.dim() == 4 for parameter in model.parameters())
    on_cpu = any(parameter.device.type == "cpu" for parameter in model.parameters())
    return has_convolutions and not (on_cpu and any(harmful(layer) for layer in model.modules()))


def refuse_unmaterialized(model: nn.Module) -> None:
    """Raise unless every parameter has storage.

    Raises:
        InputError: for a parameter on the `meta` device, or one that a lazy layer has not shaped yet.
    """
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise InputError(f"parameter {name!r} has no shape yet: run one batch through the model first")
        if parameter.is_meta:
            raise InputError(f"parameter {name!r} is on the meta device: materialise the model first (model.to_empty)")


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return name -> parameter for every parameter that training changes; tied tensors once."""
    return {name: parameter for name, parameter in unwrap(model).named_parameters() if parameter.requires_grad}


def owner(model: nn.Module, name: str) -> tuple[nn.Module, str, str]:
    """Return the layer that a parameter belongs to, the layer's name, and the parameter's name inside it.

    A parametrised tensor (weight norm, for one) belongs to the layer whose attribute it computes.

    Example:
        >>> layer, layer_name, local = owner(nn.Sequential(nn.Linear(2, 3)), "0.bias")
        >>> layer_name, local
        ('0', 'bias')
    """
    inner = unwrap(model)
    head, marker, tail = name.partition(".parametrizations.") if "." in name else (name, "", "")
    if not marker and name.startswith("parametrizations."):
        head, marker, tail = "", ".", name.removeprefix("parametrizations.")
    if marker:
        return inner.get_submodule(head), head, tail.split(".")[0]
    layer_name, _, local = name.rpartition(".")
    return inner.get_submodule(layer_name), layer_name, local


def is_norm(layer: nn.Module) -> bool:
    """Tell whether a layer normalises; its scale is not among the weights that are forgotten."""
    return isinstance(layer, NORM_LAYERS)


def resets_itself(layer: nn.Module) -> bool:
    """Tell whether a layer says how it initialises its own parameters."""
    return callable(getattr(layer, "reset_parameters", None)) or callable(getattr(layer, "_reset_parameters", None))


def forgettable(model: nn.Module, scope: Scope = "weights") -> dict[str, nn.Parameter]:
    """Return name -> parameter for what an unlearner may redraw.

    With scope "weights": tensors of two or more dimensions in linear, convolution, embedding, attention and recurrent
    layers, and in any other layer that has `reset_parameters` and does not normalise. Biases, norm scales and free
    parameters such as position tables stay. With scope "all": every trainable parameter.

    Raises:
        InputError: if there is none, so that a reset without effect does not go unnoticed.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
        >>> list(forgettable(net)), len(forgettable(net, "all"))
        (['0.weight', '3.weight'], 6)
    """
    refuse_unmaterialized(model)
    parameters = trainable(model)
    if not parameters:
        raise InputError("the model has no trainable parameter")
    if scope == "all":
        return parameters
    weights = {name: parameter for name, parameter in parameters.items() if _is_weight(model, name, parameter)}
    if not weights:
        raise InputError(
            "the model has no trainable weight to forget: no matrix in a linear, convolution, embedding, attention or "
            "recurrent layer, or in a layer that has reset_parameters"
        )
    return weights


def _is_weight(model: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    layer, _, local = owner(model, name)
    if is_norm(layer) or not (isinstance(layer, WEIGHT_LAYERS) or resets_itself(layer)):
        return False
    if parametrize.is_parametrized(layer, local):
        # Weight norm splits a weight into a scale and a direction. To compute the weight and compare shapes would move
        # the buffers of spectral norm.
        originals = list(layer.get_submodule(f"parametrizations.{local}").parameters(recurse=False))
        largest = max(originals, key=torch.Tensor.numel)
        return parameter is largest and parameter.dim() >= 2
    if local.endswith("_g") and hasattr(layer, f"{local[:-2]}_v"):
        return False  # the scale of the older weight norm, which works by hooks
    return parameter.dim() >= 2 and parameter.numel() > 0 and "bias" not in local


def pruning_masks(model: nn.Module) -> dict[str, Tensor]:
    """Return parameter name -> bool tensor of its shape, True = in use, for what `torch.nn.utils.prune` has pruned.

    Such a layer keeps the whole tensor as the parameter `weight_orig`, and multiplies it by the buffer `weight_mask`.
    """
    masks = {}
    for name, parameter in trainable(model).items():
        layer, _, local = owner(model, name)
        mask = dict(layer.named_buffers(recurse=False)).get(f"{local.removesuffix('_orig')}_mask")
        if local.endswith("_orig") and mask is not None and mask.shape == parameter.shape:
            masks[name] = mask != 0
    return masks


def embedding_tables(model: nn.Module) -> dict[str, nn.Embedding | nn.EmbeddingBag]:
    """Return parameter name -> layer for the trainable tables of embeddings that no other layer holds, too."""
    return _weights_held_alone(model, (nn.Embedding, nn.EmbeddingBag))


def kernels(model: nn.Module) -> dict[str, nn.Conv1d | nn.Conv2d | nn.Conv3d]:
    """Return parameter name -> layer for the trainable kernels of convolutions that no other layer holds, too.

    Convolutions that compute something of their own are left out.
    """
    found = _weights_held_alone(model, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
    return {name: layer for name, layer in found.items() if computes_as_torch(layer)}


def input_weights(model: nn.Module) -> dict[str, nn.Module]:
    """Return parameter name -> layer for the trainable weights (outputs, inputs, ...) of what a layer is given.

    They are those of linear and recurrent layers and of ungrouped convolutions that compute what torch defines, where
    no other layer holds them, too.

    Example:
        >>> list(input_weights(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2), nn.LSTM(2, 4))))
        ['0.weight', '2.weight', '3.weight_ih_l0']
    """
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.RNNBase, nn.RNNCellBase)
    return {
        name: layer
        for name, layer in _weights_held_alone(model, kinds).items()
        if computes_as_torch(layer) and getattr(layer, "groups", 1) == 1
    }


def computes_as_torch(layer: nn.Module) -> bool:
    """Tell whether a layer computes what torch defines for its kind: no subclass and nobody else has replaced it.

    Example:
        >>> class Transposed(nn.Linear):
        ...     def forward(self, inputs: Tensor) -> Tensor:
        ...         return super().forward(inputs.mT)
        >>> computes_as_torch(nn.Linear(2, 2)), computes_as_torch(Transposed(2, 2))
        (True, False)
    """
    return "forward" not in vars(layer) and type(layer).forward.__module__.startswith("torch.nn.modules.")


def _weights_held_alone(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> dict[str, Any]:
    """Return parameter name -> layer for the trainable weights of layers of these kinds that no other layer holds, too.

    Those from which a parametrisation computes the weight are left out: its norm depends on every entry.
    """
    names = {id(parameter): name for name, parameter in trainable(model).items()}
    holders = _holders(unwrap(model))
    found = {}
    for layer in unwrap(model).modules():
        if isinstance(layer, kinds):
            for local, weight in layer.named_parameters(recurse=False):
                is_own = id(weight) in names and holders[id(weight)] == 1
                is_main = local.removesuffix("_orig") in MAIN_WEIGHTS and weight.dim() > 1
                if is_main and is_own and not _is_computed(layer, local):
                    found[names[id(weight)]] = layer
    return found


def _is_computed(layer: nn.Module, local: str) -> bool:
    """Tell whether a layer computes its weight from this parameter, by weight norm, spectral norm and the like."""
    # The older weight norm and spectral norm work by hooks.
    by_hook = (local == "weight_v" and hasattr(layer, "weight_g")) or (
        local == "weight_orig" and hasattr(layer, "weight_u")
    )
    return by_hook or parametrize.is_parametrized(layer, local)


def refuse_computed(model: nn.Module, names: Iterable[str]) -> None:
    """Raise if a layer computes its weight from one of these parameters, by weight norm and the like.

    Raises:
        InputError: naming the parameter.
    """
    for name in names:
        layer, _, local = owner(model, name)
        if _is_computed(layer, local):
            raise InputError(
                f"{name!r} is computed by a parametrisation, which could undo the change: "
                f"remove it first (torch.nn.utils.parametrize.remove_parametrizations)"
            )


def require_initial(tensors: Mapping[str, Tensor], initial: Mapping[str, Tensor]) -> None:
    """Raise unless `initial` holds each of these tensors, under its name and in its shape.

    Raises:
        InputError: naming the first that is missing or of another shape.
    """
    for name, tensor in tensors.items():
        if name not in initial or initial[name].shape != tensor.shape:
            found = f"of shape {tuple(initial[name].shape)}" if name in initial else "missing"
            raise InputError(f"the initial weight of {name!r}, of shape {tuple(tensor.shape)}, is {found}")


def weight_layers(model: nn.Module) -> list[tuple[str, list[str]]]:
    """Return (layer name, names of its forgettable weights) in depth order, which is the order of registration.

    Example:
        >>> weight_layers(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)))
        [('0', ['0.weight']), ('2', ['2.weight'])]
    """
    layers: dict[str, list[str]] = {}
    for name in forgettable(model):
        layers.setdefault(owner(model, name)[1], []).append(name)
    return list(layers.items())


def dense_weights(model: nn.Module) -> dict[str, int]:
    """Return name -> number of matrices stacked in it, for weights that map inputs to outputs: (out, in, ...).

    Linear layers and convolutions hold one (a convolution: one for each kernel position), attention's packed projection
    three: query, key and value. Transposed convolutions, embeddings, recurrent and custom layers are not among them.

    Example:
        >>> dense_weights(nn.MultiheadAttention(4, 2))
        {'in_proj_weight': 3, 'out_proj.weight': 1}
    """
    kinds = nn.Linear | _ConvNd | nn.MultiheadAttention
    stacks = {}
    for name in forgettable(model):
        layer, _, local = owner(model, name)
        if isinstance(layer, kinds) and not isinstance(layer, _ConvTransposeNd) and not local.startswith("bias"):
            stacks[name] = 3 if _is_packed(layer, name) else 1
    return stacks


def query_key_weights(model: nn.Module) -> dict[str, int]:
    """Return name -> number of leading matrices in it that project to queries or keys, among the dense weights.

    Of a packed projection these are the first two of three. Other layers are known by their names.

    Example:
        >>> query_key_weights(nn.MultiheadAttention(4, 2)), query_key_weights(nn.Linear(2, 2))
        ({'in_proj_weight': 2}, {})
    """
    found = {}
    for name, stacked in dense_weights(model).items():
        _, layer_name, local = owner(model, name)
        if stacked == 3:
            found[name] = 2
        elif {local, layer_name.rpartition(".")[2]} & QUERY_KEY_PROJECTIONS:
            found[name] = 1
    return found


def _is_packed(layer: nn.Module, name: str) -> bool:
    layer_name, _, local = name.rpartition(".")
    if isinstance(layer, nn.Linear):
        return layer_name.rpartition(".")[2] in PACKED_PROJECTIONS and layer.weight.shape[0] % 3 == 0
    return local == "in_proj_weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class HiddenLayer:
    """A layer whose units are read by exactly one other layer.

    Attributes:
        weight: name of its weight, (units, inputs, ...).
        bias: name of its bias, (units,); None if it has none or a frozen one.
        next_layer: name of the layer that reads its units.
        next_weight: name of that layer's weight, (outputs, units * positions, ...).
        positions: how many inputs of the next layer each unit gives, side by side: more than 1 for a flattened image.
        unit_dimension: which dimension of the next layer's input counts units, from the end.
    """

    weight: str
    bias: str | None
    next_layer: str
    next_weight: str
    positions: int
    unit_dimension: int


def hidden_layers(model: nn.Module, run: Callable[[], Tensor]) -> list[HiddenLayer]:
    """Find the layers whose units are each read, unmixed, by exactly one other layer.

    Linear and ungrouped convolution layers count; activation functions, norm layers, pooling and flattening may stand
    between. A layer is left out if its output also goes elsewhere (a residual sum, the model's output), is combined
    with other tensors or mixed by a layer of another kind on its way, or is used twice.

    Args:
        model: the network.
        run: runs it once and returns a tensor that depends on everything it computed, such as the loss.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
        >>> [layer] = hidden_layers(net, lambda: net(torch.rand(1, 1, 4, 4)).sum())
        >>> layer.weight, layer.next_weight, layer.positions
        ('0.weight', '3.weight', 4)
    """
    inner = unwrap(model)
    makers: dict[Any, str] = {}  # node of the graph -> layer whose output it is
    reads: list[tuple[str, Any]] = []  # layer, node of the graph that made one of its inputs

    def watch(name: str) -> Any:
        def record(_: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
            reads.extend((name, t.grad_fn) for t in (*inputs, *keywords.values()) if isinstance(t, Tensor))
            outputs = output if isinstance(output, tuple) else (output,)
            makers.update({t.grad_fn: name for t in outputs if isinstance(t, Tensor)})

        return record

    weighty = {
        name: layer
        for name, layer in inner.named_modules()
        if any(p.dim() > 1 for p in layer._parameters.values() if p is not None) or parametrize.is_parametrized(layer)
    }
    handles = [layer.register_forward_hook(watch(name), with_kwargs=True) for name, layer in weighty.items()]
    try:
        with torch.enable_grad():
            end = run()
    finally:
        for handle in handles:
            handle.remove()
    readers: dict[str, list[str | None]] = {}
    alone = set()
    for reader, node in [*reads, (None, end.grad_fn)]:
        found, mixed = _makers_behind(node, makers)
        for name in found:
            readers.setdefault(name, []).append(reader)
        if len(found) == 1 and not mixed:
            alone.add((*found, reader))
    parameters = trainable(model)
    names = {id(parameter): name for name, parameter in parameters.items()}
    holders = _holders(inner)
    num_reads = Counter(name for name, _ in reads)
    result = []
    for name, layer in weighty.items():
        next_name = readers.get(name, [None])[0]
        if next_name is None or len(readers[name]) > 1 or (name, next_name) not in alone or num_reads[next_name] > 1:
            continue
        following = weighty[next_name]
        if not all(_is_plain(each, names, holders) for each in (layer, following)):
            continue
        units, inputs = layer.weight.shape[0], following.weight.shape[1]
        flattened = isinstance(layer, _ConvNd) and isinstance(following, nn.Linear)
        if inputs != units and not (flattened and inputs % units == 0):
            continue
        result.append(
            HiddenLayer(
                weight=names[id(layer.weight)],
                bias=names.get(id(layer.bias)),
                next_layer=next_name,
                next_weight=names[id(following.weight)],
                positions=inputs // units,
                unit_dimension=1 - following.weight.dim(),
            )
        )
    return result


def _makers_behind(node: Any, makers: Mapping[Any, str]) -> tuple[set[str], bool]:
    """Return the layers whose outputs a node of the graph is computed from, and whether a matrix took part directly."""
    found, mixed, seen, open_nodes = set(), False, set(), [node]
    while open_nodes:
        node = open_nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in makers:
            found.add(makers[node])
            continue
        leaf = getattr(node, "variable", None)
        mixed = mixed or (leaf is not None and leaf.dim() > 1)
        open_nodes.extend(following for following, _ in node.next_functions)
    return found, mixed


def _is_plain(layer: nn.Module, names: Mapping[int, str], holders: Mapping[int, int]) -> bool:
    """Tell whether a layer is linear or an ungrouped convolution with a trainable weight of its own."""
    if not isinstance(layer, nn.Linear | _ConvNd) or isinstance(layer, _ConvTransposeNd):
        return False
    if parametrize.is_parametrized(layer) or getattr(layer, "groups", 1) != 1:
        return False
    return id(layer.weight) in names and holders[id(layer.weight)] == 1


def layer_parameters(model: nn.Module, layer_name: str) -> list[str]:
    """Return the names of all trainable parameters that one layer owns directly: weight and bias."""
    return [name for name in trainable(model) if owner(model, name)[1] == layer_name]


def find_head(model: nn.Module, name: str | None = None) -> str:
    """Return the name of the classifier: the last registered `nn.Linear` with a trainable weight of its own.

    A linear layer whose weight is tied to another layer's (a language model's decoder) does not count.

    Args:
        model: the network.
        name: the layer that the user names as the head; it is checked and returned.

    Raises:
        InputError: if there is no such layer, or it owns no trainable parameter.

    Example:
        >>> find_head(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)))
        '2'
    """
    inner = unwrap(model)
    if name is not None:
        if name not in dict(inner.named_modules()):
            raise InputError(f"the model has no layer named {name!r}")
        if not any(True for _ in inner.get_submodule(name).parameters()):
            raise InputError(f"layer {name!r} has no parameters, so it cannot be the head")
        return name
    holders = _holders(inner)
    found: str | None = None
    for layer_name, layer in inner.named_modules():
        if isinstance(layer, nn.Linear) and _owns_weight(layer, holders):
            found = layer_name
    if found is None:
        raise InputError("the model has no Linear layer with a trainable weight of its own: name the head")
    return found


def growing_head(model: nn.Module, name: str | None = None) -> tuple[str, int]:
    """Return the name of the layer that gives the classes, as `find_head`, and how many outputs it has.

    Where no name is given, a last Linear that is tied or frozen is an error: the one before it hardly is the head.

    Raises:
        InputError: as `find_head`, for a shared weight, and for a layer that has no rows to add to.

    Example:
        >>> growing_head(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)))
        ('2', 2)
    """
    inner, found = unwrap(model), find_head(model, name)
    linear = [each for each, layer in inner.named_modules() if isinstance(layer, nn.Linear)]
    last = found if name is not None else linear[-1]
    shared = shared_parameters(model)
    if any(id(parameter) in shared for parameter in inner.get_submodule(last).parameters()):
        raise InputError(f"layer {last!r} shares its weight with another layer: a tied head cannot grow")
    if last != found:
        raise InputError(f"layer {last!r} has no trainable weight of its own: name the head that is to grow")
    layer = inner.get_submodule(found)
    if isinstance(layer, nn.Linear):
        return found, layer.out_features
    if isinstance(layer, _ConvNd) and not isinstance(layer, _ConvTransposeNd) and layer.groups == 1:
        return found, layer.out_channels
    raise InputError(
        f"layer {found!r} ({type(layer).__name__}) cannot grow: the head must be a Linear or an ungrouped convolution"
    )


def shared_parameters(model: nn.Module) -> set[int]:
    """Return the identities of the parameters that several layers hold."""
    return {key for key, count in _holders(unwrap(model)).items() if count > 1}


def _holders(model: nn.Module) -> dict[int, int]:
    """Return for each parameter, by identity, how many layers hold it."""
    counts: dict[int, int] = {}
    for layer in model.modules():
        for parameter in layer._parameters.values():
            if parameter is not None:
                counts[id(parameter)] = counts.get(id(parameter), 0) + 1
    return counts


def _owns_weight(layer: nn.Linear, holders: Mapping[int, int]) -> bool:
    if parametrize.is_parametrized(layer, "weight"):
        return any(parameter.requires_grad for parameter in layer.get_submodule("parametrizations").parameters())
    return layer.weight.requires_grad and holders.get(id(layer.weight), 0) == 1


def stored_copy(tensor: Tensor) -> Tensor:
    """Return a detached, contiguous copy on the CPU, as files hold it."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Return a detached copy of the inner model's state dict on the CPU."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in unwrap(model).state_dict().items()}
