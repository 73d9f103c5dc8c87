"""What a report needs starts without torch and matplotlib."""

import subprocess
import sys

import pytest

MODULES = [
    "lure.metrics.statistics",
    "lure.metrics.hits",
    "lure.report.colours",
    "lure.report.evaluation_table",
    "lure.report.progress",
    "lure.report.records",
    "lure.report.kept",
    "lure.report.kept_table",
    "lure.report.comparison",
    "lure.report.numbers",
    "lure.report.verdict",
    "lure.report.table",
]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_neither_torch_nor_matplotlib(module):
    # The package itself is an empty one here: what it imports is not these modules' doing.
    program = f"""
import importlib.util, sys, types
package = types.ModuleType("lure")
package.__path__ = list(importlib.util.find_spec("lure").submodule_search_locations)
sys.modules["lure"] = package
import {module}
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert module in loaded
    assert not loaded & {"torch", "matplotlib", "scipy.stats", "lure.unlearners"}
