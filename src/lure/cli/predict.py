"""`lure predict`: the class and the probabilities of each example."""

import argparse
import sys
from pathlib import Path

from lure.cli.parser import Command, Parser, add_device, add_hints, add_model, add_version_flag, hints_of


def add_flags(parser: Parser) -> None:
    """Add the flags of `lure predict`."""
    parser.add_argument(
        "directory", metavar="DIR", type=Path, help="a run directory, or a .safetensors file that lure export wrote"
    )
    parser.add_argument("data", metavar="DATA", type=Path, help="data as for lure update; labels are not needed")
    parser.add_argument("--format", choices=["csv", "jsonl"], default="csv", help="form of the output (default csv)")
    add_version_flag(parser, "predict with")
    add_hints(parser)
    add_model(parser)
    add_device(parser)


def predict_command(arguments: argparse.Namespace) -> None:
    """Write one line for each example to standard output."""
    from lure.data.sources.files import load_examples, read_ids
    from lure.learner.version import Version, write_predictions

    version = Version.load(arguments.directory, arguments.number, model=arguments.model, device=arguments.device)
    task, hints = version.task, hints_of(arguments)
    ids = read_ids(arguments.data, hints, task.form)
    examples = load_examples(
        arguments.data, task.class_names or None, task.input_shape, labelled=False, form=task.form, hints=hints
    )
    write_predictions(version, examples, sys.stdout, arguments.format, ids)


COMMAND = Command(
    summary="Print the class and the probabilities of each example, as the version in use predicts them.",
    add_flags=add_flags,
    run=predict_command,
)
