"""The code in docs/unlearners.md runs as it stands, from top to bottom, and the document names every method."""

import re
from pathlib import Path
from typing import Any

import pytest

import lure

TEXT = (Path(__file__).parents[2] / "docs" / "unlearners.md").read_text()


def test_the_code_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("lure.UNLEARNERS", lure.UNLEARNERS)
    for name in set(lure.UNLEARNERS) ^ {"most-salient"}:
        monkeypatch.setitem(lure.UNLEARNERS, name, lure.UNLEARNERS.get(name))
    names: dict[str, Any] = {"__name__": "document"}
    for block in re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL):
        exec(compile(block, "docs/unlearners.md", "exec"), names)
    printed = capsys.readouterr().out
    assert printed.count("lure:forget_fraction=0.3: ") == 2
    assert float(printed.splitlines()[-1]) == pytest.approx(round(0.1 * (20 * 32 + 32 * 4)) / 804)


def test_every_method_has_a_row() -> None:
    for name in lure.UNLEARNERS:
        assert f"\n| `{name}` |" in TEXT
