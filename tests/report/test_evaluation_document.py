"""docs/evaluation.md: its examples run, and it names every metric and corruption."""

import doctest
from pathlib import Path

from lure.metrics import __all__ as metrics
from lure.metrics.corruptions import KINDS

PAGE = Path(__file__).parents[2] / "docs" / "evaluation.md"


def test_the_examples_of_the_page_run():
    results = doctest.testfile(str(PAGE), module_relative=False)
    assert results.attempted > 5
    assert results.failed == 0


def test_every_metric_and_corruption_is_in_the_page():
    text = PAGE.read_text()
    for name in (*metrics, *KINDS):
        assert f"`{name}`" in text, name
