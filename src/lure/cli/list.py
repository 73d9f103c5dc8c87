"""`lure list`: what there is to choose from, with every option, its default and its meaning."""

import argparse
import shutil
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from lure.cli.parser import Command, Parser
from lure.errors import unknown_name

TABLES = ("data", "models", "unlearners", "regularizers", "recipes")


def add_flags(parser: Parser) -> None:
    """Add the flags of `lure list`."""
    parser.add_argument("what", metavar="|".join(TABLES), help="which list to print")


def list_command(arguments: argparse.Namespace) -> None:
    """Print the names of one table, each with its meaning and its options."""
    if arguments.what not in TABLES:
        raise unknown_name("list", arguments.what, TABLES)
    if arguments.what == "recipes":
        from lure.recipe import shipped_recipes

        for name, text in shipped_recipes().items():
            print(name)
            _print_indented(text.splitlines()[0].lstrip("# "), " " * 4)
        return
    example = ""
    for name, maker in _table(arguments.what).items():
        print(name)
        _print_indented((maker.__doc__ or "").splitlines()[0].split(" Arguments as")[0], " " * 4)
        for option, meaning in _options(maker):
            _print_indented(f"{option}  {meaning}".rstrip(), " " * 8, hanging=" " * 4)
            example = example or f"{name}:{option}"
        for preset, meaning in getattr(maker, "presets", {}).items():
            _print_indented(f"{preset} is {meaning}", " " * 8, hanging=" " * 4)
    print()
    _print_indented(f"Options are shown with their defaults. Write them after the name, as in {example}", "")
    if arguments.what in ("unlearners", "regularizers"):
        _print_indented(
            f"One of your own is chosen by its path, as in my_package.my_module:MyClass (docs/{arguments.what}.md)", ""
        )


def _print_indented(text: str, indent: str, hanging: str = "") -> None:
    """Print a text within the width of the terminal, or of 80 columns on a pipe."""
    width = shutil.get_terminal_size().columns
    print(
        textwrap.fill(
            text,
            width,
            initial_indent=indent,
            subsequent_indent=indent + hanging,
            break_long_words=False,
            break_on_hyphens=False,
        )
    )


def _table(what: str) -> Mapping[str, Callable[..., Any]]:
    if what == "data":
        from lure.data.sources import SOURCES

        return SOURCES
    if what == "models":
        from lure.models import MODELS

        return MODELS
    if what == "regularizers":
        from lure.training.regularizers import REGULARIZERS

        return REGULARIZERS
    from lure.unlearners import UNLEARNERS

    return UNLEARNERS


def _options(maker: Callable[..., Any]) -> list[tuple[str, str]]:
    """Return each option of a choice as it is written, with its default, and what it means ("" if that is not said)."""
    from lure.settings import describe_options

    return [
        (f"{option.name}={option.default}", "; ".join(filter(None, (option.meaning, option.allowed))))
        for option in describe_options(maker)
    ]


COMMAND = Command(
    summary="List the data sets, models, unlearners, regularizers or recipes, with their options.",
    add_flags=add_flags,
    run=list_command,
)
