"""Opening a run directory: what is asked for, compared with what was fixed when the run was begun."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import nn

from lure.data.examples import Examples, Split, as_stored
from lure.data.sources.columns import TableForm
from lure.errors import InputError
from lure.learner.gate import Gate
from lure.learner.mega_batch import join
from lure.learner.task import Task, channel_statistics, check_values, fix_task
from lure.recipe import Experiment, Recipe, differing_fields, own_code
from lure.store.agreement import Agreement
from lure.store.durable import parsing
from lure.store.run_directory import AGREEMENT, RECIPE, RunDirectory

Normalization = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class Opened:
    """All that a learner works with, settled before anything is trained.

    Attributes:
        directory: the run directory, whose lock is held.
        recipe: how to train.
        builder: builds the user's own network; None where the recipe's model names one.
        test: examples that every stage is measured on; with a gate the holdout.
        gate: decides whether a version takes the place of the one in use; None accepts every version.
        independent: with a gate, examples that are measured on, too, and decide nothing.
        class_names: the classes in the order of their labels; () where they have no names.
        form: what becomes of columns, where the data are a table.
        normalization: (mean, std) per channel or feature; None takes them from the first mega-batch. A directory that
            is begun with a gate takes them from the holdout: the first chunk may be small, or constant in a column.
        stream: the mega-batches, where the caller can give them again; None stores each in the directory.
        device: where to compute.
        workers: processes that read data too large for memory.
        new_classes: what a class does that the version in use does not know.
        holdout: fingerprints of what the holdout is made of: what `lure init` stored, and what was added for new
            classes since, in order; () without a gate.
    """

    directory: RunDirectory
    recipe: Recipe
    builder: Callable[[], nn.Module] | None
    test: Examples | None
    gate: Gate | None
    independent: Examples | None
    class_names: tuple[str, ...]
    form: TableForm | None
    normalization: Normalization | None
    stream: Sequence[Examples | Split] | None
    device: torch.device
    workers: int
    new_classes: Literal["refuse", "grow"] = "refuse"
    holdout: tuple[str, ...] = ()

    def agreed(self) -> Self:
        """Return the same with what `lure init` fixed in place of what need not be given again.

        Raises:
            InputError: if what is given differs from what was fixed.
        """
        path = self.directory.path
        agreement = self.directory.agreement() if self.directory.exists else None
        if agreement is None:
            if self.directory.exists and self.gate is not None:
                raise InputError(f"{path} was begun without a gate: choose another directory")
            if self.gate is not None and self.stream is not None:
                raise InputError("a gate keeps the data in the directory: leave out stream")
            self._check_sets()
            if self.gate is not None and self.normalization is None and self.test is not None and len(self.test):
                mean, std = channel_statistics(self.test)
                return dataclasses.replace(self, normalization=(mean, std) if mean else None)
            return self
        if self.stream is not None:
            raise InputError(f"{path} is kept current by lure update: choose another directory")
        with parsing(path / AGREEMENT):
            gate = Gate(**agreement.gate)
            form = TableForm.of_names(agreement.columns, agreement.column_kinds)
            if agreement.table is not None:
                form = TableForm.from_dict(agreement.table)
                self._require_same_form(form)
        self._require_stored(agreement.holdout, self.test, "holdout")
        self._require_stored(agreement.independent, self.independent, "independent")
        if self.gate not in (None, gate):
            raise InputError(f"{path} was begun with another gate: {gate}")
        mean_and_std = agreement.normalization
        chunks, holdout = self.directory.chunks, self.directory.holdout()
        return dataclasses.replace(
            self,
            test=chunks.read(holdout[0])
            if len(holdout) == 1
            else Examples.concatenate(list(map(chunks.read, holdout))),
            holdout=holdout,
            gate=gate,
            independent=chunks.read(agreement.independent) if agreement.independent else None,
            class_names=tuple(self.directory.class_names()),
            form=form,
            normalization=None if mean_and_std is None else (mean_and_std[0], mean_and_std[1]),
        )

    def fix_task(self, split: Split) -> Task:
        """Return the task that a first mega-batch fixes.

        A class may be missing from the first mega-batch of a stream that is known to its end; where the head grows, it
        is left out until it arrives.
        """
        others = [self.test, *map(join, self.stream or ())]
        labels = [examples.labels for examples in others if examples is not None]
        names = self.class_names
        if self.new_classes == "grow" and self.gate is None:
            labels, names = (
                [],
                names[: int(max(part.labels.max() for part in (split.train, split.validation) if len(part))) + 1],
            )
        return fix_task(split, labels, names, self.form, self.normalization)

    def with_holdout(self, added: Examples) -> Self:
        """Return the same with more examples in the holdout, stored; those that are there already change nothing.

        Raises:
            InputError: if there is no gate, or the holdout shows one of their classes already.
        """
        if self.gate is None or self.test is None:
            raise InputError("holdout examples of new classes need a gate, which has a holdout")
        if added.fingerprint in self.holdout:
            return self
        if not len(added):
            raise InputError("the holdout to add holds no examples")
        check_values(added, () if self.form is None else self.form.inputs, "the holdout to add")
        if shown := sorted({*added.labels.tolist()} & {*self.test.labels.tolist()}):
            name = self.class_names[shown[0]] if self.class_names else shown[0]
            raise InputError(
                f"the holdout shows class {name} already: only examples of classes that it does not show may be added"
            )
        stored = self.directory.chunks.store(added)
        whole = Examples.concatenate([self.test, stored])
        return dataclasses.replace(self, test=whole, holdout=(*self.holdout, stored.fingerprint))

    def check_holdout(self, num_classes: int) -> None:
        """Raise if examples that come to the holdout now are of a class that nobody knows.

        Args:
            num_classes: how many classes are known once the new mega-batch is taken in.

        Raises:
            InputError: naming the label.
        """
        if self.gate is None or self.test is None:
            return
        largest = int(self.test.labels.max())
        # What an earlier stage added may be of a class that a version does not know which somebody went back to.
        if largest >= num_classes and self.holdout[-1:] != self.directory.holdout()[-1:]:
            name = self.class_names[largest] if self.class_names else largest
            raise InputError(f"the holdout to add shows class {name}, which neither the model nor the new data know")

    def store_sets(self) -> tuple[Self, Agreement | None]:
        """Store the holdout and the independent set of a new directory, where there is a gate.

        Returns:
            The same with the stored sets, and the record of what every update must agree with; None without a gate.

        Raises:
            InputError: if there is no holdout, or a set is empty.
        """
        if self.gate is None:
            return self, None
        if self.test is None:
            raise InputError("a gate needs a holdout: give test examples")
        for examples in (self.test, self.independent):
            if examples is not None and not len(examples):
                raise InputError("the holdout and the independent set must not be empty")
        test = self.directory.chunks.store(self.test)
        independent = self.independent and self.directory.chunks.store(self.independent)
        agreement = Agreement(
            holdout=test.fingerprint,
            independent=independent.fingerprint if independent else None,
            class_names=list(self.class_names),
            columns=[] if self.form is None else list(self.form.names),
            column_kinds=[] if self.form is None else list(self.form.kinds),
            table=None if self.form is None else self.form.as_dict(),
            normalization=None if self.normalization is None else [list(values) for values in self.normalization],
            gate=dataclasses.asdict(self.gate),
            recipe=dataclasses.asdict(self.recipe),
        )
        stored = dataclasses.replace(self, test=test, independent=independent, holdout=(test.fingerprint,))
        return stored, agreement

    def require_same_data(self) -> None:
        """Raise unless the data that are given again are those of the committed stages, replayed or not.

        Raises:
            InputError: naming the stage.
        """
        for stage in self.directory.stages if self.stream is not None else ():
            given = self.stream[stage.stage - 1] if self.stream and stage.stage <= len(self.stream) else None
            if given is None or join(given).fingerprint != stage.data_fingerprint:
                raise InputError(
                    f"the data of stage {stage.stage} are not those that {self.directory.path} was trained on: "
                    f"give the same data, or choose another directory"
                )
            tested = stage.test_fingerprint
            if tested is not None and self.test is not None and self.test.fingerprint != tested:
                raise InputError(
                    f"the test examples are not those that {self.directory.path} was measured on: "
                    f"give the same data, or choose another directory"
                )

    def _check_sets(self) -> None:
        """Raise if the holdout or the independent set holds a value that cannot be computed with."""
        held_out = "the holdout" if self.gate is not None else "the test examples"
        for examples, place in ((self.test, held_out), (self.independent, "the independent set")):
            if examples is not None:
                check_values(examples, () if self.form is None else self.form.inputs, place)

    def _require_same_form(self, form: TableForm) -> None:
        """Raise if the columns of a table are asked for another use than when the directory was begun."""
        if self.form is None or self.form.label is None:  # only names, or nothing, were given
            return
        for name, value in dataclasses.asdict(form).items():
            if value != (asked := getattr(self.form, name)) and name != "columns":
                raise InputError(
                    f"{self.directory.path} was begun with another use of columns ({name}: {value!r}, not {asked!r}): "
                    f"choose another directory"
                )

    def _require_stored(self, fingerprint: str | None, given: Examples | None, role: str) -> None:
        """Raise if a holdout or independent set is given again, and is not the one that is stored."""
        if given is not None and as_stored(given).fingerprint != fingerprint:
            raise InputError(
                f"{self.directory.path} was begun with another {role} set: leave it out, it is stored there"
            )


def choose_device(name: str) -> torch.device:
    """Return the device that "auto", "cpu" or "cuda" means here.

    Raises:
        InputError: if there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = None
    with suppress(RuntimeError):  # raised for a name that is not a device
        device = torch.device(name)
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"device must be auto, cpu or cuda, got {name!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError("there is no CUDA device here: use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"there is no device {name!r} here: the last one is cuda:{torch.cuda.device_count() - 1}")
    return device


