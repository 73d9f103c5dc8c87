"""`lure run`: one experiment."""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lure.cli.experiment_flags import add_experiment, experiment_of, placement_of, runs_folder
from lure.cli.parser import Command, Parser

if TYPE_CHECKING:
    from lure.experiment.run import Placement
    from lure.recipe import Experiment
    from lure.store.stage import Stage


def add_flags(parser: Parser) -> None:
    """Add the flags of `lure run`."""
    add_experiment(parser, "runs/RECIPE/UNLEARNER/seed-N")


def run_command(arguments: argparse.Namespace) -> None:
    """Run the experiment, evaluate its last version, and print a table of its stages."""
    experiment = experiment_of(arguments)  # first: a recipe that is refused should not wait for the imports

    from lure.experiment.compare import run_directory
    from lure.experiment.evaluate import evaluate_finished
    from lure.experiment.job import PlannedRun

    placement = placement_of(arguments)
    out = arguments.out or run_directory(runs_folder(arguments.recipe), experiment)
    if train(experiment, placement, out, PlannedRun(experiment, out).label):
        evaluate_finished([out], placement, experiment.model)
        print_stages(out)
        print(f"\nsaved in {out}")


def train(experiment: "Experiment", placement: "Placement", out: Path, label: str) -> "Sequence[Stage]":
    """Run an experiment and show how far it is; return its stages, and none in all but the first of several processes.

    Args:
        experiment: what to run.
        placement: where.
        out: the run directory.
        label: names the run in what is shown.
    """
    from lure.distributed import process_group, process_rank
    from lure.experiment.run import run
    from lure.report.progress import StageProgress

    with process_group(placement.device, out) as (device, mine), StageProgress() as progress:
        stages = run(
            experiment,
            mine,
            placement=dataclasses.replace(placement, device=device),
            watch=lambda moment: progress.show(label, moment),
            on_stage=lambda stage: None if process_rank() else progress.stage_done(label, stage),
        )
        return () if process_rank() else stages


def print_stages(directory: Path) -> None:
    """Print the table of a run's stages."""
    from lure.report.console import report_console
    from lure.report.records import read_run
    from lure.report.table import run_table

    report_console().print(run_table(read_run(directory)))


COMMAND = Command(
    summary="Run one experiment: one policy on a stream of mega-batches. An interrupted run resumes where it stopped.",
    add_flags=add_flags,
    run=run_command,
    usage="lure run [RECIPE] [--out DIR] [--data PATH] [--seed N]\n                [--unlearner NAME] [any flag below]",
)
