"""Settings: typed, ranged, documented fields of a frozen record, and named choices with options.

A field is declared once, with its default, its meaning and its range:

    forget_fraction: float = setting(0.2, "share of the weights to redraw", 0, 1)

and `check_settings(self)` in `__post_init__` enforces type and range. Recipes, gates, unlearners and replay regimes are
records of that kind. Unlearners, replay regimes, models and data sets are chosen by name on one line, such as
`lure:forget_fraction=0.3:scope=all`: the same text in recipe files, on the command line, in lists of policies, in
ledgers. `build_choice` reads it, `format_choice` writes it, `describe_options` says what can stand in it. What is not
registered is named by its path, `my_package.my_module:MyClass`, and imported; `names_code` tells such choices apart, so
that a stored one is run only if the user names it again.
"""

import dataclasses
import importlib
import inspect
import math
import numbers
import os
import sys
import types
import typing
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, Union

from lure.errors import InputError, require_within, unknown_name

T = TypeVar("T")

PLURALS: dict[type[Any], str] = {int: "whole numbers", float: "numbers", bool: "true or false", str: "texts"}


def setting(
    default: T,
    meaning: str,
    low: float | None = None,
    high: float | None = None,
    *,
    above: float | None = None,
    below: float | None = None,
) -> T:
    """Declare a field of a dataclass.

    Args:
        default: its value when none is given.
        meaning: what it is, in one phrase that starts in lower case; shown by `lure list` and written into recipes.
        low: the smallest number allowed, if there is one.
        high: the largest number allowed, if there is one.
        above: what a number must be larger than, in place of `low`.
        below: what a number must be smaller than, in place of `high`, beside a `low`.
    """
    ends = {"low": low, "high": high, "above": above, "below": below}
    return dataclasses.field(default=default, metadata={"meaning": meaning, **ends})


def check_settings(record: Any, *, accept_text: bool = False) -> None:
    """Check the type and the range of every field of a record, and store each value in the type of its field.

    Whole numbers become floats and lists become tuples where the field is of that type.

    Args:
        record: a dataclass instance, frozen or not.
        accept_text: also read values given as text, such as those of command-line flags.

    Raises:
        InputError: naming the field, what would be right, and the value.

    Example:
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Reset:
        ...     forget_fraction: float = setting(0.2, "share of the weights to redraw", 0, 1)
        ...
        ...     def __post_init__(self) -> None:
        ...         check_settings(self)
        >>> Reset(forget_fraction=1)
        Reset(forget_fraction=1.0)
        >>> Reset(forget_fraction=1.3)
        Traceback (most recent call last):
        lure.errors.InputError: forget_fraction must lie in [0, 1], got 1.3
    """
    hints = typing.get_type_hints(type(record))
    for field in dataclasses.fields(record):
        value, kind = getattr(record, field.name), hints[field.name]
        if accept_text and isinstance(value, str) and kind is not str:
            value = parse_value(value, kind, field.name)
        value = _of_type(field.name, value, kind)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and not isinstance(number, bool):
                _require_in_range(field, number)
        object.__setattr__(record, field.name, value)


def _require_in_range(field: dataclasses.Field[Any], number: float) -> None:
    low, high, above, below = (field.metadata.get(name) for name in ("low", "high", "above", "below"))
    if below is not None and not (low or 0) <= number < below:
        raise InputError(f"{field.name} must lie in [{low or 0:g}, {below:g}), got {number:g}")
    if above is not None and not above < number <= (math.inf if high is None else high):
        upper = "" if high is None else f" and at most {high:g}"
        raise InputError(f"{field.name} must be above {above:g}{upper}, got {number:g}")
    if low is not None or high is not None:
        require_within(field.name, number, -math.inf if low is None else low, math.inf if high is None else high)
    if not math.isfinite(number):
        raise InputError(f"{field.name} must be a finite number, got {number}")


