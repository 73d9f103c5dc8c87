"""Every number that a report shows, gathered from the records in one dict that JSON can hold."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lure.metrics.statistics import paired_seeds, spread
from lure.report.comparison import (
    MEASURES,
    RunGroup,
    finite,
    group_runs,
    paired_tests,
    pareto_front,
    stage_cost,
    totals,
)
from lure.report.kept import kept_data, read_kept
from lure.report.price import cost_measure, price_answers, price_sentence, prices
from lure.report.records import RunRecord
from lure.report.regret import settings_data
from lure.report.verdict import verdict

Data = dict[str, Any]

# Of an evaluation: what says where a number belongs, and is not averaged itself; and what is kept for each run only.
PLACES = (
    "attack",
    "epsilon",
    "label",
    "name",
    "norm",
    "severity",
    "synthetic",
    "steps",
    "restarts",
    "undetermined",
    "warning",
)
SINGLE = ("change", "correct", "data_fingerprint", "reliability", "seed", "unlearner", "version")


def page_data(runs: Iterable[RunRecord]) -> Data:
    """Return every number of the report; NaN and infinity become None.

    Args:
        runs: what `read_runs` returns.

    Returns:
        `groups`, one for each recipe, each with `label` and `differing_fields` (empty for a single recipe), `recipe`,
        `left_out`, `notes` (on refused versions), `verdict`, `price`, `price_answers`, `price_sentence`,
        `price_measure`, `policies` and `paired_tests`. A spread is `mean`, `standard_deviation` (None with one seed)
        and `seeds`.

        `price` lists, for each policy and budget, `policy`, `budget`, `cost` (share of retraining's "flops" or
        "seconds" of stages 2 and later; `price_measure` says which), `mean`, `low` and `high` (final accuracy minus
        that of retraining, as shares, with its 90 % interval) and `not_worse`; it is empty where there is no price.
        `price_answers` lists for each policy `policy`, `answer`, `budget`, `cost`, `at_most` and `regret`; see
        `lure.report.price`.

        A policy has `seeds`; `measures`: name -> spread; `difference_from_scratch` (see `paired_seeds`; None for
        scratch itself, or without it); `on_pareto_front`; `over_stages`: for each stage the spreads of `accuracy`,
        `cumulative_flops` and `cumulative_seconds`; `evaluation`: the spreads of all that `evaluate` measured on the
        last version, with one pooled `reliability` diagram, None where nothing was evaluated; and `runs`: directory,
        seed, result, stages and evaluations as stored. `paired_tests` compares the last versions of two policies on one
        seed by exact McNemar, where both were evaluated on the same test set.

        `settings`: over all groups, `names`; `cells`, one for each policy at each budget in each setting; and
        `policies`, one for each that has a regret, the lowest worst regret first: the attributes of `Cell` and
        `Standing` in `lure.report.regret`, regrets and differences as shares.

        `kept`, one for each run that is a model kept current, with `directory`, `current_version`, `answer`, `waits`,
        `gate`, `class_names`, `holdout_class_counts`, `versions_in_use` (after each line of the ledger) and `versions`;
        see `lure.report.kept`.

    Raises:
        InputError: if there is no run, or two runs of one recipe and seed saw different data.
    """
    runs = list(runs)
    kept = [kept_data(model) for run in runs if (model := read_kept(run))]
    groups = group_runs(runs)
    return {"groups": [group_data(group) for group in groups], "settings": settings_data(groups), "kept": kept}


def group_data(group: RunGroup) -> Data:
    """Return the numbers of one group of comparable runs; see `page_data`."""
    policies = {policy: _policy_data(group, policy) for policy in group.policies}
    points = {policy: (data["cost"], data["measures"]["final_accuracy"]) for policy, data in policies.items()}
    known = {policy: (cost, accuracy["mean"]) for policy, (cost, accuracy) in points.items() if accuracy}
    front = pareto_front(known.values())
    for policy, data in policies.items():
        data["on_pareto_front"] = known.get(policy) in front
    return {
        "label": group.label,
        "differing_fields": sorted(group.distinct),
        "recipe": _plain(group.recipe),
        "left_out": group.left_out,
        "notes": [run.note for run in group.runs if run.note],
        "verdict": verdict(group.runs),
        "price": [row.as_dict() for row in prices(group)],
        "price_answers": [answer.as_dict() for answer in price_answers(group)],
        "price_sentence": price_sentence(group.runs),
        "price_measure": cost_measure(group),
        "policies": policies,
        "paired_tests": paired_tests(group.runs),
    }


def _policy_data(group: RunGroup, policy: str) -> Data:
    runs = group.policies[policy]
    numbers = [totals(run) for run in runs]
    measures = {name: _spread_data(number[name] for number in numbers) for name in MEASURES}
    costs = measures["flops"], measures["seconds"]
    return {
        "seeds": [run.seed for run in runs],
        "measures": measures,
        "cost": next((cost["mean"] for cost in costs if cost and cost["mean"] > 0), 0.0),
        "difference_from_scratch": _difference_from_scratch(group, policy),
        "over_stages": _over_stages(runs),
        "evaluation": _merged_evaluation([result for run in runs if (result := run.last_evaluation)]),
        "runs": [
            {
                "directory": str(run.directory),
                "seed": run.seed,
                "result": _plain(run.result),
                "stages": _plain(run.lines),
                "evaluations": _plain(run.evaluations),
            }
            for run in runs
        ],
    }


def _difference_from_scratch(group: RunGroup, policy: str) -> Data | None:
    scratch = {run.seed: run.final.accuracy for run in group.policies.get("scratch", [])}
    ours = {run.seed: run.final.accuracy for run in group.policies[policy]}
    pairs = [(ours[seed], scratch.get(seed)) for seed in ours]
    known = [(one, other) for one, other in pairs if one is not None and other is not None]
    if policy == "scratch" or not known:
        return None
    return dict(paired_seeds(*zip(*known, strict=True)))


def _over_stages(runs: Sequence[RunRecord]) -> list[Data]:
    rows = []
    for number in range(len(runs[0].stages)):
        row: Data = {
            "stage": number + 1,
            "accuracy": _spread_data(run.stages[number].accuracy for run in runs),
        }
        for measure in ("flops", "seconds"):
            row[f"cumulative_{measure}"] = _spread_data(
                math.fsum(stage_cost(stage, measure) for stage in run.stages[: number + 1]) for run in runs
            )
        rows.append(row)
    return rows


def _merged_evaluation(results: Sequence[Data]) -> Data | None:
    if not results:
        return None
    merged: Data = _merge([{key: result[key] for key in result if key not in SINGLE} for result in results])
    merged["reliability"] = pool_bins([result.get("reliability", []) for result in results])
    return merged


def _merge(values: Sequence[Any]) -> Any:
    """Merge results of equal form over seeds: numbers become spreads; what says where a number belongs stays."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    first = known[0]
    if isinstance(first, Mapping):
        keys = {key: None for value in known for key in value}
        return {
            key: next((value[key] for value in known if value.get(key) is not None), None)
            if key in PLACES
            else _merge([value.get(key) for value in known])
            for key in keys
        }
    if isinstance(first, list):
        return [
            _merge([value[place] for value in known if place < len(value)]) for place in range(max(map(len, known)))
        ]
    return _spread_data(known)


