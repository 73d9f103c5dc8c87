"""The learner: a model on disk that takes in one mega-batch after another.

Each `learn` is one stage of the paper's algorithm: replay decides what to train on, the unlearner prepares the weights,
`fit` trains, the test set is read once, and the stage is committed. A stage that was interrupted goes on from its last
checkpoint; a process for each mega-batch gives the same weights, bit for bit, as one process for all.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from lure.data.examples import Examples, Split, split_examples
from lure.errors import InputError, require_within
from lure.learner.arrival import Arrival, examine
from lure.learner.gate import Decision, Gate, Rival, decide
from lure.learner.measure import environment
from lure.learner.opening import agree, name_builder
from lure.learner.task import Task, build_network, channel_statistics
from lure.metrics import error_count, expected_calibration_error, negative_log_likelihood, per_class
from lure.randomness import derive_generator, forked_rng
from lure.recipe import Recipe, to_toml
from lure.store.durable import StorageError, parsing
from lure.store.ledger import Standing
from lure.store.run_directory import PRODUCTION, RunDirectory, as_stored, version_folder
from lure.store.stage import Stage, as_stage
from lure.training.fit import OnEpoch, Watch, fit
from lure.training.loader import Loader, Sample
from lure.training.predict import arithmetic, count_flops, predict
from lure.training.schedule import build_optimizer
from lure.training.state import FitState, restore_model, restore_optimizer, restore_training, training_tensors
from lure.unlearn import apply_
from lure.unlearners import Context
from lure.weights.layers import snapshot, suits_channels_last

CHECKPOINT_SHARE = 0.05  # at most this share of the time goes into checkpoints


def choose_device(name: str) -> torch.device:
    """Return the device that "auto", "cpu" or "cuda" means here.

    Raises:
        InputError: if there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = None
    with suppress(RuntimeError):  # for what is no device
        device = torch.device(name)
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"device must be auto, cpu or cuda, got {name!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError("there is no CUDA device here: use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"there is no device {name!r} here: the last one is cuda:{torch.cuda.device_count() - 1}")
    return device


