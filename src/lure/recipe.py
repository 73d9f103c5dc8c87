"""Recipe and Experiment: everything that decides a result, as typed, checked, frozen records; TOML in and out.

`Recipe` says how a model is trained at each stage; `Experiment` adds which data arrive and in which chunks. Paths, the
device and the number of workers decide nothing and are not part of them. A field's range, meaning and default stand
together in `setting(...)`; the command line, the files and the messages read them there.

The names in `unlearner` and `replay` stay text, as the user wrote them. A recipe reads them once, when it is created:
`method` is the unlearner, `new_replay()` a fresh replay regime. Code of the user's own is not imported then. Importing
this module does not import torch; creating a recipe does.
"""

import dataclasses
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from lure.errors import InputError, unknown_name
from lure.settings import check_settings, format_value, names_code, read_choice, setting, split_choice

if TYPE_CHECKING:
    from lure.data.replay import Replay
    from lure.unlearners import Unlearner

Augmentation = Literal["none", "crop-flip", "crop", "imagenet"]  # see data/augmentation.py
Order = Literal["iid", "file", "released"]  # see data/stream.py and data/released.py


MAX_DOTS = 2000  # in a recipe's text: what reading takes grows with the square of the dots in a key


def parse_toml(text: str, where: Path | str) -> dict[str, Any]:
    """Return the fields of a recipe's text as plain values.

    Raises:
        InputError: naming `where`, if it is no TOML.
    """
    if (dots := text.count(".")) > MAX_DOTS:
        raise InputError(f"{where} is not valid TOML: it holds {dots} dots, more than any recipe")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not valid TOML: {error}") from None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is prepared and trained at every stage.

    Raises:
        InputError: for a value of another type, out of range, or a name that does not exist.

    Example:
        >>> Recipe(epochs=5, unlearner="lure:forget_fraction=0.3").epochs
        5
        >>> Recipe(epochs=0)
        Traceback (most recent call last):
        lure.errors.InputError: epochs must be at least 1, got 0
    """

    model: str = setting("mlp", "network and its options, such as resnet18:width=16 (see: lure list models)")
    unlearner: str = setting("lure", "what happens to the weights before each new fit (see: lure list unlearners)")
    sample: Literal["new", "all"] = setting("new", "what the unlearner reads: the new mega-batch, or all data")
    sample_augmented: bool = setting(False, "augment what the unlearner reads like training images")
    replay: str = setting("full", "full, none, last, or buffer:capacity=N (new mega-batch and a buffer)")
    validation_fraction: float = setting(0.1, "share of each mega-batch that is held out for validation", 0, 0.9)
    keep: Literal["best", "last"] = setting("best", "epoch kept: best validation accuracy (last without one), or last")
    epochs: int = setting(50, "passes over the training data at each stage", 1)
    max_steps: int | None = setting(None, "stop each stage after so many optimiser steps", 1)
    max_seconds: float | None = setting(None, "stop each stage after so many seconds of training; not repeatable", 0)
    target_accuracy: float | None = setting(None, "stop each stage after the epoch that trains to this accuracy", 0, 1)
    batch_size: int = setting(64, "examples in one optimiser step", 1)
    optimizer: Literal["sgd", "adam", "adamw"] = setting("sgd", "optimiser, new at each stage")
    carry_optimizer: bool = setting(False, "keep the optimiser's state from stage to stage, cleared where redrawn")
    carry_as_released: bool = setting(
        False, "with carry_optimizer: the last epoch's state, and redrawn weights keep it"
    )
    lr: float = setting(0.1, "learning rate at the start of each stage", 0)
    later_lr: float | None = setting(None, "learning rate at the start of stages 2 and later; none: lr", 0)
    momentum: float = setting(0.9, "momentum of SGD", 0, 1)
    weight_decay: float = setting(1e-4, "weight decay, as the optimiser defines it", 0)
    l2_init: float = setting(0.0, "strength of the pull towards the initial weights while training; 0: none", 0)
    average_interval: int | None = setting(None, "set the weights back to their running average every N steps", 1)
    average_decay: float = setting(0.999, "share of the running average that a step keeps", 0, 1)
    milestones: tuple[int, ...] = setting((20, 40), "epochs after which the learning rate is multiplied by gamma", 1)
    gamma: float = setting(0.1, "factor of the learning rate at each milestone", 0)
    warmup: int = setting(0, "epochs over which the learning rate rises from zero at each stage", 0)
    augment: Augmentation = setting("none", "augmentation of training images, drawn anew for each batch")
    validation_augmented: bool = setting(False, "augment validation images, too, when the kept epoch is chosen")
    precision: Literal["fp32", "bf16"] = setting("fp32", "arithmetic: fp32, or automatic mixed precision with bf16")
    tf32: bool = setting(False, "allow TF32 in fp32 matrix products on GPUs")
    compile: bool = setting(False, "compile the model with torch.compile")
    threads: int = setting(0, "CPU threads; 0 takes what torch would, and records it", 0)
    seed: int = setting(0, "decides every random choice", 0)

    def __post_init__(self) -> None:
        check_settings(self, accept_text=True)
        from lure.unlearners import UNLEARNERS  # imports torch

        if not names_code(self.unlearner, UNLEARNERS):
            _ = self.method  # an unknown name or option is refused here
        self.new_replay()

    @cached_property
    def method(self) -> "Unlearner":
        """The unlearner that the field `unlearner` names; one of the user's own is imported at the first use."""
        from lure.unlearners import build_unlearner  # imports torch

        return build_unlearner(self.unlearner)

    @cached_property
    def _replay_maker(self) -> "Callable[[], Replay]":
        from lure.data.replay import REPLAYS  # imports torch

        maker, options = read_choice("replay regime", self.replay, REPLAYS)
        return partial(maker, **options)

    def new_replay(self) -> "Replay":
        """Return a new replay regime of the kind that the field `replay` names; it holds no data yet."""
        return self._replay_maker()

    @classmethod
    def from_toml(cls, text: str, where: str, overrides: Mapping[str, Any] | None = None) -> Self:
        """Read a recipe or experiment; `overrides` (field -> value) win over the file, the file over the defaults.

        Args:
            text: the file's content: one `field = value` a line.
            where: the file's name, for messages.
            overrides: values from a command line.

        Raises:
            InputError: if the text is not TOML, names an unknown field, or holds a value that is refused.
        """
        values = parse_toml(text, where)
        known = {item.name for item in dataclasses.fields(cls)}
        for name in values:
            if name not in known:
                message = str(unknown_name("recipe field", name, known))
                raise InputError(f"{where}: {message.split(' (valid')[0]}")
        try:
            return cls(**{**values, **(overrides or {})})
        except InputError as error:
            raise InputError(f"{where}: {error}") from None


