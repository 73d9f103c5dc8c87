"""`lure accept`: accept a version that the gate refused."""

import argparse

from lure.cli.parser import Command, Parser, add_directory, add_reason, add_version


def add_flags(parser: Parser) -> None:
    """Add the flags of `lure accept`."""
    add_directory(parser)
    add_version(parser)
    add_reason(parser)


def accept_command(arguments: argparse.Namespace) -> None:
    """Accept the version, and print the result."""
    from lure.learner import production

    print(production.accept(arguments.directory, arguments.number, arguments.reason))


COMMAND = Command(
    summary="Accept a version that the gate refused, and its chunk.", add_flags=add_flags, run=accept_command
)
