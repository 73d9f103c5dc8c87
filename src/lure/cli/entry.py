"""The command line: reads flags, calls the library, prints. No logic of its own.

Results go to standard output, everything else to standard error. Exit codes: 0 done; 2 bad input, one line
`error: ...`; 3 an update was trained but not accepted; 130 interrupted, with the command that resumes.
"""

import argparse
import dataclasses
import json
import shlex
import signal
import sys
import typing
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

import lure
from lure.cli.production import PRODUCTION_COMMANDS, add_production_commands
from lure.data.sources import SOURCES
from lure.distributed import process_group, process_rank
from lure.errors import InputError, unknown_name
from lure.experiment.compare import compare, pair_directory, pairs_of
from lure.experiment.evaluate import evaluate_finished, evaluate_version
from lure.experiment.run import Placement, run
from lure.experiment.trackers import Tracking
from lure.models import MODELS
from lure.recipe import Experiment, Recipe, load_experiment, policy_name, shipped_recipes
from lure.report.evaluation_table import evaluation_tables
from lure.report.numbers import page_data
from lure.report.progress import StageProgress
from lure.report.records import read_run, read_runs
from lure.report.table import comparison_table, report_console, run_table
from lure.report.verdict import verdict
from lure.settings import format_options, format_value
from lure.store.durable import to_json
from lure.training.fit import Moment
from lure.unlearners import UNLEARNERS

COMPARED = "warm-start,scratch,lure,shrink-perturb,dash,dash:shrink_floor=0.05"

