"""`lure compare`: one experiment for several policies and seeds."""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lure.cli.experiment_flags import add_experiment, experiment_of, placement_of, runs_folder
from lure.cli.parser import Command, Parser
from lure.errors import InputError

if TYPE_CHECKING:
    from lure.store.stage import Stage
    from lure.training.fit import Progress

COMPARED = "warm-start,scratch,lure,shrink-perturb,dash,dash:shrink_floor=0.05"


def add_flags(parser: Parser) -> None:
    """Add the flags of `lure compare`."""
    parser.add_argument(
        "--unlearners",
        metavar="A,B,C",
        default=COMPARED,
        help=f"the policies to compare (default {COMPARED.replace(',', ', ')})",
    )
    parser.add_argument("--seeds", metavar="0,1,2", default="0,1,2", help="one run per policy and seed (default 0,1,2)")
    add_experiment(parser, "runs/RECIPE", without=("unlearner", "seed"))


def compare_command(arguments: argparse.Namespace) -> None:
    """Run every pair of policy and seed, evaluate the last versions, and print table, verdict and plot."""
    unlearners, seeds = _unlearners_and_seeds(arguments)
    # The recipe's own unlearner takes no part, so it is not asked for again where it names code.
    arguments.fields = arguments.fields | {"unlearner": unlearners[0]}
    experiment = experiment_of(arguments)  # first: what is refused should not wait for the imports

    from lure.distributed import process_group, process_rank
    from lure.experiment.compare import compare, pairs_of
    from lure.experiment.evaluate import evaluate_finished
    from lure.report.progress import StageProgress

    placement = placement_of(arguments)
    out = arguments.out or runs_folder(arguments.recipe)
    pairs = pairs_of(unlearners, seeds)

    def label(unlearner: str, seed: int) -> str:
        return f"run {pairs.index((unlearner, seed)) + 1} of {len(pairs)}: {unlearner}, seed {seed}"

    def show(unlearner: str, seed: int, moment: "Progress") -> None:
        progress.show(label(unlearner, seed), moment)

    def say(unlearner: str, seed: int, stage: "Stage") -> None:
        if not process_rank():
            progress.stage_done(label(unlearner, seed), stage)

    with process_group(arguments.device, out) as (device, mine):
        here = dataclasses.replace(placement, device=device)
        with StageProgress() as progress:
            directories = compare(experiment, unlearners, seeds, mine, placement=here, watch=show, on_stage=say)
        if process_rank():
            return
    evaluate_finished(directories, placement, experiment.model)
    _print_comparison(directories, out)


def _print_comparison(directories: Sequence[Path], out: Path) -> None:
    from lure.report.console import report_console
    from lure.report.plots import plot_accuracy_over_stages
    from lure.report.records import read_runs
    from lure.report.table import comparison_table
    from lure.report.verdict import verdict

    runs, console = read_runs(directories), report_console()
    console.print(comparison_table(runs, console.width))
    print(f"\n{verdict(runs)}")
    plot = out / "accuracy_over_stages.png"
    plot_accuracy_over_stages(runs, plot)
    print(f"\nplot: {plot}")


def _unlearners_and_seeds(arguments: argparse.Namespace) -> tuple[list[str], list[int]]:
    unlearners = [word.strip() for word in arguments.unlearners.split(",") if word.strip()]
    try:
        seeds = [int(word) for word in arguments.seeds.split(",") if word.strip()]
    except ValueError:
        raise InputError(f"--seeds must be whole numbers with commas between, got {arguments.seeds!r}") from None
    if not unlearners or not seeds:
        raise InputError("give at least one policy and one seed: --unlearners a,b --seeds 0,1")
    return unlearners, seeds


COMMAND = Command(
    summary="Run an experiment for several policies and seeds; tell which policy wins, and at what cost.",
    add_flags=add_flags,
    run=compare_command,
    usage="lure compare [RECIPE] [--unlearners A,B,C] [--seeds 0,1,2]\n"
    "                    [--out DIR] [any flag below]",
)
