"""A model that is kept current, as its page and its table show it: the ledger, followed line by line.

Nothing is compared here but versions of one model, on one holdout. What only the stored chunks know, the class balance
of the holdout, is left out where they are not there, as in a copy of the ledger alone.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lure.errors import printable
from lure.report.comparison import stage_cost
from lure.report.records import RunRecord
from lure.store.ledger import Standing
from lure.store.run_directory import RunDirectory
from lure.store.stage import Stage
from lure.words import MISSING, count, percent

NAME_LENGTH = 18  # letters of the name of a class in a picture


@dataclass(frozen=True, slots=True)
class KeptModel:
    """A run directory that `lure init` began.

    Attributes:
        run: its stages, recipe and evaluations.
        events: all lines of its ledger, oldest first.
        standing: what they imply: the version in use, what was accepted, what waits.
        gate: the rules of the gate, name -> value.
        class_names: in order of labels; () where they have no names.
        holdout_counts: holdout examples of each class, in order of labels; () where the holdout is not there.
        interrupted: the stage that was begun and not committed, and its finished epochs; None where there is none.
    """

    run: RunRecord
    events: tuple[Mapping[str, Any], ...]
    standing: Standing
    gate: Mapping[str, Any]
    class_names: tuple[str, ...]
    holdout_counts: tuple[int, ...]
    interrupted: tuple[int, int] | None

    @property
    def current(self) -> Stage:
        """The stage of the version in use; of the last version where every one was refused."""
        return self.run.final

    @property
    def by_hand(self) -> set[int]:
        """The versions that the gate refused and somebody accepted."""
        return self.refused & self.standing.accepted

    @property
    def refused(self) -> set[int]:
        """The versions that the gate refused, whatever somebody said afterwards."""
        return {stage.version for stage in self.run.stages if not stage.accepted}

    def accepted(self, version: int) -> bool:
        """Whether a version was accepted, by the gate or by hand."""
        return version in self.standing.accepted

    def word_for(self, version: int) -> str:
        """Where a version stands: "in use", "accepted", "refused"; whether it was accepted by hand, or pruned."""
        word = self.standing.word_for(version)
        if version not in self.by_hand:
            return word
        return word.replace("accepted", "accepted by hand").replace("in use", "in use, accepted by hand")

    def class_name(self, label: int) -> str:
        """Return the name of a class in pictures: shortened where it is long, and "class 3" where it has none."""
        if label >= len(self.class_names):
            return f"class {label}"
        name = printable(self.class_names[label])
        return name if len(name) <= NAME_LENGTH else f"{name[:NAME_LENGTH]}… ({label})"


def read_kept(run: RunRecord) -> KeptModel | None:
    """Read what a model that is kept current has beyond its stages; None for a run that `lure init` did not begin.

    Raises:
        InputError: if a file is damaged.
    """
    directory = RunDirectory(run.directory)
    agreement = directory.agreement()
    if agreement is None:
        return None
    progress = directory.progress.record()
    running = progress is not None and progress["stage"] > len(run.stages)
    parts = directory.holdout()
    stored = all((directory.chunks.folder / part).is_dir() for part in parts)
    counts = [directory.chunks.class_counts(part) for part in parts if stored]
    return KeptModel(
        run=run,
        events=tuple(directory.ledger.events),
        standing=directory.standing,
        gate=agreement.gate,
        class_names=tuple(directory.class_names()),
        holdout_counts=tuple(map(sum, itertools.zip_longest(*counts, fillvalue=0))),
        interrupted=(progress["stage"], progress["epoch"]) if progress and running else None,
    )


def day(event: Mapping[str, Any] | Stage) -> str:
    """Return the day (UTC) of a line of the ledger: "2026-03-01"."""
    moment = event.committed_at if isinstance(event, Stage) else event.get("committed_at") or MISSING
    return moment.partition("T")[0]


def chunk_name(stage: Stage) -> str:
    """Return the name of the file that a stage's chunk came from; earlier ledgers know its fingerprint only."""
    return (stage.arrival or {}).get("name") or stage.data_fingerprint[:8]


def prequential_accuracy(stage: Stage) -> float | None:
    """Return the accuracy of the version that was in use on the chunk, before any training on it."""
    accuracy: float | None = (stage.arrival or {}).get("prequential_accuracy")
    return accuracy


def flips(stage: Stage) -> tuple[int, int] | None:
    """Return how many holdout examples went from right to wrong (negative flips), and from wrong to right.

    They are counted from the version that training started from, which was in use, to the new one; None for the first.
    """
    for comparison in (stage.decision or {}).get("comparisons", []):
        if comparison["version"] == stage.parent:
            return comparison["lost"], comparison["won"]
    return None


@dataclass(frozen=True, slots=True)
class Step:
    """A moment at which another version came into use, or could have.

    Attributes:
        place: where it belongs on an axis of versions: stage 3 at 3, what was decided by hand before stage 4 between.
        version: the version in use from then on; 0 for none.
        event: what the ledger calls it: "stage", "accept" or "rollback".
        subject: the version that the line of the ledger is about.
    """

    place: float
    version: int
    event: str
    subject: int


def steps(model: KeptModel) -> list[Step]:
    """Return which version was in use after each line of the ledger but prunings, oldest first."""
    lines = [event for event in model.events if event["event"] != "prune"]
    found: list[Step] = []
    by_hand: list[int] = []  # how many decisions by hand follow each stage
    for event in lines:
        if event["event"] == "stage":
            by_hand.append(0)
        elif by_hand:
            by_hand[-1] += 1
    stage = number = version = 0
    for event in lines:
        if event["event"] == "stage":
            stage, number = event["version"], 0
            version = stage if event["accepted"] else version
        else:
            number += 1
            version = event["version"] if event.get("becomes_current", True) else version
        found.append(Step(stage + number / (by_hand[stage - 1] + 1), version, event["event"], event["version"]))
    return found


