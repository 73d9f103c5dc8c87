"""Keep one model current in production: a chunk at a time, each in a process of its own, over a directory.

`init` fixes what decides (holdout, gate, recipe). `update` takes in a chunk: the model is then current, or the old one
still stands and the ledger says why. `accept` and `rollback` overrule; `status` tells, `verify` checks every byte,
`prune` frees space. All of them may be killed at any instant and started again with the same words.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lure.data.examples import Examples
from lure.data.sources.files import load_examples, read_class_names, read_columns
from lure.errors import InputError, require_within
from lure.learner.arrival import Arrival
from lure.learner.gate import Gate
from lure.learner.learner import Learner
from lure.learner.opening import read_recipe
from lure.learner.version import find_stage
from lure.recipe import Recipe
from lure.store.durable import checksum, file_checksum, parsing, to_json
from lure.store.ledger import LEDGER, SEAL, Standing
from lure.store.run_directory import RESULT, WEIGHTS, RunDirectory, as_stored, version_folder
from lure.store.stage import Stage, as_stage
from lure.training.fit import Watch


def init(
    path: Path | str,
    holdout: Path | str,
    *,
    independent: Path | str | None = None,
    recipe: Recipe | None = None,
    gate: Gate | None = None,
) -> None:
    """Begin a directory that is kept current: store holdout, recipe and gate. There is no version yet.

    Done again with the same arguments, it changes nothing.

    Args:
        path: the directory; new or empty.
        holdout: data that every version is measured on, as `load_examples` reads them; never trained on.
        independent: data that are measured on, too, and decide nothing.
        recipe: how to train.
        gate: the rules for accepting a version.

    Raises:
        InputError: for data or settings that cannot be used, or a directory that holds something else.
    """
    path = Path(path)
    if path.is_dir() and not RunDirectory(path).exists:
        strangers = [item.name for item in path.iterdir() if item.name not in (".lock", "chunks", "production.json")]
        strangers = [name for name in strangers if not (name.startswith(".") and name.endswith(".tmp"))]
        if strangers:
            raise InputError(f"{path} holds other files ({sorted(strangers)[0]}): choose a new directory")
    names, columns = read_class_names(holdout), read_columns(holdout)
    test = load_examples(holdout, names or None)
    aside = None if independent is None else _load_alike(independent, names, test.input_shape, columns)
    with Learner.open(
        path, recipe=recipe, test=test, gate=gate or Gate(), independent=aside, class_names=names, columns=columns
    ) as learner:
        if learner.directory.exists:
            return
        learner.rehearse()
        learner.begin()
        learner.directory.settle()


def _load_alike(path: Path | str, names: Sequence[str], shape: Sequence[int], columns: Sequence[str]) -> Examples:
    """Load data whose labels and columns must mean what those of the holdout do."""
    if not names and (found := read_class_names(path)):
        raise InputError(
            f"{path} names its classes ({', '.join(found[:3])}{', ...' * (len(found) > 3)}), and the holdout numbers "
            f"them: give labels as numbers, or begin a directory with a holdout that names them"
        )
    return load_examples(path, names or None, shape, columns=columns)


def update(
    path: Path | str,
    data: Path | str,
    *,
    again: bool = False,
    model: Callable[..., Any] | str | None = None,
    device: str = "auto",
    workers: int = 0,
    watch: Watch | None = None,
    on_arrival: Callable[[Arrival], None] | None = None,
) -> tuple[Stage, bool]:
    """Take in a chunk: examine, store, unlearn, relearn, evaluate, decide, commit.

    A chunk that was committed before changes nothing, so that a job may be tried again.

    Args:
        path: a directory that `init` began.
        data: the chunk, as `load_examples` reads it.
        again: train on a chunk that was committed before, too.
        model: as for `Learner.open`.
        device: "auto", "cpu" or "cuda".
        workers: processes that read data too large for memory.
        watch: called now and then while training.
        on_arrival: called before any training with what the chunk looks like.

    Returns:
        The stage of this chunk, and whether it is new.

    Raises:
        InputError: for data that cannot be used; nothing on disk has then changed.
    """
    directory = RunDirectory(path)
    directory.require()
    if directory.production() is None:
        raise InputError(f"{path} has no holdout to decide by: begin a directory with lure init")
    with Learner.open(path, model=model, device=device, workers=workers) as learner:
        if learner.test is None:
            raise AssertionError("a directory with a gate holds its holdout")
        chunk = as_stored(_load_alike(data, learner.class_names, learner.test.input_shape, learner.columns))
        known = [stage for stage in learner.stages if stage.data_fingerprint == chunk.fingerprint]
        if known and not again:
            return known[-1], False
        return learner.learn(chunk, watch, on_arrival=on_arrival), True


def accept(path: Path | str, version: int, reason: str = "") -> str:
    """Let in a version that the gate refused, and its chunk; return a sentence that says what that came to.

    A version that was trained from the one in use takes its place. Where the model has moved on since, it stays, and
    the next update takes the chunk in.

    Raises:
        InputError: if there is no such version, or its weights were pruned.
    """
    with RunDirectory(path) as directory:
        directory.require()
        standing = directory.standing()
        if version in standing.accepted:
            return f"version {version} is accepted already; in use is version {standing.current}"
        stage = find_stage(directory, version)
        directory.read_model(dataclasses.asdict(stage))
        becomes_current = stage.parent == standing.current
        directory.append(
            {
                "event": "accept",
                "version": version,
                "becomes_current": becomes_current,
                "taken_in": stage.taken_in,
                "reason": reason,
                "committed_at": _now(),
            }
        )
    if becomes_current:
        return f"version {version} is accepted and in use"
    return (
        f"version {version} is accepted, and the next update takes its chunk in; version {standing.current}, which is "
        f"not trained from it, stays in use (lure rollback {path} {version} would change that)"
    )


def rollback(path: Path | str, version: int, reason: str = "") -> str:
    """Go back (or forward) to an accepted version: its weights, and its replay memory; return a sentence.

    Raises:
        InputError: if there is no such version, it was refused, or its weights were pruned or are damaged.
    """
    with RunDirectory(path) as directory:
        directory.require()
        stage, standing = find_stage(directory, version), directory.standing()
        if version not in standing.accepted:
            raise InputError(f"version {version} was refused: let it in first (lure accept {path} {version})")
        if version == standing.current and not standing.waiting:
            return f"version {version} is in use already"
        directory.read_model(dataclasses.asdict(stage))
        directory.read_state(dataclasses.asdict(stage))
        directory.append(
            {
                "event": "rollback",
                "version": version,
                "from_version": standing.current,
                "reason": reason,
                "committed_at": _now(),
            }
        )
    return (
        f"version {version} is in use; the next update goes on from it and from what it was trained on "
        f"(chunks that came later are taken in only if given again: lure update {path} DATA --again)"
    )


def prune(path: Path | str, keep: int) -> list[int]:
    """Remove the weights of old versions to free space; data and ledger stay. Return the versions removed.

    Args:
        path: the run directory.
        keep: how many of the newest versions stay, at least 1; the version in use always does.

    Raises:
        InputError: if `keep` is not at least 1.
    """
    require_within("keep", keep, 1)
    with RunDirectory(path) as directory:
        directory.require()
        standing = directory.standing()
        versions = [stage["version"] for stage in directory.stages()]
        chosen = [v for v in versions[:-keep] if v not in standing.pruned and v != standing.current]
        if chosen:
            directory.append({"event": "prune", "versions": chosen, "committed_at": _now()})
        # After the line, so that nothing is gone that is not said to be; and again for what a killed process left.
        for version in sorted(standing.pruned | set(chosen)):
            directory.remove_weights(version)
    return chosen


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def status(path: Path | str) -> dict[str, Any]:
    """Return what a run directory holds, as plain values: versions, data, metrics, cost, decisions.

    Raises:
        InputError: if it is no run directory, or its ledger is damaged.
    """
    directory = RunDirectory(path)
    directory.require()
    recipe, record, standing = read_recipe(directory), directory.production(), directory.standing()
    progress = directory.progress_facts()
    with parsing(directory.path / LEDGER):
        stages = [dataclasses.asdict(as_stage(line, directory)) for line in directory.stages()]
        overruled = [event for event in directory.events() if event["event"] != "stage"]
    return {
        "directory": str(path),
        "current_version": standing.current or None,
        "model": recipe.model,
        "unlearner": recipe.unlearner,
        "gate": record and record["gate"],
        "holdout": record and _describe_set(directory, record["holdout"]),
        "holdout_uses": len(stages) if record else 0,
        "independent": record and record["independent"] and _describe_set(directory, record["independent"]),
        "waiting_chunks": [stages[number - 1]["data_fingerprint"] for number in standing.waiting],
        "running": progress and {"stage": progress["stage"], "epochs_done": progress["epoch"]},
        "versions": [
            {"status": _word_for(stage["version"], standing), **{k: v for k, v in stage.items() if k != "files"}}
            for stage in stages
        ],
        "events": overruled,
    }


def _describe_set(directory: RunDirectory, fingerprint: str) -> dict[str, Any]:
    return {"fingerprint": fingerprint, "examples": len(directory.open_chunk(fingerprint))}


def _word_for(version: int, standing: Standing) -> str:
    word = "accepted" if version in standing.accepted else "refused"
    if version == standing.current:
        word = "in use"
    return f"{word}, pruned" if version in standing.pruned else word


def verify(path: Path | str) -> Iterator[str]:
    """Check every checksum and every reference of a run directory; yield one sentence for each thing damaged.

    Raises:
        InputError: if it is no run directory.
    """
    directory = RunDirectory(path)
    directory.require()
    try:
        standing = directory.standing()
        with parsing(directory.path / LEDGER):
            stages = [as_stage(line, directory) for line in directory.stages()]
            files = {name: expected for stage in stages for name, expected in stage.files.items()}
    except InputError as error:
        yield str(error)
        return
    said = [*_complaint(lambda: read_recipe(directory)), *_complaint(directory.read_progress)]
    yield from said
    yield from _damaged_result(directory)
    yield from _strays(directory, len(stages))
    gone = {f"{version_folder(version)}/{name}" for version in standing.pruned for name in WEIGHTS}
    for name in sorted(files.keys() - gone):
        file = directory.path / name
        if any(str(file) in sentence for sentence in said):
            continue
        if not file.is_file():
            yield f"{file} is missing: restore it from a backup"
        elif file_checksum(file) != files[name]:
            yield f"{file} is damaged: its SHA-256 is not the one in {LEDGER}; restore it from a backup"
    chunks = [stage.data_fingerprint for stage in stages if stage.data_stored]
    try:
        record = directory.production() or {}
    except InputError:
        record = {}  # complained of above
    chunks += [record[role] for role in ("holdout", "independent") if record.get(role)]
    for fingerprint in dict.fromkeys(chunks):
        yield from _complaint(functools.partial(directory.read_chunk, fingerprint))


def _strays(directory: RunDirectory, num_stages: int) -> Iterator[str]:
    """Yield what an interrupted commit leaves behind, and a ledger without its last line looks like."""
    content = (directory.path / LEDGER).read_bytes() if (directory.path / LEDGER).exists() else b""
    if content and not content.endswith(b"\n"):
        yield f"{directory.path / LEDGER} ends in a line that was never finished: run the interrupted command again"
    if content and not (directory.path / SEAL).exists():
        yield f"{directory.path / SEAL} is missing: compare {LEDGER} with a backup; the next command writes it anew"
    for number, folder in directory.version_folders():
        if number == num_stages + 1:
            yield (
                f"{folder} stands in no line of {LEDGER}: its commit was interrupted; run that command again, or "
                f"remove the folder"
            )
        elif not 1 <= number <= num_stages:
            yield f"{folder} stands in no line of {LEDGER}, which lost its end: restore the ledger from a backup"


def _complaint(read: Callable[[], Any]) -> Iterator[str]:
    try:
        read()
    except InputError as error:
        yield str(error)


def _damaged_result(directory: RunDirectory) -> Iterator[str]:
    path = directory.path / RESULT
    if not path.exists():
        return
    try:
        result = json.loads(path.read_bytes())
        intact = result.pop("sha256") == checksum(to_json(result).encode())
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        intact = False
    if not intact:
        yield f"{path} is damaged: remove it and run the same command again, which writes it anew"
