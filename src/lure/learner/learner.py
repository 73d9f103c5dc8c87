"""The learner: a model on disk that takes in one mega-batch after another.

Each `learn` is one stage of the paper's algorithm: replay decides what to train on, the unlearner prepares the weights,
`fit` trains, the test set is read once, and the stage is committed. A stage that was interrupted goes on from its last
checkpoint; a process for each mega-batch gives the same weights, bit for bit, as one process for all.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import torch
from torch import Tensor, nn

from lure.data.examples import Examples, Split
from lure.data.sources.columns import TableForm
from lure.errors import InputError, require_within
from lure.learner.arrival import Arrival
from lure.learner.checkpoints import Attempt, Checkpoints
from lure.learner.divergence import blaming_data
from lure.learner.gate import Gate
from lure.learner.inspection import Inspection
from lure.learner.measure import decide_version, measure
from lure.learner.mega_batch import MegaBatch
from lure.learner.opening import Normalization, Opened, choose_device, settle_recipe
from lure.learner.record import Offered, Round, Running, record_stage
from lure.learner.rehearsal import rehearse
from lure.learner.state import WorkingState
from lure.learner.task import Task
from lure.learner.unlearning import unlearn
from lure.recipe import Recipe, to_toml
from lure.store.durable import StorageError
from lure.store.run_directory import RunDirectory
from lure.store.stage import Stage
from lure.training.fit import OnEpoch, Watch, fit
from lure.training.predict import arithmetic, count_flops, predict
from lure.training.state import FitState


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

    def __init__(self, opened: Opened, checkpoint_share: float = 0.05) -> None:
        self.opened, self.directory, self.recipe = opened, opened.directory, opened.recipe
        self._checkpoint_share = checkpoint_share
        self._checkpoints: Checkpoints | None = None  # of the running stage
        self._inspection: Inspection | None = None  # what earlier chunks hold, where there is a gate
        self._flops_per_example: int | None = None
        self._restore()

    def _restore(self) -> None:
        """Bring the memory of this process to where the ledger stands."""
        self.opened.require_same_data()
        self.state = WorkingState(self.opened)
        self._stale = False  # whether memory holds what is not committed

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        recipe: Recipe | None = None,
        model: Callable[[], nn.Module] | str | None = None,
        unlearner: str | None = None,
        regularizers: Sequence[str] | None = None,
        test: Examples | None = None,
        gate: Gate | None = None,
        independent: Examples | None = None,
        class_names: Sequence[str] = (),
        columns: Sequence[str] = (),
        column_kinds: Sequence[str] = (),
        form: TableForm | None = None,
        normalization: Normalization | None = None,
        stream: Sequence[Examples | Split] | None = None,
        device: str = "auto",
        workers: int = 0,
        new_classes: Literal["refuse", "grow"] | None = None,
        checkpoint_share: float = 0.05,
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
            unlearner: its name, as in the recipe. A stored recipe that names an unlearner of the user's own
                (`package.module:Class`) is trained by only if it is given here, or in `recipe`.
            regularizers: their names, all of them, as in the recipe; likewise.
            test: examples that every stage is measured on. They choose nothing, unless there is a gate.
            gate: decides by the test examples, then called the holdout, whether a version takes the place of the one in
                use. None accepts every version.
            independent: with a gate, examples that are measured on, too, and decide nothing.
            class_names: the classes in the order of their labels; fixes their number.
            columns: names of the features in their order, where the data are a table; go on record.
            column_kinds: what each of them holds, such as "numbers"; go on record.
            form: what becomes of the columns of a table (`lure.data.sources.files.read_form`); stands in for both.
            normalization: (mean, std) per channel or feature. When not given, taken from the holdout where there is a
                gate, else from the first mega-batch's training examples.
            stream: all mega-batches, those that the run has seen first, where data need not be stored in the directory
                because the caller can give them again. Without it each mega-batch is stored under `chunks/`.
            device: "auto", "cpu" or "cuda".
            workers: processes that read data too large for memory.
            new_classes: what a class does that the version in use does not know; None takes what the recipe says.
            checkpoint_share: at most this share of the training time goes into checkpoints of the running stage;
                infinity writes one after every epoch.

        Raises:
            InputError: if another process holds the directory, its recipe differs, or a file in it is damaged.
        """
        chosen = choose_device(device)
        require_within("workers", workers, 0)
        require_within("checkpoint_share", checkpoint_share, 0)
        directory = RunDirectory(path)
        directory.__enter__()
        try:
            opened = Opened(
                directory=directory,
                recipe=settle_recipe(directory, recipe, model, unlearner, regularizers),
                builder=None if isinstance(model, str) else model,
                test=test,
                gate=gate,
                independent=independent,
                class_names=tuple(class_names),
                form=form or TableForm.of_names(columns, column_kinds),
                normalization=normalization,
                stream=stream,
                device=chosen,
                workers=workers,
            )
            opened = dataclasses.replace(opened, new_classes=new_classes or opened.recipe.new_classes)
            return cls(opened.agreed(), checkpoint_share)
        except BaseException as error:
            directory.__exit__(type(error), error, error.__traceback__)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.directory.__exit__(kind, error, trace)

    def close(self) -> None:
        """Let go of the directory."""
        self.directory.__exit__(None, None, None)

    @property
    def stages(self) -> Sequence[Stage]:
        """The committed stages, oldest first."""
        return self.directory.stages

    @property
    def task(self) -> Task | None:
        """What the first mega-batch fixed; None before it."""
        return self.state.task

    @property
    def num_known(self) -> int | None:
        """How many classes the version in use knows; None before the first."""
        return self.state.num_known

    @property
    def model(self) -> nn.Module | None:
        """The network; None before the first mega-batch."""
        return self.state.model

    def learn(
        self,
        mega_batch: Examples | Split,
        watch: Watch | None = None,
        on_epoch: OnEpoch | None = None,
        on_arrival: Callable[[Arrival], None] | None = None,
        name: str | None = None,
        class_names: Sequence[str] = (),
        holdout_add: Examples | None = None,
        again: bool = False,
    ) -> Stage:
        """Take in one mega-batch: split, grow, replay, unlearn, fit, evaluate, decide, commit.

        Args:
            mega_batch: new examples; cut into training and validation examples here, unless it comes cut.
            watch: called now and then while training, for progress bars.
            on_epoch: called with the result of each epoch, for experiment trackers.
            on_arrival: called before any training with what the mega-batch looks like, where there is a gate.
            name: of the file that it came from, for the ledger, where there is a gate.
            class_names: the classes in the order of their labels, where they have names and some are new.
            holdout_add: examples for the holdout, of classes that it does not show.
            again: that it is to be trained on whether or not it came before, for the ledger.

        Returns:
            The committed stage, as it stands in the ledger.

        Raises:
            InputError: for examples that do not fit the task, or a loss that becomes NaN. What is committed stays, and
                nothing else on disk has changed.
        """
        with self._attempt() as number:
            self._extend(class_names, holdout_add)
            arrived = self._arrive(mega_batch, number, name, again)
            arrival = self._inspect(arrived, on_arrival)
            self.state.grow(arrived)
            offered = self.state.admit(arrived)
            running = self._resume(arrived) or unlearn(self.state, arrived, offered)
            with blaming_data(arrived.whole, self.task):
                fitted = self._fit(offered, running, number, watch, on_epoch)
                measured = measure(self.state, offered, number, fitted)
            decision = decide_version(self.state, measured)
            task, new_classes = self.state.fixed_task(), self.state.new_classes()
            return self._commit(
                Round(task, new_classes, arrived, arrival, offered, running, fitted, measured, decision)
            )

    def predict(self, inputs: Tensor | Examples) -> Tensor:
        """Return the logits (N, classes) of the current model, float32 on the CPU.

        Args:
            inputs: (N, ...), of the shape and type that the model was trained on.

        Raises:
            InputError: if there is no model yet, or the inputs do not fit.
        """
        if self._stale:
            self._restore()
        if self.model is None or self.task is None:
            raise InputError(f"{self.directory.path} has no model yet: give it a mega-batch first")
        if isinstance(inputs, Tensor):
            inputs = Examples(inputs, torch.zeros(len(inputs), dtype=torch.int64))
        self.task.check_inputs(inputs)
        with arithmetic(self.recipe):
            return predict(self.model, self.state.place(inputs), self.recipe)[0]

    @contextmanager
    def _attempt(self) -> Iterator[int]:
        """Yield the number of the next stage; if it fails, memory is restored from disk, and the disk is as it was."""
        if self._stale:
            self._restore()
        before, self._stale, self._checkpoints = self.opened, True, None
        with arithmetic(self.recipe):
            try:
                yield len(self.stages) + 1
            except BaseException as error:
                self.opened = before
                if isinstance(error, KeyboardInterrupt) and self._checkpoints is not None:
                    self._checkpoints.flush()
                # After a StorageError, what was saved so far is what a second try goes on from.
                if isinstance(error, InputError) and not isinstance(error, StorageError):
                    self.directory.discard()
                raise

    def rehearse(self) -> None:
        """Build the network once, run it on two test examples, and unlearn: what cannot work fails here.

        Raises:
            InputError: if the network does not fit such inputs, the unlearner does not fit the network, or the recipe's
                augmentation does not fit the inputs.
        """
        if self.opened.test is None:
            raise AssertionError("there is nothing to rehearse with")
        two = self.opened.test[:2]
        rehearse(self.opened, self.opened.fix_task(Split(train=two, validation=two[:0])), two)

    def begin(self) -> None:
        """Begin the directory now, and not only with the first mega-batch."""
        self.directory.create()
        self.opened, agreement = self.opened.store_sets()
        self.state.opened = self.opened
        self.directory.begin(to_toml(self.recipe), agreement)

    def _extend(self, class_names: Sequence[str], holdout_add: Examples | None) -> None:
        """Take in the names of classes, and holdout examples, that come with a mega-batch."""
        known = self.opened.class_names
        if class_names:
            if tuple(class_names[: len(known)]) != known or (self.state.task and not known):
                raise InputError(f"class_names must begin with the known ones ({', '.join(known) or 'they have none'})")
            self.opened = dataclasses.replace(self.opened, class_names=tuple(class_names))
        if holdout_add is not None and not self.directory.exists:
            raise InputError("the holdout of a new directory is given when it is opened: leave out holdout_add")
        if holdout_add is not None:
            self.opened = self.opened.with_holdout(holdout_add)
        self.state.opened = self.opened

    def _arrive(self, given: Examples | Split, number: int, name: str | None, again: bool) -> MegaBatch:
        """Cut a mega-batch, check it, and store it if the caller will not give it again; the first begins the run."""
        arrived = MegaBatch.cut(given, self.recipe, number, name=name, again=again)
        task = self.state.task_for(arrived)
        task.check(arrived.whole)
        if self.opened.test is not None:
            task.check_inputs(self.opened.test)
        self.opened.check_holdout(task.num_classes)
        task.check_augmentation(self.recipe.augment)
        if self.model is None:
            self.state.task = task
            model = self.state.new_model()  # first: a network that cannot be built leaves no directory behind
            if not self.directory.exists:
                self.begin()
            self.state.start(model)
        if self.opened.stream is None:
            arrived = arrived.moved_to(self.directory.chunks.store(arrived.whole))
        return arrived

    def _inspect(self, arrived: MegaBatch, on_arrival: Callable[[Arrival], None] | None) -> Arrival | None:
        """Inspect a new mega-batch before training on it, where there is a gate."""
        if self.opened.gate is None:
            return None
        self._inspection = self._inspection or Inspection(self.opened)
        arrival = self._inspection.inspect(arrived, self.state)
        if on_arrival:
            on_arrival(arrival)
        return arrival

    def _resume(self, arrived: MegaBatch) -> Running | None:
        """Take up the stage where an interrupted attempt left it; None if there is nothing to take up."""
        self._checkpoints = Checkpoints(self.opened, Attempt.of(self.opened, arrived), self._checkpoint_share)
        return self._checkpoints.resume(self.state.trained_model())

    def _fit(
        self, offered: Offered, running: Running, number: int, watch: Watch | None, on_epoch: OnEpoch | None
    ) -> FitState:
        model, checkpoints = self.state.trained_model(), self._checkpoints
        save = None if checkpoints is None else checkpoints.saver(model, running.optimizer, running.unlearned)
        return fit(
            model,
            offered.train,
            offered.validation,
            self.recipe,
            stage=number,
            optimizer=running.optimizer,
            state=running.fitted,
            checkpoint=save,
            watch=watch,
            on_epoch=on_epoch,
            initial=self.state.initial,
            previous=self.state.previous_version(),
        )

    def _commit(self, ended: Round) -> Stage:
        """Write the version, then the ledger line that makes it count."""
        if self._flops_per_example is None:
            self._flops_per_example = count_flops(self.state.trained_model(), ended.offered.train)
        stage = record_stage(self.opened, ended, self._flops_per_example)
        test = ended.measured.test
        files = self.state.to_files(ended.running.optimizer, test.correct if test else None)
        committed = self.directory.commit(stage, files)
        if self._inspection is not None:
            self._inspection.add_inspected()
        self._checkpoints = None
        # A refused version leaves memory at weights that are not in use.
        self._stale = not stage.accepted
        self.state.correct, self.state.num_known = files.correct, ended.task.num_classes
        return committed
