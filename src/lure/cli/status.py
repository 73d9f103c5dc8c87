"""`lure status`: what a run directory holds."""

import argparse
import json
from typing import Any

from lure.cli.parser import Command, Parser, add_directory, add_json
from lure.errors import printable
from lure.words import MISSING, choice_text, count, percent

SHOWN = 5  # so many classes stand in a line
WIDE = 100  # from here on there is room for the calibration error
CHUNK, ECE = "chunk and\nits day", "ECE\n%"
COLUMNS = ["version", "status", "from", CHUNK, "new", "trained\non", "holdout\n%", "chunk\nbefore\n%", "seconds"]


def add_flags(parser: Parser) -> None:
    """Add the flags of `lure status`."""
    add_directory(parser)
    add_json(parser)


def status_command(arguments: argparse.Namespace) -> None:
    """Print the versions as a table, and below it holdout, waiting chunks, refusals and events."""
    from lure.learner import production
    from lure.store.durable import to_json

    facts = production.status(arguments.directory)
    if arguments.json:
        print(json.dumps(json.loads(to_json(facts)), indent=2, ensure_ascii=False))
        return
    _print_versions(facts)


def _print_versions(facts: dict[str, Any]) -> None:
    from lure.report.console import empty_table, report_console

    console = report_console()
    wide = console.width >= WIDE
    table = empty_table()
    table.title = f"{facts['directory']}: {facts['model']}, {facts['unlearner']}"
    table.caption = "holdout: share of it right; chunk before: share of the chunk that the version before had right"
    columns = [*COLUMNS, ECE] if wide else COLUMNS
    for heading in columns:
        words = heading in ("status", CHUNK)
        table.add_column(heading, justify="left" if words else "right", no_wrap=not words, overflow="fold")
    for version in facts["versions"]:
        before = (version["arrival"] or {}).get("prequential_accuracy")
        cells = [
            str(version["version"]),
            version["status"],
            str(version["parent"] or MISSING),
            f"{_name_of(version)}\n{_day_of(version)}",
            str(version["data_examples"]),
            str(version["train_examples"]),
            percent(version["accuracy"], 2),
            percent(before, 2),
            f"{version['train_seconds'] + version['unlearn_seconds']:.1f}",
            percent(version["expected_calibration_error"], 2),
        ]
        table.add_row(*cells[: len(columns)])
    console.print(table)
    for line in _status_lines(facts):
        console.print(printable(line), highlight=False, markup=False, soft_wrap=True)


def _name_of(version: dict[str, Any]) -> str:
    """Return the name of the file that a version's chunk came from; earlier ledgers know its fingerprint only."""
    return printable((version["arrival"] or {}).get("name") or version["data_fingerprint"][:8])


def _day_of(version: dict[str, Any]) -> str:
    return str(version["committed_at"]).partition("T")[0]


def _status_lines(facts: dict[str, Any]) -> list[str]:
    lines = [f"in use: version {facts['current_version']}" if facts["current_version"] else "there is no version yet"]
    if facts["holdout"]:
        examples, uses = count(facts["holdout"]["examples"], "example"), count(facts["holdout_uses"], "time")
        lines.append(f"holdout: {examples}, used {uses}")
    for version in facts["versions"]:
        if version["new_classes"]:
            lines.append(f"new with version {version['version']} ({_day_of(version)}): {_some(version['new_classes'])}")
    current = next((each for each in facts["versions"] if each["version"] == facts["current_version"]), None)
    if current is not None and current["negative_flips"] is not None:
        by_class = current["negative_flips_by_class"]
        most = [f"{name} {by_class[name]}" for name in sorted(by_class, key=by_class.__getitem__, reverse=True)]
        lines.append(
            f"negative flips of version {current['version']} (right in version {current['parent']}, wrong in it): "
            f"{current['negative_flips']} of {current['test_examples']}" + (f" ({_some(most)})" if most else "")
        )
    last = facts["versions"][-1] if facts["versions"] else {}
    if chosen := choice_text(last.get("choices", [])):
        share = f", {percent(last['unlearn_flops'] / last['train_flops'], 0)} % of the training cost"
        lines.append(f"chose for version {last['version']}: {chosen}{share if last['train_flops'] else ''}")
    if facts["running"]:
        epochs = count(facts["running"]["epochs_done"], "epoch")
        lines.append(f"interrupted: stage {facts['running']['stage']}, {epochs} done")
    if facts["waiting_chunks"]:
        lines.append(f"chunks that the next update takes in: {len(facts['waiting_chunks'])}")
    for version in facts["versions"]:
        reasons = (version["decision"] or {"reasons": []})["reasons"]
        which = f"version {version['version']} ({_name_of(version)}, {_day_of(version)})"
        lines += [f"{which} was refused: {reason}" for reason in reasons]
    for event in facts["events"]:
        which = event.get("version") or ", ".join(map(str, event["versions"]))
        reason = f" ({event['reason']})" if event.get("reason") else ""
        lines.append(f"{event.get('committed_at', MISSING)}: {event['event']} {which}{reason}")
    return lines


def _some(words: list[str]) -> str:
    return ", ".join(words[:SHOWN]) + (f" and {len(words) - SHOWN} more" if len(words) > SHOWN else "")


COMMAND = Command(summary="Show versions, data, metrics, cost and decisions.", add_flags=add_flags, run=status_command)
