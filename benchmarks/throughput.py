"""The speed of `fit` compared with a bare training loop, and the share of a whole run that is training.

`fit` gathers, crops, flips and converts every batch, checks the loss and follows the schedule. The bare loop only does
forward, backward and step, on the same batches, prepared beforehand, with the same model and optimiser. The two take
turns in one process, so that changes in the machine's speed affect both. The ratio is the bare loop's seconds divided
by those of `fit`: 1 means no overhead, and the goal is at least 0.95.

    python benchmarks/throughput.py            # the small ResNet and ResNet-18, then a whole run of the demonstration
    python benchmarks/throughput.py --rounds 9 --threads 2
"""

import argparse
import dataclasses
import platform
import statistics
import tempfile
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lure import Examples, Recipe
from lure.experiment.run import Placement, open_dataset, run
from lure.models import build_model
from lure.randomness import derive_generator
from lure.recipe import load_experiment
from lure.training.fit import fit
from lure.training.loader import Loader
from lure.training.predict import arithmetic
from lure.training.schedule import build_optimizer

# name -> (model, batches in one timed epoch)
CASES = {"small ResNet": ("resnet18:width=16:stem=strided", 40), "ResNet-18": ("resnet18", 4)}


def timed(action: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that an action takes, including the device's work."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def bare_loop(model: nn.Module, batches: list[tuple[Tensor, Tensor]], recipe: Recipe) -> None:
    """Forward, backward and step: the fastest that is possible."""
    optimizer = build_optimizer(model, recipe)
    model.train()
    for inputs, labels in batches:
        loss = F.cross_entropy(model(inputs), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def compare_loops(choice: str, num_batches: int, recipe: Recipe, device: torch.device, rounds: int) -> list[float]:
    """Return seconds of the bare loop / seconds of `fit`, one ratio per round."""
    generator = torch.Generator().manual_seed(0)
    count = num_batches * recipe.batch_size
    images = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    examples = Examples(images, torch.randint(10, (count,), generator=generator))
    model = build_model(choice, 10, (3, 32, 32), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)).to(device)
    model.to(memory_format=torch.channels_last)
    train, validation = Loader(examples, device, True), Loader(examples[:0], device, True)
    order = torch.randperm(count, generator=derive_generator(recipe.seed, 1, "shuffle", 1))
    augment = derive_generator(recipe.seed, 1, "augment", 1)
    batches = list(train.batches(order, recipe.batch_size, recipe.augment, augment))
    ratios = []
    for number in range(rounds + 1):  # the first round warms up
        bare = timed(lambda: bare_loop(model, batches, recipe), device)
        ours = timed(lambda: fit(model, train, validation, recipe), device)
        if number:
            ratios.append(bare / ours)
    return ratios


def whole_run(threads: int, rounds: int) -> list[float]:
    """Return the training seconds in the ledger / the seconds of the whole run, for the demonstration."""
    experiment = dataclasses.replace(load_experiment("demo"), threads=threads)
    dataset = open_dataset(experiment, Placement())
    ratios = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            stages = run(experiment, f"{folder}/run", dataset=dataset)
            ratios.append(sum(stage.train_seconds for stage in stages) / (time.perf_counter() - began))
    return ratios


def main() -> None:
    """Measure, and print one line per case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    recipe = Recipe(epochs=1, validation_fraction=0.0, keep="last", augment="crop-flip", threads=arguments.threads)
    machine = platform.processor() or platform.machine()
    print(f"torch {torch.__version__}, {machine}, {device}, {arguments.threads} threads")
    with arithmetic(recipe):
        for name, (choice, num_batches) in CASES.items():
            show(f"fit / bare loop, {name}", compare_loops(choice, num_batches, recipe, device, arguments.rounds))
    show("training steps / whole run, demonstration", whole_run(arguments.threads, 3))


def show(name: str, ratios: list[float]) -> None:
    """Print the median and the range of some ratios."""
    median = statistics.median(ratios)
    print(f"{name}: median {median:.3f} (n = {len(ratios)}, {min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
