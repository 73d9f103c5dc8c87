"""Networks, one file for each family, and the table of their builders.

A builder is a function (num_classes, input_shape, mean=None, std=None, *, options) -> `nn.Module`. The network takes
floats (images in [0, 1]) and normalises them itself. A builder of the user's own is named `package.module:function`.
"""

import inspect
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from lure.errors import InputError
from lure.models.cifar_resnet import cifar_resnet, resnet20s, resnet32s, resnet44s, resnet56s
from lure.models.convnet import convnet
from lure.models.mlp import mlp
from lure.models.resnet import resnet18, resnet34, resnet50, resnet101, wide_resnet50_2, wide_resnet101_2
from lure.models.vgg import vgg16_bn
from lure.models.vit import vit
from lure.settings import import_own, read_choice, split_choice

MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "convnet": convnet,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "resnet101": resnet101,
    "wide_resnet50_2": wide_resnet50_2,
    "wide_resnet101_2": wide_resnet101_2,
    "cifar-resnet": cifar_resnet,
    "resnet20s": resnet20s,
    "resnet32s": resnet32s,
    "resnet44s": resnet44s,
    "resnet56s": resnet56s,
    "vgg16_bn": vgg16_bn,
    "vit": vit,
}


LAZY = UninitializedBuffer | UninitializedParameter


def build_model(
    choice: str,
    num_classes: int,
    input_shape: Sequence[int],
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> nn.Module:
    """Return a freshly initialised network, drawn from torch's global random state.

    Args:
        choice: a name of `MODELS`, or `package.module:function` for a builder of the user's own, with options:
            "resnet18:width=16:stem=strided". A user's builder gets those of the other four arguments that it takes by
            name; its options are its keyword-only arguments.
        num_classes: number of logits, at least 1.
        input_shape: shape of one input, (channels, height, width) or (features,).
        mean: per channel or feature, of images in [0, 1]; None for no normalisation.
        std: as `mean`.

    Raises:
        InputError: for an unknown name or option, a value out of range, a network that does not fit the inputs, or a
            user's builder that cannot be imported or called, fails, or does not return an `nn.Module`.

    Example:
        >>> type(build_model("convnet:width=4", 10, (3, 32, 32))).__name__
        'ConvNet'
        >>> build_model("resnet19", 10, (3, 32, 32))
        Traceback (most recent call last):
        lure.errors.InputError: unknown model 'resnet19': did you mean 'resnet18'? (valid: cifar-resnet, convnet, ...)
    """
    if num_classes < 1:
        raise InputError(f"num_classes must be at least 1, got {num_classes}")
    given = {"num_classes": num_classes, "input_shape": tuple(input_shape), "mean": mean, "std": std}
    name, _ = split_choice(choice)
    if ":" not in name:
        maker, options = read_choice("model", choice, MODELS)
        return maker(**given, **options)
    maker, options = read_choice("model", choice, {name: import_own("model builder", name)})
    parameters = inspect.signature(maker).parameters.values()
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    arguments = {key: value for key, value in given.items() if takes_all or key in named} | options
    missing = [p.name for p in parameters if p.name in named - set(arguments) and p.default is p.empty]
    if missing:
        raise InputError(
            f"model builder {name} needs {', '.join(missing)}: lure passes num_classes, input_shape, mean and std, "
            f"and keyword-only arguments are options ({name}:width=64)"
        )
    try:
        model = maker(**arguments)
    except InputError:
        raise
    except Exception as error:  # the user's own code can fail in any way
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"model builder {name} failed: {reason}") from error
    if not isinstance(model, nn.Module):
        raise InputError(f"model builder {name} must return a torch.nn.Module, got {type(model).__name__}")
    return ready_to_train(model, name, tuple(input_shape))


def takes_num_classes(builder: Callable[..., nn.Module], *, without_default: bool = False) -> bool:
    """Tell whether a builder of networks can be told the number of classes, by the name `num_classes`.

    Args:
        builder: any function or class.
        without_default: whether it must be told.
    """
    try:
        parameter = inspect.signature(builder).parameters.get("num_classes")
    except (TypeError, ValueError):  # raised for what has no signature
        return False
    return parameter is not None and not (without_default and parameter.default is not parameter.empty)


def counts_classes(choice: str) -> bool:
    """Tell whether the network that a choice names is built for a number of classes: all of `MODELS` are.

    Raises:
        InputError: as `build_model`, for a builder that cannot be imported.
    """
    name, _ = split_choice(choice)
    return ":" not in name or takes_num_classes(import_own("model builder", name))


def ready_to_train(model: nn.Module, name: str, input_shape: tuple[int, ...]) -> nn.Module:
    """Return what a builder of the user's own built; lazy layers get their shapes from one run on zeros.

    Args:
        model: the network.
        name: the builder's, for the message.
        input_shape: shape of one input.

    Raises:
        InputError: for a ScriptModule, or lazy layers that do not run on such inputs.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError(f"model builder {name} returns a ScriptModule, which is not trained: return the module itself")
    if not any(isinstance(tensor, LAZY) for tensor in (*model.parameters(), *model.buffers())):
        return model
    try:
        modes = {module: module.training for module in model.modules()}
        with torch.no_grad():
            model.eval()(torch.zeros(2, *input_shape))
        for module in model.modules():  # a lazy layer is of another class now, and the same object
            module.training = modes[module]
    except Exception as error:  # the user's own code can fail in any way
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(
            f"model builder {name} returns lazy layers, and a run on inputs of shape {input_shape}, which would give "
            f"them their shapes, failed: {reason}"
        ) from error
    lazy = [key for key, tensor in model.named_parameters() if isinstance(tensor, LAZY)]
    if lazy:
        raise InputError(f"model builder {name} returns a lazy layer that is never run: {lazy[0]} has no shape")
    return model


__all__ = ["MODELS", "build_model", *sorted(name.replace("-", "_") for name in MODELS)]
