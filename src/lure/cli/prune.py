"""`lure prune`: remove the weights of old versions."""

import argparse

from lure.cli.parser import Command, Parser, add_directory


def add_flags(parser: Parser) -> None:
    """Add the flags of `lure prune`."""
    add_directory(parser)
    parser.add_argument(
        "--keep",
        metavar="N",
        type=int,
        required=True,
        help="how many of the newest versions keep their weights, at least 1; the version in use always does",
    )


def prune_command(arguments: argparse.Namespace) -> None:
    """Remove the weights, and print of which versions."""
    from lure.learner import production

    removed = production.prune(arguments.directory, arguments.keep)
    print(f"weights removed of versions: {', '.join(map(str, removed)) or 'none'}")


COMMAND = Command(
    summary="Remove the weights of old versions to free space; data and ledger stay.",
    add_flags=add_flags,
    run=prune_command,
)