DEFAULT_RECIPE = "demo"
DESCRIPTION = """\
Keep a neural network current while its data arrive in chunks: learn, unlearn, relearn.

  lure compare                     which policy wins, and at what cost, on a built-in sample (about two minutes)
  lure run                         one policy on the same sample (seconds)
  lure compare own-data --data DIR the same question asked of your own data
  lure run cifar10 --data DIR      the protocol of the LURE paper on CIFAR-10
  lure list unlearners             what there is to choose from

  lure init DIR --holdout FILE     in production: begin a directory that is kept current,
  lure update DIR DATA             and take in each new chunk; the better version stays
"""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, and offer the nearest flag."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        raise InputError(f"{message} (see: {self.prog} --help)")

    def parse_all(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse the words; an unknown flag is answered with the nearest known one."""
        parsed, unknown = self.parse_known_args(words)
        if unknown:
            command = self.commands.get(words[0], self)
            if unknown[0].startswith("-"):
                flags = [flag for flag in command._option_string_actions if flag.startswith("--")]
                message = str(unknown_name("flag", unknown[0].split("=")[0], flags)).split(" (valid")[0]
                raise InputError(f"{message} (see: {command.prog} --help)")
            raise InputError(f"unexpected argument {unknown[0]!r} (see: {command.prog} --help)")
        return parsed

    commands: typing.ClassVar[dict[str, "Parser"]] = {}


def build_parser() -> Parser:
    """Return the parser of the whole command line."""
    parser = Parser(
        prog="lure", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"lure {lure.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, summary: str, usage: str | None = None) -> Parser:
        command = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False, usage=usage)
        Parser.commands[name] = command
        return command

    one = add(
        "run",
        "Run one experiment: a stream of mega-batches, one policy. An interrupted run goes on where it was.",
        usage="lure run [RECIPE] [--out DIR] [--data PATH] [--seed N] [--unlearner NAME] [any flag below]",
    )
    _add_recipe(one)
    _add_placement(one, "runs/RECIPE/UNLEARNER/seed-N")
    _add_fields(one, Experiment)

    many = add(
        "compare",
        "Run an experiment for several policies and seeds, and say which wins at what cost.",
        usage="lure compare [RECIPE] [--unlearners A,B,C] [--seeds 0,1,2] [--out DIR] [any flag below]",
    )
    _add_recipe(many)
    many.add_argument("--unlearners", metavar="A,B,C", default=COMPARED, help=f"policies (default {COMPARED})")
    many.add_argument(
        "--seeds", metavar="0,1,2", default="0,1,2", help="one run of each policy for each (default 0,1,2)"
    )
    _add_placement(many, "runs/RECIPE")
    _add_fields(many, Experiment, without=("unlearner", "seed"))

    report = add(
        "report", "Show what runs or comparisons came to: tables, plots, mean and standard deviation over seeds."
    )
    report.add_argument("directories", metavar="DIR", nargs="+", help="run directories, or folders that hold them")
    report.add_argument("--html", metavar="FILE", type=Path, help="write one self-contained page")
    report.add_argument("--json", action="store_true", help="print every number of that page as JSON instead")

    measure = add("evaluate", "Measure a committed version: accuracy by class, calibration, corruptions, attacks.")
    measure.add_argument(
        "directory", metavar="DIR", type=Path, help="a run directory, or a .safetensors file of lure export"
    )
    measure.add_argument("--version", dest="number", metavar="VERSION", type=int, help="default: the one in use")
    measure.add_argument("--on", metavar="FILE", type=Path, help="other labelled data to measure on")
    measure.add_argument("--data", metavar="PATH", type=Path, help="folder or archive of the run's data set")
    measure.add_argument("--calibration", action="store_true", help="print the reliability diagram's numbers, too")
    measure.add_argument(
        "--corruptions", action="store_true", help="the 19 corruptions of CIFAR-10-C, severities 1 to 5"
    )
    measure.add_argument(
        "--corrupted", metavar="DIR", type=Path, help="folder of the published CIFAR-10-C .npy files, read instead"
    )
    measure.add_argument("--adversarial", action="store_true", help="FGSM and PGD as epsilon grows")
    measure.add_argument("--limit", metavar="N", type=int, help="corrupt and attack only N examples (default: all)")
    measure.add_argument("--model", metavar="NAME", help="package.module:function, where the run needs your code")
    measure.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default auto)")
    measure.add_argument("--json", action="store_true", help="print everything as JSON instead")

    add_production_commands(add, _add_fields)

    listing = add("list", "List what there is to choose from, with options and their defaults.")
    listing.add_argument(
        "what",
        metavar="data|models|unlearners|recipes",
        choices=["data", "models", "unlearners", "recipes"],
        help="which table to print",
    )
    return parser


def _add_recipe(command: Parser) -> None:
    command.add_argument(
        "recipe",
        metavar="RECIPE",
        nargs="?",
        help=f"name or TOML file (see: lure list recipes; default {DEFAULT_RECIPE})",
    )


def _add_placement(command: Parser, default_out: str) -> None:
    group = command.add_argument_group("where (decides nothing about the result)")
    group.add_argument("--out", metavar="DIR", type=Path, help=f"run directory (default {default_out})")
    group.add_argument("--data", metavar="PATH", type=Path, help="folder or archive of the data set")
    group.add_argument("--download", action="store_true", help="fetch the official archive into --data if not there")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default auto)")
    group.add_argument("--workers", type=int, default=0, help="processes that read data too large for memory")
    group.add_argument("--tracker", metavar="NAME", help="follow the run with wandb, tensorboard or mlflow")


def _add_fields(command: Parser, record: type[Recipe], without: Sequence[str] = ()) -> None:
    """Add a flag for every field of a recipe; its text is read by the recipe itself, which knows the types.

    An experiment begins with a recipe file, whose values hold; for a bare recipe the defaults do, and are shown.
    """
    bare = record is Recipe
    groups = {
        True: command.add_argument_group(
            "how the model is trained" + (", now and at every update" if bare else " (default: the recipe's)")
        ),
        False: command.add_argument_group("which data arrive, and how (default: the recipe's)"),
    }
    of_recipe = {field.name for field in dataclasses.fields(Recipe)}
    hints = typing.get_type_hints(record)
    for field in dataclasses.fields(record):
        if field.name not in without:
            default = f" (default {format_value(field.default)})" if bare else ""
            groups[field.name in of_recipe].add_argument(
                f"--{field.name.replace('_', '-')}",
                dest=f"field_{field.name}",
                metavar=_metavar(hints[field.name]),
                help=f"{field.metadata['meaning']}{default}".replace("%", "%%"),
            )


def _metavar(kind: Any) -> str:
    """Return what stands for a value in help texts: the choices themselves where there are few."""
    if typing.get_origin(kind) is Literal:
        return "{" + ",".join(typing.get_args(kind)) + "}"
    kinds = [option for option in typing.get_args(kind) or (kind,) if option not in (type(None), Ellipsis)]
    word = {int: "N", float: "X", bool: "true|false", str: "NAME"}.get(kinds[0], "VALUE")
    return f"{word},{word},..." if typing.get_origin(kind) is tuple else word


def _experiment(arguments: argparse.Namespace) -> Experiment:
    given = {key.removeprefix("field_"): value for key, value in vars(arguments).items() if key.startswith("field_")}
    given = {key: value for key, value in given.items() if value is not None}
    if arguments.recipe is None and "dataset" in given and "label_noise" not in given:
        raise InputError(
            "--dataset alone would train with the settings of the demonstration, its 30 % label noise included: name a "
            "recipe (lure compare own-data --data DIR), or say --label-noise too"
        )
    return load_experiment(arguments.recipe or DEFAULT_RECIPE, given)


def _placement(arguments: argparse.Namespace) -> Placement:
    tracking = Tracking(name=arguments.tracker) if arguments.tracker else None
    return Placement(arguments.data, arguments.download, arguments.device, arguments.workers, tracking)


def _runs_folder(recipe: str | None) -> Path:
    recipe = recipe or DEFAULT_RECIPE
    return Path("runs") / (recipe if recipe in shipped_recipes() else Path(recipe).stem)


def run_command(arguments: argparse.Namespace) -> None:
    """`lure run`."""
    experiment = _experiment(arguments)
    out = arguments.out or pair_directory(_runs_folder(arguments.recipe), experiment.unlearner, experiment.seed)
    label = f"{policy_name(experiment.unlearner)}, seed {experiment.seed}"
    with process_group(arguments.device, out) as (device, mine):
        placement = dataclasses.replace(_placement(arguments), device=device)
        with StageProgress() as progress:
            run(experiment, mine, placement=placement, watch=lambda moment: progress.show(label, moment))
        if process_rank():
            return
    evaluate_finished([out], _placement(arguments), experiment.model)
    console = report_console()
    console.print(run_table(read_run(out)))
    print(f"\nsaved in {out}")


def compare_command(arguments: argparse.Namespace) -> None:
    """`lure compare`."""
    experiment = _experiment(arguments)
    out = arguments.out or _runs_folder(arguments.recipe)
    unlearners = [word.strip() for word in arguments.unlearners.split(",") if word.strip()]
    try:
        seeds = [int(word) for word in arguments.seeds.split(",") if word.strip()]
    except ValueError:
        raise InputError(f"--seeds must be whole numbers with commas between, got {arguments.seeds!r}") from None
    if not unlearners or not seeds:
        raise InputError("give at least one policy and one seed: --unlearners a,b --seeds 0,1")
    pairs = pairs_of(unlearners, seeds)

    def show(unlearner: str, seed: int, moment: Moment) -> None:
        number = pairs.index((unlearner, seed)) + 1
        progress.show(f"run {number} of {len(pairs)}: {unlearner}, seed {seed}", moment)

    with process_group(arguments.device, out) as (device, mine):
        with StageProgress() as progress:
            directories = compare(
                experiment,
                unlearners,
                seeds,
                mine,
                placement=dataclasses.replace(_placement(arguments), device=device),
                watch=show,
            )
        if process_rank():
            return
    evaluate_finished(directories, _placement(arguments), experiment.model)
    _print_comparison(directories, out)


def _print_comparison(directories: Sequence[Path], out: Path) -> None:
    from lure.report.plots import plot_accuracy_over_stages  # matplotlib takes half a second

    runs = read_runs(directories)
    console = report_console()
    console.print(comparison_table(runs, console.width))
    print(f"\n{verdict(runs)}")
    plot = out / "accuracy_over_stages.png"
    plot_accuracy_over_stages(runs, plot)
    print(f"\nplot: {plot}")


def report_command(arguments: argparse.Namespace) -> None:
    """`lure report`."""
    runs = read_runs(arguments.directories)
    if arguments.html:
        from lure.report.page import write_page  # matplotlib takes half a second

        write_page(runs, arguments.html)
        print(f"page: {arguments.html}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(page_data(runs), indent=2))
        return
    console = report_console()
    if len(runs) == 1:
        console.print(run_table(runs[0]))
        return
    console.print(comparison_table(runs, console.width))
    print(f"\n{verdict(runs)}")


def evaluate_command(arguments: argparse.Namespace) -> None:
    """`lure evaluate`."""
    result = evaluate_version(
        arguments.directory,
        arguments.number,
        placement=Placement(data=arguments.data, device=arguments.device),
        file=arguments.on,
        model=arguments.model,
        corruptions=arguments.corruptions,
        corrupted_files=arguments.corrupted,
        adversarial=arguments.adversarial,
        limit=arguments.limit,
    )
    if arguments.json:
        print(json.dumps(json.loads(to_json(result)), indent=2))
        return
    console = report_console()
    for title, table in evaluation_tables(result, reliability=arguments.calibration):
        print(f"{title}\n")
        console.print(table)
        print()


def list_command(arguments: argparse.Namespace) -> None:
    """`lure list`."""
    if arguments.what == "recipes":
        rows = [(name, text.splitlines()[0].lstrip("# "), "") for name, text in shipped_recipes().items()]
    else:
        tables: dict[str, dict[str, Any]] = {"data": SOURCES, "models": MODELS, "unlearners": UNLEARNERS}
        rows = [
            (name, (maker.__doc__ or "").splitlines()[0].split(" Arguments as")[0], format_options(maker))
            for name, maker in tables[arguments.what].items()
        ]
    width = max(len(name) for name, _, _ in rows)
    for name, meaning, options in rows:
        print(f"{name:<{width}}  {meaning}")
        if options:
            print(f"{'':<{width}}    {options}")
    if arguments.what != "recipes":
        example = next(f"{name}:{word}" for name, _, options in rows for word in options.split() if "|" not in word)
        print(f"\nBelow a name stand its options and their defaults; they are given behind it, such as {example}")


def _terminated(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def exit_code(command: Callable[[], int | None], again: str) -> int:
    """Run a command and return its exit code; bad input and interruption become one line on standard error.

    Args:
        command: what to do; returns an exit code, or None for 0.
        again: the command line that goes on after an interruption.
    """
    signal.signal(signal.SIGTERM, _terminated)
    try:
        return command() or 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted; go on with: {again}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    words = sys.argv[1:] if words is None else list(words)
    commands: dict[str, Callable[[argparse.Namespace], int | None]] = {
        "run": run_command,
        "compare": compare_command,
        "report": report_command,
        "evaluate": evaluate_command,
        "list": list_command,
        **PRODUCTION_COMMANDS,
    }

    def command() -> int | None:
        arguments = build_parser().parse_all(words)
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
            return commands[arguments.command](arguments)

    return exit_code(command, f"lure {shlex.join(words)}")