def settle_recipe(
    directory: RunDirectory,
    asked: Recipe | None,
    model: Callable[[], nn.Module] | str | None,
    unlearner: str | None = None,
    regularizers: Sequence[str] | None = None,
) -> Recipe:
    """Return the recipe that a directory is trained by: the stored one if it was begun, else the one asked for.

    Args:
        directory: new or begun.
        asked: a whole recipe; None takes the stored one, or the defaults.
        model: a builder or its name, as for `Learner.open`.
        unlearner: as for `Learner.open`.
        regularizers: as for `Learner.open`.

    Raises:
        InputError: if the stored recipe differs from the one asked for, the directory holds something else, or an
            unlearner or regularizer of the user's own was not consented to or cannot be used.
    """
    named = model_name(model)
    if asked is not None and model is not None:
        asked = dataclasses.replace(asked, model=named)
    methods: dict[str, Any] = {} if unlearner is None else {"unlearner": unlearner}
    if regularizers is not None:
        methods["regularizers"] = tuple(regularizers)
    if asked is not None:
        asked = dataclasses.replace(asked, **methods)
    if directory.exists:
        recipe = agree(directory, asked, model, methods)
        if asked is None:
            consent = {"unlearner": unlearner, "regularizers": ",".join(regularizers or ())}
            require_consent(str(directory.path), recipe, consent)
    else:
        directory.require_vacant()
        recipe = asked or Recipe(model=named or Recipe.model, **methods)
        recipe = dataclasses.replace(recipe, threads=recipe.threads or torch.get_num_threads())
    _ = recipe.method, recipe.acting  # code of the user's own is imported here: what is wrong with it shows now
    return recipe


