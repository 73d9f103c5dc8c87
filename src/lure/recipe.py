"""Recipe, Experiment and Policy: everything that decides a result, as typed, checked, frozen records; TOML in and out.

`Recipe` says how a model is trained at each stage; `Experiment` adds which data arrive and in which chunks; a `Policy`
names the fields in which one of several compared experiments departs from what they share. Paths, the device and the
number of workers decide nothing and are not part of them. A field's range, meaning and default stand
together in `setting(...)`; the command line, the files and the messages read them there.

The names in `unlearner`, `regularizers` and `replay` stay text, as the user wrote them. A recipe reads them once, when
it is created: `method` is the unlearner, `acting` the regularizers, `new_replay()` a fresh replay regime. Code of the
user's own is not imported then. Importing this module does not import torch; creating a recipe does.
"""

import dataclasses
import math
import re
import tomllib
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_type_hints

from lure.errors import InputError, unknown_name
from lure.settings import check_settings, format_value, names_code, parse_value, read_choice, setting, split_choice

if TYPE_CHECKING:
    from lure.data.replay import Replay
    from lure.training.regularizers import Regularizer
    from lure.unlearners import Unlearner

Augmentation = Literal["none", "crop-flip", "crop", "imagenet"]  # see data/augmentation.py
Schedule = Literal["steps", "constant", "cosine", "cooldown"]  # see training/schedule.py
Order = Literal["iid", "file", "class", "released"]  # see data/stream.py and data/released.py


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
    new_classes: Literal["refuse", "grow"] = setting(
        "refuse", "what a class does that the model does not know: refuse, or grow the head before unlearning"
    )
    validation_fraction: float = setting(0.1, "share of each mega-batch that is held out for validation", 0, 0.9)
    keep: Literal["best", "last"] = setting("best", "epoch kept: best validation accuracy (last without one), or last")
    epochs: int = setting(50, "passes over the training data at each stage", 1)
    budget: float = setting(
        1.0,
        "share of the epochs, at least one, that stages 2 and later get; the schedule scales with it",
        0,
        1,
        above=0,
    )
    patience: int | None = setting(
        None, "stop each stage once validation accuracy has not risen for so many epochs; the best is kept", 1
    )
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
    regularizers: tuple[str, ...] = setting((), "what acts while training (see: lure list regularizers)")
    l2_init: float = setting(0.0, "the regularizer l2-init: its strength; 0: none", 0)
    average_interval: int | None = setting(None, "the regularizer hare-tortoise: its interval in steps; none: none", 1)
    average_decay: float = setting(0.999, "with average_interval: share of the average that a step keeps", 0, 1)
    clip_norm: float | None = setting(
        None, "largest norm of the gradient of a step, over all weights together; a longer one is scaled down", above=0
    )
    label_smoothing: float = setting(0.0, "share of each training target that is spread over all classes", 0, 1)
    schedule: Schedule = setting(
        "steps", "learning rate: steps (at milestones), constant, cosine (to zero), cooldown (constant, then to zero)"
    )
    milestones: tuple[int, ...] = setting(
        (20, 40), "schedule steps: epochs after which the learning rate is multiplied by gamma", 1
    )
    gamma: float = setting(0.1, "schedule steps: factor of the learning rate at each milestone", 0)
    cooldown: float = setting(
        0.2, "schedule cooldown: last share of the epochs, over which the learning rate falls to zero", 0, 1, above=0
    )
    warmup: int = setting(0, "epochs over which the learning rate rises from zero at each stage", 0)
    augment: Augmentation = setting("none", "augmentation of training images, drawn anew for each batch")
    validation_augmented: bool = setting(False, "augment validation images, too, when the kept epoch is chosen")
    precision: Literal["fp32", "bf16"] = setting("fp32", "arithmetic: fp32, or automatic mixed precision with bf16")
    tf32: bool = setting(False, "allow TF32 in fp32 matrix products on GPUs")
    compile: bool = setting(False, "compile the model with torch.compile")
    threads: int = setting(
        0, "CPU threads; 0 takes one for a small network (lure run, compare), else what torch would; recorded", 0
    )
    seed: int = setting(0, "decides every random choice", 0)

    def __post_init__(self) -> None:
        check_settings(self, accept_text=True)
        from lure.unlearners import UNLEARNERS  # imports torch

        if not names_code(self.unlearner, UNLEARNERS):
            _ = self.method  # an unknown name or option is refused here
        if "regularizers" not in own_code(self):
            _ = self.acting
        self.new_replay()
        if self.patience is not None and (self.keep == "last" or not self.validation_fraction):
            given = "keep = last" if self.keep == "last" else "validation_fraction = 0"
            raise InputError(f"patience keeps the epoch of the best validation accuracy: it cannot go with {given}")

    @cached_property
    def method(self) -> "Unlearner":
        """The unlearner that the field `unlearner` names; one of the user's own is imported at the first use."""
        from lure.unlearners import build_unlearner  # imports torch

        return build_unlearner(self.unlearner)

    @cached_property
    def acting(self) -> "dict[str, Regularizer]":
        """What `regularizers`, `l2_init` and `average_interval` name; one's own are imported at the first use."""
        from lure.training.regularizers import HareAndTortoise, L2Init, build_regularizers  # imports torch

        built = build_regularizers(self.regularizers)
        older: dict[tuple[str, str], Regularizer] = {}
        if self.l2_init:
            older["l2-init", "l2_init"] = L2Init(strength=self.l2_init)
        if self.average_interval is not None:
            tortoise = HareAndTortoise(decay=self.average_decay, interval=self.average_interval)
            older["hare-tortoise", "average_interval"] = tortoise
        for name, field in older:
            if name in built:
                raise InputError(f"{field} is the regularizer {name}, which regularizers names, too: leave one out")
        return {name: regularizer for (name, _), regularizer in older.items()} | built

    @cached_property
    def _replay_maker(self) -> "Callable[[], Replay]":
        from lure.data.replay import REPLAYS  # imports torch

        maker, options = read_choice("replay regime", self.replay, REPLAYS)
        return partial(maker, **options)

    def new_replay(self) -> "Replay":
        """Return a new replay regime of the kind that the field `replay` names; it holds no data yet."""
        return self._replay_maker()

    def epochs_of(self, stage: int) -> int:
        """Return how many epochs a stage trains for: from stage 2 on the budget's share, rounded, at least one.

        Example:
            >>> recipe = Recipe(epochs=20, budget=0.1)
            >>> recipe.epochs_of(1), recipe.epochs_of(2)
            (20, 2)
        """
        return self.epochs if stage == 1 else max(1, math.floor(self.epochs * self.budget + 0.5))

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
        values.pop("policies", None)  # tables that `load_policies` reads
        known = {item.name for item in dataclasses.fields(cls)}
        for name in values:
            if name not in known:
                message = str(unknown_name("recipe field", name, known))
                raise InputError(f"{where}: {message.split(' (valid')[0]}")
        try:
            made = cls(**{**values, **(overrides or {})})
            require_effect(made, overrides or {})
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        return made


OF_SCHEDULE = {"milestones": "steps", "gamma": "steps", "cooldown": "cooldown"}


def require_effect(recipe: Recipe, given: Iterable[str]) -> None:
    """Raise if somebody has set a field that the recipe's schedule does not read.

    A recipe's file may hold such fields, since a complete one holds every field.

    Args:
        recipe: what was made of it.
        given: names of the fields that were set beside the file. No milestones are no contradiction.

    Raises:
        InputError: naming the field.

    Example:
        >>> require_effect(Recipe(schedule="cosine", milestones=(10,)), ["milestones"])
        Traceback (most recent call last):
        lure.errors.InputError: milestones have no effect in schedule = cosine: leave them out, or set schedule = steps
    """
    for name in given:
        if OF_SCHEDULE.get(name, recipe.schedule) != recipe.schedule and getattr(recipe, name) != ():
            has, it = ("have", "them") if name == "milestones" else ("has", "it")
            raise InputError(
                f"{name} {has} no effect in schedule = {recipe.schedule}: leave {it} out, or set schedule = "
                f"{OF_SCHEDULE[name]}"
            )


# Fields in which any two runs of one comparison may differ.
ALWAYS_APART = ("seed", "unlearner", "budget", "policy", "departs_from")


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
    order: Order = setting(
        "iid", "iid: seeded permutation; file: as stored; class: class by class; released: file order, validation last"
    )
    shots: int | None = setting(None, "keep only the first so many training examples of each class", 1)
    imbalance: tuple[float, ...] = setting((), "largest,smallest,gamma: class counts fall by a power law")
    label_noise: float = setting(0.0, "probability that a training label is replaced by a random class", 0, 1)
    policy: str = setting("", "name of the policy in a comparison; empty: that of the unlearner")
    departs_from: tuple[str, ...] = setting((), "FIELD=VALUE of the shared recipe, where the policy has another value")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_mega_batches is None and self.mega_batch_size is None:
            object.__setattr__(self, "num_mega_batches", 5)
        if self.imbalance and len(self.imbalance) != 3:
            raise InputError(f"imbalance must be largest,smallest,gamma, got {format_value(self.imbalance)}")
        if self.num_mega_batches == 1 and "regularizers" not in own_code(self):
            self.require_stages(1)
        if self.order == "released" and (self.imbalance or self.label_noise):
            raise InputError("order = released has neither imbalance nor label noise: use order = file")

    def require_stages(self, number: int) -> None:
        """Raise unless a stream of so many mega-batches lets every regularizer act.

        Raises:
            InputError: naming the regularizer.
        """
        from lure.training.regularizers import reads_previous  # imports torch

        for name, regularizer in self.acting.items():
            if number < 2 and reads_previous(regularizer):
                raise InputError(
                    f"regularizer {name} could never act: it needs an earlier version, and the stream has one "
                    f"mega-batch: ask for two or more, or leave it out"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a comparison compares: a name, and the recipe fields in which it departs from the shared recipe.

    Attributes:
        name: stands in tables, and names a folder: letters, digits and any of `_ . , = + -`. A policy that is an
            unlearner and no more is called as that is.
        fields: field -> value, or its text. Any field of `Recipe` but the seed; the data's are the comparison's.

    Raises:
        InputError: for another name, or a field that a policy may not set.

    Example:
        >>> policy = Policy.read("averaged=unlearner=warm-start budget=0.1")
        >>> shared = Experiment(epochs=30)
        >>> made = policy.applied_to(shared)
        >>> made.unlearner, made.budget, made.epochs, made.policy
        ('warm-start', 0.1, 30, 'averaged')
        >>> Policy.read("dash:alpha=0.1").applied_to(shared) == Experiment(epochs=30, unlearner="dash:alpha=0.1")
        True
    """

    name: str
    fields: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.is_named and not re.fullmatch(r"[^\W_][\w.,=+-]{0,99}", self.name):
            raise InputError(
                f"{self.name!r} cannot name a policy: take up to 100 letters, digits and _ . , = + -, beginning with a "
                "letter or digit"
            )
        may = {field.name for field in dataclasses.fields(Recipe)} - {"seed"}
        for field in self.fields:
            if field in Experiment.__dataclass_fields__ and field not in may:
                raise InputError(f"policy {self.name} cannot set {field}: all policies share the seeds and the data")
            if field not in may:
                raise unknown_name(f"recipe field in policy {self.name}", field, may)

    @property
    def is_named(self) -> bool:
        """Whether it is more than an unlearner."""
        return self.fields != {"unlearner": self.name}

    @classmethod
    def read(cls, text: str) -> Self:
        """Read a policy from a command line: `NAME=FIELD=VALUE FIELD=VALUE ...`, or the choice of an unlearner.

        Raises:
            InputError: if the text is neither.
        """
        name, equals, rest = text.partition("=")
        if not equals or ":" in name:
            return cls(name=text, fields={"unlearner": text})
        words = [word.partition("=") for word in rest.split()]
        for field, equals, _ in words:
            if not equals:
                raise InputError(f"policy {name}: {field!r} is no FIELD=VALUE, such as unlearner=warm-start budget=0.1")
        fields = {field.replace("-", "_"): value for field, _, value in words}
        if not words or len(fields) < len(words):
            given = "twice the same field" if words else "no field"
            raise InputError(f"policy {name} sets {given}: write {name}=unlearner=warm-start budget=0.1, for example")
        return cls(name=name, fields=fields)

    def applied_to(self, shared: Experiment) -> Experiment:
        """Return the experiment that a comparison runs for this policy.

        It notes the policy's name, and what the shared recipe has in place of the policy's own values: reports put
        together what is equal but for them. A policy that is an unlearner and no more needs no note.

        Raises:
            InputError: for a value that is refused; names the policy.
        """
        note: dict[str, Any] = {}
        if self.is_named:
            apart = [field for field in self.fields if field not in ALWAYS_APART]
            departs = tuple(f"{field}={format_value(getattr(shared, field))}" for field in sorted(apart))
            note = {"policy": self.name, "departs_from": departs}
        try:
            made = dataclasses.replace(shared, **self.fields, **note)
            require_effect(made, self.fields)
        except InputError as error:
            if not self.is_named:
                raise
            raise InputError(f"policy {self.name}: {error}") from None
        return made


def shared_recipe(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run shares with the others of its comparison: its fields, without those that policies vary.

    Args:
        values: the fields of a run's recipe, as its file states them.

    Example:
        >>> shared_recipe({"epochs": 5, "lr": 0.1, "budget": 0.5, "policy": "fast", "departs_from": ["epochs=20"]})
        {'epochs': 20, 'lr': 0.1}
    """
    shared = {name: value for name, value in values.items() if name not in ALWAYS_APART}
    hints = get_type_hints(Recipe)
    for text in values.get("departs_from", ()):
        name, _, value = text.partition("=")
        read = parse_value(value, hints[name], name)
        shared[name] = list(read) if isinstance(read, tuple) else read
    return {name: value for name, value in shared.items() if value is not None}


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


CODE_FIELDS = ("model", "unlearner", "regularizers")  # whose text may name code of the user's own


def own_code(fields: Recipe | Mapping[str, Any]) -> dict[str, str]:
    """Return field -> text for each field of a recipe, or of a policy, that names code of the user's own.

    Such code is imported where it is first needed, not with the recipe: what was stored is run only with consent.

    Example:
        >>> own_code(Recipe(model="my_package.nets:build:width=8", unlearner="dash"))
        {'model': 'my_package.nets:build:width=8'}
    """
    values = fields if isinstance(fields, Mapping) else vars(fields)
    texts = {field: _text_of(values.get(field)) for field in CODE_FIELDS}
    return {field: text for field, text in texts.items() if any(map(names_code, text.split(",")))}


def _text_of(value: Any) -> str:
    """Return a field's value as a flag gives it; lists come from files, tuples from records."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _require_named(where: str, fields: Recipe | Mapping[str, Any], named: Container[str], flag: str = "") -> None:
    """Raise if a file names code of the user's own that was not named again, by the field's flag or this one."""
    for field, text in own_code(fields).items():
        if text not in named:
            again = f"{flag or '--' + field} {text}"
            raise InputError(f"{where} names code to run: give it on the command line, too ({again})")


def shipped_recipes() -> dict[str, str]:
    """Return name -> text of the recipe files that come with the package; those of a folder are called FOLDER/NAME."""
    top = resources.files("lure") / "recipes"
    folders = [("", top), *((f"{folder.name}/", folder) for folder in top.iterdir() if folder.is_dir())]
    files = {
        prefix + file.name.removesuffix(".toml"): file
        for prefix, folder in folders
        for file in folder.iterdir()
        if file.name.endswith(".toml")
    }
    return {name: files[name].read_text(encoding="utf-8") for name in sorted(files)}


def load_experiment(
    name_or_file: str, overrides: Mapping[str, Any] | None = None, consent: Collection[str] | None = None
) -> Experiment:
    """Read a shipped recipe by name, or a recipe file by path.

    Args:
        name_or_file: which.
        overrides: field -> value, or its text, from a command line.
        consent: what the file may name as code of the user's own, to be run, beside what is in `overrides`; None where
            the command line has a flag for each field.

    Raises:
        InputError: if there is neither, or the content is refused.

    Example:
        >>> load_experiment("demo", {"epochs": 2}).epochs
        2
    """
    text, where = _recipe_text(name_or_file)
    experiment = Experiment.from_toml(text, where, overrides)
    named = {*(consent or ()), *map(_text_of, (overrides or {}).values())}
    _require_named(where, experiment, named, "" if consent is None else "--own-code")
    return experiment


def load_policies(name_or_file: str, consent: Collection[str] = ()) -> list[Policy]:
    """Read the tables `[policies.NAME]` of a recipe; [] where it has none.

    Args:
        name_or_file: as for `load_experiment`.
        consent: what the tables may name as code of the user's own, to be run.

    Raises:
        InputError: if there is no such recipe, or a policy sets what it may not, or names code without consent.
    """
    text, where = _recipe_text(name_or_file)
    tables = parse_toml(text, where).get("policies", {})
    if not isinstance(tables, dict) or not all(isinstance(fields, dict) for fields in tables.values()):
        raise InputError(f"{where}: policies must be tables, such as [policies.averaged] and fields below it")
    for name, fields in tables.items():
        _require_named(f"{where}: policy {name}", fields, consent, "--own-code")
    try:
        return [Policy(name=name, fields=fields) for name, fields in tables.items()]
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _recipe_text(name_or_file: str) -> tuple[str, str]:
    """Return the text of a shipped recipe or a file, and what to call it in messages."""
    shipped = shipped_recipes()
    if name_or_file in shipped:
        return shipped[name_or_file], f"recipe {name_or_file}"
    path = Path(name_or_file)
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8-sig"), str(path)  # some editors write a byte-order mark
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read recipe {path}: {error}") from None
    in_folder = any(name.startswith(f"{path.parent.as_posix()}/") for name in shipped)
    if path.suffix == ".toml" or (len(path.parts) > 1 and not in_folder):
        raise InputError(f"there is no recipe file {path}")
    raise unknown_name("recipe", name_or_file, shipped)


def policy_name(choice: str) -> str:
    """Return the name of a policy in the form that names files and folders: safe on every operating system.

    Example:
        >>> policy_name("lure:forget_fraction=0.3")
        'lure+forget_fraction=0.3'
    """
    name, options = split_choice(choice)
    return "+".join([name.replace(":", "."), *(f"{key}={value}" for key, value in options.items())])
