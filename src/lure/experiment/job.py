"""One run of a comparison as a job: it may be done in this process, or travel to another one as a line of JSON."""

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from lure.data.sources import Dataset
from lure.experiment.evaluate import evaluate_finished, is_evaluated
from lure.experiment.run import Placement, run
from lure.experiment.trackers import Tracking
from lure.recipe import Experiment, to_toml
from lure.store.run_directory import RESULT, DirectoryInUse, RunDirectory
from lure.store.stage import Stage
from lure.training.fit import Progress

PAUSE = 0.5  # seconds between two looks at a directory that another process holds


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of a comparison: an experiment, and the directory that it runs in."""

    experiment: Experiment
    directory: Path

    @property
    def label(self) -> str:
        """What progress bars call it: "lure, budget 0.1, seed 0"."""
        experiment = self.experiment
        budget = "" if experiment.budget == 1 else f", budget {experiment.budget:g}"
        return f"{experiment.policy or experiment.unlearner}{budget}, seed {experiment.seed}"

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to do: it is complete, and its last version was evaluated."""
        return is_complete(self.directory) and is_evaluated(self.directory)


def is_complete(directory: Path) -> bool:
    """Tell whether a run reached the end of its stream."""
    return (directory / RESULT).exists()


@dataclass(frozen=True, slots=True)
class Note:
    """Something that the user should read about a run: a warning, or what it waits for."""

    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a run; `problem` says in one line why it is not done, and is empty where it is."""

    problem: str = ""


Event = Progress | Stage | Note | Ended
Report = Callable[[PlannedRun, Event], None]


@dataclass(frozen=True, slots=True)
class Job:
    """A planned run, and where it runs. Doing it again goes on where it was interrupted, or finds nothing to do."""

    run: PlannedRun
    placement: Placement
    argv: list[str] = field(default_factory=lambda: list(sys.argv))  # result.json tells by which command it was made

    def do(self, tell: Callable[[Event], None], dataset: Dataset | None = None) -> None:
        """Run it to its end in this process, and evaluate its last version.

        While another process holds the directory, wait: when that one is done, little or nothing is left to do.

        Args:
            tell: called with what happens on the way; not with the end.
            dataset: the loaded data set, where the caller has it already.

        Raises:
            InputError: as `lure.experiment.run.run` and `evaluate_version`.
        """
        planned, waited = self.run, False
        while True:
            try:
                if not is_complete(planned.directory):
                    run(
                        planned.experiment,
                        planned.directory,
                        placement=self.placement,
                        dataset=dataset,
                        watch=tell,
                        on_stage=tell,
                    )
                with RunDirectory(planned.directory):  # the lock: two processes must not evaluate it at once
                    evaluate_finished([planned.directory], self.placement, planned.experiment.model)
                return
            except DirectoryInUse as error:
                if not waited:
                    tell(Note(f"waiting: {error}"))
                waited = True
                time.sleep(PAUSE)

    def to_json(self) -> str:
        """Write it on one line."""
        placement = dataclasses.asdict(self.placement)
        return json.dumps(
            {
                "recipe": to_toml(self.run.experiment),
                "directory": str(self.run.directory.absolute()),
                "placement": placement,
                "argv": self.argv,
            },
            default=lambda path: str(path.absolute()),
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        values = json.loads(text)
        placement = values["placement"]
        if placement["tracking"] is not None:
            tracking = placement["tracking"]
            placement["tracking"] = Tracking(**tracking | {"folder": _path(tracking["folder"])})
        placement["data"] = _path(placement["data"])
        experiment = Experiment.from_toml(values["recipe"], "the recipe of this run")
        return cls(PlannedRun(experiment, Path(values["directory"])), Placement(**placement), values["argv"])


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def event_to_json(event: Event) -> str:
    """Write an event on one line."""
    values: dict[str, Any] = event.as_dict() if isinstance(event, Stage) else dataclasses.asdict(event)
    return json.dumps({"event": type(event).__name__, **values})


def event_from_json(text: str) -> Event:
    """Read what `event_to_json` wrote.

    Example:
        >>> event_from_json(event_to_json(Ended("the disk is full")))
        Ended(problem='the disk is full')
    """
    values = json.loads(text)
    name = values.pop("event")
    if name == "Stage":
        return Stage.from_dict(values, "what another process sent")
    kinds: dict[str, type[Progress | Note | Ended]] = {"Progress": Progress, "Note": Note, "Ended": Ended}
    return kinds[name](**values)
