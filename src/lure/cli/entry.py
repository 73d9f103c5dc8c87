"""From the words of a command line to an exit code.

Results go to standard output, everything else to standard error. Exit codes: 0 done; 2 bad input, one line
`error: ...`; 3 an update was trained but not accepted; 130 interrupted, with the command that resumes.
"""

import shlex
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn

from lure.cli.commands import COMMANDS, build_parser
from lure.errors import InputError


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.

    Args:
        words: the command and its flags; None takes those that this process was started with.
    """
    words = sys.argv[1:] if words is None else list(words)

    def command() -> int | None:
        arguments = build_parser().parse_all(words)
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
            return COMMANDS[arguments.command].run(arguments)

    return exit_code(command, f"lure {shlex.join(words)}")


def exit_code(command: Callable[[], int | None], again: str) -> int:
    """Run a command and return its exit code; bad input and interruption become one line on standard error.

    Args:
        command: what to do; returns an exit code, or None for 0. What takes long to import is imported in there: a
            signal that comes meanwhile is then an interruption like any other.
        again: the command line that resumes after an interruption.
    """
    signal.signal(signal.SIGTERM, _terminated)
    try:
        return command() or 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted; go on with: {again}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0


def _terminated(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt
