"""The production part of the command line: init, update, status, accept, rollback, predict, export, verify, prune.

Like `cli`, it reads flags, calls the library and prints.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lure.data.sources.files import load_examples
from lure.errors import InputError, printable
from lure.learner import production
from lure.learner.arrival import Arrival
from lure.learner.gate import Gate
from lure.learner.version import Version, export, write_predictions
from lure.recipe import Recipe
from lure.report.progress import StageProgress
from lure.report.table import empty_table, report_console
from lure.store.durable import to_json
from lure.store.stage import Stage


def add_production_commands(add: Callable[[str, str], Any], add_fields: Callable[..., None]) -> None:
    """Add the commands to the parser; `add` makes one, `add_fields` gives it a flag for each field of a recipe."""
    begin = add("init", "Begin a directory that is kept current: fix the holdout, the gate and how to train.")
    _add_directory(begin)
    begin.add_argument("--holdout", metavar="FILE", type=Path, required=True, help="data that decide on every version")
    begin.add_argument("--test", metavar="FILE", type=Path, help="data that are measured on, too, and decide nothing")
    gate = begin.add_argument_group("the gate (shares lie in [0, 1]; the first version always passes)")
    for field in dataclasses.fields(Gate):
        default = "no such rule" if field.default is None else field.default
        gate.add_argument(
            f"--{field.name.replace('_', '-')}",
            dest=f"gate_{field.name}",
            metavar="X",
            help=f"{field.metadata['meaning']} (default: {default})",
        )
    add_fields(begin, Recipe)

    take = add("update", "Take in a chunk of new data: the model is then current, or the old one still stands.")
    _add_directory(take)
    take.add_argument("data", metavar="DATA", type=Path, help=".npz, .parquet, or a folder of images for each class")
    take.add_argument("--again", action="store_true", help="train on a chunk that was committed before, too")
    _add_model(take)
    take.add_argument("--workers", type=int, default=0, help="processes that read data too large for memory")
    _add_json(take)

    _add_json(_add_directory(add("status", "Show versions, data, metrics, cost and decisions.")))

    let = add("accept", "Let in a version that the gate refused, and its chunk.")
    _add_version(_add_directory(let))
    let.add_argument("--reason", metavar="TEXT", default="", help="goes into the ledger")

    back = add("rollback", "Go back to an accepted version; nothing is deleted.")
    _add_version(_add_directory(back))
    back.add_argument("--reason", metavar="TEXT", default="", help="goes into the ledger")

    guess = add("predict", "Print the class and the probabilities of each example, with the version in use.")
    _add_directory(guess)
    guess.add_argument("data", metavar="DATA", type=Path, help="data as for update; labels are not needed")
    guess.add_argument("--format", choices=["csv", "jsonl"], default="csv", help="default csv")
    guess.add_argument("--version", dest="number", metavar="VERSION", type=int, help="default: the one in use")
    _add_model(guess)

    out = add("export", "Write a version for other programs, with its recipe beside it.")
    _add_directory(out)
    out.add_argument("file", metavar="FILE", type=Path, help=".safetensors (weights) or .pt2 (torch.export program)")
    out.add_argument("--version", dest="number", metavar="VERSION", type=int, help="default: the one in use")
    _add_model(out)

    _add_directory(add("verify", "Check every checksum and every reference; name what is damaged."))

    thin = add("prune", "Remove the weights of old versions to free space; data and ledger stay.")
    _add_directory(thin)
    thin.add_argument("--keep", metavar="N", type=int, required=True, help="newest versions that stay, at least 1")


def _add_directory(command: Any) -> Any:
    command.add_argument("directory", metavar="DIR", type=Path, help="the run directory")
    return command


def _add_version(command: Any) -> None:
    command.add_argument("number", metavar="VERSION", type=int, help="its number (see: lure status DIR)")


def _add_json(command: Any) -> None:
    command.add_argument("--json", action="store_true", help="print JSON")


def _add_model(command: Any) -> None:
    command.add_argument(
        "--model", metavar="NAME", help="package.module:function, again, where the network is your own code"
    )
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default auto)")


def init_command(arguments: argparse.Namespace) -> None:
    """`lure init`."""

    def given(prefix: str) -> dict[str, Any]:
        values = {k.removeprefix(prefix): v for k, v in vars(arguments).items() if k.startswith(prefix)}
        return {name: value for name, value in values.items() if value is not None}

    production.init(
        arguments.directory,
        arguments.holdout,
        independent=arguments.test,
        recipe=Recipe(**given("field_")),
        gate=Gate(**given("gate_")),
    )
    print(f"{arguments.directory} is ready; give it the first chunk: lure update {arguments.directory} DATA")


def update_command(arguments: argparse.Namespace) -> int:
    """`lure update`; 3 if the new version was refused."""

    def tell(arrival: Arrival) -> None:
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
        )
    if arguments.json:
        print(to_json(stage.as_dict() | {"is_new": is_new}))
    else:
        print(_outcome_lines(stage, is_new, arguments.directory))
    return 0 if stage.accepted or not is_new else 3


def _arrival_line(arrival: Arrival) -> str:
    words = [f"{arrival.examples} examples"]
    if arrival.repeated:
        words.append(f"{arrival.repeated} repeat another of the chunk")
    if arrival.prequential_accuracy is not None:
        words.append(f"the version in use gets {100 * arrival.prequential_accuracy:.2f} % of them right")
    return "chunk: " + ", ".join(words)


def _outcome_lines(stage: Stage, is_new: bool, directory: Path) -> str:
    verdict = "accepted" if stage.accepted else "refused"
    if not is_new:
        return f"this chunk is committed already, as version {stage.version} ({verdict}); nothing changed (see --again)"
    accuracy = f": {_percent(stage.accuracy)} % of the holdout right"
    if stage.independent:
        accuracy += f", {_percent(stage.independent['accuracy'])} % of the test set that decides nothing"
    lines = [f"version {stage.version} {verdict}{accuracy}"]
    decision = stage.decision or {"comparisons": [], "reasons": []}
    for rival in decision["comparisons"]:
        lines.append(
            f"  beside version {rival['version']} ({100 * rival['accuracy']:.2f} %): {rival['won']} examples won, "
            f"{rival['lost']} lost (one-sided McNemar test that it is worse: p = {rival['p_value']:.2g})"
        )
    lines += [f"  {reason}" for reason in decision["reasons"]]
    if not stage.accepted:
        lines.append(f"version {stage.parent} stays in use, and the chunk is kept aside; to let both in:")
        lines.append(f"  lure accept {directory} {stage.version} --reason TEXT")
    if not stage.exact:
        lines.append("not repeatable bit by bit: a budget in seconds, an accelerator, or another torch than before")
    return "\n".join(lines)


def status_command(arguments: argparse.Namespace) -> None:
    """`lure status`."""
    facts = production.status(arguments.directory)
    if arguments.json:
        print(json.dumps(json.loads(to_json(facts)), indent=2, ensure_ascii=False))
        return
    table = empty_table()
    table.title = f"{facts['directory']}: {facts['model']}, {facts['unlearner']}"
    table.caption = "holdout: how much of it is right; chunk before: how much the version before had right of it"
    for heading in ("version", "status", "from", "chunk", "new", "trained\non", "holdout\n%", "chunk\nbefore\n%"):
        table.add_column(heading, justify="left" if heading in ("status", "chunk") else "right", no_wrap=True)
    for heading in ("ECE\n%", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for version in facts["versions"]:
        before = (version["arrival"] or {}).get("prequential_accuracy")
        table.add_row(
            str(version["version"]),
            version["status"],
            str(version["parent"] or "-"),
            version["data_fingerprint"][:8],
            str(version["data_examples"]),
            str(version["train_examples"]),
            _percent(version["accuracy"]),
            _percent(before),
            _percent(version["expected_calibration_error"]),
            f"{version['train_seconds'] + version['unlearn_seconds']:.1f}",
        )
    console = report_console()
    console.print(table)
    for line in _status_lines(facts):
        console.print(printable(line), highlight=False, markup=False, soft_wrap=True)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"


def _status_lines(facts: dict[str, Any]) -> list[str]:
    lines = [f"in use: version {facts['current_version']}" if facts["current_version"] else "there is no version yet"]
    if facts["holdout"]:
        lines.append(f"holdout: {facts['holdout']['examples']} examples, used {facts['holdout_uses']} times")
    if facts["running"]:
        lines.append(f"interrupted: stage {facts['running']['stage']}, {facts['running']['epochs_done']} epochs done")
    if facts["waiting_chunks"]:
        lines.append(f"chunks that the next update takes in: {len(facts['waiting_chunks'])}")
    for version in facts["versions"]:
        reasons = (version["decision"] or {"reasons": []})["reasons"]
        lines += [f"version {version['version']} was refused: {reason}" for reason in reasons]
    for event in facts["events"]:
        which = event.get("version") or ", ".join(map(str, event["versions"]))
        reason = f" ({event['reason']})" if event.get("reason") else ""
        lines.append(f"{event['committed_at']}: {event['event']} {which}{reason}")
    return lines


def accept_command(arguments: argparse.Namespace) -> None:
    """`lure accept`."""
    print(production.accept(arguments.directory, arguments.number, arguments.reason))


def rollback_command(arguments: argparse.Namespace) -> None:
    """`lure rollback`."""
    print(production.rollback(arguments.directory, arguments.number, arguments.reason))


def predict_command(arguments: argparse.Namespace) -> None:
    """`lure predict`."""
    version = Version.load(arguments.directory, arguments.number, model=arguments.model, device=arguments.device)
    task = version.task
    examples = load_examples(
        arguments.data, task.class_names or None, task.input_shape, labelled=False, columns=task.columns
    )
    write_predictions(version, examples, sys.stdout, arguments.format)


def export_command(arguments: argparse.Namespace) -> None:
    """`lure export`."""
    version = Version.load(arguments.directory, arguments.number, model=arguments.model, device=arguments.device)
    files = export(version, arguments.file)
    print(f"version {version.stage.version} written to {', '.join(map(str, files))}")


def verify_command(arguments: argparse.Namespace) -> None:
    """`lure verify`."""
    complaints = list(production.verify(arguments.directory))
    for complaint in complaints:
        print(complaint)
    if complaints:
        things = "1 thing is" if len(complaints) == 1 else f"{len(complaints)} things are"
        raise InputError(f"{arguments.directory}: {things} wrong, as listed")
    print(f"{arguments.directory}: every checksum and every reference is right")


def prune_command(arguments: argparse.Namespace) -> None:
    """`lure prune`."""
    removed = production.prune(arguments.directory, arguments.keep)
    print(f"weights removed of versions: {', '.join(map(str, removed)) or 'none'}")


PRODUCTION_COMMANDS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "init": init_command,
    "update": update_command,
    "status": status_command,
    "accept": accept_command,
    "rollback": rollback_command,
    "predict": predict_command,
    "export": export_command,
    "verify": verify_command,
    "prune": prune_command,
}