def pool_bins(diagrams: Sequence[Sequence[Data]]) -> list[Data]:
    """Pool reliability diagrams of equal bins, as if all examples had been counted together.

    Example:
        >>> one = {"low": 0.5, "high": 1.0, "examples": 10, "confidence": 0.7, "accuracy": 0.6}
        >>> two = {"low": 0.5, "high": 1.0, "examples": 30, "confidence": 0.9, "accuracy": 1.0}
        >>> (row,) = pool_bins([[one], [two]])
        >>> row["examples"], round(row["confidence"], 2), round(row["accuracy"], 2)
        (40, 0.85, 0.9)
    """
    pooled: dict[float, Data] = {}
    for row in (row for diagram in diagrams for row in diagram):
        old = pooled.get(row["low"])
        if old is None:
            pooled[row["low"]] = dict(row)
            continue
        count = old["examples"] + row["examples"]
        for key in ("confidence", "accuracy"):
            old[key] = (old[key] * old["examples"] + row[key] * row["examples"]) / count
        old["examples"] = count
    return [pooled[low] for low in sorted(pooled)]


def _spread_data(values: Iterable[Any]) -> Data | None:
    value = spread(finite(value) for value in values)
    if value is None:
        return None
    return {"mean": value.mean, "standard_deviation": value.deviation, "seeds": value.count}


def _plain(value: Any) -> Any:
    """Return the value with None in place of NaN and infinity, which JSON lacks."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
