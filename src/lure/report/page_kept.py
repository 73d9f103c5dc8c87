"""The part of a page that shows a model that is kept current: what is in use, what came, what waits, what it cost."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from lure.report.comparison import RunGroup
from lure.report.kept import (
    KeptModel,
    answer,
    chunk_name,
    cost,
    day,
    decisions_by_hand,
    flips,
    prequential_accuracy,
    reasons,
    waits,
)
from lure.report.kept_plots import (
    HOLDOUT,
    SHADES,
    balance_classes,
    class_shades,
    draw_arrival,
    draw_balance,
    draw_flips,
    draw_update_cost,
    draw_versions,
)
from lure.report.numbers import group_data
from lure.report.page_details import detail_values, run_values
from lure.report.page_parts import Cell, Content, Figure, Table, figure, mark_cell
from lure.report.table import short_number
from lure.store.stage import Stage
from lure.words import MISSING, count, percent

LOSERS_SHOWN = 6  # so many versions stand side by side
# Words that this part explains, as docs/glossary.md does.
TERMS = {
    "holdout": "labelled data that decide whether a version is accepted, and are never trained on; the test set "
    "decides nothing",
    "gate": "the rules by which a version is accepted or refused",
    "on arrival": "accuracy of the version in use on a new chunk, before any training on it (prequential accuracy)",
    "negative flip": "an example that the version in use has right and the new one has wrong",
}


def kept_values(model: KeptModel) -> dict[str, Any]:
    """Return the values of `page_kept.html.jinja`."""
    run = model.run
    group = RunGroup(run.recipe, {}, {run.label: [run]}, [])
    return {
        "title": run.directory.resolve().name,
        "summary": f"{run.recipe.get('model', 'a network')}, {run.policy}.",
        "answer": answer(model),
        "waits": waits(model),
        "figures": _figures(model),
        "versions": _versions_table(model),
        "losers": _losers_table(model),
        "reasons": [
            {
                "version": _version_cell(model, stage, f"version {stage.version}"),
                "chunk": chunk_name(stage),
                "day": day(stage),
                "reasons": why,
                "warnings": warnings,
                "new_classes": ", ".join(stage.new_classes),
            }
            for stage, why, warnings in reasons(model)
        ],
        "by_hand": decisions_by_hand(model),
        "cost": _cost_sentence(model),
        "gate": [(name, MISSING if value is None else value) for name, value in model.gate.items()],
        "details": detail_values(group, group_data(group)),
        "run": run_values(group),
    }


def _figures(model: KeptModel) -> list[Figure]:
    stages = model.run.stages
    figures = [
        figure(
            partial(draw_versions, model),
            "Accuracy of the versions on the holdout",
            "Every version's accuracy on the holdout; the line goes through the versions in use. Hollow: refused by "
            "the gate; half filled: refused, then accepted by hand. At a dotted line somebody decided.",
            SHADES,
        )
    ]
    if any(prequential_accuracy(stage) is not None for stage in stages):
        figures.append(
            figure(
                partial(draw_arrival, model),
                "Accuracy on arrival and on the holdout",
                "Accuracy of the version in use on each new chunk before training on it, beside its accuracy on the "
                "holdout. Where the two part, the chunk differs from the holdout, or its labels do.",
                SHADES,
            )
        )
    if any(stage.arrival for stage in stages):
        shown, total = (
            len(balance_classes(model)),
            len(stages[-1].arrival["class_counts"] if stages[-1].arrival else []),
        )
        some = f" The {shown} of {total} classes whose share varied most are shown." if shown < total else ""
        figures.append(
            figure(
                partial(draw_balance, model),
                "Class balance of the chunks",
                f"Share of each class in each chunk, and in the holdout before them.{some}",
                class_shades(model),
            )
        )
    if any(flips(stage) for stage in stages):
        figures.append(
            figure(
                partial(draw_flips, model),
                "Examples that changed side",
                "Holdout examples that each version has right and the version in use before had wrong; below the line "
                "the negative flips, which it has wrong and the other had right. Hollow: the version is refused.",
                SHADES,
            )
        )
    if len(stages) > 1:
        figures.append(
            figure(
                partial(draw_update_cost, model),
                "Cost of each update",
                "What each update cost, unlearning and training together. Hollow: the version is refused.",
            )
        )
    return figures


def _versions_table(model: KeptModel) -> Table:
    """Return a row for each version, the newest first."""
    tested = any(stage.independent for stage in model.run.stages)
    rows: list[list[Content]] = []
    for stage in reversed(model.run.stages):
        lost_won = flips(stage)
        row: list[Content] = [
            _version_cell(model, stage, f"{stage.version}, {model.word_for(stage.version)}"),
            day(stage),
            chunk_name(stage),
            str(stage.parent or MISSING),
            str(stage.data_examples),
            str(stage.train_examples),
            percent(prequential_accuracy(stage)),
            percent(stage.accuracy),
            *([percent((stage.independent or {}).get("accuracy"))] if tested else []),
            str(lost_won[0]) if lost_won else MISSING,
            str(lost_won[1]) if lost_won else MISSING,
            percent(stage.expected_calibration_error),
            f"{stage.train_seconds + stage.unlearn_seconds:.1f}",
            short_number(stage.train_flops + stage.unlearn_flops),
        ]
        rows.append(
            [
                Cell(cell, "b") if stage.version == model.standing.current and isinstance(cell, str) else cell
                for cell in row
            ]
        )
    headings = ["version", "day", "chunk", "from", "new", "trained on", "on arrival %", "holdout %"]
    headings += [*(["test set %"] if tested else []), "negative flips", "gained", "ECE %", "seconds", "FLOPs"]
    return Table(headings, rows)


def _losers_table(model: KeptModel) -> Table | None:
    """Return the negative flips of the last versions by class, the newest first; None where no version has any."""
    shown = [stage for stage in reversed(model.run.stages) if stage.negative_flips_by_class][:LOSERS_SHOWN]
    if not shown:
        return None
    total = {name: sum(stage.negative_flips_by_class.get(name, 0) for stage in shown) for name in _classes_of(shown)}
    rows: list[list[Content]] = [
        [
            name if model.class_names else f"class {name}",
            *(str(stage.negative_flips_by_class.get(name, 0)) for stage in shown),
        ]
        for name in sorted(total, key=lambda name: -total[name])
    ]
    return Table(["class", *(_version_cell(model, stage, str(stage.version)) for stage in shown)], rows)


def _classes_of(stages: Sequence[Stage]) -> list[str]:
    return list(dict.fromkeys(name for stage in stages for name in stage.negative_flips_by_class))


def _version_cell(model: KeptModel, stage: Stage, text: str) -> Cell:
    """Return a cell with the version's mark in the pictures before it, and a star behind the one in use."""
    in_use = stage.version == model.standing.current
    return mark_cell(text, SHADES[HOLDOUT], "o", hollow=not model.accepted(stage.version), winner=in_use)


def _cost_sentence(model: KeptModel) -> str:
    seconds, flops = cost(model, "seconds"), cost(model, "flops")
    refused = [stage for stage in model.run.stages if not model.accepted(stage.version)]
    lost = sum(stage.train_seconds + stage.unlearn_seconds for stage in refused)
    share = (
        f", {percent(lost / seconds, 0)} % of the seconds for versions that are refused" if refused and seconds else ""
    )
    return (
        f"{count(len(model.run.stages), 'update')} took {seconds:.1f} seconds and {short_number(flops)} FLOPs of "
        f"unlearning and training together{share}."
    )
