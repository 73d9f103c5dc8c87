"""`lure evaluate`: measure one version in depth."""

import argparse
import json
from pathlib import Path

from lure.cli.parser import Command, Parser, add_device, add_hints, add_json, add_model, add_version_flag, hints_of


def add_flags(parser: Parser) -> None:
    """Add the flags of `lure evaluate`."""
    parser.add_argument(
        "directory", metavar="DIR", type=Path, help="a run directory, or a .safetensors file that lure export wrote"
    )
    add_version_flag(parser, "measure")
    parser.add_argument(
        "--on", metavar="FILE", type=Path, help="measure on these labelled data instead of the test set"
    )
    parser.add_argument("--data", metavar="PATH", type=Path, help="folder or archive of the run's data set")
    parser.add_argument("--calibration", action="store_true", help="print the numbers of the reliability diagram, too")
    parser.add_argument(
        "--corruptions",
        action="store_true",
        help="measure under the 19 corruptions of CIFAR-10-C, severities 1 to 5",
    )
    parser.add_argument(
        "--corrupted",
        metavar="DIR",
        type=Path,
        help="read the corrupted images from this folder of the published CIFAR-10-C (.npy files)",
    )
    parser.add_argument("--adversarial", action="store_true", help="attack with FGSM and PGD, over a range of epsilon")
    parser.add_argument("--limit", metavar="N", type=int, help="corrupt and attack only N examples (default: all)")
    add_hints(parser)
    add_model(parser)
    add_device(parser)
    add_json(parser)


def evaluate_command(arguments: argparse.Namespace) -> None:
    """Evaluate the version, and print the result as tables or as JSON."""
    from lure.experiment.evaluate import evaluate_version
    from lure.experiment.run import Placement
    from lure.store.durable import to_json

    result = evaluate_version(
        arguments.directory,
        arguments.number,
        placement=Placement(data=arguments.data, device=arguments.device),
        file=arguments.on,
        hints=hints_of(arguments),
        model=arguments.model,
        corruptions=arguments.corruptions,
        corrupted_files=arguments.corrupted,
        adversarial=arguments.adversarial,
        limit=arguments.limit,
    )
    if arguments.json:
        print(json.dumps(json.loads(to_json(result)), indent=2))
        return
    from lure.report.console import report_console
    from lure.report.evaluation_table import evaluation_tables

    console = report_console()
    for title, table in evaluation_tables(result, reliability=arguments.calibration):
        print(f"{title}\n")
        console.print(table)
        print()


COMMAND = Command(
    summary="Measure a version in depth: accuracy by class, calibration, corruptions, attacks.",
    add_flags=add_flags,
    run=evaluate_command,
)