def agree(
    directory: RunDirectory,
    asked: Recipe | None,
    model: Callable[[], nn.Module] | str | None = None,
    methods: Mapping[str, Any] | None = None,
) -> Recipe:
    """Return the recipe of a run directory, after comparing it with what is asked for.

    Args:
        directory: one that was begun.
        asked: a whole recipe; None takes the stored one.
        model: a builder or its name, which stands for the consent to run code that the recipe names.
        methods: further fields that are asked for, too, where the rest is the stored one.

    Raises:
        InputError: naming the fields that differ, or the network that was not consented to.
    """
    stored = read_recipe(directory)
    if asked is None:
        require_consent(str(directory.path), stored, {"model": model})
        asked = dataclasses.replace(stored, model=model_name(model) or stored.model, **(methods or {}))
    if type(asked) is not type(stored) and isinstance(asked, Experiment):
        raise InputError(f"{directory.path} was not begun by lure run: choose another directory")
    asked = dataclasses.replace(asked, threads=asked.threads or stored.threads)
    if differing := differing_fields(stored, asked):
        raise InputError(
            f"{directory.path} was begun with another recipe ({'; '.join(differing)}): "
            f"choose another directory, or ask for the stored values"
        )
    return stored


def require_same_recipe(path: Path | str, recipe: Recipe) -> None:
    """Raise if a directory holds a run of another recipe; nothing is locked or changed.

    Raises:
        InputError: naming the fields that differ.
    """
    directory = RunDirectory(path)
    if directory.exists:
        agree(directory, recipe, recipe.model)


def read_recipe(directory: RunDirectory) -> Recipe:
    """Return the recipe of a run directory: an `Experiment` if it names a data set.

    Raises:
        InputError: if it is damaged, or was edited after the run was begun; names the fields.
    """
    return parse_recipe(directory.recipe_text(), str(directory.path / RECIPE))


def parse_recipe(text: str, where: str) -> Recipe:
    """Read a recipe that was written down by itself: an `Experiment` if it names a data set.

    Raises:
        InputError: if it is damaged; names `where`.
    """
    kind = Experiment if re.search("^dataset *=", text, re.MULTILINE) else Recipe
    return kind.from_toml(text, where)


def require_consent(where: str, stored: Recipe, given: Mapping[str, Any]) -> None:
    """Raise if a stored recipe names code of the user's own that is about to run, and nobody said that it may.

    Args:
        where: what holds the recipe.
        stored: the recipe.
        given: field whose code is about to run -> what stands for the consent: the same text again, or the code itself.

    Raises:
        InputError: naming the code.
    """
    nouns = {"model": "a network", "unlearner": "an unlearner", "regularizers": "regularizers"}
    for field, name in own_code(stored).items():
        if field in given and not (callable(given[field]) or given[field] == name):
            noun = nouns[field]
            raise InputError(f"{where} holds {noun} of your own code: give it again (--{field} {name}) to run it")


def model_name(model: Callable[[], nn.Module] | str | None) -> str:
    """Return how a recipe names a model that was given by name or as a builder; "" for none."""
    if model is None or isinstance(model, str):
        return model or ""
    return f"{model.__module__}:{getattr(model, '__qualname__', type(model).__name__)}"
