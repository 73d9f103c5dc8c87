"""Check a run directory, or an export: every checksum, and every reference of one file to another."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from lure.errors import InputError
from lure.store.durable import file_checksum, parsing, read_sealed_json
from lure.store.exported import damaged_export
from lure.store.ledger import LEDGER, SEAL
from lure.store.run_directory import EVALUATIONS, RESULT, RunDirectory
from lure.store.versions import WEIGHTS, version_folder


def verify(path: Path | str) -> Iterator[str]:
    """Check a run directory, or the files of an export; yield a sentence for each thing damaged, missing or unfinished.

    Args:
        path: the directory, or the `.safetensors` or `.pt2` file that `lure export` wrote.

    Raises:
        InputError: if it is neither.
    """
    if Path(path).is_file():
        yield from damaged_export(Path(path))
        return
    directory = RunDirectory(path)
    directory.require()
    try:
        pruned = directory.standing.pruned
        with parsing(directory.ledger.path):
            files = {name: expected for stage in directory.stages for name, expected in stage.files.items()}
    except InputError as error:
        yield str(error)
        return
    said = [*_complaints(directory.recipe_text), *_complaints(directory.progress.check)]
    yield from said
    yield from _damaged_reports(directory)
    yield from _unfinished(directory)
    gone = {f"{version_folder(version)}/{name}" for version in pruned for name in WEIGHTS}
    for name in sorted(files.keys() - gone):
        file = directory.path / name
        if any(str(file) in sentence for sentence in said):
            continue
        if not file.is_file():
            yield f"{file} is missing: restore it from a backup"
        elif file_checksum(file) != files[name]:
            yield f"{file} is damaged: its SHA-256 is not the one in {LEDGER}; restore it from a backup"
    unfinished: Iterable[Path] = ()
    try:
        chunks, unfinished = directory.named_chunks(), directory.chunks.unfinished()
    except InputError:  # that the agreement is damaged is said above
        chunks = [stage.data_fingerprint for stage in directory.stages if stage.data_stored]
    for fingerprint in dict.fromkeys(chunks):
        damaged = [*_complaints(partial(directory.chunks.check, fingerprint))]
        yield from damaged or _complaints(partial(directory.chunks.check_row_digests, fingerprint))
    for folder in unfinished:
        yield (
            f"{folder} stands in no line of {LEDGER} and is not whole: run the interrupted command again, which writes "
            f"it anew, or remove the folder"
        )


def _unfinished(directory: RunDirectory) -> Iterator[str]:
    """Yield what an interrupted commit leaves behind, and what a ledger without its last line looks like."""
    ledger, num_stages = directory.ledger.path, len(directory.stages)
    if directory.ledger.unfinished:
        yield f"{ledger} ends in a line that was never finished: run the interrupted command again"
    if num_stages and not (directory.path / SEAL).exists():
        yield f"{directory.path / SEAL} is missing: compare {LEDGER} with a backup; the next command writes it anew"
    for number, folder in directory.versions.folders():
        if number == num_stages + 1:
            yield (
                f"{folder} stands in no line of {LEDGER}: its commit was interrupted; run that command again, or "
                f"remove the folder"
            )
        elif not 1 <= number <= num_stages:
            yield f"{folder} stands in no line of {LEDGER}, which lost its end: restore the ledger from a backup"


def _complaints(check: Callable[[], Any]) -> Iterator[str]:
    try:
        check()
    except InputError as error:
        yield str(error)


def _damaged_reports(directory: RunDirectory) -> Iterator[str]:
    """Yield what is wrong with the result and the evaluations."""
    if (directory.path / RESULT).exists():
        yield from _complaints(partial(read_sealed_json, directory.path / RESULT))
    for path in sorted((directory.path / EVALUATIONS).glob("[0-9]*.json")):
        yield from _complaints(partial(read_sealed_json, path, required=False))
