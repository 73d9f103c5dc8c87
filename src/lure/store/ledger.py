"""The ledger: one JSON object a line for everything that was ever committed, and the state that it implies.

A line is the commit: what has no line did not happen. Its `event` says what it is about: "stage" (a version was
trained, and accepted or refused), "accept" and "rollback" (somebody overruled), "prune" (weights were removed to free
space). Lines are only ever appended. Each holds its own SHA-256, computed together with that of the line before, so a
line that is damaged, missing or out of place is found. The number of lines stands in `ledger.seal`, so that a ledger
which lost its end is found, too. A torn last line beyond those was never finished, so it is not a commit.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lure.errors import InputError
from lure.store.durable import (
    checksum,
    json_bytes,
    parsing,
    replace_file,
    seal,
    sync_folder,
    tidying,
    unseal,
    writing,
)
from lure.store.stage import Stage

LEDGER, SEAL = "ledger.jsonl", "ledger.seal"
EVENTS = ("stage", "accept", "rollback", "prune")


@dataclass(frozen=True)
class Standing:
    """The state of a run that its ledger implies.

    Attributes:
        lineage: the version in use and those that it was trained from, newest first; empty before the first.
        accepted: versions that were accepted, by the gate or by hand.
        waiting: stages whose chunk was accepted by hand after the model had moved on: the next update adds it.
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

    def word_for(self, version: int) -> str:
        """Say where a version stands: "in use", "accepted" or "refused", and whether it was pruned."""
        word = "in use" if version == self.current else "accepted" if version in self.accepted else "refused"
        return f"{word}, pruned" if version in self.pruned else word


def standing(events: Sequence[Mapping[str, Any]]) -> Standing:
    """Follow the ledger from its first line to its last.

    Raises:
        ValueError: if a version comes from a later one; and whatever else lines in another form lead to.

    Example:
        >>> lines = [
        ...     {"event": "stage", "version": 1, "parent": 0, "accepted": True, "taken_in": [1]},
        ...     {"event": "stage", "version": 2, "parent": 1, "accepted": False, "taken_in": [2]},
        ...     {"event": "stage", "version": 3, "parent": 1, "accepted": True, "taken_in": [3]},
        ... ]
        >>> standing(lines).lineage, standing([*lines, {"event": "rollback", "version": 1}]).current
        ((3, 1), 1)
    """
    parents, state = _parents_of(events), Standing()
    for event in events:
        state = _after(state, event, parents)
    return state


