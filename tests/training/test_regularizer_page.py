"""docs/regularizers.md: its Python runs from top to bottom, and every regularizer has its section and its two lines."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import lure
from lure.training.regularizers import REGULARIZERS

PAGE = (Path(__file__).parents[2] / "docs" / "regularizers.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_python_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(REGULARIZERS, "small-logits", raising=False)
    names: dict[str, Any] = {}
    try:
        for number, block in enumerate(BLOCKS):
            before = torch.cat([p.flatten() for p in names["model"].parameters()]).detach() if names else None
            exec(compile(block, f"block {number}", "exec"), names)
            weights = torch.cat([p.flatten() for p in names["model"].parameters()])
            assert weights.isfinite().all()
            assert before is None or number == len(BLOCKS) - 1 or not torch.equal(weights, before)
        assert names["recipe"].acting["small-logits"].strength == 0.1
    finally:
        REGULARIZERS.pop("small-logits", None)


@pytest.mark.parametrize("name", REGULARIZERS)
def test_every_regularizer_has_its_section(name: str) -> None:
    section = PAGE.split(f"\n## {name}\n")[1].split("\n## ")[0]
    assert f"| [`{name}`](#{name}) |" in PAGE
    assert "arXiv" in section or "NeurIPS" in section
    assert len(re.findall(r"  # [12]$", section, re.MULTILINE)) == 2
    assert REGULARIZERS[name].__name__ in lure.__all__
