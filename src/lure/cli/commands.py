"""The commands of `lure`, in the order of the help, and the parser that knows them all."""

import argparse

import lure
from lure.cli import (
    accept,
    compare,
    evaluate,
    export,
    init,
    list,
    predict,
    prune,
    report,
    rollback,
    run,
    status,
    update,
    verify,
)
from lure.cli.parser import Command, Parser

COMMANDS: dict[str, Command] = {
    "run": run.COMMAND,
    "compare": compare.COMMAND,
    "report": report.COMMAND,
    "evaluate": evaluate.COMMAND,
    "init": init.COMMAND,
    "update": update.COMMAND,
    "status": status.COMMAND,
    "accept": accept.COMMAND,
    "rollback": rollback.COMMAND,
    "predict": predict.COMMAND,
    "export": export.COMMAND,
    "verify": verify.COMMAND,
    "prune": prune.COMMAND,
    "list": list.COMMAND,
}

DESCRIPTION = """\
Keep a neural network current while its data arrive in chunks: learn, unlearn,
relearn.

Compare policies on a stream of data:
  lure compare                      on a small built-in sample (two minutes)
  lure run                          one policy on the same sample (seconds)
  lure compare own-data --data DIR  on your own data
  lure run cifar10 --data DIR       the protocol of the LURE paper on CIFAR-10
  lure list unlearners              the methods, and their options

Keep one model current in production:
  lure init DIR --holdout FILE      create a directory that is kept current
  lure update DIR DATA              train on a new chunk of data; the better
                                    version stays in use
"""


def build_parser() -> Parser:
    """Return the parser of the whole command line."""
    parser = Parser(prog="lure", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"lure {lure.__version__}", help="print the version")
    parser.add_commands(COMMANDS)
    return parser
