"""Keep one model current in production: a chunk at a time, each in a process of its own, over a directory.

`init` fixes what decides (holdout, gate, recipe). `update` takes in a chunk: the model is then current, or the old one
still stands and the ledger says why. `accept` and `rollback` overrule; `status` tells, `verify` checks every byte,
`prune` frees space. All of them may be killed at any instant and started again with the same words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lure.errors import InputError, printable, require_within
from lure.recipe import Recipe, parse_toml
from lure.store.run_directory import RECIPE, RunDirectory
from lure.store.stage import Stage
from lure.store.verify import verify

if TYPE_CHECKING:
    from lure.data.sources.dataset import Hints
    from lure.learner.arrival import Arrival
    from lure.learner.gate import Gate
    from lure.training.fit import Watch

# `init` and `update` train, so they import torch when they are called; the others answer without it.

__all__ = ["accept", "init", "is_accepted", "prune", "rollback", "status", "update", "verify"]


def init(
    path: Path | str,
    holdout: Path | str,
    *,
    independent: Path | str | None = None,
    recipe: Recipe | None = None,
    gate: Gate | None = None,
    hints: Hints | None = None,
) -> str:
    """Begin a directory that is kept current: store holdout, recipe and gate. There is no version yet.

    Done again with the same arguments, it changes nothing.

    Args:
        path: the directory; new or empty.
        holdout: data that every version is measured on, as `load_examples` reads them; never trained on.
        independent: data that are measured on, too, and decide nothing.
        recipe: how to train.
        gate: the rules for accepting a version.
        hints: what the files do not say themselves, such as which column holds the labels; it holds for all data that
            come later.

    Returns:
        Lines that say which classes the holdout shows, and what becomes of the columns of a table.

    Raises:
        InputError: for data or settings that cannot be used, or a directory that holds something else.
    """
    from lure.data.sources.class_names import shown_classes
    from lure.data.sources.files import load_alike, load_examples, read_class_names, read_form
    from lure.learner.gate import Gate
    from lure.learner.learner import Learner

    path = Path(path)
    if path.is_dir() and not RunDirectory(path).exists:
        strangers = [item.name for item in path.iterdir() if item.name not in (".lock", "chunks", "production.json")]
        strangers = [name for name in strangers if not (name.startswith(".") and name.endswith(".tmp"))]
        if strangers:
            raise InputError(f"{path} holds other files ({sorted(strangers)[0]}): choose a new directory")
    names, form = read_class_names(holdout, hints), read_form(holdout, hints)
    test = load_examples(holdout, names or None, form=form, hints=hints)
    lines = [shown_classes(test.labels, names, f"the holdout {holdout}")]
    if form is not None:
        lines += ["of its columns, now and in all data to come:", *(f"  {line}" for line in form.describe())]
    shown = "\n".join(map(printable, lines))
    aside = None
    if independent is not None:
        aside = load_alike(independent, names, test.input_shape, form, hints)
    with Learner.open(
        path,
        recipe=recipe,
        test=test,
        gate=gate or Gate(),
        independent=aside,
        class_names=names,
        form=form,
    ) as learner:
        if learner.directory.exists:
            return shown
        learner.rehearse()
        learner.begin()
        learner.directory.undo.clear()
    return shown


def update(
    path: Path | str,
    data: Path | str,
    *,
    again: bool = False,
    model: Callable[..., Any] | str | None = None,
    unlearner: str | None = None,
    regularizers: Sequence[str] | None = None,
    device: str = "auto",
    workers: int = 0,
    watch: Watch | None = None,
    on_arrival: Callable[[Arrival], None] | None = None,
    hints: Hints | None = None,
    new_classes: str | Sequence[str] | None = None,
    holdout_add: Path | str | None = None,
) -> tuple[Stage, bool]:
    """Take in a chunk: examine, store, grow, unlearn, relearn, evaluate, decide, commit.

    A chunk that was committed before changes nothing, so that a job may be tried again.

    Args:
        path: a directory that `init` began.
        data: the chunk, as `load_examples` reads it.
        again: train on a chunk that was committed before, too; where that is the last thing that was done, it is done
            already, for the job may have died behind its commit.
        model: as for `Learner.open`.
        unlearner: as for `Learner.open`.
        regularizers: as for `Learner.open`.
        device: "auto", "cpu" or "cuda".
        workers: processes that read data too large for memory.
        watch: called now and then while training.
        on_arrival: called before any training with what the chunk looks like.
        hints: what the file does not say itself, such as which column holds the labels.
        new_classes: what a class does that the version in use does not know: "refuse"; "grow", unless its name looks
            like a slip of a known one; or the names of those for which the head may grow. None takes the recipe's.
        holdout_add: data of classes that the holdout does not show; they belong to it from now on.

    Returns:
        The stage of this chunk, and whether it is new.

    Raises:
        InputError: for data that cannot be used; nothing on disk has then changed.
    """
    from lure.data.examples import as_stored
    from lure.learner.learner import Learner
    from lure.learner.new_classes import load_added, load_labelled

    RunDirectory(path).require()
    growing: Literal["refuse", "grow"] | None = "refuse" if new_classes == "refuse" else "grow"
    growing = None if new_classes is None else growing
    with Learner.open(
        path,
        model=model,
        unlearner=unlearner,
        regularizers=regularizers,
        device=device,
        workers=workers,
        new_classes=growing,
    ) as learner:
        opened = learner.opened
        if opened.gate is None or opened.test is None:
            raise InputError(f"{path} has no holdout to decide by: begin a directory with lure init")
        given = load_labelled(Path(data), opened, learner.num_known, hints)
        chunk = as_stored(given.examples)
        known = [stage for stage in learner.stages if stage.data_fingerprint == chunk.fingerprint]
        if known and not (again and _is_to_do(known, learner.directory.ledger.events)):
            return known[-1], False
        given.require_allowed(opened.new_classes if new_classes is None else new_classes)
        added = None if holdout_add is None else load_added(Path(holdout_add), opened, given, hints)
        # Escaped, because a name may hold bytes that no text has: the ledger is UTF-8.
        name = printable(Path(data).absolute().name)
        stage = learner.learn(
            chunk,
            watch,
            on_arrival=on_arrival,
            name=name,
            again=again,
            class_names=given.class_names,
            holdout_add=added,
        )
        return stage, True


def _is_to_do(known: Sequence[Stage], events: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether training again on a chunk, whose stages are given, was not the last thing that was committed."""
    last = [event for event in events if event["event"] != "prune"][-1]
    asked_for = known[-1].again or len(known) > 1  # earlier ledgers do not say who asked
    return not asked_for or last.get("stage") != known[-1].stage


