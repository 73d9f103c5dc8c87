"""The README's Python runs as it stands, and its commands are commands of ours."""

import re
import shlex
from pathlib import Path

import pytest

from lure.cli import build_parser
from lure.unlearners import UNLEARNERS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
BASH = [
    line.split("  #")[0] for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) for line in block.splitlines()
]


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_python_blocks_run(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(PYTHON[number], f"README block {number}", "exec"), {})


@pytest.mark.parametrize("line", [line.strip() for line in BASH if line.startswith("lure ")])
def test_commands_parse(line: str) -> None:
    assert build_parser().parse_all(shlex.split(line)[1:]).command


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [line.split()[1] for line in BASH if line.startswith("make ")]
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_every_policy_is_in_the_table() -> None:
    for name in UNLEARNERS:
        assert f"| `{name}` |" in README


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_no_placeholder_is_left() -> None:
    assert not re.findall(r"\b(?:RESULTS|TODO|FIXME)_?[A-Z]*\b", README)
