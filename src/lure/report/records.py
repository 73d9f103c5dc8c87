"""Finished and running runs as plain records, read from their directories.

A run is a directory with `recipe.toml`, `ledger.jsonl` (one JSON object for each committed stage), `result.json` once
the stream is done, and `evaluations/` where versions were evaluated. Reports read these files and nothing else: no
model is loaded, and nothing is written. The ledger is read by the store, which verifies the checksum of every line.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lure.errors import InputError
from lure.recipe import parse_toml
from lure.store.durable import checksum, read_sealed_json
from lure.store.ledger import LEDGER, Ledger
from lure.store.stage import Stage

RECIPE, RESULT, EVALUATIONS = "recipe.toml", "result.json", "evaluations"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run: its policy, its seed, and what each committed stage brought.

    Attributes:
        directory: its folder.
        policy: its name in a comparison; where it has none, its unlearner as recipes have it ("lure:sample=all").
        seed: the run's seed.
        stages: one record for each committed stage, in order; the costs of a stage are its own alone.
        lines: the same as the ledger stores it, for those who want the numbers as JSON.
        recipe: the resolved recipe, field -> value.
        current: the version in use.
        result: what `result.json` holds; empty while the run is not complete.
        counts_examples: whether costs are the examples seen, because nobody counted FLOPs: a loop of the user's own.
        evaluations: version -> what `lure.metrics.evaluate` returned for it, from `evaluations/VERSION.json`; it may
            also hold `change`, what `compare_versions` returned for it and the version before.
    """

    directory: Path
    policy: str
    seed: int
    stages: tuple[Stage, ...]
    lines: tuple[dict[str, Any], ...]
    recipe: dict[str, Any]
    current: int
    result: dict[str, Any]
    evaluations: dict[int, dict[str, Any]] = field(default_factory=dict)
    counts_examples: bool = False

    @property
    def budget(self) -> float:
        """Share of the epochs that stages 2 and later got."""
        return float(self.recipe.get("budget", 1.0))

    @property
    def label(self) -> str:
        """The policy, and the budget where it is not 1: "lure, budget 0.1"."""
        return self.policy if self.budget == 1 else f"{self.policy}, budget {self.budget:g}"

    @property
    def last_evaluation(self) -> dict[str, Any] | None:
        """The evaluation of the version in use; None where it has none."""
        return self.evaluations.get(self.current)

    @property
    def final(self) -> Stage:
        """The stage of the version in use: the last one, unless it was refused or rolled back."""
        return self.stages[self.current - 1]

    @property
    def note(self) -> str:
        """One sentence on which versions were refused and which is in use; empty where it is simply the last."""
        refused = [str(number) for number, stage in enumerate(self.stages, 1) if not stage.accepted]
        if not refused and self.current == len(self.stages):
            return ""
        words = f"the gate refused version {', '.join(refused)}; " if refused else ""
        return f"{self.directory}: {words}version {self.current} is in use."

    @property
    def tested(self) -> bool:
        """Whether there was a test set, so that there are accuracies to show."""
        return self.stages[-1].accuracy is not None


def read_run(directory: Path | str) -> RunRecord:
    """Read one run directory.

    A last line of the ledger without a line end was being written when the run stopped: it was never committed, and is
    ignored.

    Raises:
        InputError: if this is not a run, no stage is committed yet, or a file is damaged; names the file and the line.
    """
    directory = Path(directory)
    if not (directory / LEDGER).is_file():
        raise InputError(f"{directory} is not a run with a committed stage: it has no {LEDGER}")
    stages, lines, current = read_stages(directory)
    recipe = _read_recipe(directory / RECIPE, stages[0].files.get(RECIPE))
    result = {}
    if (directory / RESULT).is_file():
        read_sealed_json(directory / RESULT, required=False)  # an edited number is no result
        result = _read_json(directory / RESULT)
    return RunRecord(
        directory=directory,
        policy=recipe.get("policy") or stages[-1].unlearner,
        seed=stages[-1].seed,
        stages=stages,
        lines=lines,
        recipe=recipe,
        current=current,
        result=result,
        evaluations={
            int(path.stem): read_sealed_json(path, required=False)
            for path in sorted((directory / EVALUATIONS).glob("[0-9]*.json"))
        },
    )


def read_stages(directory: Path) -> tuple[tuple[Stage, ...], tuple[dict[str, Any], ...], int]:
    """Return the stages of a run, their lines in the ledger as they are stored, and the version in use.

    What an earlier version of lure did not record has the default of `Stage`. Every line's checksum is verified.

    Raises:
        InputError: if no stage is committed, a line was changed or removed, or it does not fit `Stage`.
    """
    ledger = Ledger(directory)
    stages = tuple(ledger.stages)
    if not stages:
        raise InputError(f"{ledger.path} holds no committed stage yet")
    lines = tuple(
        {key: line[key] for key in line if key != "event"} for line in ledger.lines if line["event"] == "stage"
    )
    return stages, lines, ledger.standing.current or len(stages)


def read_runs(paths: Iterable[Path | str]) -> list[RunRecord]:
    """Read all runs in these directories: each is a run, or holds runs at any depth below it.

    A run that is found twice (its directory and a parent of it were given) is read once. Below a given directory, what
    has no ledger yet is skipped.

    Raises:
        InputError: if a directory does not exist or holds no run, or a file in one is damaged.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            raise InputError(f"there is no directory {path}")
        ledgers = [path / LEDGER] if (path / LEDGER).is_file() else sorted(path.rglob(LEDGER))
        if not ledgers:
            raise InputError(f"there is no run with a committed stage in {path}: no {LEDGER} in it or below it")
        for ledger in ledgers:
            found.setdefault(ledger.parent.resolve(), ledger.parent)
    return [read_run(directory) for directory in found.values()]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path} is missing") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is damaged: byte {error.start} is not UTF-8") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def _parse_object(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{where} is damaged: {error.msg} at character {error.pos + 1}") from None
    if not isinstance(value, dict):
        raise InputError(f"{where} is damaged: it must hold a JSON object, got {type(value).__name__}")
    return value


def _read_json(path: Path) -> dict[str, Any]:
    return _parse_object(_read_text(path), str(path))


def _read_recipe(path: Path, expected: str | None) -> dict[str, Any]:
    """Return the fields of a recipe, after comparing its SHA-256 with the one in the ledger, if that holds it."""
    text = _read_text(path)
    recipe = parse_toml(text, path)
    if expected not in (None, checksum(text.encode())):
        raise InputError(f"{path} was edited after the first stage: restore it from a backup")
    return recipe
