"""`lure update`: train on a new chunk, and keep the better version."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lure.cli.parser import (
    Command,
    Parser,
    add_device,
    add_directory,
    add_hints,
    add_json,
    add_model,
    add_workers,
    hints_of,
)
from lure.errors import printable
from lure.words import count, percent

if TYPE_CHECKING:
    from lure.learner.arrival import Arrival
    from lure.store.stage import Stage


def add_flags(parser: Parser) -> None:
    """Add the flags of `lure update`."""
    add_directory(parser)
    parser.add_argument("data", metavar="DATA", type=Path, help=".npz, .parquet, or a folder of images for each class")
    parser.add_argument("--again", action="store_true", help="train even if this chunk was trained on before")
    add_hints(parser)
    add_model(parser)
    add_device(parser)
    add_workers(parser)
    add_json(parser)


def update_command(arguments: argparse.Namespace) -> int:
    """Update the model with a chunk, and print the outcome; 3 if the new version was refused."""
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
            device=arguments.device,
            workers=arguments.workers,
            watch=lambda moment: progress.show("update", moment),
            on_arrival=tell,
            hints=hints_of(arguments),
        )
    if arguments.json:
        print(to_json(stage.as_dict() | {"is_new": is_new}))
    else:
        print("\n".join(_outcome_lines(stage, is_new, arguments.directory)))
    return 0 if stage.accepted or not is_new else 3


def _arrival_line(arrival: "Arrival") -> str:
    words = [count(arrival.examples, "example")]
    if arrival.repeated:
        words.append(f"{arrival.repeated} repeat another of the chunk")
    if arrival.prequential_accuracy is not None:
        words.append(f"the version in use gets {percent(arrival.prequential_accuracy, 2)} % of them right")
    return "chunk: " + ", ".join(words)


def _outcome_lines(stage: "Stage", is_new: bool, directory: Path) -> list[str]:
    verdict = "accepted" if stage.accepted else "refused"
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
    lines += [f"  {reason}" for reason in decision["reasons"]]
    if not stage.accepted:
        lines.append(f"version {stage.parent} stays in use, and the chunk is quarantined; to accept both:")
        lines.append(f"  lure accept {directory} {stage.version} --reason TEXT")
    if not stage.exact:
        lines.append("not repeatable bit by bit: a budget in seconds, an accelerator, or another torch than before")
    return lines


COMMAND = Command(
    summary="Train on a chunk of new data. The new version is used if the gate accepts it; if not, the old one stays.",
    add_flags=add_flags,
    run=update_command,
)
