"""Compare policies: the same experiment for several policies, budgets and seeds, each run in a directory of its own."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lure.errors import InputError
from lure.experiment.run import Placement, _open, open_dataset, run
from lure.learner.opening import require_same_recipe
from lure.recipe import Experiment, Policy, policy_name
from lure.store.stage import Stage
from lure.training.fit import Progress


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
    watch: Callable[[PlannedRun, Progress], None] | None = None,
    on_stage: Callable[[PlannedRun, Stage], None] | None = None,
) -> list[Path]:
    """Run an experiment for every policy, budget and seed, each in `out`/POLICY/seed-N.

    All runs are checked before the first one starts, and each policy is tried on two examples.

    Args:
        experiment: what all runs share; its own unlearner and seed do not count.
        policies: as for `plan`.
        seeds: one run of each policy and budget for each.
        out: the directory that holds them all.
        budgets: as for `plan`.
        placement: data path, device, workers and tracker.
        watch: called now and then while training, with the run.
        on_stage: called with each stage as it is committed, with the run.

    Returns:
        The run directories.

    Raises:
        InputError: for a policy or a budget as in `plan`, data that cannot be used, or a run's directory that was begun
            with another recipe.
    """
    placement = placement or Placement()
    runs = plan(experiment, policies, seeds, out, budgets)
    for planned in runs:
        _ = planned.experiment.method, planned.experiment.acting  # code of the user's own is imported here
        require_same_recipe(planned.directory, planned.experiment)
    dataset = open_dataset(experiment, placement)
    for planned in runs:
        if planned.experiment.seed == runs[0].experiment.seed and not planned.directory.exists():
            with _open(planned.experiment, planned.directory, placement, dataset, ()) as learner:
                learner.rehearse()
    for planned in runs:
        if is_complete(planned.directory):
            continue
        run(
            planned.experiment,
            planned.directory,
            placement=placement,
            dataset=dataset,
            watch=_about(watch, planned),
            on_stage=_about(on_stage, planned),
        )
    return [planned.directory for planned in runs]


def _about(callback: Callable[[PlannedRun, Any], None] | None, planned: PlannedRun) -> Callable[[Any], None] | None:
    return None if callback is None else lambda event: callback(planned, event)


def run_directory(out: Path | str, experiment: Experiment) -> Path:
    """Return the directory of a run in a comparison: `out`/POLICY/seed-N, with the budget where it is not 1."""
    budget = "" if experiment.budget == 1 else f"+budget={experiment.budget:g}"
    name = experiment.policy or policy_name(experiment.unlearner)
    return Path(out) / f"{name}{budget}" / f"seed-{experiment.seed}"


def is_complete(directory: Path) -> bool:
    """Tell whether a run reached the end of its stream."""
    return (directory / "result.json").exists()
