"""The ledger: one JSON object a line for everything that was ever committed, and what follows from it.

A line is the commit: what has no line did not happen. Its `event` says what it is about: "stage" (a version was
trained, and accepted or refused), "accept" and "rollback" (somebody overruled), "prune" (weights were removed to free
space). Lines are only ever appended. Each holds its own SHA-256, reckoned together with that of the line before, so a
line that is damaged, missing or out of place is found; a last line that was never finished is no commit. How many
lines there are stands in `ledger.seal`, so that a ledger which lost its end is found, too.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lure.errors import InputError
from lure.store.durable import checksum, replace_file, seal, sync_folder, to_json, unseal, writing

LEDGER, SEAL = "ledger.jsonl", "ledger.seal"
EVENTS = ("stage", "accept", "rollback", "prune")


def _read(path: Path) -> bytes | None:
    """Return a file's bytes; None if it is not there."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def _checksum(event: Mapping[str, Any], previous: str) -> str:
    return checksum((previous + to_json(event)).encode())


def _read_lines(folder: Path, checksums: bool = False) -> tuple[list[dict[str, Any]], str]:
    """Return the lines of the ledger, and the last checksum; "" if there is no line."""
    # The seal first: whoever reads while a line is appended then finds at least as many lines as the seal says.
    sealed = _read(folder / SEAL)
    record: dict[str, Any] | None = {"lines": 0, "line_sha256": ""} if sealed is None else unseal(sealed)
    if record is None or not isinstance(record.get("lines"), int) or "line_sha256" not in record:
        raise InputError(f"{folder / SEAL} is damaged: restore it from a backup, together with {LEDGER}")
    events: list[dict[str, Any]] = []
    stages, previous = 0, ""
    for number, line in enumerate((_read(folder / LEDGER) or b"").split(b"\n")[:-1], start=1):
        try:
            event = json.loads(line)
            found = event.pop("line_sha256")
            intact = found == _checksum(event, previous) and event["event"] in EVENTS
            if event["event"] == "stage":
                stages += 1
                intact = intact and event["stage"] == event["version"] == stages
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            intact = False
        if not intact or (number == record["lines"] and found != record["line_sha256"]):
            raise InputError(f"{folder / LEDGER}, line {number} is damaged: restore the file from a backup")
        events.append(event | {"line_sha256": found} if checksums else event)
        previous = found
    if len(events) < record["lines"]:
        raise InputError(
            f"{folder / LEDGER} was cut short: it had {record['lines']} lines and has {len(events)}; "
            f"restore the file from a backup"
        )
    return events, previous


def read_ledger(folder: Path, checksums: bool = False) -> list[dict[str, Any]]:
    """Return all lines of a run directory's ledger, oldest first.

    Args:
        folder: the run directory.
        checksums: leave each line its `line_sha256`.

    Raises:
        InputError: naming file and line, if a line is damaged or missing.
    """
    return _read_lines(folder, checksums)[0]


def append_line(folder: Path, event: Mapping[str, Any]) -> None:
    """Append one line to a run directory's ledger, first cutting off a line that was never finished.

    Raises:
        StorageError: if the disk refuses; the line is then not committed.
    """
    path = folder / LEDGER
    events, previous = _read_lines(folder)
    with writing(path):
        whole = _read(path) or b""
        if not whole.endswith(b"\n"):
            replace_file(path, whole[: whole.rfind(b"\n") + 1])
        # Through JSON and back: the checksum is of the values as a reader will have them.
        plain = json.loads(to_json(event))
        record = {"lines": len(events) + 1, "line_sha256": _checksum(plain, previous)}
        with open(path, "ab") as file:
            file.write(to_json({**plain, "line_sha256": record["line_sha256"]}).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        sync_folder(folder)
        replace_file(folder / SEAL, seal(record))


def renew_seal(folder: Path) -> None:
    """Bring the seal up to the ledger's last line, should a process have died between the two."""
    events, last = _read_lines(folder)
    content = seal({"lines": len(events), "line_sha256": last})
    if events and _read(folder / SEAL) != content:
        replace_file(folder / SEAL, content)


@dataclass(frozen=True)
class Standing:
    """What the ledger comes to.

    Attributes:
        lineage: the version in use and those that it was trained from, newest first; empty before the first.
        accepted: versions that were accepted, by the gate or by hand.
        waiting: stages whose chunk was let in by hand after the model had moved on: the next update takes it in.
        pruned: versions whose weights were removed to free space.
    """

    lineage: tuple[int, ...] = ()
    accepted: frozenset[int] = frozenset()
    waiting: tuple[int, ...] = ()
    pruned: frozenset[int] = frozenset()

    @property
    def current(self) -> int:
        """The version in use, which predicts and which the next update goes on from; 0 before the first."""
        return self.lineage[0] if self.lineage else 0


def standing(events: Sequence[Mapping[str, Any]]) -> Standing:
    """Follow the ledger from its first line to its last.

    Example:
        >>> lines = [
        ...     {"event": "stage", "version": 1, "parent": 0, "accepted": True, "taken_in": [1]},
        ...     {"event": "stage", "version": 2, "parent": 1, "accepted": False, "taken_in": [2]},
        ...     {"event": "stage", "version": 3, "parent": 1, "accepted": True, "taken_in": [3]},
        ... ]
        >>> standing(lines).lineage, standing([*lines, {"event": "rollback", "version": 1}]).current
        ((3, 1), 1)
    """
    parents: dict[int, int] = {}
    current, accepted, waiting, pruned = 0, set[int](), list[int](), set[int]()
    for event in events:
        kind, version = event["event"], event.get("version", 0)
        if kind == "prune":
            pruned.update(event["versions"])
            continue
        if kind == "stage":
            parents[version] = event["parent"]
        if kind == "rollback":
            current, waiting = version, []
            continue
        if kind == "stage" and not event["accepted"]:
            continue
        accepted.add(version)
        if kind == "accept" and not event["becomes_current"]:
            waiting.append(version)
            continue
        current = version
        waiting = [stage for stage in waiting if stage not in event["taken_in"]]
    lineage = []
    while current:
        lineage.append(current)
        current = parents[current]
    return Standing(tuple(lineage), frozenset(accepted), tuple(waiting), frozenset(pruned))