def _parents_of(events: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """Return version -> the version that it was trained from, which must be an earlier one, or a lineage would not end.

    Raises:
        ValueError: if a line says what cannot be.
    """
    parents = {}
    for event in events:
        if event["event"] == "stage":
            version, parent = event["version"], event["parent"]
            if not 0 <= parent < version:
                raise ValueError(f"version {version} cannot come from version {parent}")
            if not all(1 <= stage <= version for stage in event["taken_in"]):
                raise ValueError(f"version {version} cannot have taken in {event['taken_in']}")
            parents[version] = parent
        else:
            for version in event.get("versions", [event.get("version")]):
                if version not in parents:
                    raise ValueError(f"there is no version {version!r:.60} to {event['event']}")
    return parents


def _after(before: Standing, event: Mapping[str, Any], parents: Mapping[int, int]) -> Standing:
    """Return the state that one more line gives.

    Args:
        before: the state that all lines before it imply.
        event: the line.
        parents: version -> the version that it was trained from, up to this line at least.
    """
    kind, version = event["event"], event.get("version", 0)
    if kind == "prune":
        return replace(before, pruned=before.pruned | set(event["versions"]))
    if kind == "rollback":
        return replace(before, lineage=_lineage(version, before, parents), waiting=())
    if kind == "stage" and not event["accepted"]:
        return before
    accepted = before.accepted | {version}
    if kind == "accept" and not event["becomes_current"]:
        return replace(before, accepted=accepted, waiting=(*before.waiting, version))
    waiting = tuple(stage for stage in before.waiting if stage not in event["taken_in"])
    return replace(before, lineage=_lineage(version, before, parents), accepted=accepted, waiting=waiting)


def _lineage(version: int, before: Standing, parents: Mapping[int, int]) -> tuple[int, ...]:
    if version and parents[version] == before.current:
        return (version, *before.lineage)
    lineage = []
    while version:
        lineage.append(version)
        version = parents[version]
    return tuple(lineage)


class Ledger:
    """The ledger of one run directory, read once and appended to.

    Reading happens when something is first asked for. Whoever holds the directory's lock may rely on what was read;
    `forget` has it read anew.

    Args:
        folder: the run directory; it and its ledger need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.forget()

    def forget(self) -> None:
        """Forget what was read: the next question reads the files again."""
        self._events: list[dict[str, Any]] | None = None
        self._checksums: list[str] = []  # one for each line
        self._torn = 0  # bytes of a last line that was never finished
        self._stages: list[Stage] = []
        self._standing: Standing | None = None
        self._parents: dict[int, int] = {}  # of every version, once the standing is known

    @property
    def path(self) -> Path:
        """The file."""
        return self._folder / LEDGER

    @property
    def events(self) -> Sequence[Mapping[str, Any]]:
        """All lines, oldest first, each without its checksum.

        Raises:
            InputError: naming file and line, if a line is damaged or missing.
        """
        if self._events is None:
            self._events, self._checksums, self._torn = _read_lines(self._folder)
        return self._events

    @property
    def unfinished(self) -> bool:
        """Whether the file ends in a line that was never finished; it is not a commit, and the next line replaces it.

        Raises:
            InputError: as `events`.
        """
        return bool(self.events is not None and self._torn)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """All lines as they are stored, oldest first, each with its checksum.

        Raises:
            InputError: as `events`.
        """
        return [{**event, "line_sha256": digest} for event, digest in zip(self.events, self._checksums, strict=True)]

    @property
    def stages(self) -> Sequence[Stage]:
        """The committed stages, oldest first: stage n stands at place n - 1.

        Raises:
            InputError: if the ledger is damaged, or was written by another version of lure.
        """
        known = len(self._stages)
        lines = [(n, line) for n, line in enumerate(self.events[known:], known + 1) if line["event"] == "stage"]
        if lines and known < lines[-1][1]["stage"]:
            new = [(n, line) for n, line in lines if line["stage"] > known]
            self._stages += [Stage.from_dict(line, f"{self.path}, line {n}") for n, line in new]
        return self._stages

    @property
    def standing(self) -> Standing:
        """The state that the ledger implies: the version in use, for one.

        Raises:
            InputError: if the ledger is damaged.
        """
        if self._standing is None:
            with parsing(self.path):
                self._parents = _parents_of(self.events)
                self._standing = standing(self.events)
        return self._standing

    def append(self, event: Mapping[str, Any]) -> None:
        """Append one line, first cutting off a line that was never finished.

        What the disk refuses once the line stands there is a warning: it is committed.

        Raises:
            InputError: if a text in the event is no text; the line is then not committed.
            StorageError: if the disk refuses; likewise.
        """
        count = len(self.events)
        # Through JSON and back: the checksum is of the values as a reader will have them.
        plain = json.loads(json_bytes(event))
        digest = _line_checksum(plain, self._checksums[-1] if self._checksums else "")
        line = json_bytes({**plain, "line_sha256": digest}) + b"\n"
        try:
            with writing(self.path):
                _own(self.path, self._torn)
                self._torn = 0
                _append(self.path, line)
            with tidying(self._folder / SEAL):
                sync_folder(self._folder)
                replace_file(self._folder / SEAL, seal({"lines": count + 1, "line_sha256": digest}))
        except BaseException:
            self.forget()  # who knows how much of it is on the disk
            raise
        assert self._events is not None
        self._events.append(plain)
        self._checksums.append(digest)
        if plain["event"] == "stage":
            self._parents[plain["version"]] = plain["parent"]
        self._standing = self._standing and _after(self._standing, plain, self._parents)

    def renew_seal(self) -> None:
        """Bring the seal up to the ledger's last line, should a process have died between the two."""
        if not self.events:
            return
        content = seal({"lines": len(self.events), "line_sha256": self._checksums[-1]})
        if _read(self._folder / SEAL) != content:
            replace_file(self._folder / SEAL, content)


def read_ledger(folder: Path) -> Sequence[Mapping[str, Any]]:
    """Return all lines of a run directory's ledger, oldest first, each without its checksum.

    Raises:
        InputError: naming file and line, if a line is damaged or missing.
    """
    return Ledger(folder).events


def _read(path: Path) -> bytes | None:
    """Return a file's bytes; None if it is not there."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def _line_checksum(event: Mapping[str, Any], previous: str) -> str:
    return checksum(previous.encode() + json_bytes(event))


def _append(path: Path, line: bytes) -> None:
    """Append a line, flushed to the disk; if that fails, take it back, and if that fails, too, see what stands there.

    Raises:
        OSError: if the disk refuses, and the whole line is not there.
    """
    # Without a buffer: what it still holds after an error would be written when the file is closed.
    with open(path, "ab", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            rest = line
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
            return
        except OSError as error:
            refused = error
        try:
            os.ftruncate(file.fileno(), size)
        except OSError:
            # The next process that reads it takes a whole line for a commit, and so must this one.
            if os.fstat(file.fileno()).st_size == size + len(line):
                with tidying(path):
                    raise refused from None
                return
        raise refused


def _own(path: Path, torn: int) -> None:
    """Make a file anew without its last, unfinished bytes; and one that has another name, too, which is a backup."""
    if path.exists() and (torn or path.stat().st_nlink > 1):
        content = path.read_bytes()
        replace_file(path, content[: len(content) - torn])


def _read_lines(folder: Path) -> tuple[list[dict[str, Any]], list[str], int]:
    """Return the lines without their checksums, the checksums, and how many bytes at the end were never finished."""
    # The seal first: whoever reads while a line is appended then finds at least as many lines as the seal says.
    sealed = _read(folder / SEAL)
    record: dict[str, Any] | None = {"lines": 0, "line_sha256": ""} if sealed is None else unseal(sealed)
    if record is None or not isinstance(record.get("lines"), int) or "line_sha256" not in record:
        raise InputError(f"{folder / SEAL} is damaged: restore it from a backup, together with {LEDGER}")
    events: list[dict[str, Any]] = []
    checksums: list[str] = []
    stages = 0
    *lines, rest = (_read(folder / LEDGER) or b"").split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            event = json.loads(line)
            found = event.pop("line_sha256")
            intact = found == _line_checksum(event, checksums[-1] if checksums else "") and event["event"] in EVENTS
            if event["event"] == "stage":
                stages += 1
                intact = intact and event["stage"] == event["version"] == stages
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            intact = False
        if not intact and sealed is not None and number == len(lines) > record["lines"]:
            rest = line + b"\n" + rest
            break
        if not intact or (number == record["lines"] and found != record["line_sha256"]):
            raise InputError(f"{folder / LEDGER}, line {number} is damaged: restore the file from a backup")
        events.append(event)
        checksums.append(found)
    if len(events) < record["lines"]:
        raise InputError(
            f"{folder / LEDGER} was cut short: it had {record['lines']} lines and has {len(events)}; "
            f"restore the file from a backup"
        )
    return events, checksums, len(rest)