def accept(path: Path | str, version: int, reason: str = "") -> str:
    """Accept a version that the gate refused, and its chunk; return a sentence that says what that changed.

    A version that was trained from the one in use takes its place. Where the model has moved on since, it stays, and
    the next update takes the chunk in.

    Raises:
        InputError: if there is no such version, or its weights were pruned.
    """
    with RunDirectory(path) as directory:
        directory.require()
        standing = directory.standing
        if version in standing.accepted:
            return f"version {version} is accepted already; in use is version {standing.current}"
        stage = directory.find_stage(version)
        directory.versions.check(stage)
        becomes_current = stage.parent == standing.current
        directory.ledger.append(
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


def is_accepted(path: Path | str, version: int) -> bool:
    """Return whether a version was accepted, by the gate or by hand.

    Raises:
        InputError: if the ledger is damaged.
    """
    return version in RunDirectory(path).standing.accepted


def rollback(path: Path | str, version: int, reason: str = "") -> str:
    """Go back (or forward) to an accepted version: its weights, and its replay memory; return a sentence.

    Raises:
        InputError: if there is no such version, it was refused, or its weights were pruned or are damaged.
    """
    with RunDirectory(path) as directory:
        directory.require()
        stage, standing = directory.find_stage(version), directory.standing
        if version not in standing.accepted:
            raise InputError(f"version {version} was refused: accept it first (lure accept {path} {version})")
        if version == standing.current and not standing.waiting:
            return f"version {version} is in use already"
        directory.versions.check(stage)
        directory.ledger.append(
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
        standing = directory.standing
        versions = [stage.version for stage in directory.stages]
        chosen = [v for v in versions[:-keep] if v not in standing.pruned and v != standing.current]
        for version in chosen:
            directory.versions.require_own(version)
        if chosen:
            directory.ledger.append({"event": "prune", "versions": chosen, "committed_at": _now()})
        # After the line, so that nothing is gone that is not said to be; and again for what a killed process left.
        for version in sorted(standing.pruned | set(chosen)):
            directory.versions.remove_weights(version)
    return chosen


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def status(path: Path | str) -> dict[str, Any]:
    """Return what a run directory holds, as plain values: versions, data, metrics, cost, decisions.

    Raises:
        InputError: if it is not a run directory, or its ledger is damaged.
    """
    directory = RunDirectory(path)
    directory.require()
    recipe = parse_toml(directory.recipe_text(), directory.path / RECIPE)
    agreement, standing, stages = directory.agreement(), directory.standing, directory.stages
    running = directory.progress.record()
    if running is not None and running["stage"] <= len(stages):
        running = None  # committed; only tidying up was interrupted

    def describe(fingerprint: str, *added: str) -> dict[str, Any]:
        examples = sum(map(directory.chunks.count, (fingerprint, *added)))
        return {"fingerprint": fingerprint, "examples": examples} | ({"added": list(added)} if added else {})

    return {
        "directory": str(path),
        "current_version": standing.current or None,
        "model": recipe.get("model", Recipe.model),
        "unlearner": recipe.get("unlearner", Recipe.unlearner),
        "gate": agreement and agreement.gate,
        "holdout": agreement and describe(*directory.holdout()),
        "holdout_uses": len(stages) if agreement else 0,
        "independent": agreement and agreement.independent and describe(agreement.independent),
        "waiting_chunks": [stages[number - 1].data_fingerprint for number in standing.waiting],
        "running": running and {"stage": running["stage"], "epochs_done": running["epoch"]},
        "versions": [
            {
                "status": standing.word_for(stage.version),
                **{name: value for name, value in stage.as_dict().items() if name != "files"},
            }
            for stage in stages
        ],
        "events": [dict(event) for event in directory.ledger.events if event["event"] != "stage"],
    }
