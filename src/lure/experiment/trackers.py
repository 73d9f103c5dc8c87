"""Experiment trackers: the course of a run, sent to Weights & Biases, TensorBoard or MLflow.

A tracker decides nothing about a run and is no part of its recipe; the run directory holds everything without it. Keys
and addresses come from the tracker's own configuration (`wandb login`, WANDB_MODE, MLFLOW_TRACKING_URI and so on) and
are written nowhere.
"""

import dataclasses
import importlib
import importlib.util
import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

from lure.distributed import process_rank
from lure.errors import InputError, unknown_name
from lure.recipe import Experiment, policy_name
from lure.settings import format_value
from lure.store.stage import Stage
from lure.training.fit import Epoch

TrackerName = Literal["wandb", "tensorboard", "mlflow"]

# Fields of a stage's record that are not measurements.
NOT_TRACKED = {"stage", "version", "seed", "accepted"}


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """Which tracker follows a run, and under which name.

    Attributes:
        name: "wandb", "tensorboard" or "mlflow".
        project: the project (MLflow calls it experiment) that the run belongs to.
        run: the run's name; None takes its policy, budget and seed.
        folder: where TensorBoard and wandb keep their files; None is `tracker` in the run directory. MLflow writes to
            where it is configured to.

    Raises:
        InputError: for an unknown tracker.
    """

    name: TrackerName
    project: str = "lure"
    run: str | None = None
    folder: Path | None = None

    def __post_init__(self) -> None:
        if self.name not in get_args(TrackerName):
            raise unknown_name("tracker", self.name, get_args(TrackerName))


def require_tracker(tracking: Tracking | None) -> None:
    """Raise unless the tracker's package is installed and, for Weights & Biases, there is somebody logged in.

    Raises:
        InputError: saying what to install, how to log in or go without, or which settings the tracker refuses.
    """
    if tracking is None:
        return
    if importlib.util.find_spec(tracking.name) is None:
        package = "'lure-torch[paper]'" if tracking.name == "wandb" else tracking.name
        raise InputError(
            f"the tracker {tracking.name} is not installed: pip install {package}, or run without a tracker"
        )
    if tracking.name == "wandb" and not _wandb_has_login():
        raise InputError(
            "nobody is logged in to Weights & Biases: run 'wandb login', or set WANDB_MODE=offline to keep the records "
            "on this machine, or run without a tracker"
        )


def _wandb_has_login() -> bool:
    wandb = importlib.import_module("wandb")
    try:
        if wandb.setup().settings.mode != "online":
            return True
        if "prompt" in inspect.signature(wandb.login).parameters:
            return bool(wandb.login(prompt=False, verify=False))
        return bool(wandb.api.api_key)
    except Exception as error:  # a WANDB_ variable that holds what it cannot, a key of another length
        raise InputError(f"Weights & Biases refuses its settings: {_one_line(error)}") from error


class Tracker:
    """A run's line to its tracker, open between `with` and its end; without a tracker it does nothing.

    A tracker that fails later on is let go with a warning: the run does not need it.

    Args:
        tracking: which tracker; None for none.
        experiment: what runs; sent as the run's configuration.
        directory: the run directory.

    Raises:
        InputError: on entering, if the tracker cannot start.
    """

    def __init__(self, tracking: Tracking | None, experiment: Experiment, directory: Path) -> None:
        self.experiment, self.directory = experiment, directory
        # Where several processes train together, the first one alone reports.
        self._tracking = None if process_rank() else tracking
        self._backend: Any = None

    def __enter__(self) -> Self:
        if self._tracking is not None:
            try:
                self._backend = _backend(self._tracking, self.experiment, self.directory)
                self._backend.start()
                self._backend.store_init_configuration(_configuration(self.experiment))
            except Exception as error:  # every tracker has errors of its own
                raise InputError(f"the tracker {self._tracking.name} cannot start: {_one_line(error)}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._let_go_on_failure():
            if self._backend is not None:
                self._backend.finish()

    def epoch(self, epoch: Epoch) -> None:
        """Log an epoch; its step is the number of epochs of the run so far."""
        values = {f"epoch/{name}": value for name, value in dataclasses.asdict(epoch).items()}
        self._log(values, (epoch.stage - 1) * self.experiment.epochs + epoch.epoch)

    def stage(self, stage: Stage) -> None:
        """Log a committed stage, at the step of its last epoch."""
        values = {f"stage/{k}": v for k, v in dataclasses.asdict(stage).items() if k not in NOT_TRACKED}
        self._log(values, (stage.stage - 1) * self.experiment.epochs + stage.epochs_run)

    def _log(self, values: dict[str, Any], step: int) -> None:
        with self._let_go_on_failure():
            if self._backend is not None:
                numbers = {k: v for k, v in values.items() if isinstance(v, int | float)}
                self._backend.log(numbers, step=step)

    @contextmanager
    def _let_go_on_failure(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            name, self._backend = self._backend.name, None
            warnings.warn(
                f"the tracker {name} failed, and the run goes on without it: {_one_line(error)}", stacklevel=4
            )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _backend(tracking: Tracking, experiment: Experiment, directory: Path) -> Any:
    accelerated = importlib.import_module("accelerate.tracking")  # only now: importing it takes seconds
    importlib.import_module("accelerate").PartialState()  # the trackers ask it which process is the first
    budget = "" if experiment.budget == 1 else f"+budget={experiment.budget:g}"
    run = tracking.run or f"{experiment.policy or policy_name(experiment.unlearner)}{budget}-seed-{experiment.seed}"
    if tracking.name == "mlflow":
        return accelerated.MLflowTracker(tracking.project, run_name=run)
    folder = tracking.folder or directory / "tracker"
    folder.mkdir(parents=True, exist_ok=True)
    if tracking.name == "wandb":
        return accelerated.WandBTracker(tracking.project, name=run, dir=str(folder.resolve()))
    return accelerated.TensorBoardTracker(f"{tracking.project}/{run}", folder)


def _configuration(experiment: Experiment) -> dict[str, Any]:
    values = {field.name: getattr(experiment, field.name) for field in dataclasses.fields(experiment)}
    return {k: v if isinstance(v, bool | int | float | str) else format_value(v) for k, v in values.items()}
