"""Compare policies: the same experiment for several policies, budgets and seeds, each run in a directory of its own."""

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lure.data.sources import Dataset
from lure.distributed import are_several
from lure.errors import InputError, require_within
from lure.experiment.engines import build_engine
from lure.experiment.engines.local import Local, number_of_cores, side_by_side
from lure.experiment.job import Ended, Event, Job, Note, PlannedRun, Report
from lure.experiment.run import Placement, _open, open_dataset, run, tell_columns
from lure.experiment.threads import choose_threads
from lure.experiment.trackers import require_tracker
from lure.learner.opening import choose_device, read_recipe, require_same_recipe
from lure.recipe import Experiment, Policy, policy_name
from lure.store.run_directory import RunDirectory
from lure.store.stage import Stage
from lure.training.fit import Progress
from lure.words import count


def plan(
    experiment: Experiment,
    policies: Iterable[Policy | str],
    seeds: Iterable[int],
    out: Path | str,
    budgets: Sequence[float] = (),
) -> list[PlannedRun]:
    """Return the runs of a comparison, in order.

    The seeds are the outer loop, so that an interrupted comparison holds whole seeds. What is named twice counts once.

    Args:
        experiment: what all runs share; its own unlearner and seed do not count.
        policies: policies, or their text: "lure", "lure:forget_fraction=0.4", "averaged=lr=0.1 budget=0.3".
        seeds: one run of each policy and budget for each.
        out: the directory that holds them all.
        budgets: each policy runs at each of them, unless it sets its own; empty for that of `experiment`.

    Raises:
        InputError: for a policy that cannot be, two policies of one name, or a budget out of range or given twice.

    Example:
        >>> [str(run.directory) for run in plan(Experiment(), ["dash:alpha=0.1"], [0], "out", [0.5, 1])]
        ['out/dash+alpha=0.1+budget=0.5/seed-0', 'out/dash+alpha=0.1/seed-0']
    """
    chosen: list[Policy] = []
    for policy in policies:
        policy = Policy.read(policy) if isinstance(policy, str) else policy
        if policy not in chosen:
            chosen.append(policy)
    if twice := [budget for place, budget in enumerate(budgets) if budget in budgets[:place]]:
        raise InputError(f"the budget {twice[0]:g} is given twice")
    by_policy = [
        [
            policy.applied_to(dataclasses.replace(experiment, budget=budget))
            for budget in budgets or (experiment.budget,)
        ]
        for policy in chosen
    ]
    experiments = [each for made in by_policy for each in dict.fromkeys(made)]  # one, where a policy sets its budget
    runs = [
        PlannedRun(each, run_directory(out, each))
        for seed in dict.fromkeys(seeds)
        for each in (dataclasses.replace(each, seed=seed) for each in experiments)
    ]
    names: dict[str, str] = {}
    for run_ in runs:
        name = str(run_.directory).casefold()  # some file systems take A and a for one
        if name in names:
            raise InputError(f"two policies have one name: {run_.label} and {names[name]}")
        names[name] = run_.label
    return runs


