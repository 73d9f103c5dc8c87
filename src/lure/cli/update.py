"""`lure update`: train on a new chunk, and keep the better version."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lure.cli.output import silence_output
from lure.cli.parser import (
    Command,
    Parser,
    add_device,
    add_directory,
    add_hints,
    add_json,
    add_methods,
    add_model,
    add_workers,
    hints_of,
)
from lure.errors import printable
from lure.words import count, percent

MOST = 5  # so many classes stand in a line

if TYPE_CHECKING:
    from lure.learner.arrival import Arrival
    from lure.store.stage import Stage


def add_flags(parser: Parser) -> None:
    """Add the flags of `lure update`."""
    add_directory(parser)
    parser.add_argument(
        "data", metavar="DATA", type=Path, help=".npz, .csv, .parquet, or a folder of images for each class"
    )
    parser.add_argument(
        "--again",
        action="store_true",
        help="train even if this chunk was trained on before; given twice in a row, it is done once",
    )
    parser.add_argument(
        "--new-classes",
        metavar="refuse|grow|NAME,...",
        help="what a class does that the model does not know: it is refused, its head grows (but not for what looks "
        "like a slip of a known name), or it grows for the classes named here (default: as at lure init)",
    )
    parser.add_argument(
        "--holdout-add",
        metavar="FILE",
        type=Path,
        help="labelled data of classes that the holdout does not show; they belong to it from now on",
    )
    add_hints(parser)
    add_model(parser)
    add_methods(parser)
    add_device(parser)
    add_workers(parser)
    add_json(parser)


def update_command(arguments: argparse.Namespace) -> int:
    """Update the model with a chunk, and print the outcome; 3 if the chunk's version was refused, now or before."""
    from lure.learner import production
    from lure.report.progress import StageProgress
    from lure.store.durable import to_json

    def tell(arrival: "Arrival") -> None:
        for warning in arrival.warnings:
            print(f"warning: {printable(warning)}", file=sys.stderr)
        if not arguments.json:
            print(_arrival_line(arrival), flush=True)

    with StageProgress() as progress:
        stage, is_new = production.update(
            arguments.directory,
            arguments.data,
            again=arguments.again,
            model=arguments.model,
            unlearner=arguments.unlearner,
            regularizers=arguments.regularizers,
            device=arguments.device,
            workers=arguments.workers,
            watch=lambda moment: progress.show("update", moment),
            on_arrival=tell,
            hints=hints_of(arguments),
            new_classes=_permission(arguments.new_classes),
            holdout_add=arguments.holdout_add,
        )
    accepted = stage.accepted or production.is_accepted(arguments.directory, stage.version)
    if arguments.json:
        text = to_json(stage.as_dict() | {"is_new": is_new})
    else:
        text = "\n".join(_outcome_lines(stage, is_new, accepted, arguments.directory))
    try:
        print(text, flush=True)
    except OSError as error:  # the version is committed, whatever becomes of these words
        silence_output()
        print(f"warning: cannot write to standard output: {error.strerror}", file=sys.stderr)
    return 0 if accepted else 3


def _permission(text: str | None) -> str | list[str] | None:
    return text if text in (None, "refuse", "grow") else [name.strip() for name in text.split(",")]


def _arrival_line(arrival: "Arrival") -> str:
    words = [count(arrival.examples, "example")]
    if arrival.repeated:
        words.append(f"{arrival.repeated} repeat another of the chunk")
    if arrival.prequential_accuracy is not None:
        words.append(f"the version in use gets {percent(arrival.prequential_accuracy, 2)} % of them right")
    return "chunk: " + ", ".join(words)


def _outcome_lines(stage: "Stage", is_new: bool, accepted: bool, directory: Path) -> list[str]:
    verdict = "accepted" if accepted else "refused"
    if not is_new:
        return [
            f"this chunk is committed already, as version {stage.version} ({verdict}); nothing changed (see --again)"
        ]
    accuracy = f": {percent(stage.accuracy, 2)} % of the holdout right"
    if stage.independent:
        accuracy += f", {percent(stage.independent['accuracy'], 2)} % of the test set that decides nothing"
    lines = [f"version {stage.version} {verdict}{accuracy}"]
    decision = stage.decision or {"comparisons": [], "reasons": []}
    for other in decision["comparisons"]:
        lines.append(
            f"  against version {other['version']} ({percent(other['accuracy'], 2)} %): "
            f"{count(other['won'], 'example')} won, {other['lost']} lost "
            f"(one-sided McNemar test that it is worse: p = {other['p_value']:.2g})"
        )
    if stage.negative_flips:
        flips = ", ".join(f"{name} {number}" for name, number in _most(stage.negative_flips_by_class))
        lines.append(f"  negative flips (right before, wrong now): {stage.negative_flips} ({flips})")
    for name in stage.new_classes:
        share = decision.get("new_classes", {}).get(name)
        right = "the holdout shows none" if share is None else f"{percent(share, 2)} % of the holdout's right"
        lines.append(f"  new class {name}: {right}")
    lines += [f"  {reason}" for reason in decision["reasons"]]
    lines += [f"  warning: {sentence}" for sentence in decision.get("warnings", ())]
    if not stage.accepted:
        lines.append(f"version {stage.parent} stays in use, and the chunk is quarantined; to accept both:")
        lines.append(f"  lure accept {directory} {stage.version} --reason TEXT")
    if not stage.exact:
        lines.append("not repeatable bit by bit: a budget in seconds, an accelerator, or another torch than before")
    return lines


def _most(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: -item[1])[:MOST]


COMMAND = Command(
    summary="Train on a chunk of new data. The new version is used if the gate accepts it; if not, the old one stays.",
    add_flags=add_flags,
    run=update_command,
)
