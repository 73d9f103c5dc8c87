"""The facts that stand beside an exported version, as `NAME.json`: what the weights need, and checksums."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lure.errors import InputError
from lure.store.durable import checksum, file_checksum, json_bytes

FIELDS = {"task", "stage", "sha256"}
SINCE = {"program"}  # earlier versions of lure did not write these


def seal_facts(facts: Mapping[str, Any], name: str) -> bytes:
    """Return the content of a file of facts called `name`, its own checksum among the others."""
    sums = {**_others(facts, name), name: _own_checksum(facts, name)}
    return json.dumps({**facts, "sha256": sums}, indent=2).encode() + b"\n"


def read_facts(path: Path) -> dict[str, Any] | None:
    """Return the facts in a file; None if there is none, or it is something else."""
    try:
        facts = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(facts, dict) or facts.keys() - SINCE != FIELDS or not isinstance(facts["sha256"], dict):
        return None
    return facts


def are_intact(facts: Mapping[str, Any], name: str) -> bool:
    """Return whether facts have the checksum that stands in them; an earlier version of lure wrote none."""
    return facts["sha256"].get(name) in (None, _own_checksum(facts, name))


def damaged_export(file: Path) -> Iterator[str]:
    """Yield a sentence for each file of an export that is missing or was changed.

    Args:
        file: one of the files.

    Raises:
        InputError: if nothing says what was exported.
    """
    path = file.with_suffix(".json")
    facts = read_facts(path)
    if facts is None:
        raise InputError(
            f"{file} is neither a run directory nor an export of lure: {path} does not say what was exported"
        )
    if not are_intact(facts, path.name):
        yield f"{path} is not what was exported: export the version again"
    for name, expected in sorted(_others(facts, path.name).items()):
        part = path.with_name(Path(name).name)
        if not part.is_file():
            yield f"{part} is missing: export the version again"
        elif file_checksum(part) != expected:
            yield f"{part} is not what was exported: export the version again"


def _others(facts: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {other: digest for other, digest in facts["sha256"].items() if other != name}


def _own_checksum(facts: Mapping[str, Any], name: str) -> str:
    return checksum(json_bytes({**facts, "sha256": _others(facts, name)}))
