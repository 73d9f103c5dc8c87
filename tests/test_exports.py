"""The package's names: each is loaded when it is first used, and a type checker, `dir` and `import *` know them all."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import lure
from lure.training.regularizers import REGULARIZERS
from lure.unlearners import UNLEARNERS

SOURCE = Path(lure.__file__).read_text(encoding="utf-8")


def names_for_type_checkers() -> dict[str, str]:
    """Return name -> module, as the imports under TYPE_CHECKING have it."""
    (block,) = [
        node
        for node in ast.parse(SOURCE).body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    ]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def fresh(program: str) -> str:
    """Run a program in a process of its own; return what it printed."""
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {program}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_the_three_lists_agree() -> None:
    declared = names_for_type_checkers()
    assert sorted(lure.__all__) == sorted(declared)
    assert {name: f"lure.{module}" for name, module in lure._MODULE_OF.items()} == declared


@pytest.mark.parametrize("name", lure.__all__)
def test_a_name_is_the_one_of_its_module(name: str) -> None:
    assert getattr(lure, name) is getattr(import_module(names_for_type_checkers()[name]), name)


def test_every_method_is_exported() -> None:
    assert {maker.__name__ for maker in (UNLEARNERS | REGULARIZERS).values()} <= set(lure.__all__)


def test_star_dir_version_and_modules() -> None:
    names = fresh("exec('from lure import *'); print(*[name for name in dir() if name not in ('sys', '__builtins__')])")
    assert set(lure.__all__) <= set(names.split())
    assert {*lure.__all__, "__version__", "metrics"} <= set(fresh("import lure; print(*dir(lure))").split())
    assert fresh("import lure; print(lure.__version__)") == lure.__version__
    assert fresh("import lure; print(lure.metrics.mean_error_rate([1, 1], 4))") == "0.25"
    with pytest.raises(AttributeError, match="module 'lure' has no attribute 'unlern_'"):
        _ = lure.unlern_


@pytest.mark.parametrize(
    ("use", "unused"),
    [
        ("", {"torch", "numpy", "rich", "argparse"}),
        ("; lure.InputError", {"torch", "numpy"}),
        ("; lure.unlearn_", {"PIL", "matplotlib", "scipy", "accelerate", "datasets", "lure.metrics.corruptions"}),
        ("; lure.Learner", {"matplotlib", "accelerate", "datasets"}),
    ],
)
def test_only_what_is_used_is_loaded(use: str, unused: set[str]) -> None:
    loaded = fresh(f"import lure{use}; print(*sys.modules)").split()
    assert "lure" in loaded
    assert unused & set(loaded) == set()
