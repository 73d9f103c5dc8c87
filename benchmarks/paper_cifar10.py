"""The paper's CIFAR-10 protocol for several policies, in calls of under ten minutes.

Each policy trains on ten million examples, which takes many minutes on a GPU and days on a CPU. This script works until
its time is up, stops where the runs can resume exactly, copies the ledgers, and exits with 75. Run the same command
again to continue; it exits with 0 when everything is done:

    python benchmarks/paper_cifar10.py --data DIR
"""

import argparse
import dataclasses
import shlex
import shutil
import sys
import time
from pathlib import Path

import torch

from lure.cli.entry import exit_code
from lure.errors import unknown_name
from lure.experiment.job import is_complete
from lure.experiment.run import Placement, open_dataset, run
from lure.learner.opening import require_same_recipe
from lure.recipe import Experiment, load_experiment
from lure.training.fit import Progress

POLICIES = {
    "lure": ("cifar10", None),
    "lure-as-released": ("cifar10-as-released", None),
    "warm-start": ("cifar10", "warm-start"),
    "scratch": ("cifar10", "scratch"),
}
RECORDS = ("recipe.toml", "ledger.jsonl", "result.json")
MORE_TO_DO = 75


class TimeIsUp(Exception):
    """Ends a run between two steps; the last checkpoint is kept."""


def main() -> int:
    """Run the policies; return 0 if all are complete, 75 if there is more to do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the CIFAR-10 files")
    parser.add_argument("--out", type=Path, default=Path("runs/paper-cifar10"), help="where run directories are kept")
    parser.add_argument("--ledgers", type=Path, default=Path("results/paper-cifar10"), help="where records are copied")
    parser.add_argument("--policies", default=",".join(POLICIES), help="which ones, in which order")
    parser.add_argument("--seeds", default="0", help="such as 0,1,2; all policies run with the first seed first")
    parser.add_argument("--seconds", type=float, default=540, help="time for this call")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="change the recipe")
    arguments = parser.parse_args()
    end = time.monotonic() + arguments.seconds

    def watch(moment: Progress) -> None:
        if time.monotonic() > end:
            raise TimeIsUp

    cuda = torch.cuda.is_available()
    fast = {"precision": "bf16", "compile": True, "tf32": True} if cuda else {}
    changes = {**fast, **dict(change.partition("=")[::2] for change in arguments.set)}
    for name in changes:
        if name not in Experiment.__dataclass_fields__:
            raise unknown_name("recipe field", name, Experiment.__dataclass_fields__)
    pairs = []
    for seed in arguments.seeds.split(","):
        for policy in arguments.policies.split(","):
            if policy not in POLICIES:
                raise unknown_name("policy", policy, POLICIES)
            recipe, unlearner = POLICIES[policy]
            experiment = load_experiment(recipe, {**changes, "seed": seed})
            if unlearner:
                experiment = dataclasses.replace(experiment, unlearner=unlearner)
            pairs.append((experiment, arguments.out / policy / f"seed-{experiment.seed}"))
    for experiment, directory in pairs:
        require_same_recipe(directory, experiment)
    placement = Placement(data=arguments.data)
    dataset = open_dataset(pairs[0][0], placement)
    print(f"device: {torch.cuda.get_device_name() if cuda else 'cpu'}")
    try:
        for experiment, directory in pairs:
            if not is_complete(directory):
                run(experiment, directory, placement=placement, dataset=dataset, watch=watch)
    except TimeIsUp:
        print("time is up; run the same command again to continue", file=sys.stderr)
    for _, directory in pairs:
        stages = 0
        for name in RECORDS:
            if (directory / name).exists():
                target = arguments.ledgers / directory.relative_to(arguments.out) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(directory / name, target)
        if (directory / "ledger.jsonl").exists():
            stages = len((directory / "ledger.jsonl").read_text().splitlines())
        print(f"{directory}: {stages} stages{', complete' if is_complete(directory) else ''}")
    return 0 if all(is_complete(directory) for _, directory in pairs) else MORE_TO_DO


if __name__ == "__main__":
    raise SystemExit(exit_code(main, shlex.join(["python", *sys.argv])))
