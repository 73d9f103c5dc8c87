"""`lure init`: create a directory that is kept current."""

import argparse
from pathlib import Path

from lure.cli.parser import Command, Parser, add_directory, add_fields, add_hints, hints_of
from lure.recommended import RECOMMENDED, WHY, WHY_IN_PART, in_words, recommended_beside


def add_flags(parser: Parser) -> None:
    """Add the flags of `lure init`."""
    from lure.learner.gate import Gate
    from lure.recipe import Recipe

    add_directory(parser)
    parser.add_argument(
        "--holdout", metavar="FILE", type=Path, required=True, help="labelled data on which every version is judged"
    )
    parser.add_argument(
        "--test", metavar="FILE", type=Path, help="labelled data that are measured, too, but decide nothing"
    )
    add_hints(parser)
    gate = "the gate: when a version after the first is refused (shares in [0, 1])"
    add_fields(parser, gate, Gate, list(Gate.__dataclass_fields__), into="gate", defaults={})
    training = "how the model is trained, now and at every update"
    add_fields(parser, training, Recipe, list(Recipe.__dataclass_fields__), into="fields", defaults=RECOMMENDED)


def init_command(arguments: argparse.Namespace) -> None:
    """Create the directory, and print what to do next."""
    from lure.learner import production
    from lure.learner.gate import Gate
    from lure.learner.opening import read_recipe
    from lure.recipe import Recipe, require_effect
    from lure.settings import format_value
    from lure.store.run_directory import RunDirectory

    chosen = recommended_beside(arguments.fields)
    directory = RunDirectory(arguments.directory)
    begun = directory.exists
    if begun:  # it keeps what was recommended when it was begun
        stored = read_recipe(directory)
        chosen = {name: format_value(getattr(stored, name)) for name in chosen}
    recipe = Recipe(**chosen | arguments.fields)
    require_effect(recipe, arguments.fields)
    shown = production.init(
        arguments.directory,
        arguments.holdout,
        independent=arguments.test,
        recipe=recipe,
        gate=Gate(**arguments.gate),
        hints=hints_of(arguments),
    )
    print(shown)
    if chosen and not begun:
        print(f"chosen for you: {in_words(chosen)}")
        print("why:", WHY if chosen == RECOMMENDED else WHY_IN_PART)
    print(f"{arguments.directory} is ready; give it the first chunk: lure update {arguments.directory} DATA")


COMMAND = Command(
    summary="Create a directory that is kept current: fix the holdout, the gate and how to train.",
    add_flags=add_flags,
    run=init_command,
    usage="lure init DIR --holdout FILE [--test FILE] [--model NAME]\n"
    "                 [--unlearner NAME] [any flag below]",
)
