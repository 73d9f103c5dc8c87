"""`lure run`: one experiment."""

import argparse
import dataclasses

from lure.cli.experiment_flags import add_experiment, experiment_of, placement_of, runs_folder
from lure.cli.parser import Command, Parser


def add_flags(parser: Parser) -> None:
    """Add the flags of `lure run`."""
    add_experiment(parser, "runs/RECIPE/UNLEARNER/seed-N")


def run_command(arguments: argparse.Namespace) -> None:
    """Run the experiment, evaluate its last version, and print a table of its stages."""
    experiment = experiment_of(arguments)  # first: a recipe that is refused should not wait for the imports

    from lure.distributed import process_group, process_rank
    from lure.experiment.compare import PlannedRun, run_directory
    from lure.experiment.evaluate import evaluate_finished
    from lure.experiment.run import run
    from lure.report.console import report_console
    from lure.report.progress import StageProgress
    from lure.report.records import read_run
    from lure.report.table import run_table

    placement = placement_of(arguments)
    out = arguments.out or run_directory(runs_folder(arguments.recipe), experiment)
    label = PlannedRun(experiment, out).label
    with process_group(arguments.device, out) as (device, mine):
        here = dataclasses.replace(placement, device=device)
        with StageProgress() as progress:
            run(
                experiment,
                mine,
                placement=here,
                watch=lambda moment: progress.show(label, moment),
                on_stage=lambda stage: None if process_rank() else progress.stage_done(label, stage),
            )
        if process_rank():
            return
    evaluate_finished([out], placement, experiment.model)
    report_console().print(run_table(read_run(out)))
    print(f"\nsaved in {out}")


COMMAND = Command(
    summary="Run one experiment: one policy on a stream of mega-batches. An interrupted run resumes where it stopped.",
    add_flags=add_flags,
    run=run_command,
    usage="lure run [RECIPE] [--out DIR] [--data PATH] [--seed N]\n                [--unlearner NAME] [any flag below]",
)
