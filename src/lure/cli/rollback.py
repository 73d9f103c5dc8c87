"""`lure rollback`: go back to an earlier version."""

import argparse

from lure.cli.parser import Command, Parser, add_directory, add_reason, add_version


def add_flags(parser: Parser) -> None:
    """Add the flags of `lure rollback`."""
    add_directory(parser)
    add_version(parser)
    add_reason(parser)


def rollback_command(arguments: argparse.Namespace) -> None:
    """Go back, and print the result."""
    from lure.learner import production

    print(production.rollback(arguments.directory, arguments.number, arguments.reason))


COMMAND = Command(
    summary="Go back to an accepted version; nothing is deleted.", add_flags=add_flags, run=rollback_command
)