def compare(
    experiment: Experiment,
    policies: Iterable[Policy | str],
    seeds: Iterable[int],
    out: Path | str,
    *,
    budgets: Sequence[float] = (),
    placement: Placement | None = None,
    jobs: int | None = None,
    engine: str = "local",
    engine_options: Mapping[str, Any] | None = None,
    watch: Callable[[PlannedRun, Progress], None] | None = None,
    on_stage: Callable[[PlannedRun, Stage], None] | None = None,
    on_end: Callable[[PlannedRun, str], None] | None = None,
) -> list[Path]:
    """Run an experiment for every policy, budget and seed, each in `out`/POLICY/seed-N.

    All runs are checked before the first one starts, and each policy is tried on two examples. How many run at once,
    and where, changes no bit of any. Another comparison may work in the same directory: each run is done once.

    Args:
        experiment: what all runs share; its own unlearner and seed do not count.
        policies: as for `plan`.
        seeds: one run of each policy and budget for each.
        out: the directory that holds them all.
        budgets: as for `plan`.
        placement: data path, device, workers and tracker.
        jobs: how many at once, each in a process of its own; 1 runs them in this process. None: as many as there are
            cores for their threads or, on GPUs, one a device; an engine that is a cluster decides by itself.
        engine: "local", "slurm" or "ray".
        engine_options: the engine's own, such as {"partition": "gpu"}; see `lure.experiment.engines`.
        watch: called now and then while training, with the run.
        on_stage: called with each stage as it is committed, with the run.
        on_end: called with a run that has ended, and why it is not done; "" where it is.

    Returns:
        The run directories.

    Raises:
        InputError: for a policy or a budget as in `plan`, data that cannot be used, a run's directory that was begun
            with another recipe, or an engine that cannot work.
        RunsFailed: if some runs could not be done; all others are. With one job the first failure ends the comparison.
    """
    placement = placement or Placement()
    if jobs is not None:
        require_within("jobs", jobs, 1)
    chosen = build_engine(engine, engine_options)
    runs = plan(experiment, policies, seeds, out, budgets)
    require_tracker(placement.tracking)
    dataset = open_dataset(experiment, placement)
    tell_columns(dataset, placement)
    # Where jobs are handed to a cluster, there need be no GPU.
    here = placement if isinstance(chosen, Local) else dataclasses.replace(placement, device="cpu")
    runs = _with_threads(runs, dataset, here)
    for planned in runs:
        _ = planned.experiment.method, planned.experiment.acting  # code of the user's own is imported here
        require_same_recipe(planned.directory, planned.experiment)
    for planned in runs:
        if planned.experiment.seed == runs[0].experiment.seed and not planned.directory.exists():
            with _open(planned.experiment, planned.directory, here, dataset, ()) as learner:
                learner.rehearse()
    failed: list[str] = []

    def report(planned: PlannedRun, event: Event) -> None:
        if isinstance(event, Progress) and watch:
            watch(planned, event)
        elif isinstance(event, Stage) and on_stage:
            on_stage(planned, event)
        elif isinstance(event, Note):
            warnings.warn(f"{planned.label}: {event.text}", stacklevel=2)
        elif isinstance(event, Ended):
            if event.problem:
                failed.append(f"{planned.label}: {event.problem}")
            if on_end:
                on_end(planned, event.problem)

    todo = [Job(planned, placement) for planned in runs if not planned.is_done]
    number = side_by_side(todo, jobs) if isinstance(chosen, Local) else 0
    if number > 1:
        warn_of_too_many_threads(todo, number)
    if number == 1:
        for job in todo:
            _do_here(job, dataset, report)
    elif todo:
        chosen.run(todo, jobs, report)
    if failed:
        raise RunsFailed(failed, len(runs))
    return [planned.directory for planned in runs]


class RunsFailed(InputError):
    """Some runs of a comparison could not be done. All others are, and the same comparison goes on with these.

    Attributes:
        problems: one line for each: which run, and how it ended.
    """

    def __init__(self, problems: Sequence[str], total: int) -> None:
        self.problems = list(problems)
        super().__init__(f"{len(problems)} of {count(total, 'run')} could not be done: {'; '.join(problems)}")


def warn_of_too_many_threads(todo: Sequence[Job], number: int) -> None:
    """Warn if runs that go side by side have more threads than there are cores for them."""
    threads, cores = max(job.run.experiment.threads for job in todo), number_of_cores()
    if threads > 1 and number * threads > cores and choose_device(todo[0].placement.device).type == "cpu":
        warnings.warn(
            f"{number} runs at once with {threads} threads each are more than {cores} cores, and wait for one another: "
            f"--threads 1 is faster (in a new directory, because the number of threads is part of a run)",
            stacklevel=3,
        )


def _do_here(job: Job, dataset: Dataset, report: Report) -> None:
    """Do a job in this process; several processes that train one model each take their part."""
    if are_several():
        run(
            job.run.experiment,
            job.run.directory,
            placement=job.placement,
            dataset=dataset,
            watch=partial(report, job.run),
            on_stage=partial(report, job.run),
        )
    else:
        job.do(partial(report, job.run), dataset)
    report(job.run, Ended())


def _with_threads(runs: list[PlannedRun], dataset: Dataset, placement: Placement) -> list[PlannedRun]:
    """Settle how many threads each run takes where its recipe leaves that open: one that was begun keeps its number.

    New ones take that of those which were begun, or what `choose_threads` says: the same for all.
    """
    unsettled = [planned for planned in runs if not planned.experiment.threads]
    if not unsettled:
        return runs
    stored = {
        planned.directory: read_recipe(directory).threads
        for planned in unsettled
        if (directory := RunDirectory(planned.directory)).exists
    }
    number = next(iter(stored.values()), 0) or choose_threads(unsettled[0].experiment, dataset, placement.device)
    settled = []
    for planned in runs:
        experiment = planned.experiment
        threads = experiment.threads or stored.get(planned.directory, number)
        departs = tuple(f"threads={number}" if text == "threads=0" else text for text in experiment.departs_from)
        settled.append(
            PlannedRun(dataclasses.replace(experiment, threads=threads, departs_from=departs), planned.directory)
        )
    return settled


def run_directory(out: Path | str, experiment: Experiment) -> Path:
    """Return the directory of a run in a comparison: `out`/POLICY/seed-N, with the budget where it is not 1."""
    budget = "" if experiment.budget == 1 else f"+budget={experiment.budget:g}"
    name = experiment.policy or policy_name(experiment.unlearner)
    return Path(out) / f"{name}{budget}" / f"seed-{experiment.seed}"
