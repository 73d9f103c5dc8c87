"""Stands for the package of Weights & Biases, and writes down what it is told in told.jsonl, in the current folder.

A test puts it where `import wandb` finds it.
"""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

TOLD = "told.jsonl"


def setup() -> SimpleNamespace:
    return SimpleNamespace(settings=SimpleNamespace(mode="offline"))


def note(what: str, values: object) -> None:
    with Path(TOLD).open("a") as file:
        print(json.dumps([what, values]), file=file)


def init(**settings: Any) -> SimpleNamespace:
    note("init", settings)
    return SimpleNamespace(log=log, finish=finish)


def log(values: dict[str, Any], step: int) -> None:
    note("log", {**values, "step": step})


def finish() -> None:
    note("finish", None)


config = SimpleNamespace(update=lambda values, **options: note("config", values))


def told() -> list[tuple[str, Any]]:
    """Return what was written down: (what, values)."""
    return [tuple(json.loads(line)) for line in Path(TOLD).read_text().splitlines()] if Path(TOLD).exists() else []


def failing(error: Exception) -> Callable[..., None]:
    """Return a function that raises, for a test to put in the place of one of these."""

    def fail(*values: object, **options: object) -> None:
        raise error

    return fail
