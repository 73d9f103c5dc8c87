"""What a learner holds in memory between two stages, and its way to and from disk."""

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lure.data.examples import Examples, Split
from lure.errors import InputError
from lure.learner.mega_batch import MegaBatch
from lure.learner.opening import Opened
from lure.learner.record import Offered
from lure.learner.task import Task, build_network, builder_by_classes
from lure.randomness import derive_generator, forked_rng
from lure.store.durable import parsing
from lure.store.stage import Stage
from lure.store.versions import VersionFiles, version_folder
from lure.training.loader import Loader
from lure.training.predict import predict
from lure.training.regularizers import reads_previous
from lure.training.schedule import build_optimizer
from lure.training.state import restore_model, restore_optimizer, training_tensors
from lure.weights.grown_layers import blocks_of
from lure.weights.growth import grow_head_
from lure.weights.layers import snapshot, suits_channels_last


class WorkingState:
    """The version in use, and what the next stage starts from.

    Attributes:
        task: what the first mega-batch fixed; None before it.
        model: the network on its device; None before the first mega-batch.
        initial: its weights from before stage 1, on the CPU; of a row that came later, those that it began with.
        grown_initial: those of them that are longer than before stage 1.
        optimizer_tensors: the optimiser's state after the last stage ("optimizer.KEY.NAME"), for a recipe that carries
            it on.
        replay: the replay regime with its memory.
        splits: the mega-batches that the memory points into, by the number of their stage.
        correct: which test examples the version in use gets right, bool (N,); None where that is not known.
        num_known: how many classes the version in use knows; None before the first.
    """

    def __init__(self, opened: Opened) -> None:
        """Start with nothing, or with the version in use where there is one."""
        self.opened = opened
        self.task: Task | None = None
        self.model: nn.Module | None = None
        self.initial: dict[str, Tensor] = {}
        self.grown_initial: dict[str, Tensor] = {}
        self.optimizer_tensors: dict[str, Tensor] = {}
        self.replay = opened.recipe.new_replay()
        self.splits: dict[int, Split] = {}
        self.correct: Tensor | None = None
        self.num_known: int | None = None
        self._test: tuple[Examples, Loader] | None = None
        if current := opened.directory.standing.current:
            self._load(opened.directory.stages[current - 1])

    def task_for(self, arrived: MegaBatch) -> Task:
        """Return the task of the stage that takes in a mega-batch: the one at hand, with the classes that are new.

        Where no class may be new, only those count that came with chunks which somebody has accepted by hand.

        Raises:
            InputError: if the classes have names, and a new one has none.
        """
        task, opened = self.task, self.opened
        if task is None:
            return opened.fix_task(arrived.split)
        stages, waiting = opened.directory.stages, opened.directory.standing.waiting
        known = [task.num_classes, *(stages[number - 1].num_classes or 0 for number in waiting)]
        if opened.new_classes == "grow":
            known.append(int(arrived.whole.labels.max()) + 1)
        if max(known) == task.num_classes:
            return task
        if task.class_names and max(known) > len(opened.class_names):
            raise InputError(f"class {max(known) - 1} is new and has no name, but the known classes have: give it one")
        names = opened.class_names[: max(known)] if task.class_names else ()
        return dataclasses.replace(task, num_classes=max(known), class_names=names)

    def grow(self, arrived: MegaBatch) -> None:
        """Give the network outputs for the classes that a mega-batch brings, and its optimiser's state their rows.

        A network that has outputs to spare stays as it is.

        Raises:
            InputError: if the network cannot grow.
        """
        model, opened, before = self.trained_model(), self.opened, self.task
        self.task = task = self.task_for(arrived)
        if before is None or task.num_classes == before.num_classes:
            return
        one = self.place(arrived.whole[:1])
        if predict(model, one, opened.recipe)[0].shape[1] >= task.num_classes:
            return
        optimizer = build_optimizer(model, opened.recipe)
        restore_optimizer(model, optimizer, self.optimizer_tensors)
        old = {name: tensor.shape for name, tensor in model.state_dict().items()}
        layers = grow_head_(
            model,
            task.num_classes,
            optimizer,
            builder_by_classes(opened.recipe, task, opened.builder),
            generator=derive_generator(opened.recipe.seed, arrived.stage, "grow"),
        )
        try:
            found = f"gives {predict(model, one, opened.recipe)[0].shape[1]} outputs"
        except (RuntimeError, ValueError, IndexError) as error:
            found = f"fails ({str(error).splitlines()[0]})"
        if found != f"gives {task.num_classes} outputs":
            raise InputError(
                f"the network {found} after layer {', '.join(layers)} grew for {task.num_classes} classes: it needs a "
                f"builder that takes num_classes"
            )
        grown = {name: blocks_of(model.get_submodule(name), task.num_classes) for name in layers}
        self.task = dataclasses.replace(task, grown={**task.grown, **grown})
        for name, value in snapshot(model).items():
            if value.shape != old[name]:  # what a new row begins with is its initial value from now on
                value[: len(self.initial[name])] = self.initial[name]
                self.grown_initial[name] = self.initial[name] = value
        self.optimizer_tensors = _of_the_optimizer(training_tensors(model, optimizer))

    def build(self) -> nn.Module:
        """Build a freshly initialised network from torch's global random state."""
        return build_network(self.opened.recipe, self.fixed_task(), self.opened.builder)

    def new_model(self) -> nn.Module:
        """Return the network of stage 1 on its device, freshly initialised."""
        with forked_rng(derive_generator(self.opened.recipe.seed, 1, "init")):
            model = self.build()
        return self._to_device(model)

    def _to_device(self, model: nn.Module) -> nn.Module:
        model.to(self.opened.device)
        if suits_channels_last(model):
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model

    def start(self, model: nn.Module) -> None:
        """Begin with a new network and store its weights, unless an interrupted first stage has stored them before."""
        directory = self.opened.directory
        if directory.has_initial:
            self.initial = directory.read_initial()
            restore_model(model, self.initial)
        else:
            self.initial = snapshot(model)
            directory.store_initial(self.initial)
        self.model = model

    def new_classes(self) -> list[str]:
        """Return the names of the classes that the network in memory knows and the version in use does not.

        Of the first version, those that were not fixed when the directory was begun.
        """
        task = self.fixed_task()
        known, agreement = self.num_known, self.opened.directory.agreement()
        if known is None:
            known = len(agreement.class_names) if agreement is not None else 0
        return task.names(range(known or task.num_classes, task.num_classes))

    def fixed_task(self) -> Task:
        """Return the task, which the first mega-batch has fixed."""
        if self.task is None:
            raise AssertionError("the first mega-batch fixes the task")
        return self.task

    def trained_model(self) -> nn.Module:
        """Return the network, which the first mega-batch has built."""
        if self.model is None:
            raise AssertionError("the first mega-batch builds the model")
        return self.model

    def previous_version(self) -> nn.Module | None:
        """Return the version in use as it was committed, if a regularizer reads it and there is one.

        Read from disk, because the network in memory has been unlearnt since, or is half trained.
        """
        opened, directory = self.opened, self.opened.directory
        current = directory.standing.current
        if not current or not any(map(reads_previous, opened.recipe.acting.values())):
            return None
        files = directory.versions.read_model(directory.stages[current - 1])
        with parsing(directory.path / version_folder(current)), forked_rng(None):
            model = build_network(opened.recipe, Task.from_dict(files.task), opened.builder)
        restore_model(model, dict(files.model))
        return self._to_device(model)

    def admit(self, arrived: MegaBatch) -> Offered:
        """Have the replay regime take in what was accepted by hand since, then the new mega-batch.

        What is only needed once the training is done is read now: an image that is damaged would cost all of it.
        """
        opened, number = self.opened, arrived.stage
        generator = derive_generator(opened.recipe.seed, number, "replay")
        waiting = opened.directory.standing.waiting
        self.splits[number] = arrived.split
        for stage in waiting:
            self.splits[stage] = self.recall(opened.directory.stages[stage - 1])
        taken_in = [*waiting, number]
        split = [self.replay.admit(self.splits[stage], generator) for stage in taken_in][-1]
        if opened.test is not None and len(opened.test) and (self._test is None or self._test[0] is not opened.test):
            self._test = opened.test, self.place(opened.test)
        test = None if self._test is None else self._test[1]
        train, validation = self.place(split.train), self.place(split.validation)
        offered = Offered(train, validation, test, taken_in, split.arrivals)
        for held_out in (offered.validation, offered.test):
            if held_out is not None:
                held_out.load()
        return offered

    def recall(self, stage: Stage) -> Split:
        """Return the mega-batch of a committed stage, cut as it was then."""
        stream, given = self.opened.stream, None
        if stream is not None and stage.stage <= len(stream):
            given = stream[stage.stage - 1]
        if isinstance(given, Split):
            return given
        whole = given if given is not None else self.opened.directory.chunks.read(stage.data_fingerprint)
        return MegaBatch.cut(whole, self.opened.recipe, stage.stage, stage.data_validation).split

    def place(self, examples: Examples) -> Loader:
        """Return examples as batches on the device."""
        channels_last = self.model is not None and suits_channels_last(self.model)
        return Loader(examples, self.opened.device, channels_last, self.opened.workers)

    def to_files(self, optimizer: torch.optim.Optimizer, correct: Tensor | None) -> VersionFiles:
        """Return what a version's folder holds, and forget the mega-batches that the replay memory needs no longer.

        Args:
            optimizer: that of the stage.
            correct: which test examples the version gets right, bool (N,); None without a test set.
        """
        tensors = training_tensors(self.trained_model(), optimizer)
        self.optimizer_tensors = _of_the_optimizer(tensors)
        initial = {f"initial.{name}": tensor for name, tensor in self.grown_initial.items()}
        memory = self.replay.state_dict()
        numbers = {id(split): number for number, split in self.splits.items()}
        stages = [numbers[id(split)] for split in memory.pop("mega_batches")]
        self.splits = {number: self.splits[number] for number in stages}
        # One tensor for each key: hundreds of short ones would take longer to write than the model.
        rows = {f"replay.{key}": torch.cat(values) for key, values in memory.items() if values}
        counts = {key: [value.shape[0] for value in values] for key, values in memory.items()}
        return VersionFiles(
            model={name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")},
            state=self.optimizer_tensors | rows | initial,
            task=self.fixed_task().as_dict(),
            replay={"stages": stages, "keys": sorted(memory), "counts": counts},
            correct=correct,
        )

    def _load(self, stage: Stage) -> None:
        """Restore everything as it was after a committed stage."""
        directory = self.opened.directory
        files, where = directory.versions.read(stage), directory.path / version_folder(stage.version)
        with parsing(where):
            self.task = Task.from_dict(files.task)
        self.num_known = self.task.num_classes
        self.grown_initial = {name[8:]: tensor for name, tensor in files.state.items() if name.startswith("initial.")}
        self.initial = directory.read_initial() | self.grown_initial
        self.model = self.new_model()
        restore_model(self.model, dict(files.model))
        self.optimizer_tensors = _of_the_optimizer(files.state)
        # Without a gate, the test examples may be others each time.
        if self.opened.gate is not None or (
            self.opened.test and stage.test_fingerprint == self.opened.test.fingerprint
        ):
            self.correct = directory.versions.read_hits(stage)
        with parsing(where):
            numbers = files.replay["stages"]
            self.splits = {number: self.recall(directory.stages[number - 1]) for number in numbers}
            memory = {key: _replay_rows(files, key) for key in files.replay["keys"]}
            self.replay.load_state_dict({"mega_batches": [self.splits[number] for number in numbers], **memory})


def _of_the_optimizer(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if name.startswith("optimizer.")}


def _replay_rows(files: VersionFiles, key: str) -> list[Tensor]:
    """Return what the replay memory keeps under one key, for each mega-batch that it points into."""
    num_mega_batches = len(files.replay["stages"])
    if not num_mega_batches:
        return []
    if "counts" not in files.replay:  # written by lure 0.1.0, a tensor for each mega-batch
        return [files.state[f"replay.{key}.{i}"] for i in range(num_mega_batches)]
    return list(torch.split(files.state[f"replay.{key}"], files.replay["counts"][key]))
