"""Which runs may be compared, and the numbers that a comparison shows.

Runs belong together if they share a recipe: their recipes are equal in everything but seed, unlearner, budget and the
fields that their own policies set. Only within such a group are
runs averaged, over seeds, and only runs of the same seed are subtracted from one another: they saw the same data in
the same order, so that most of the noise cancels.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lure.errors import InputError
from lure.metrics.hits import unpack_hits
from lure.metrics.statistics import mcnemar_of_hits
from lure.recipe import Experiment, Recipe, shared_recipe
from lure.report.colours import FIXED
from lure.report.records import RunRecord
from lure.settings import split_choice
from lure.store.stage import Stage

# What a comparison shows of each run, in this order.
MEASURES = (
    "final_accuracy",
    "mean_error_rate",
    "cumulative_error_count",
    "expected_calibration_error",
    "negative_flip_rate",
    "seconds",
    "examples_seen",
    "flops",
)


@dataclass(frozen=True, slots=True)
class RunGroup:
    """Runs that may be compared: equal recipes, equal numbers of stages.

    Attributes:
        recipe: the fields that all runs share.
        distinct: the fields in which this group differs from the other groups; empty if it is the only one.
        policies: policy -> its runs by rising seed; policies in the order of the table of colours.
        left_out: one sentence for each run that is not counted, and why.
    """

    recipe: dict[str, Any]
    distinct: dict[str, Any]
    policies: dict[str, list[RunRecord]]
    left_out: list[str]

    @property
    def label(self) -> str:
        """How this group differs from the others: "augment = none, epochs = 20"; empty if it is the only one."""
        return _fields_text(self.distinct)

    @property
    def counts_examples(self) -> bool:
        """Whether costs are the examples seen."""
        return all(run.counts_examples for run in self.runs)

    @property
    def runs(self) -> list[RunRecord]:
        """All runs that are counted, policy by policy."""
        return [run for runs in self.policies.values() for run in runs]


def _fields_text(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {'unset' if value is None else value}" for name, value in fields.items())


def setting_names(groups: Sequence[RunGroup]) -> list[str]:
    """Return a short name of each group: its label, with no more fields than tell the groups apart.

    Data set and network go before other fields. Where one field is not enough and each group is a comparison in a
    folder of its own, the names are those of the folders.
    """
    chosen: list[str] = []
    apart = 1
    for name in sorted(groups[0].distinct if groups else (), key=lambda name: (name not in ("dataset", "model"), name)):
        found = len({repr([group.distinct[field] for field in (*chosen, name)]) for group in groups})
        if found > apart:
            chosen, apart = [*chosen, name], found
    if len(chosen) > 1 and (folders := _folder_names(groups)):
        return folders
    return [_fields_text({name: group.distinct[name] for name in chosen}) for group in groups]


def _folder_names(groups: Sequence[RunGroup]) -> list[str]:
    """Return the name of the comparison that each group is (FOLDER/POLICY/seed-N); [] unless each is one of its own."""
    folders = [
        {
            run.directory.resolve().parents[1].name if run.directory.name == f"seed-{run.seed}" else ""
            for run in group.runs
        }
        for group in groups
    ]
    names = [name for found in folders for name in found]
    return names if all(names) and len(set(names)) == len(names) == len(groups) else []


def stage_cost(stage: Stage, measure: str) -> float:
    """Return what one stage cost in "flops", "seconds" or "examples_seen": training and unlearning together."""
    if measure == "examples_seen":
        return float(stage.examples_seen)
    return float(getattr(stage, f"train_{measure}")) + float(getattr(stage, f"unlearn_{measure}"))


def totals(run: RunRecord) -> dict[str, float | None]:
    """Return one number for each of `MEASURES`: accuracy and calibration of the version in use, costs of all stages.

    `negative_flip_rate` is the mean share of test examples that turned from right to wrong from a version to the next.
    `seconds` and `flops` are those of training and unlearning together. What the ledger does not know is None, and
    without a test set every error is None.
    """
    last = run.final
    errors = cumulative_errors(run)
    flips = [stage.negative_flips / stage.test_examples for stage in run.stages if stage.negative_flips is not None]
    return {
        "final_accuracy": last.accuracy,
        "mean_error_rate": None if errors is None else errors[-1] / (len(errors) * last.test_examples),
        "cumulative_error_count": None if errors is None else errors[-1],
        "expected_calibration_error": finite(last.expected_calibration_error),
        "negative_flip_rate": math.fsum(flips) / len(flips) if flips else None,
        "seconds": math.fsum(stage_cost(stage, "seconds") for stage in run.stages),
        "examples_seen": sum(stage.examples_seen for stage in run.stages),
        "flops": math.fsum(stage_cost(stage, "flops") for stage in run.stages),
    }


def cumulative_errors(run: RunRecord) -> list[int] | None:
    """Return the errors summed up to each stage; None without a test set.

    The learner's own sum is used if there is one: it counts the version in use, which is an older one after a refused
    update.
    """
    errors = [stage.error_count for stage in run.stages if stage.error_count is not None]
    if len(errors) < len(run.stages):
        return None
    sums = itertools.accumulate(errors)
    return [stage.cumulative_errors or total for stage, total in zip(run.stages, sums, strict=True)]


def finite(value: Any) -> float | None:
    """Return a finite number as a float, and None for anything else."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def paired_differences(
    runs: Sequence[RunRecord],
    others: Sequence[RunRecord],
    measure: Callable[[RunRecord], float | None] = lambda run: run.final.accuracy,
) -> dict[int, float]:
    """Return seed -> measure (final accuracy) of `runs` minus that of `others`, for the seeds where both know it."""
    ours, theirs = ({run.seed: value for run in side if (value := measure(run)) is not None} for side in (runs, others))
    return {seed: value - theirs[seed] for seed, value in ours.items() if seed in theirs}


