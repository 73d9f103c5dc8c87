"""A named choice with options, written on one line: `lure:forget_fraction=0.3:scope=all`.

The same text stands in recipe files, on the command line, in lists of policies to compare, and in ledgers. Unlearners,
replay regimes and models are chosen so.
"""

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, Union

from lure.errors import InputError, unknown_name

T = TypeVar("T")


def split_choice(text: str) -> tuple[str, dict[str, str]]:
    """Cut a choice into its name and its options, the values still text.

    Example:
        >>> split_choice("dash:alpha=0.1:shrink_floor=0")
        ('dash', {'alpha': '0.1', 'shrink_floor': '0'})
        >>> split_choice("my_package.nets:build:width=8")
        ('my_package.nets:build', {'width': '8'})
    """
    words = text.split(":")
    options = dict(word.split("=", 1) for word in words if "=" in word)
    return ":".join(word for word in words if "=" not in word), options


def parse_value(text: str, kind: Any, where: str) -> Any:
    """Read a value of an annotated type from text: int, float, bool, str, Literal, tuple of these, or None.

    Raises:
        InputError: if the text is not of that type; `where` names the setting.

    Example:
        >>> parse_value("20,40", tuple[int, ...], "milestones"), parse_value("none", int | None, "shots")
        ((20, 40), None)
    """
    origin = typing.get_origin(kind)
    if origin in (Union, types.UnionType):
        kinds = typing.get_args(kind)
        if type(None) in kinds and text.lower() in ("none", ""):
            return None
        kind = next(k for k in kinds if k is not type(None))
        return parse_value(text, kind, where)
    if origin is Literal:
        if text not in typing.get_args(kind):
            raise unknown_name(f"value of {where}", text, typing.get_args(kind))
        return text
    if origin is tuple:
        item = typing.get_args(kind)[0]
        return tuple(parse_value(word.strip(), item, where) for word in text.split(",") if word.strip())
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise InputError(f"{where} must be true or false, got {text!r}")
        return text.lower() == "true"
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            noun = "a whole number" if kind is int else "a number"
            raise InputError(f"{where} must be {noun}, got {text!r}") from None
    return text


def read_choice(kind: str, text: str, table: Mapping[str, Callable[..., T]]) -> tuple[Callable[..., T], dict[str, Any]]:
    """Look a choice up: return what it names, and its options read by the types of that maker's keyword-only arguments.

    Args:
        kind: the noun for messages: "unlearner".
        text: the choice.
        table: name -> keyword-only dataclass, or function whose options are keyword-only.

    Raises:
        InputError: for an unknown name or option (the nearest is offered), or a value of another type.
    """
    name, words = split_choice(text)
    if name not in table:
        raise unknown_name(kind, name, table)
    maker = table[name]
    try:
        hints = typing.get_type_hints(maker)
    except Exception:  # a user's own function, with names in its annotations that only a type checker knows
        hints = {}
    parameters = inspect.signature(maker).parameters.values()
    known = {p.name: hints.get(p.name, type(p.default)) for p in parameters if p.kind is p.KEYWORD_ONLY}
    options = {}
    for option, value in words.items():
        option = option.replace("-", "_")
        if option not in known:
            raise unknown_name(f"option of {name}", option, known)
        options[option] = parse_value(value, known[option], f"{name}:{option}")
    return maker, options


def build_choice(kind: str, text: str, table: Mapping[str, Callable[..., T]]) -> T:
    """Construct what a choice names.

    Raises:
        InputError: as `read_choice`, or from the constructor for a value out of range.
    """
    maker, options = read_choice(kind, text, table)
    return maker(**options)


def format_options(maker: Callable[..., Any]) -> str:
    """Write the options of a maker with their defaults, as they are given in a choice; "" if it has none.

    Where an option takes one of some names, the others stand behind its default.

    Example:
        >>> def net(classes: int, *, width: int = 64, stem: Literal["cifar", "imagenet"] = "imagenet") -> None: ...
        >>> format_options(net)
        'width=64 stem=imagenet|cifar'
    """
    hints = typing.get_type_hints(maker)
    words = []
    for parameter in inspect.signature(maker).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            kind = hints.get(parameter.name)
            names = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
            others = [name for name in names if name != parameter.default]
            words.append(f"{parameter.name}={'|'.join(map(format_value, (parameter.default, *others)))}")
    return " ".join(words)


def format_value(value: Any) -> str:
    """Write one value so that `parse_value` reads it back."""
    if isinstance(value, tuple):
        return ",".join(map(format_value, value))
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def format_choice(chosen: Any, table: Mapping[str, Any]) -> str:
    """Write a chosen object as text: its registered name and the options that differ from their defaults.

    Raises:
        InputError: if the object's class is not registered.
    """
    names = [name for name, maker in table.items() if maker is type(chosen)]
    if not names:
        raise InputError(f"{type(chosen).__name__} is not registered, so it cannot be written to a recipe")
    words = [names[0]]
    for field in dataclasses.fields(chosen):
        value = getattr(chosen, field.name)
        if value != field.default:
            words.append(f"{field.name}={format_value(value)}")
    return ":".join(words)