@dataclass(frozen=True, kw_only=True)
class Experiment(Recipe):
    """A recipe, and the stream of data that it is tried on.

    Example:
        >>> Experiment(dataset="cifar10", num_mega_batches=8, mega_batch_size=6250).num_mega_batches
        8
    """

    dataset: str = setting("fashion-mnist-sample", "name of the data set, or file for your own (see: lure list data)")
    train_limit: int | None = setting(None, "use only the first so many training examples of the file", 1)
    test_limit: int | None = setting(None, "use only the first so many test examples of the file", 1)
    num_mega_batches: int | None = setting(None, "number of mega-batches", 1)
    mega_batch_size: int | None = setting(None, "examples in each mega-batch; the last may be smaller", 1)
    order: Order = setting("iid", "iid: seeded permutation; file: as stored; released: file order, validation last")
    shots: int | None = setting(None, "keep only the first so many training examples of each class", 1)
    imbalance: tuple[float, ...] = setting((), "largest,smallest,gamma: class counts fall by a power law")
    label_noise: float = setting(0.0, "probability that a training label is replaced by a random class", 0, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_mega_batches is None and self.mega_batch_size is None:
            object.__setattr__(self, "num_mega_batches", 5)
        if self.imbalance and len(self.imbalance) != 3:
            raise InputError(f"imbalance must be largest,smallest,gamma, got {format_value(self.imbalance)}")
        if self.order == "released" and (self.imbalance or self.label_noise):
            raise InputError("order = released has neither imbalance nor label noise: use order = file")


def to_toml(record: Recipe) -> str:
    """Write a recipe or experiment as commented TOML, complete: every field, its value and its meaning.

    A field that is None is left out, because TOML has no such value.

    Example:
        >>> Experiment.from_toml(to_toml(Experiment(epochs=3)), "text") == Experiment(epochs=3)
        True
    """
    lines = []
    for item in dataclasses.fields(record):
        value = getattr(record, item.name)
        if value is not None:
            lines.append(f"# {item.metadata['meaning']}\n{item.name} = {_toml_value(value)}")
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = "".join(c if c.isprintable() and c not in '"\\' else f"\\u{ord(c):04x}" for c in value)
        return f'"{escaped}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return repr(value)


def differing_fields(stored: Recipe, asked: Recipe) -> list[str]:
    """Return "field: stored -> asked" for every field in which two recipes differ.

    Example:
        >>> differing_fields(Recipe(epochs=3), Recipe(epochs=4))
        ['epochs: 3 -> 4']
    """
    return [
        f"{item.name}: {format_value(getattr(stored, item.name, None))} -> {format_value(getattr(asked, item.name))}"
        for item in dataclasses.fields(asked)
        if getattr(stored, item.name, None) != getattr(asked, item.name)
    ]


CODE_FIELDS = ("model", "unlearner")  # whose text may name code of the user's own


def own_code(recipe: Recipe) -> dict[str, str]:
    """Return field -> text for each field of a recipe that names code of the user's own.

    Such code is imported where it is first needed, not with the recipe: what was stored is run only with consent.

    Example:
        >>> own_code(Recipe(model="my_package.nets:build:width=8", unlearner="dash"))
        {'model': 'my_package.nets:build:width=8'}
    """
    return {field: text for field in CODE_FIELDS if names_code(text := getattr(recipe, field))}


def shipped_recipes() -> dict[str, str]:
    """Return name -> text of the recipe files that come with the package."""
    folder = resources.files("lure") / "recipes"
    files = sorted(
        (f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name.removesuffix(".toml")
    )
    return {file.name.removesuffix(".toml"): file.read_text(encoding="utf-8") for file in files}


def load_experiment(name_or_file: str, overrides: Mapping[str, Any] | None = None) -> Experiment:
    """Read a shipped recipe by name, or a recipe file by path.

    Raises:
        InputError: if there is neither, or the content is refused.

    Example:
        >>> load_experiment("demo", {"epochs": 2}).epochs
        2
    """
    shipped = shipped_recipes()
    if name_or_file in shipped:
        return Experiment.from_toml(shipped[name_or_file], f"recipe {name_or_file}", overrides)
    path = Path(name_or_file)
    if path.is_file():
        try:
            text = path.read_text(encoding="utf-8-sig")  # some editors write a byte-order mark
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read recipe {path}: {error}") from None
        experiment = Experiment.from_toml(text, str(path), overrides)
        for field, name in own_code(experiment).items():
            if field not in (overrides or {}):
                raise InputError(f"{path} names code to run: give it on the command line, too (--{field} {name})")
        return experiment
    if path.suffix == ".toml" or len(path.parts) > 1:
        raise InputError(f"there is no recipe file {path}")
    raise unknown_name("recipe", name_or_file, shipped)


def policy_name(choice: str) -> str:
    """Return a choice in the form that names files and folders: safe on every operating system.

    Example:
        >>> policy_name("lure:forget_fraction=0.3")
        'lure+forget_fraction=0.3'
    """
    name, options = split_choice(choice)
    return "+".join([name.replace(":", "."), *(f"{key}={value}" for key, value in options.items())])