def paired_tests(runs: Iterable[RunRecord]) -> list[dict[str, Any]]:
    """Compare the last versions of any two policies on one seed, where both were evaluated on the same test set.

    Returns:
        `seed`, `first` and `second` (policies), and the result of `mcnemar_of_hits`.
    """
    by_seed: dict[int, list[tuple[str, dict[str, Any]]]] = {}
    for run in runs:
        if run.last_evaluation and "correct" in run.last_evaluation:
            by_seed.setdefault(run.seed, []).append((run.policy, run.last_evaluation))
    tests: list[dict[str, Any]] = []
    for seed, evaluated in sorted(by_seed.items()):
        for (policy, one), (other, two) in itertools.combinations(evaluated, 2):
            if one["data_fingerprint"] == two["data_fingerprint"]:
                hits = (unpack_hits(result["correct"], result["examples"]) for result in (one, two))
                tests.append({"seed": seed, "first": policy, "second": other, **mcnemar_of_hits(*hits)})
    return tests


def pareto_front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points (cost, accuracy) that no other point beats in one and equals or beats in the other, by cost.

    Example:
        >>> pareto_front([(1.0, 0.5), (2.0, 0.4), (3.0, 0.9), (3.0, 0.8)])
        [(1.0, 0.5), (3.0, 0.9)]
    """
    front: list[tuple[float, float]] = []
    for cost, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or accuracy > front[-1][1]:
            front.append((cost, accuracy))
    return front


def policy_order(policy: str) -> tuple[int, str]:
    """Return the sorting key of a policy: those of the table of colours first, then what users add, by name."""
    names = list(FIXED)
    name = split_choice(policy)[0]
    return (names.index(name) if name in names else len(names), policy)


def group_runs(runs: Iterable[RunRecord]) -> list[RunGroup]:
    """Sort runs into groups that may be compared.

    Within a group a run is left out, with a sentence that says so, if another run has the same policy and seed, or if
    it has fewer committed stages than the others.

    Raises:
        InputError: if there is no run, or two runs of one recipe and seed saw different data.
    """
    runs = list(runs)
    if not runs:
        raise InputError("there is no run to report")
    by_recipe: dict[str, list[RunRecord]] = {}
    recipes: dict[str, dict[str, Any]] = {}
    for run, recipe in zip(runs, shared_recipes(runs), strict=True):
        by_recipe.setdefault(repr(recipe), []).append(run)
        recipes[repr(recipe)] = recipe
    differing = differing_fields(recipes.values())
    return [
        _build_group(recipes[key], {name: recipes[key].get(name) for name in differing}, members)
        for key, members in by_recipe.items()
    ]


def shared_recipes(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Return for each run what it shares with the others of its comparison, fields sorted by name.

    A run that is older than a field had what is now its default, so it equals a run that states the default.
    """
    stated = [shared_recipe(run.recipe) for run in runs]
    written = {name for values in stated for name in values}
    recipes = []
    for run, values in zip(runs, stated, strict=True):
        defaults = _defaults(Experiment if "dataset" in run.recipe else Recipe)
        known = {name: value for name, value in defaults.items() if name in written}
        recipes.append(dict(sorted((known | values).items())))
    return recipes


def differing_fields(recipes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of the fields that are not the same in all recipes, sorted.

    Example:
        >>> differing_fields([{"epochs": 5, "lr": 0.1}, {"epochs": 9, "lr": 0.1}])
        ['epochs']
    """
    recipes = list(recipes)
    names = sorted({name for recipe in recipes for name in recipe})
    return [name for name in names if len({repr(recipe.get(name)) for recipe in recipes}) > 1]


def _defaults(record: type[Recipe]) -> dict[str, Any]:
    """Return the defaults of a recipe's fields as its file would state them; fields that are None are left out."""
    values = {item.name: item.default for item in dataclasses.fields(record) if item.default is not None}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _build_group(recipe: dict[str, Any], distinct: dict[str, Any], runs: list[RunRecord]) -> RunGroup:
    num_stages = max(len(run.stages) for run in runs)
    kept: dict[tuple[str, int], RunRecord] = {}
    left_out = []
    for run in sorted(runs, key=lambda run: (policy_order(run.policy), run.budget, run.seed, str(run.directory))):
        if len(run.stages) < num_stages:
            left_out.append(f"{run.directory} is left out: it has {len(run.stages)} of {num_stages} stages.")
        elif (run.label, run.seed) in kept:
            first = kept[run.label, run.seed].directory
            left_out.append(f"{run.directory} is left out: {first} has the same policy and seed.")
        else:
            kept[run.label, run.seed] = run
    _refuse_unequal_data(list(kept.values()))
    policies: dict[str, list[RunRecord]] = {}
    for run in kept.values():
        policies.setdefault(run.label, []).append(run)
    return RunGroup(recipe, distinct, policies, left_out)


def _refuse_unequal_data(runs: Sequence[RunRecord]) -> None:
    seen: dict[tuple[int, int], RunRecord] = {}
    for run in runs:
        for number, stage in enumerate(run.stages):
            first = seen.setdefault((run.seed, number), run)
            if first.stages[number].data_fingerprint != stage.data_fingerprint:
                raise InputError(
                    f"{first.directory} and {run.directory} have the same recipe and seed but other data at stage "
                    f"{number + 1}: report them apart"
                )