def _of_type(name: str, value: Any, kind: Any) -> Any:
    """Return a value as an instance of an annotated type; raise if it is none."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if type(None) in arguments:
        return None if value is None else _of_type(name, value, _not_none(kind))
    if origin is Literal and isinstance(value, str):
        return parse_value(value, kind, name)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_of_type(name, item, arguments[0]) for item in value)
    if kind in (bool, str) and isinstance(value, kind):
        return value
    abstract = {int: numbers.Integral, float: numbers.Real}.get(kind)  # NumPy's numbers count as well
    if abstract is not None and isinstance(value, abstract) and not isinstance(value, bool):
        try:
            return kind(value)
        except OverflowError:
            raise InputError(f"{name} must be a finite number, got {value}") from None
    if origin is tuple:
        raise InputError(f"{name} must be a list of {PLURALS[arguments[0]]}, got {value!r}")
    plain = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    if kind in plain:
        raise InputError(f"{name} must be {plain[kind]}, got {value!r}")
    raise InputError(f"{name} cannot be {value!r} ({type(value).__name__})")


def _not_none(kind: Any) -> Any:
    return next(each for each in typing.get_args(kind) if each is not type(None))


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


def names_code(choice: str, table: Container[str] = ()) -> bool:
    """Tell whether a choice names code of the user's own, `package.module:name`, instead of a registered name.

    Args:
        choice: a name, with options or without.
        table: the registered names; with them, an option without its value ("lure:forget_fraction") is not taken for a
            path.

    Example:
        >>> names_code("my_package.nets:build:width=8"), names_code("resnet18:width=8")
        (True, False)
    """
    module, path, _ = (split_choice(choice)[0] + "::").split(":", 2)
    return bool(path) and module not in table


def import_own(kind: str, name: str) -> Any:
    """Import a class or function of the user's own; modules of the current directory are found as well.

    Args:
        kind: the noun for messages: "unlearner".
        name: `package.module:name`.

    Raises:
        InputError: if there is no such module, importing it fails, or nothing callable in it has that name.
    """
    module, _, path = name.partition(":")
    here = os.getcwd()
    sys.path.append(here)
    try:
        found: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # the user's own code can fail in any way
        raise InputError(f"cannot import {kind} {name}: {_reason(error)}") from error
    finally:
        sys.path.remove(here)
    for part in path.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise InputError(f"cannot import {kind} {name}: module {module} has no class or function {path!r}")
    return found


def _reason(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _own_record(kind: str, name: str) -> type[Any]:
    """Import a record of settings of the user's own.

    Raises:
        InputError: as `import_own`, or if it is not a frozen dataclass whose fields are keyword-only and have defaults.
    """
    maker: type[Any] = import_own(kind, name)
    fields = dataclasses.fields(maker) if isinstance(maker, type) and dataclasses.is_dataclass(maker) else None
    if fields is None or not maker.__dataclass_params__.frozen or not all(field.kw_only for field in fields):
        raise InputError(
            f"{kind} {name} must be a class under @dataclass(frozen=True, kw_only=True), whose fields are its options"
        )
    for field in fields:
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise InputError(f"{kind} {name} needs a default for its field {field.name!r}")
    return maker


def read_choice(kind: str, text: str, table: Mapping[str, Callable[..., T]]) -> tuple[Callable[..., T], dict[str, Any]]:
    """Look a choice up: return its maker, and its options read by the types of the maker's keyword-only arguments.

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
    known = {p.name: hint for p, hint in _options_of(maker)}
    options = {}
    for option, value in words.items():
        option = option.replace("-", "_")
        if option not in known:
            raise unknown_name(f"option of {name}", option, known)
        options[option] = parse_value(value, known[option], f"{name}:{option}")
    return maker, options


def build_choice(kind: str, text: str, table: Mapping[str, Callable[..., T]], /, **values: Any) -> T:
    """Construct the object that a choice names.

    Args:
        kind: the noun for messages: "unlearner".
        text: the choice; or `package.module:Class` with options, for a record of settings of the user's own, which is
            imported. Where the text was stored, ask for consent first (see `names_code`).
        table: as for `read_choice`.
        **values: further options, as values instead of text; they win over those in the text.

    Raises:
        InputError: as `read_choice`, or from the constructor for a value out of range; for a class of the user's own
            that cannot be imported or constructed, or is not a frozen keyword-only dataclass with defaults.
    """
    is_own = names_code(text, table)
    if is_own:
        name = split_choice(text)[0]
        table = {name: _own_record(kind, name)}
    maker, options = read_choice(kind, text, table)
    known = [parameter.name for parameter, _ in _options_of(maker)]
    for option in values:
        if option not in known:
            raise unknown_name(f"option of {text}", option, known)
    try:
        return maker(**options | values)
    except InputError:
        raise
    except Exception as error:
        if not is_own:
            raise
        raise InputError(f"{kind} {text} cannot be constructed: {_reason(error)}") from error


