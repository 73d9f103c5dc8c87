"""The site: every page has its place, every method its page, every link its target. `make docs` builds it."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lure
from lure.settings import describe_options
from lure.training.regularizers import REGULARIZERS
from lure.unlearners import UNLEARNERS

ROOT = Path(__file__).parent.parent
CONFIGURATION = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
NAVIGATION = re.findall(r"^ +- [^:\n]+: (\S+)$", CONFIGURATION.split("\nnav:\n")[1].split("\n\n")[0], re.MULTILINE)
METHODS = {**UNLEARNERS, **REGULARIZERS}

sys.path.append(str(ROOT / "docs"))
pages = importlib.import_module("generated_pages")
sys.path.remove(str(ROOT / "docs"))
GENERATED = pages.generated_pages()
NOTEBOOKS = {f"notebooks/{path.stem}.md" for path in (ROOT / "docs" / "notebooks").glob("*.py")}
WRITTEN = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").glob("*.md")}
ALL = {*GENERATED, *NOTEBOOKS, *WRITTEN}


def test_every_page_has_its_place_in_the_navigation() -> None:
    sections = ("methods/", "examples/", "reference/")  # filled by on_config
    assert sorted(NAVIGATION) == sorted([*sections, *(page for page in ALL if not page.startswith(sections))])


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_its_page(name: str) -> None:
    page = GENERATED[f"methods/{name}.md"]
    assert f"\n::: {METHODS[name].__module__}\n" in page
    assert [option.name for option in describe_options(METHODS[name])] == re.findall(
        r"^\| `(\w+)` \|", page, re.MULTILINE
    )
    assert f"| [`{name}`]({name}.md) |" in GENERATED["methods/index.md"]


def test_every_public_name_is_in_the_reference() -> None:
    directives = set(re.findall(r"^::: (\S+)", "\n".join(GENERATED.values()), re.MULTILINE))
    targets = dict(re.findall(r"\[`(\w+)`\]\[([\w.]+)\]", GENERATED["reference/index.md"]))
    assert list(targets) == lure.__all__
    for name, target in targets.items():
        assert target.rpartition(".")[0] in directives, name
        assert getattr(importlib.import_module(target.rpartition(".")[0]), name) is getattr(lure, name)


def test_every_module_has_one_place_in_the_reference() -> None:
    directives = re.findall(r"^::: (\S+)", "\n".join(GENERATED.values()), re.MULTILINE)
    assert len(set(directives)) == len(directives)
    for path in (ROOT / "src" / "lure").rglob("[!_]*.py"):
        module = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
        assert module in directives or module.startswith("lure.cli."), module


def test_links_lead_to_pages_of_the_site() -> None:
    text = "[a](docs/data.md#your-own-data) ![b](results/demo/x.png) [c](tests/test_imports.py) [d](examples) [e](#x)"
    assert pages.linked(text, "index.md", "README.md") == (
        "[a](data.md#your-own-data) ![b](results/demo/x.png) c [d](examples/index.md) [e](#x)"
    )
    assert pages.linked("[a](../README.md) [b](../examples/serve.py)", "notebooks/x.md", "docs/x.md") == (
        "[a](../index.md) [b](../examples/serve.md)"
    )
    text = "[a](data.md) [b](https://example.org)"
    assert pages.linked(text, "x.md", "docs/x.md") == text


def test_a_notebook_is_cut_into_its_cells(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("# %% [markdown]\n# # Title\n#\n# words\n\n# %%\na = 1\n\n# %%\nprint(a)\n")
    assert list(pages.cells(tmp_path / "x.py")) == [(False, "# Title\n\nwords"), (True, "a = 1"), (True, "print(a)")]
    text, figures = pages.executed(tmp_path / "x.py")
    assert text == "# Title\n\nwords\n\n```python\na = 1\n```\n\n```python\nprint(a)\n```\n\n```text\n1\n```\n"
    assert figures == {}


def test_make_docs_builds_what_the_configuration_says() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "mkdocs build --strict" in makefile.split("\ndocs:")[1].split("\n\n")[0]
    for extension in re.findall(r"docs/\w+\.py", CONFIGURATION):
        assert (ROOT / extension).exists()


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    for name in ("material", "mkdocstrings_handlers.python"):
        pytest.importorskip(name)
    ran = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "WARNING" not in ran.stderr
    for page in ALL:
        place = page.removesuffix(".md").removesuffix("index")
        assert (tmp_path / place / "index.html").exists(), page
    assert 'src="own_loop-' in (tmp_path / "notebooks" / "own_loop" / "index.html").read_text(encoding="utf-8").replace(
        "../", ""
    )
