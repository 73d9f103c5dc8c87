"""`lure compare`: one experiment for several policies and seeds."""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from lure.cli.experiment_flags import DEFAULT_RECIPE, add_experiment, experiment_of, placement_of, runs_folder
from lure.cli.parser import Command, Parser, split_names
from lure.errors import InputError
from lure.recipe import Policy, Recipe, load_policies
from lure.recommended import COMPARED, RECOMMENDED, WHY, in_words
from lure.settings import parse_value

DEFAULT = [Policy.read(choice) for choice in COMPARED]
BUDGETS = "0.1,0.3,1"


def add_flags(parser: Parser) -> None:
    """Add the flags of `lure compare`."""
    parser.add_argument(
        "--unlearners",
        metavar="A,B,C",
        help=f"unlearners to compare (default, where no policy is given: {', '.join(COMPARED)})",
    )
    parser.add_argument(
        "--policy",
        metavar="POLICY",
        action="append",
        default=[],
        help="compare this, too, such as smooth='unlearner=warm-start label_smoothing=0.1': a name, and the recipe "
        "fields in which it departs from the others; repeatable",
    )
    parser.add_argument(
        "--own-code",
        metavar="NAME",
        action="append",
        default=[],
        help="package.module:Class and its options, as the recipe file or a policy in it names your own code: run it; "
        "repeatable",
    )
    parser.add_argument(
        "--budgets",
        metavar="0.1,0.3,1",
        help=f"run each policy at each of these budgets (see --budget below; default {BUDGETS}, and where policies are "
        "given, the recipe's)",
    )
    parser.add_argument(
        "--seeds", metavar="0,1,2", default="0,1,2", help="one run per policy, budget and seed (default 0,1,2)"
    )
    side = parser.add_argument_group("how many runs at once, and by whom (none of this changes a result)")
    side.add_argument(
        "--jobs",
        metavar="N",
        type=int,
        help="runs at once, each in a process of its own (default: the cores divided by the threads of a run; on GPUs "
        "one a device)",
    )
    side.add_argument(
        "--engine",
        metavar="NAME",
        default="local",
        help="local (this machine), slurm or ray (default local)",
    )
    side.add_argument(
        "--engine-option",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="such as partition=gpu; repeatable (see docs/scaling.md)",
    )
    add_experiment(parser, "runs/RECIPE", without=("unlearner", "seed"))


def compare_command(arguments: argparse.Namespace) -> None:
    """Run every pair of policy and seed, evaluate the last versions, and print table, verdict and plot."""
    named, seeds = _policies(arguments), _seeds(arguments)
    policies, budgets = named or DEFAULT, _budgets(arguments, default="" if named else BUDGETS)
    engine_options = _engine_options(arguments)
    if all("unlearner" in policy.fields for policy in policies):
        # The recipe's own takes no part, so it need not be named again where it is the user's own code.
        arguments.fields = {"unlearner": Recipe.unlearner} | arguments.fields
    experiment = experiment_of(arguments)  # first: what is refused should not wait for the imports

    from lure.distributed import process_group, process_rank
    from lure.experiment.compare import RunsFailed, compare, plan
    from lure.experiment.evaluate import evaluate_finished
    from lure.report.progress import RunsProgress

    placement = placement_of(arguments)
    out = arguments.out or runs_folder(arguments.recipe)
    runs = plan(experiment, policies, seeds, out, budgets)
    with process_group(arguments.device, out) as (device, mine):
        here = dataclasses.replace(placement, device=device)
        with RunsProgress(runs) as progress:
            try:
                directories = compare(
                    experiment,
                    policies,
                    seeds,
                    mine,
                    budgets=budgets,
                    placement=here,
                    jobs=arguments.jobs,
                    engine=arguments.engine,
                    engine_options=engine_options,
                    watch=progress.show,
                    on_stage=lambda run, stage: None if process_rank() else progress.stage_done(run, stage),
                    on_end=progress.run_ended,
                )
            except RunsFailed as error:
                raise InputError(f"{error}; the others are done, and the same command goes on") from None
        if process_rank():
            return
    for run in runs:  # what several processes trained together
        evaluate_finished([run.directory], placement, run.experiment.model)
    _print_comparison(directories, out)


def _print_comparison(directories: Sequence[Path], out: Path) -> None:
    from lure.cli.report import print_comparison
    from lure.report.comparison import group_runs
    from lure.report.plots import plot_accuracy_over_stages, plot_price
    from lure.report.price import winner
    from lure.report.records import read_runs

    runs = read_runs(directories)
    for name, plot in (("accuracy_over_stages.png", plot_accuracy_over_stages), ("price.png", plot_price)):
        if runs[0].tested and plot(runs, out / name) is not False:
            print(f"plot: {out / name}")
    print_comparison(runs)
    if len({run.policy for run in runs}) > 1 and not any(map(winner, group_runs(runs))):
        print(f"Until your data decide: {in_words(RECOMMENDED)}; {WHY}.")


def _policies(arguments: argparse.Namespace) -> list[Policy]:
    """Return the policies that the arguments and the recipe name; [] where they name none.

    A field that has a flag of its own is not a policy's to set.
    """
    named = [Policy.read(text) for text in arguments.policy]
    flags = set(arguments.fields)
    for policy in named:
        if not policy.fields.keys().isdisjoint(flags):
            field = min(policy.fields.keys() & flags)
            raise InputError(f"policy {policy.name} sets {field}, and so does --{field.replace('_', '-')}: drop one")
    of_recipe = [
        Policy(name=policy.name, fields={name: value for name, value in policy.fields.items() if name not in flags})
        for policy in load_policies(arguments.recipe or DEFAULT_RECIPE, arguments.own_code)
    ]
    chosen = [Policy.read(word) for word in split_names(arguments.unlearners or "")] + of_recipe + named
    names = [policy.name for policy in of_recipe + named]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two policies are called {name}: give one of them another name")
    if not chosen and arguments.unlearners is not None:
        raise InputError("give at least one policy: --unlearners a,b")
    return chosen


def _budgets(arguments: argparse.Namespace, default: str) -> list[float]:
    """Return the budgets that the arguments ask for; [] for the recipe's own."""
    if "budget" in arguments.fields:
        if arguments.budgets is not None:
            raise InputError("give --budget or --budgets, not both")
        return []
    text = default if arguments.budgets is None else arguments.budgets
    budgets = [parse_value(word, float, "--budgets") for word in split_names(text)]
    if not budgets and arguments.budgets is not None:
        raise InputError("give at least one budget: --budgets 0.1,0.3,1")
    return budgets


def _engine_options(arguments: argparse.Namespace) -> dict[str, str]:
    options: dict[str, str] = {}
    for text in arguments.engine_option:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InputError(f"--engine-option must be KEY=VALUE, got {text!r}")
        if name in options:
            raise InputError(f"--engine-option {name} is given twice")
        options[name.replace("-", "_")] = value
    return options


def _seeds(arguments: argparse.Namespace) -> tuple[int, ...]:
    seeds: tuple[int, ...] = parse_value(arguments.seeds, tuple[int, ...], "--seeds")
    if not seeds:
        raise InputError("give at least one seed: --seeds 0,1")
    return seeds


COMMAND = Command(
    summary="Tell what it costs to stay current: run several policies at several budgets and seeds, beside retraining.",
    add_flags=add_flags,
    run=compare_command,
    usage='lure compare [RECIPE] [--unlearners A,B,C] [--policy NAME="..."]\n'
    "                    [--budgets 0.1,0.3,1] [--seeds 0,1,2]\n"
    "                    [--out DIR] [any flag below]",
)