def in_use_since(model: KeptModel) -> str:
    """Return the day on which the version in use came into use for the last time."""
    version, since = 0, MISSING
    lines = [event for event in model.events if event["event"] != "prune"]
    for event, step in zip(lines, steps(model), strict=True):
        if step.version != version:
            version, since = step.version, day(event)
    return since


def answer(model: KeptModel) -> str:
    """Say in a few sentences which version is in use, how good it is, and what became of the updates."""
    stages, stage = model.run.stages, model.current
    if not model.standing.current:
        return f"No version is in use: {count(len(stages), 'version was', 'versions were')} refused."
    text = (
        f"Version {stage.version} is in use since {in_use_since(model)}. It gets {percent(stage.accuracy)} % of the "
        f"holdout right ({count(stage.test_examples, 'example')})"
    )
    if stage.independent:
        text += f", and {percent(stage.independent['accuracy'])} % of the test set, which decides nothing"
    first = stages[0]
    alike = stage.test_fingerprint == first.test_fingerprint  # no examples of new classes were added
    if stage.version != 1 and alike and stage.accuracy is not None and first.accuracy is not None:
        gained = stage.accuracy - first.accuracy
        text += f"; that is {percent(abs(gained))} points {'below' if gained < 0 else 'above'} version 1"
    refused = [each for each in stages if not model.accepted(each.version)]
    words = [f"{sum(each.accepted for each in stages)} accepted by the gate"]
    words += [f"{len(model.by_hand)} by hand"] if model.by_hand else []
    words += [f"{len(refused)} refused"] if refused else []
    rollbacks = sum(event["event"] == "rollback" for event in model.events)
    back = f", and {count(rollbacks, 'rollback')}" if rollbacks else ""
    return f"{text}. {count(len(stages), 'update')}: {', '.join(words)}{back}."


def waits(model: KeptModel) -> list[str]:
    """Return a sentence for all that waits for the next update, or for somebody's decision."""
    sentences = []
    if model.interrupted:
        stage, epochs = model.interrupted
        sentences.append(
            f"Update {stage} was interrupted after {count(epochs, 'epoch')}: the same command goes on with it."
        )
    for number in model.standing.waiting:
        name = chunk_name(model.run.stages[number - 1])
        sentences.append(
            f"The chunk of version {number} ({name}) was accepted by hand after the model had moved on: the next "
            "update trains on it, too."
        )
    refused = [str(stage.version) for stage in model.run.stages if not model.accepted(stage.version)]
    if refused:
        what = (
            "Version {} is refused, and its chunk is" if len(refused) == 1 else "Versions {} are refused, their chunks"
        )
        sentences.append(f"{what.format(', '.join(refused))} quarantined until lure accept says otherwise.")
    return sentences


def reasons(model: KeptModel) -> list[tuple[Stage, list[str], list[str]]]:
    """Return the stages of which the gate or the inspection had something to say, newest first.

    Returns:
        for each the stage, why the gate refused it, and the warnings.
    """
    found = []
    for stage in reversed(model.run.stages):
        decision, arrival = stage.decision or {}, stage.arrival or {}
        warnings = [*arrival.get("warnings", []), *(decision.get("warnings") or [])]
        if decision.get("reasons") or warnings or stage.new_classes:
            found.append((stage, list(decision.get("reasons", [])), warnings))
    return found


def decisions_by_hand(model: KeptModel) -> list[str]:
    """Return a sentence for each line of the ledger that is not a stage, newest first."""
    sentences = []
    for event in reversed(model.events):
        kind, version = event["event"], event.get("version")
        if kind == "rollback":
            text = f"back to version {version}, from version {event['from_version']}"
        elif kind == "accept":
            text = f"version {version} accepted" + ("" if event["becomes_current"] else ", for the next update to use")
        elif kind == "prune":
            text = f"weights of {count(len(event['versions']), 'version')} removed"
        else:
            continue
        sentences.append(f"{day(event)}: {text}" + (f": {event['reason']}" if event.get("reason") else ""))
    return sentences


def cost(model: KeptModel, measure: str) -> float:
    """Return what all updates cost in "flops" or "seconds", training and unlearning together."""
    return math.fsum(stage_cost(stage, measure) for stage in model.run.stages)


def kept_data(model: KeptModel) -> dict[str, Any]:
    """Return the numbers of the page of a kept model as plain values: what stages do not hold themselves."""
    return {
        "directory": str(model.run.directory),
        "current_version": model.standing.current or None,
        "answer": answer(model),
        "waits": waits(model),
        "gate": dict(model.gate),
        "class_names": list(model.class_names),
        "holdout_class_counts": list(model.holdout_counts),
        "versions_in_use": [
            {"event": step.event, "version": step.subject, "in_use": step.version or None} for step in steps(model)
        ],
        "versions": [
            {
                "version": stage.version,
                "status": model.word_for(stage.version),
                "day": day(stage),
                "chunk": chunk_name(stage),
                "prequential_accuracy": prequential_accuracy(stage),
                "holdout_accuracy": stage.accuracy,
                "test_accuracy": (stage.independent or {}).get("accuracy"),
                "negative_flips": (lost_won := flips(stage)) and lost_won[0],
                "positive_flips": lost_won and lost_won[1],
            }
            for stage in model.run.stages
        ],
    }
