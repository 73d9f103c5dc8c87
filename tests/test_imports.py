"""The house has floors: a module imports only from those below it, and only some may import at all."""

import ast
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "lure"

# From the ground up, by folder (DESIGN section 2). A module imports from its own folder and from those before it.
FLOORS = [
    "errors",
    "words",
    "randomness",
    "settings",
    "distributed",
    "data",
    "models",
    "weights",
    "unlearners",
    "unlearn",
    "training/regularizers",  # a recipe holds its regularizers, and they know nothing of recipes
    "recipe",
    "recommended",
    "training",
    "metrics",
    "store",
    "learner",
    "experiment",
    "report",
    "adapters",
    "comparison",
    "in_loop",
    "__init__",
    "cli",
    "__main__",
]
FORBIDDEN = {"torchvision", "timm", "torch_uncertainty", "dill", "cloudpickle", "joblib"}


def floor_of(path: Path) -> str:
    return floor_named(path.relative_to(SOURCE).with_suffix("").parts)


def floor_named(words: Sequence[str]) -> str:
    """The floor of a module `lure.WORDS`."""
    return next((floor for floor in ("/".join(words[:2]), *words[:1]) if floor in FLOORS), "")


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def violations(path: Path) -> list[str]:
    mine = FLOORS.index(floor_of(path))
    found = []
    for name in imported(path):
        words = name.split(".")
        if words[0] in FORBIDDEN:
            found.append(f"{path.name} imports {name}")
        if name == "lure" and mine < FLOORS.index("__init__"):
            found.append(f"{path.name} imports the whole package")
        floor = floor_named(words[1:]) if words[0] == "lure" else ""
        if floor and FLOORS.index(floor) > mine:
            found.append(f"{floor_of(path)} imports {floor}, which stands above it")
    return found


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_downwards(path: Path) -> None:
    assert violations(path) == []


def test_the_check_can_fail(tmp_path: Path) -> None:
    bad = SOURCE / "errors.py"
    assert "lure.learner.learner" in imported(SOURCE / "experiment" / "run.py")
    assert FLOORS.index("learner") > FLOORS.index(floor_of(bad))


def test_there_is_no_lumber_room() -> None:
    assert not {path.stem for path in SOURCE.rglob("*.py")} & {"utils", "common", "helpers", "misc"}


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_nothing_unpickles(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(?<!safetensors\.)torch\.load\(", text)
    assert "allow_pickle=True" not in text