class Learner:
    """A model that stays current: open it, give it mega-batches, ask it for predictions.

    Use it as a context, or call `close`; one process at a time may hold a directory.

    Example:
        >>> import tempfile
        >>> images, labels = torch.rand(80, 6), torch.arange(80) % 2
        >>> chunks = [Examples(images[i : i + 40], labels[i : i + 40]) for i in (0, 40)]
        >>> recipe = Recipe(model="mlp:width=8", epochs=2, lr=0.01, threads=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for chunk in chunks:  # each stage could be another process
        ...         with Learner.open(folder + "/run", recipe=recipe, test=chunks[0]) as learner:
        ...             stage = learner.learn(chunk)
        ...     print(stage.stage, stage.train_examples, stage.test_examples)
        2 72 40

    Reference:
        Ramkumar, Arani, Zonooz, "Learn, Unlearn and Relearn: An Online Learning Paradigm for Deep Neural Networks",
        TMLR 2023, algorithm 1.
    """

    def __init__(
        self,
        directory: RunDirectory,
        recipe: Recipe,
        builder: Callable[[], nn.Module] | None,
        test: Examples | None,
        gate: Gate | None,
        independent: Examples | None,
        class_names: Sequence[str],
        columns: Sequence[str],
        normalization: tuple[Sequence[float], Sequence[float]] | None,
        past: Sequence[Examples | Split] | None,
        device: torch.device,
        workers: int,
    ) -> None:
        self.directory, self.recipe, self.device = directory, recipe, device
        self.test, self.gate, self.independent = test, gate, independent
        self._builder, self._class_names, self._normalization = builder, tuple(class_names), normalization
        self._columns = tuple(columns)
        self._past, self._workers = past, workers
        self._flops_per_example: int | None = None
        self._test_loader: Loader | None = None
        self._initial: dict[str, Tensor] = {}
        self._take_up()

    def _take_up(self) -> None:
        """Put the memory of this process where the ledger stands: the version in use, and what it is replayed."""
        self.stages: list[Stage] = [as_stage(line, self.directory) for line in self.directory.stages()]
        self.standing: Standing = self.directory.standing()
        self._replay = self.recipe.new_replay()
        self._splits: dict[int, Split] = {}
        self._optimizer_tensors: dict[str, Tensor] = {}
        self.task: Task | None = None
        self.model: nn.Module | None = None
        if self._past is not None:
            self._require_same_data(self._past)
        self._ahead = False  # whether memory holds what is not committed
        self._unsaved: tuple[dict[str, Tensor], dict[str, Any]] | None = None  # the last epoch's, if not on disk yet
        if self.standing.current:
            self._load(self.stages[self.standing.current - 1])

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        recipe: Recipe | None = None,
        model: Callable[[], nn.Module] | str | None = None,
        test: Examples | None = None,
        gate: Gate | None = None,
        independent: Examples | None = None,
        class_names: Sequence[str] = (),
        columns: Sequence[str] = (),
        normalization: tuple[Sequence[float], Sequence[float]] | None = None,
        past: Sequence[Examples | Split] | None = None,
        device: str = "auto",
        workers: int = 0,
    ) -> Self:
        """Open a run directory, new or old. Nothing is written before the first `learn` (or `begin`).

        A directory that was begun with a gate holds its holdout, gate, independent set, class names, columns and
        normalization: they need not be given again.

        Args:
            path: the directory.
            recipe: how to train; may be left out for a directory that exists. It must equal the recipe stored there
                (`threads=0` takes the stored number).
            model: builds the user's own network, freshly initialised from torch's global random state; or the name
                `package.module:function` of a builder. Without it the recipe's `model` names the network; a stored
                recipe that names code is run only if the same name is given here.
            test: examples that every stage is measured on. They choose nothing, unless there is a gate.
            gate: decides by the test examples, then called the holdout, whether a version takes the place of the one in
                use. None accepts every version.
            independent: with a gate, examples that are measured on, too, and decide nothing.
            class_names: the classes in the order of their labels; fixes their number.
            columns: names of the features in their order, where the data are a table; goes on record.
            normalization: (mean, std) per channel or feature; taken from the first mega-batch's training examples when
                not given.
            past: the stream, whose first mega-batches the run has seen, where data need not be stored in the directory
                because the caller can give them again. Without it each mega-batch is stored under `chunks/`.
            device: "auto", "cpu" or "cuda".
            workers: processes that read data too large for memory.

        Raises:
            InputError: if another process holds the directory, its recipe differs, or a file in it is damaged.
        """
        chosen = choose_device(device)
        require_within("workers", workers, 0)
        directory = RunDirectory(path)
        directory.__enter__()
        try:
            if recipe is not None and model is not None:
                recipe = dataclasses.replace(recipe, model=model if isinstance(model, str) else name_builder(model))
            if directory.exists:
                recipe = agree(directory, recipe, model)
            else:
                directory.require_vacant()
                recipe = recipe or Recipe(
                    model=model if isinstance(model, str) else name_builder(model) or Recipe.model
                )
                recipe = dataclasses.replace(recipe, threads=recipe.threads or torch.get_num_threads())
            if directory.exists and (record := directory.production()) is not None:
                if past is not None:
                    raise InputError(f"{directory.path} is kept current by lure update: choose another directory")
                test, independent = (
                    _same_set(directory, record[role], given, role)
                    for role, given in (("holdout", test), ("independent", independent))
                )
                with parsing(directory.path / PRODUCTION):
                    stored_gate = Gate(**record["gate"])
                if gate not in (None, stored_gate):
                    raise InputError(f"{directory.path} was begun with another gate: {stored_gate}")
                gate, class_names, normalization = stored_gate, record["class_names"], record["normalization"]
                columns = record["columns"]
            elif directory.exists and gate is not None:
                raise InputError(f"{directory.path} was begun without a gate: choose another directory")
            builder = None if isinstance(model, str) else model
            return cls(
                directory,
                recipe,
                builder,
                test,
                gate,
                independent,
                class_names,
                columns,
                normalization,
                past,
                chosen,
                workers,
            )
        except BaseException as error:
            directory.__exit__(type(error), error, error.__traceback__)
            raise

    @classmethod
    def check(cls, path: Path | str, recipe: Recipe) -> None:
        """Raise if a directory holds a run of another recipe; nothing is locked or changed.

        Raises:
            InputError: naming the fields that differ.
        """
        directory = RunDirectory(path)
        if directory.exists:
            agree(directory, recipe, recipe.model)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.directory.__exit__(kind, error, trace)

    def close(self) -> None:
        """Let go of the directory."""
        self.directory.__exit__(None, None, None)

    # The algorithm

    def learn(
        self,
        mega_batch: Examples | Split,
        watch: Watch | None = None,
        on_epoch: OnEpoch | None = None,
        on_arrival: Callable[[Arrival], None] | None = None,
    ) -> Stage:
        """Take in one mega-batch: split, replay, unlearn, fit, evaluate, decide, commit.

        Args:
            mega_batch: new examples; cut into training and validation examples here, unless it comes cut.
            watch: called now and then while training, for progress bars.
            on_epoch: called with what each epoch came to, for experiment trackers.
            on_arrival: called before any training with what the mega-batch looks like, where there is a gate.

        Returns:
            The committed stage, as it stands in the ledger.

        Raises:
            InputError: for examples that do not fit the task, or a loss that becomes NaN. What is committed stays, and
                nothing else on disk has changed.
        """
        if self._ahead:
            self._take_up()
        number = len(self.stages) + 1
        with arithmetic(self.recipe), self._undone_on_error():
            split = self._arrive(mega_batch, number)
            model = self.model if self.model is not None else self._begin()
            whole, split = self._keep(mega_batch, split, number)
            arrival = self._examine(whole)
            if arrival and on_arrival:
                on_arrival(arrival)
            offered, taken_in = self._admit(split, number)
            train, validation = self._place(offered.train), self._place(offered.validation)
            self._load_held_out(validation)
            optimizer = build_optimizer(model, self.recipe)
            state, facts = self._resume(number, model, optimizer, whole)
            if state is None:
                facts = self._unlearn(number, model, optimizer, split, train)
            state = fit(
                model,
                train,
                validation,
                self.recipe,
                stage=number,
                optimizer=optimizer,
                state=state,
                checkpoint=self._checkpoints(number, model, optimizer, facts, whole),
                watch=watch,
                on_epoch=on_epoch,
                initial=self._initial,
            )
            # A new dict: the last checkpoint, which may have to be written yet, holds the old one.
            facts = facts | {"whole": whole, "cut": mega_batch if isinstance(mega_batch, Split) else None}
            facts |= {"arrival": arrival, "taken_in": taken_in}
            stage, correct = self._measure(number, model, train, validation, state, facts)
            return self._commit(stage, model, optimizer, correct)

    def predict(self, inputs: Tensor | Examples) -> Tensor:
        """Return the logits (N, classes) of the current model, float32 on the CPU.

        Args:
            inputs: (N, ...), of the shape and type that the model was trained on.

        Raises:
            InputError: if there is no model yet, or the inputs do not fit.
        """
        if self._ahead:
            self._take_up()
        if self.model is None or self.task is None:
            raise InputError(f"{self.directory.path} has no model yet: give it a mega-batch first")
        if isinstance(inputs, Tensor):
            inputs = Examples(inputs, torch.zeros(len(inputs), dtype=torch.int64))
        self.task.check(inputs)
        with arithmetic(self.recipe):
            return predict(self.model, self._place(inputs), self.recipe)[0]

    # Its steps

    @contextmanager
    def _undone_on_error(self) -> Iterator[None]:
        """Whatever goes wrong before the commit: memory is taken up from disk again, and the disk is as it was."""
        self._ahead = True
        try:
            yield
        except KeyboardInterrupt:
            if self._unsaved is not None:
                self.directory.save_progress(*self._unsaved)
            raise
        except StorageError:  # what was saved so far is what a second try goes on from
            raise
        except InputError:
            self.directory.discard()
            raise

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in order of their labels; () where they have no names."""
        return self._class_names

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the features in their order; () where they have none."""
        return self._columns

    def rehearse(self) -> None:
        """Build the network once, run it on two test examples, and unlearn: what cannot work fails here.

        Raises:
            InputError: if the network does not fit such inputs, the unlearner does not fit the network, or the recipe's
                augmentation does not fit the inputs.
        """
        if self.test is None:
            raise AssertionError("there is nothing to rehearse with")
        two = self.test[:2]
        task = self._fix_task(Split(train=two, validation=two[:0]))
        task.check_augmentation(self.recipe.augment)
        with arithmetic(self.recipe), forked_rng(None):
            model = build_network(self.recipe, task, self._builder)
            loader = Loader(two, "cpu")
            try:
                logits, _ = predict(model, loader, self.recipe)
            except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
                raise InputError(
                    f"the network {self.recipe.model} does not take {task.input_dtype} inputs of shape "
                    f"{task.input_shape}: {error}"
                ) from error
        if logits.dim() != 2 or logits.shape[1] < task.num_classes:
            raise InputError(
                f"the network {self.recipe.model} must return logits (batch, {task.num_classes}), one for each class, "
                f"got shape (batch, {', '.join(map(str, logits.shape[1:]))})"
            )
        # Or a layer that the unlearner does not find would be missed only when the first stage has been trained.
        batches = list(loader.batches(None, len(two)))
        context = Context(
            batches=batches,
            initial=snapshot(model),
            draw=lambda: build_network(self.recipe, task, self._builder),
            all_batches=batches,
        )
        with arithmetic(self.recipe):
            apply_(self.recipe.method, model, context)

    def begin(self) -> None:
        """Begin the directory now, and not only with the first mega-batch."""
        prepare = None
        if self.gate is not None:
            prepare = self._store_sets
        self.directory.create(to_toml(self.recipe), prepare)

    def _store_sets(self) -> Mapping[str, Any]:
        """Store the holdout and the independent set; return what else the beginning fixes."""
        if self.test is None or self.gate is None:
            raise InputError("a gate needs a holdout: give test examples")
        for examples in (self.test, self.independent):
            if examples is not None and not len(examples):
                raise InputError("the holdout and the independent set must not be empty")
        self.test = self.directory.store_chunk(self.test)
        self.independent = self.independent and self.directory.store_chunk(self.independent)
        return {
            "holdout": self.test.fingerprint,
            "independent": self.independent.fingerprint if self.independent else None,
            "class_names": list(self._class_names),
            "columns": list(self._columns),
            "normalization": self._normalization,
            "gate": dataclasses.asdict(self.gate),
            "recipe": dataclasses.asdict(self.recipe),
        }

    def _keep(self, mega_batch: Examples | Split, split: Split, number: int) -> tuple[Examples, Split]:
        """Store a mega-batch whose data the caller will not give again; return it whole, and cut."""
        whole = self._whole(mega_batch)
        if self._past is None:
            whole = self.directory.store_chunk(whole)
            num_validation = len(mega_batch.validation) if isinstance(mega_batch, Split) else None
            split = self._cut(whole, number, num_validation)
        return whole, split

    def _cut(self, whole: Examples, number: int, num_validation: int | None) -> Split:
        """Cut the mega-batch of a stage as it is always cut: where it came cut, or by the stage's generator."""
        if num_validation is not None:
            num_train = len(whole) - num_validation
            return Split(train=whole[:num_train], validation=whole[num_train:])
        generator = derive_generator(self.recipe.seed, number, "split")
        return split_examples(whole, self.recipe.validation_fraction, generator)

    def _examine(self, whole: Examples) -> Arrival | None:
        """Look a new mega-batch over before training on it, where there is a gate."""
        if self.gate is None or self.test is None or self.task is None:
            return None
        earlier = {stage.data_fingerprint for stage in self.stages}
        current = self.stages[self.standing.current - 1] if self.standing.current else None
        correct = hits = None
        if current and self.model is not None:
            logits, labels = predict(self.model, self._place(whole), self.recipe)
            correct, hits = logits.argmax(1) == labels, self._rival(current.version).correct
        names = self.task.class_names or [str(label) for label in range(self.task.num_classes)]
        return examine(whole, self.test, map(self.directory.open_chunk, sorted(earlier)), names, correct, hits)

    def _admit(self, split: Split, number: int) -> tuple[Split, list[int]]:
        """Let the replay regime take in what was accepted by hand since, then the new mega-batch."""
        generator = derive_generator(self.recipe.seed, number, "replay")
        taken_in = [*self.standing.waiting, number]
        self._splits[number] = split
        for stage in self.standing.waiting:
            self._splits[stage] = self._recall(self.stages[stage - 1])
        offered = [self._replay.admit(self._splits[stage], generator) for stage in taken_in]
        return offered[-1], taken_in

    def _arrive(self, mega_batch: Examples | Split, number: int) -> Split:
        """Check a mega-batch, and cut it if it is whole; the first one fixes the task."""
        recipe = self.recipe
        if isinstance(mega_batch, Split):
            split = mega_batch
        else:
            if not len(mega_batch):
                raise InputError(f"mega-batch {number} is empty")
            generator = derive_generator(recipe.seed, number, "split")
            split = split_examples(mega_batch, recipe.validation_fraction, generator)
        if not len(split.train):
            raise InputError(f"mega-batch {number} has no training examples")
        if self.task is None:
            self.task = self._fix_task(split)
        for examples in (split.train, split.validation, self.test):
            if examples is not None:
                self.task.check(examples)
        self.task.check_augmentation(recipe.augment)
        return split

    def _fix_task(self, split: Split) -> Task:
        train = split.train
        labels = [train.labels, split.validation.labels] + ([self.test.labels] if self.test is not None else [])
        # A class may be missing from the first mega-batch of a stream that is known to its end.
        labels += [self._whole(mega_batch).labels for mega_batch in self._past or ()]
        largest = max(int(values.max()) for values in labels if len(values))
        if self._normalization is not None:
            mean, std = self._normalization
        else:
            mean, std = channel_statistics(train)
        return Task(
            num_classes=len(self._class_names) or largest + 1,
            input_shape=train.input_shape,
            input_dtype=str(train.input_dtype).removeprefix("torch."),
            class_names=self._class_names,
            mean=tuple(mean),
            std=tuple(std),
            columns=self._columns,
        )

    def _build(self) -> nn.Module:
        if self.task is None:
            raise AssertionError("the task is fixed before a network is built")
        return build_network(self.recipe, self.task, self._builder)

    def _new_model(self, number: int) -> nn.Module:
        with forked_rng(derive_generator(self.recipe.seed, number, "init")):
            model = self._build()
        model.to(self.device)
        if suits_channels_last(model):
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model

    def _begin(self) -> nn.Module:
        """Build the first model and begin the run on disk, unless it was begun already and stopped."""
        model = self._new_model(1)
        if not self.directory.exists:
            self.begin()
        if self.directory.has_initial:
            self._initial = self.directory.read_initial()
            restore_model(model, self._initial)
        else:
            self._initial = snapshot(model)
            self.directory.store_initial(self._initial)
        self.model = model
        return model

    def _place(self, examples: Examples) -> Loader:
        channels_last = self.model is not None and suits_channels_last(self.model)
        return Loader(examples, self.device, channels_last, self._workers)

    def _load_held_out(self, validation: Loader) -> None:
        """Read now what is only needed once the training is done, or an image that is damaged would cost all of it."""
        if self._test_loader is None and self.test is not None and len(self.test):
            self._test_loader = self._place(self.test)
        for held_out in (validation, self._test_loader):
            if held_out is not None:
                held_out.load()

    def _unlearn(
        self, number: int, model: nn.Module, optimizer: torch.optim.Optimizer, split: Split, train: Loader
    ) -> dict[str, Any]:
        """Prepare the weights for stage 2 and later; return what that came to."""
        began = {"torch": torch.__version__}
        if self.standing.current == 0:
            return began | {
                "changed_fraction": 0.0,
                "relative_distance": 0.0,
                "forgotten": {},
                "unlearn_seconds": 0.0,
                "examples_drawn": 0,
            }
        recipe = self.recipe
        if recipe.carry_optimizer:
            restore_optimizer(model, optimizer, self._optimizer_tensors)
        augmentation = recipe.augment if recipe.sample_augmented else "none"
        everything = Sample(train, recipe.batch_size, augmentation, recipe.seed, number)
        sample = everything
        if recipe.sample == "new":
            sample = Sample(self._place(split.train), recipe.batch_size, augmentation, recipe.seed, number)
        context = Context(
            batches=sample,
            initial=self._initial,
            draw=self._build,
            generator=derive_generator(recipe.seed, number, "unlearn"),
            all_batches=everything,
        )
        cleared = optimizer if recipe.carry_optimizer and not recipe.carry_as_released else None
        report = apply_(self.recipe.method, model, context, cleared)
        return began | {
            "changed_fraction": report.changed_fraction,
            "relative_distance": report.relative_distance,
            "forgotten": {tensor.name: tensor.changed_fraction for tensor in report.tensors},
            "unlearn_seconds": report.seconds,
            "examples_drawn": everything.examples_drawn + (sample.examples_drawn if sample is not everything else 0),
        }

    def _checkpoints(
        self, number: int, model: nn.Module, optimizer: torch.optim.Optimizer, facts: dict[str, Any], whole: Examples
    ) -> Callable[[FitState], None]:
        """Return what `fit` calls after each epoch: it keeps a checkpoint, and writes it when it is worth the time."""
        cost, last = 0.0, time.perf_counter()

        def checkpoint(state: FitState) -> None:
            nonlocal cost, last
            began = time.perf_counter()
            tensors = training_tensors(model, optimizer)
            for aside in ("kept", "average"):
                tensors |= {f"{aside}.{name}": value for name, value in getattr(state, aside).items()}
            fitted = dataclasses.asdict(dataclasses.replace(state, kept={}, average={}))
            self._unsaved = tensors, {**self._belonging(number, whole), **fitted, "unlearned": facts}
            if state.epoch == self.recipe.epochs or began - last < cost / CHECKPOINT_SHARE:
                return
            self.directory.save_progress(*self._unsaved)
            self._unsaved = None
            last = time.perf_counter()
            cost = last - began

        return checkpoint

    def _belonging(self, number: int, whole: Examples) -> dict[str, Any]:
        """Return what a checkpoint must agree in: it is of no use on other data, or from another version."""
        return {
            "stage": number,
            "parent": self.standing.current,
            "waiting": list(self.standing.waiting),
            "data_fingerprint": whole.fingerprint,
        }

    def _resume(
        self, number: int, model: nn.Module, optimizer: torch.optim.Optimizer, whole: Examples
    ) -> tuple[FitState | None, dict[str, Any]]:
        """Take up the running stage where its last checkpoint left it; (None, {}) if there is none."""
        stored = self.directory.read_progress()
        belonging = self._belonging(number, whole)
        if stored is None or {name: stored[1].get(name) for name in belonging} != belonging:
            self.directory.clear_progress()
            return None, {}
        tensors, facts = stored
        aside: dict[str, dict[str, Tensor]] = {"kept": {}, "average": {}}
        for name in [name for name in tensors if name.split(".")[0] in aside]:
            group, _, rest = name.partition(".")
            aside[group][rest] = tensors.pop(name)
        with parsing(self.directory.path / "progress"):
            restore_training(model, optimizer, tensors)
            fitted = {field.name: facts[field.name] for field in dataclasses.fields(FitState)}
            return FitState(**fitted | aside), facts["unlearned"]

    def _measure(
        self,
        number: int,
        model: nn.Module,
        train: Loader,
        validation: Loader,
        state: FitState,
        facts: dict[str, Any],
    ) -> tuple[Stage, Tensor | None]:
        """Read the logits of all sets once; return the stage's record, and which holdout examples are right."""
        recipe = self.recipe
        logits, labels = predict(model, train, recipe)
        if bool((logits.isnan() | logits.isposinf()).any()):  # what the last step did shows in no loss
            raise InputError(
                f"the outputs became NaN or infinite by the end of stage {number}, epoch {state.epoch}, "
                f"step {state.steps} of the stage: lower the learning rate (lr = {recipe.lr:g}) or look for bad values "
                f"in the data"
            )
        train_accuracy = (len(labels) - error_count(logits, labels)) / len(labels)
        validation_accuracy = _accuracy(model, validation, recipe) if len(validation) else None
        errors = ece = nll = decision = correct = None
        if self._test_loader is not None:
            logits, labels = predict(model, self._test_loader, recipe)
            errors = error_count(logits, labels)
            ece, nll = expected_calibration_error(logits, labels), negative_log_likelihood(logits, labels)
            if self.gate is not None:
                correct = logits.argmax(1) == labels
                decision = self._decide(self.gate, logits, labels, correct, ece)
        num_test = len(self.test) if self.test is not None else 0
        accuracy = None if errors is None else (num_test - errors) / num_test
        held_out = accuracy if validation_accuracy is None else validation_accuracy
        if self._flops_per_example is None:
            self._flops_per_example = count_flops(model, train)
        accepted = decision is None or decision.accepted
        in_use = errors if accepted else self.stages[self.standing.current - 1].error_count
        before = (self.stages[-1].cumulative_errors if self.stages else 0) or 0
        arrival: Arrival | None = facts["arrival"]
        whole: Examples = facts["whole"]
        stage = Stage(
            stage=number,
            version=number,
            parent=self.standing.current,
            unlearner=recipe.unlearner,
            seed=recipe.seed,
            train_examples=len(train),
            validation_examples=len(validation),
            test_examples=num_test,
            error_count=errors,
            accuracy=accuracy,
            error_rate=None if errors is None else errors / num_test,
            cumulative_errors=None if in_use is None else before + in_use,
            train_accuracy=train_accuracy,
            validation_accuracy=validation_accuracy,
            generalization_gap=None if held_out is None else train_accuracy - held_out,
            expected_calibration_error=ece,
            negative_log_likelihood=nll,
            changed_fraction=facts["changed_fraction"],
            relative_distance=facts["relative_distance"],
            forgotten=facts["forgotten"],
            unlearn_seconds=facts["unlearn_seconds"],
            train_seconds=state.seconds,
            examples_seen=state.examples,
            train_flops=state.examples * self._flops_per_example,
            unlearn_flops=facts["examples_drawn"] * self._flops_per_example,
            epochs_run=state.epoch,
            kept_epoch=state.kept_epoch,
            data_fingerprint=whole.fingerprint,
            data_examples=len(whole),
            data_validation=None if facts["cut"] is None else len(facts["cut"].validation),
            data_stored=self._past is None,
            test_fingerprint=None if self.test is None else self.test.fingerprint,
            taken_in=facts["taken_in"],
            stopped_by=state.stopped_by,
            exact=self._is_exact(facts["torch"]),
            accepted=accepted,
            arrival=None if arrival is None else arrival.as_dict(),
            decision=None if decision is None else decision.as_dict(),
            independent=self._measure_independent(model),
            committed_at=datetime.now(UTC).isoformat(timespec="seconds"),
            environment=environment(self.device),
            files={},
        )
        return stage, correct

    def _decide(self, gate: Gate, logits: Tensor, labels: Tensor, correct: Tensor, ece: float) -> Decision:
        """Let the gate compare the new version with the one in use, and with the best of its line."""
        current = best = None
        if line := self.standing.lineage:
            current = self._rival(line[0])
            best = self._rival(max(line, key=lambda version: -(self.stages[version - 1].error_count or 0)))
        shares = [row["accuracy"] for row in per_class(logits, labels)]
        return decide(gate, correct, current, best, shares, ece)

    def _rival(self, version: int) -> Rival:
        stage = dataclasses.asdict(self.stages[version - 1])
        return Rival(version=version, correct=self.directory.read_hits(stage))

    def _measure_independent(self, model: nn.Module) -> dict[str, Any] | None:
        """Measure the set that decides nothing."""
        if self.independent is None:
            return None
        logits, labels = predict(model, self._place(self.independent), self.recipe)
        errors = error_count(logits, labels)
        return {
            "examples": len(labels),
            "error_count": errors,
            "accuracy": 1 - errors / len(labels),
            "expected_calibration_error": expected_calibration_error(logits, labels),
            "negative_log_likelihood": negative_log_likelihood(logits, labels),
        }

    def _is_exact(self, torch_before: str) -> bool:
        """Tell whether the same commands give the same bits: on the CPU, with no limit of time, under one torch."""
        versions = {stage.environment["torch"] for stage in self.stages} | {torch_before, torch.__version__}
        return self.device.type == "cpu" and self.recipe.max_seconds is None and len(versions) == 1

    @staticmethod
    def _whole(mega_batch: Examples | Split) -> Examples:
        if isinstance(mega_batch, Examples):
            return mega_batch
        return Examples.concatenate([mega_batch.train, mega_batch.validation])

    def _commit(
        self, stage: Stage, model: nn.Module, optimizer: torch.optim.Optimizer, correct: Tensor | None
    ) -> Stage:
        """Write the version, then the ledger line that makes it count."""
        tensors = training_tensors(model, optimizer)
        weights = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
        self._optimizer_tensors = {name: t for name, t in tensors.items() if name.startswith("optimizer.")}
        replay_tensors, replay_facts = self._store_replay()
        facts = {"task": dataclasses.asdict(self.task) if self.task else {}, "replay": replay_facts}
        line = self.directory.commit(
            dataclasses.asdict(stage), weights, self._optimizer_tensors | replay_tensors, facts, correct
        )
        committed = Stage(**line)
        self._unsaved = None
        self.stages.append(committed)
        self.standing = self.directory.standing()
        # A refused version leaves memory at weights that are not in use.
        self._ahead = not stage.accepted
        return committed

    # The way back from disk

    def _store_replay(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the replay state as tensors, and the numbers of the stages whose mega-batches it points into."""
        state = self._replay.state_dict()
        numbers = {id(split): number for number, split in self._splits.items()}
        stages = [numbers[id(split)] for split in state.pop("mega_batches")]
        self._splits = {number: self._splits[number] for number in stages}
        tensors = {f"replay.{key}.{i}": rows for key, values in state.items() for i, rows in enumerate(values)}
        return tensors, {"stages": stages, "keys": sorted(state)}

    def _load(self, stage: Stage) -> None:
        """Restore model, optimiser tensors and replay memory as they were after a committed stage."""
        weights, facts = self.directory.read_model(dataclasses.asdict(stage))
        state = self.directory.read_state(dataclasses.asdict(stage))
        where = self.directory.path / version_folder(stage.version)
        with parsing(where):
            self.task = Task.from_dict(facts["task"])
        self._initial = self.directory.read_initial()
        self.model = self._new_model(1)
        restore_model(self.model, weights)
        self._optimizer_tensors = {name: t for name, t in state.items() if name.startswith("optimizer.")}
        with parsing(where):
            numbers = facts["replay"]["stages"]
            self._splits = {number: self._recall(self.stages[number - 1]) for number in numbers}
            memory: dict[str, Any] = {"mega_batches": [self._splits[number] for number in numbers]}
            for key in facts["replay"]["keys"]:
                memory[key] = [state[f"replay.{key}.{i}"] for i in range(len(numbers))]
            self._replay.load_state_dict(memory)

    def _require_same_data(self, past: Sequence[Examples | Split]) -> None:
        """Raise unless the data that are given again are those of the committed stages, replayed or not."""
        for stage in self.stages:
            given = self._whole(past[stage.stage - 1]).fingerprint if stage.stage <= len(past) else None
            if given != stage.data_fingerprint:
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

    def _recall(self, stage: Stage) -> Split:
        """Return the mega-batch of a committed stage, cut as it was then."""
        number = stage.stage
        mega_batch = self._past[number - 1] if self._past is not None else None
        if isinstance(mega_batch, Split):
            return mega_batch
        whole = mega_batch if mega_batch is not None else self.directory.read_chunk(stage.data_fingerprint)
        return self._cut(whole, number, stage.data_validation)


def _same_set(directory: RunDirectory, fingerprint: str | None, given: Examples | None, role: str) -> Examples | None:
    """Return a stored holdout or independent set, after comparing it with the one that was given, if any."""
    if given is not None and as_stored(given).fingerprint != fingerprint:
        raise InputError(f"{directory.path} was begun with another {role} set: leave it out, it is stored there")
    return directory.read_chunk(fingerprint) if fingerprint is not None else None


def _accuracy(model: nn.Module, loader: Loader, recipe: Recipe) -> float:
    logits, labels = predict(model, loader, recipe)
    return (len(labels) - error_count(logits, labels)) / len(labels)
