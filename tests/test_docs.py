"""Documents name what exists: links, files, modules and commands in README, CONTRIBUTING, CHANGELOG and docs/."""

import importlib
import re
import shlex
from functools import reduce
from pathlib import Path

import pytest

from lure.cli.commands import build_parser

ROOT = Path(__file__).parent.parent
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md"), ROOT / "results" / "README.md"])
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")
FILE = re.compile(r"`((?:src|tests|docs|examples|benchmarks|results|\.ci|\.github)/[\w./-]+)`")
MODULE = re.compile(r"\blure(?:\.[A-Za-z_]\w*)+")
COMMAND = re.compile(r"```bash\n(.*?)```", re.DOTALL)


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(text: str, page: Path) -> list[str]:
    dead = []
    for target in LINK.findall(text):
        place, _, anchor = target.partition("#")
        path = page.parent / place if place else page
        if not (path.exists() and (not anchor or anchor in anchors(path))):
            dead.append(target)
    return dead


def missing_files(text: str) -> list[str]:
    return [name for name in FILE.findall(text) if not (ROOT / name).exists()]


def exists(dotted: str) -> bool:
    """Whether `lure.a.b` is a module, or a name in one."""
    words = dotted.split(".")
    for length in range(len(words), 0, -1):
        try:
            module = importlib.import_module(".".join(words[:length]))
        except ModuleNotFoundError as error:
            if not str(error.name).startswith("lure"):
                raise
            continue
        try:
            return reduce(getattr, words[length:], module) is not None
        except AttributeError:
            return False
    return False


def missing_modules(text: str) -> list[str]:
    return [name for name in MODULE.findall(text) if not exists(name)]


def commands(text: str) -> list[str]:
    """The `lure` commands in a page's shell blocks, without comments and redirections; scripts are left out."""
    blocks = [block for block in COMMAND.findall(text) if not block.startswith("#!")]
    lines = [re.split(r"\s+[#>]", line)[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("lure ")]


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    assert dead_links(text_of(name), ROOT / name) == []


@pytest.mark.parametrize("name", NAMES)
def test_files_that_are_named_exist(name: str) -> None:
    assert missing_files(text_of(name).split("\n## [0.1.0]")[0]) == []


@pytest.mark.parametrize("name", [name for name in NAMES if name != "CHANGELOG.md"])
def test_modules_that_are_named_exist(name: str) -> None:
    assert missing_modules(text_of(name)) == []


@pytest.mark.parametrize(
    ("name", "command"), [(name, command) for name in NAMES for command in commands(text_of(name))]
)
def test_commands_parse(name: str, command: str) -> None:
    assert build_parser().parse_all(shlex.split(command)[1:]).command


def test_the_changelog_leads_from_old_modules_to_those_of_today() -> None:
    rows = re.findall(r"^\| `(lure\.[\w.]+)`[^|]*\| (.*) \|$", text_of("CHANGELOG.md"), re.MULTILINE)
    assert len(rows) > 25
    for old, new in rows:
        today = MODULE.findall(new)
        assert today, old
        assert missing_modules(new) == [], old
        assert old not in today, f"{old} did not move"


def test_the_checks_can_fail() -> None:
    text = "[a](docs/nowhere.md) [b](README.md#nowhere) [c](#nowhere) [d](README.md#caveats) [e](#caveats)"
    assert dead_links(text, ROOT / "README.md") == ["docs/nowhere.md", "README.md#nowhere", "#nowhere"]
    assert missing_files("`src/lure/nowhere.py` and `src/lure/errors.py`") == ["src/lure/nowhere.py"]
    assert missing_modules("lure.nowhere, lure.Learner.nothing, lure.Learner.open, lure.errors") == [
        "lure.nowhere",
        "lure.Learner.nothing",
    ]
    assert commands("```bash\nlure status x > y   # z\nmake demo\n```") == ["lure status x"]


def test_the_layout_names_every_folder() -> None:
    said = text_of("CONTRIBUTING.md")
    for path in sorted((ROOT / "src" / "lure").iterdir()):
        if path.is_dir() and path.name != "__pycache__":
            assert f"| `{path.name}/` |" in said, path.name
        elif path.suffix == ".py" and not path.name.startswith("__"):
            assert f"`{path.name}`" in said, path.name


def test_words_have_one_meaning_each() -> None:
    said = text_of("docs/glossary.md")
    for word in (
        *("mega-batch", "stage", "version", "unlearner", "regularizer", "recipe", "policy", "replay", "holdout"),
        *("gate", "ledger"),
    ):
        assert f"| **{word}** |" in said, word


def test_ci_runs_what_a_contributor_runs() -> None:
    assert "run: .ci/run" in text_of(".github/workflows/ci.yml")
