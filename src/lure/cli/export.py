"""`lure export`: write a version for other programs."""

import argparse
from pathlib import Path

from lure.cli.parser import Command, Parser, add_device, add_directory, add_model, add_version_flag


def add_flags(parser: Parser) -> None:
    """Add the flags of `lure export`."""
    add_directory(parser)
    parser.add_argument(
        "file", metavar="FILE", type=Path, help=".safetensors (weights) or .pt2 (program of torch.export)"
    )
    add_version_flag(parser, "export")
    add_model(parser)
    add_device(parser)


def export_command(arguments: argparse.Namespace) -> None:
    """Write the files, and print their names."""
    from lure.learner.version import Version, export

    version = Version.load(arguments.directory, arguments.number, model=arguments.model, device=arguments.device)
    files = export(version, arguments.file)
    print(f"version {version.stage.version} written to {', '.join(map(str, files))}")


COMMAND = Command(
    summary="Write a version for other programs, with its recipe beside it.", add_flags=add_flags, run=export_command
)
