"""What `lure run` and `lure compare` share: the recipe, where it runs, and a flag for each field of an experiment."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lure.cli.parser import Parser, add_device, add_fields, add_hints, add_workers
from lure.errors import InputError
from lure.settings import format_value

if TYPE_CHECKING:
    from lure.experiment.run import Placement
    from lure.recipe import Experiment

DEFAULT_RECIPE = "demo"


def add_experiment(parser: Parser, default_out: str, without: Sequence[str] = ()) -> None:
    """Add RECIPE, the flags that place a run, and one flag for each field of an experiment.

    Args:
        parser: where to add them.
        default_out: what the help names as the default of --out.
        without: fields that get no flag.
    """
    from lure.recipe import Experiment, Recipe

    parser.add_argument(
        "recipe",
        metavar="RECIPE",
        nargs="?",
        help=f"name or TOML file (see: lure list recipes; default {DEFAULT_RECIPE})",
    )
    place = parser.add_argument_group("where it runs (none of this changes the result)")
    place.add_argument("--out", metavar="DIR", type=Path, help=f"run directory (default {default_out})")
    place.add_argument("--data", metavar="PATH", type=Path, help="folder or archive of the data set")
    place.add_argument(
        "--download", action="store_true", help="download the official archive to --data if it is not there"
    )
    add_hints(parser.add_argument_group("how to read your own data (become options of the data set)"))
    add_device(place)
    add_workers(place)
    place.add_argument("--tracker", metavar="NAME", help="log the run to wandb, tensorboard or mlflow")
    without = (*without, "policy", "departs_from")  # a comparison writes them
    names = [name for name in Experiment.__dataclass_fields__ if name not in without]
    for title, of_recipe in (("how the model is trained", True), ("which data arrive, and how", False)):
        chosen = [name for name in names if (name in Recipe.__dataclass_fields__) is of_recipe]
        add_fields(parser, f"{title} (default: the recipe's)", Experiment, chosen, into="fields", defaults=None)


def experiment_of(arguments: argparse.Namespace) -> "Experiment":
    """Return the experiment that the arguments ask for: their fields over those of the recipe.

    Raises:
        InputError: for a recipe or a value that cannot be used.
    """
    from lure.recipe import load_experiment

    given: dict[str, str] = dict(arguments.fields)
    consent: list[str] | None = getattr(arguments, "own_code", None)  # a flag of lure compare
    if arguments.recipe is None and "dataset" in given and "label_noise" not in given:
        raise InputError(
            "--dataset alone would train with the settings of the demonstration, its 30 % label noise included: name a "
            "recipe (lure compare own-data --data DIR), or say --label-noise too"
        )
    experiment = load_experiment(arguments.recipe or DEFAULT_RECIPE, given, consent)
    hints = {name: getattr(arguments, name) for name in ("label", "image", "id", "ignore", "layout")}
    for name, value in hints.items():
        if ":" in format_value(value):
            raise InputError(f"--{name}: a recipe cannot hold a column whose name has a colon: rename it in the tables")
    options = "".join(f":{name}={format_value(value)}" for name, value in hints.items() if value)
    if not options:
        return experiment
    given["dataset"] = experiment.dataset + options
    return load_experiment(arguments.recipe or DEFAULT_RECIPE, given, consent)


def placement_of(arguments: argparse.Namespace) -> "Placement":
    """Return where the arguments ask it to run."""
    from lure.experiment.run import Placement
    from lure.experiment.trackers import Tracking

    return Placement(
        data=arguments.data,
        download=arguments.download,
        device=arguments.device,
        workers=arguments.workers,
        tracking=Tracking(name=arguments.tracker) if arguments.tracker else None,
    )


def runs_folder(recipe: str | None) -> Path:
    """Return the folder that holds the runs of a recipe, where --out names no other."""
    from lure.recipe import shipped_recipes

    recipe = recipe or DEFAULT_RECIPE
    return Path("runs") / (recipe if recipe in shipped_recipes() else Path(recipe).stem)
