"""Where the runs of a comparison are done: on this machine, by SLURM, or by Ray. One file each."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from lure.experiment.engines.local import Local
from lure.experiment.engines.ray import Ray
from lure.experiment.engines.slurm import Slurm
from lure.experiment.job import Job, Report
from lure.settings import build_choice


class Engine(Protocol):
    """Does jobs in processes of their own. Its fields are its options; none of them changes a result."""

    def check(self) -> None:
        """Raise `InputError` if what it needs is missing; nothing on disk has then changed."""

    def run(self, jobs: Sequence[Job], limit: int | None, report: Report) -> None:
        """Do the jobs, at most `limit` at once (None: as many as fit); `report` hears of all, the ends included.

        Whatever ends this call early, Ctrl-C included, ends the runs, too.
        """


ENGINES: dict[str, type[Any]] = {"local": Local, "slurm": Slurm, "ray": Ray}


def build_engine(name: str, options: Mapping[str, Any] | None = None) -> Engine:
    """Return an engine by its name, after a look at whether it can work here.

    Raises:
        InputError: for an unknown engine or option, a value out of range, a missing package, or a cluster that cannot
            be reached.

    Example:
        >>> build_engine("local")
        Local()
    """
    engine: Engine = build_choice("engine", name, ENGINES, **dict(options or {}))
    engine.check()
    return engine
