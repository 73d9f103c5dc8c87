"""`lure verify`: check every file of a run directory, or of an export."""

import argparse
from pathlib import Path

from lure.cli.parser import Command, Parser
from lure.errors import InputError


def add_flags(parser: Parser) -> None:
    """Add the flags of `lure verify`."""
    parser.add_argument(
        "directory", metavar="DIR", type=Path, help="the run directory, or a file that lure export wrote"
    )


def verify_command(arguments: argparse.Namespace) -> None:
    """Print one line for each thing that is damaged."""
    from lure.learner import production

    complaints = list(production.verify(arguments.directory))
    for complaint in complaints:
        print(complaint)
    if complaints:
        things = "1 thing is" if len(complaints) == 1 else f"{len(complaints)} things are"
        raise InputError(f"{arguments.directory}: {things} wrong, as listed")
    print(f"{arguments.directory}: every checksum and every reference is right")


COMMAND = Command(
    summary="Check every checksum and every reference; name what is damaged.",
    add_flags=add_flags,
    run=verify_command,
)
