"""`lure.metrics` gives every metric, and loads it only when it is used."""

import subprocess
import sys

import pytest

from lure import metrics


@pytest.mark.parametrize("name", metrics.__all__)
def test_every_metric_is_a_function(name):
    assert callable(getattr(metrics, name))
    assert name in dir(metrics)


def test_every_metric_that_is_loaded_on_demand_is_exported():
    assert set(metrics.MODULES) == set(metrics.__all__)


def test_an_unknown_metric_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'acuracy'"):
        metrics.acuracy  # noqa: B018


def loaded_after(statement):
    program = f"{statement}; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_calibration_loads_neither_corruptions_nor_attacks():
    loaded = loaded_after("from lure.metrics import expected_calibration_error")
    assert "lure.metrics.calibration" in loaded
    assert not loaded & {"lure.metrics.adversarial", "lure.metrics.corruptions", "lure.metrics.evaluation", "PIL"}