def format_choice(chosen: Any, table: Mapping[str, Any]) -> str:
    """Write a chosen object as text: its registered name, or its path, and the options that differ from their defaults.

    Raises:
        InputError: if the object's class is neither registered nor found by its path.
    """
    kind = type(chosen)
    names = [name for name, maker in table.items() if maker is kind]
    if not names:
        names = [f"{kind.__module__}:{kind.__qualname__}"]
        try:
            is_found = _own_record("class", names[0]) is kind
        except InputError as error:
            raise InputError(f"{kind.__name__} is not registered, and cannot be named by its path: {error}") from error
        if not is_found:
            raise InputError(f"{kind.__name__} is not registered, and {names[0]} is another class")
    words = [names[0]]
    for field in dataclasses.fields(chosen):
        value = getattr(chosen, field.name)
        if value != field.default:
            words.append(f"{field.name}={format_value(value)}")
    return ":".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option of a choice.

    Attributes:
        name: as it stands in a choice.
        default: its default, as text.
        meaning: what it is; "" where the maker does not say.
        allowed: the values that it may take: "[0, 1]", "at least 1", "weights|all"; "" where any value of its type is.
    """

    name: str
    default: str
    meaning: str
    allowed: str


def describe_options(maker: Callable[..., Any]) -> list[Option]:
    """Return the options of a maker: a keyword-only dataclass, or a function whose options are keyword-only.

    Example:
        >>> def net(classes: int, *, width: int = 64, stem: Literal["cifar", "imagenet"] = "imagenet") -> None: ...
        >>> [(option.name, option.default, option.allowed) for option in describe_options(net)]
        [('width', '64', ''), ('stem', 'imagenet', 'imagenet|cifar')]
    """
    about = _metadata(maker)
    return [
        Option(
            name=parameter.name,
            default=format_value(parameter.default),
            meaning=about.get(parameter.name, {}).get("meaning", ""),
            allowed=_allowed(parameter.default, hint, about.get(parameter.name, {})),
        )
        for parameter, hint in _options_of(maker)
    ]


def _metadata(maker: Any) -> dict[str, Mapping[str, Any]]:
    """Return what `setting` noted for each field; nothing for a function."""
    return {f.name: dict(f.metadata) for f in dataclasses.fields(maker)} if dataclasses.is_dataclass(maker) else {}


def _allowed(default: Any, kind: Any, metadata: Mapping[str, Any]) -> str:
    if typing.get_origin(kind) is Literal:
        return "|".join(dict.fromkeys((default, *typing.get_args(kind))))
    if kind is bool:
        return "true|false" if default else "false|true"
    low, high, above, below = (metadata.get(name) for name in ("low", "high", "above", "below"))
    if below is not None:
        return f"[{low or 0:g}, {below:g})"
    if above is not None:
        return f"above {above:g}" if high is None else f"({above:g}, {high:g}]"
    if low is not None and high is not None:
        return f"[{low:g}, {high:g}]"
    return "" if low is None else f"at least {low:g}"


def _options_of(maker: Callable[..., Any]) -> list[tuple[inspect.Parameter, Any]]:
    """Return each keyword-only parameter with its annotated type."""
    try:
        hints = typing.get_type_hints(maker)
    except Exception:  # a user's own function, with names in its annotations that only a type checker knows
        hints = {}
    parameters = inspect.signature(maker).parameters.values()
    return [(p, hints.get(p.name, type(p.default))) for p in parameters if p.kind is p.KEYWORD_ONLY]


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
        if type(None) in typing.get_args(kind) and text.lower() in ("none", ""):
            return None
        return parse_value(text, _not_none(kind), where)
    if origin is Literal:
        if text not in typing.get_args(kind):
            raise unknown_name(f"value of {where}", text, typing.get_args(kind))
        return text
    if origin is tuple:
        item = typing.get_args(kind)[0]
        try:
            return tuple(parse_value(word.strip(), item, where) for word in text.split(",") if word.strip())
        except InputError:
            raise InputError(f"{where} must be {PLURALS[item]} with commas between, got {text!r}") from None
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


def format_value(value: Any) -> str:
    """Write one value so that `parse_value` reads it back.

    Example:
        >>> format_value((20, 40)), format_value(True), format_value(None)
        ('20,40', 'true', 'none')
    """
    if isinstance(value, tuple):
        return ",".join(map(format_value, value))
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
