"""The memory that unlearning takes, by the benchmark's own measure, on a network that is quick to run."""

import importlib.util
from pathlib import Path

import pytest
import torch

from lure.models import build_model
from lure.unlearn import unlearn_

# Setting up the profiler warns of its own settings.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("method", ["lure", "dash", "fire", "fisher-reset", "random-reset", "scratch"])
def test_unlearning_takes_at_most_four_copies_of_the_parameters(method: str) -> None:
    path = Path(__file__).parents[2] / "benchmarks" / "unlearning.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_unlearning", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)

    def build() -> torch.nn.Module:
        return build_model("resnet18:width=32", 10, (3, 8, 8))

    model = build()
    batches = [(torch.rand(1, 3, 8, 8), torch.tensor([0])) for _ in range(3)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    copy = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    peak = benchmark.peak_bytes(
        lambda: unlearn_(model, batches, method, optimizer=optimizer, draw=build), torch.device("cpu")
    )
    assert copy < peak < 4 * copy
