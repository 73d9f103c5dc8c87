"""What a stage costs after many others: processor seconds of a stage, and of opening the directory, as it grows.

    python benchmarks/stages.py --stages 1000

A model kept current with a gate: an MLP 10-8-3, 40 examples a stage, a buffer of 100. The cost of a stage must not grow
with the number of stages before it. Each figure is the median over 20 stages.
"""

import argparse
import statistics
import tempfile
import time

import torch

from lure import Examples, Learner, Recipe
from lure.learner.gate import Gate

MARKS = (50, 100, 200, 400, 1000)
WINDOW = 20


def chunk(number: int, count: int = 40) -> Examples:
    """Return the data of one stage: three classes, ten features."""
    generator = torch.Generator().manual_seed(number)
    labels = torch.randint(3, (count,), generator=generator)
    return Examples(torch.randn(count, 10, generator=generator) + torch.eye(10)[labels], labels)


def main() -> None:
    """Run the stages and print a line for each mark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", type=int, default=1000, help="how many to run (default 1000)")
    arguments = parser.parse_args()
    recipe = Recipe(model="mlp:width=8:depth=1", replay="buffer:capacity=100", epochs=1, milestones=(), threads=1)
    costs = []
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/run"
        with Learner.open(path, recipe=recipe, test=chunk(0, 200), gate=Gate(significance=0, margin=1)) as learner:
            for number in range(1, arguments.stages + 1):
                began = time.process_time()
                learner.learn(chunk(number))
                costs.append(time.process_time() - began)
                if number in MARKS:
                    print(f"stage {number}: {statistics.median(costs[-WINDOW:]):.4f} s", flush=True)
        began = time.process_time()
        Learner.open(path).close()
        print(f"opening {arguments.stages} stages: {time.process_time() - began:.3f} s")


if __name__ == "__main__":
    main()
