"""From the words of a command line to an exit code.

Results go to standard output, everything else to standard error. Exit codes: 0 done; 2 bad input, one line
`error: ...`; 3 an update was trained but not accepted; 130 interrupted, with the command that resumes.
"""

import shlex
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import NoReturn

from lure.cli.output import Results, prepare_output, silence_output
from lure.errors import InputError, printable


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.

    Args:
        words: the command and its flags; None takes those that this process was started with.
    """
    words = sys.argv[1:] if words is None else list(words)

    def command() -> int | None:
        from lure.cli.commands import COMMANDS, build_parser  # most of the modules that an answer without torch needs

        arguments = build_parser().parse_all(words)
        with warnings.catch_warnings():
            warnings.showwarning = _say_once()
            return COMMANDS[arguments.command].run(arguments)

    return exit_code(command, f"lure {shlex.join(words)}")


def _say_once() -> Callable[..., None]:
    """Return what shows each warning once: a comparison opens the same file for every run."""
    said: set[str] = set()

    def show(message: object, *_: object) -> None:
        if str(message) not in said:
            said.add(str(message))
            print(f"warning: {printable(str(message))}", file=sys.stderr)

    return show


def exit_code(command: Callable[[], int | None], again: str) -> int:
    """Run a command and return its exit code; bad input and interruption become one line on standard error.

    Args:
        command: what to do; returns an exit code, or None for 0. What takes long to import is imported in there: a
            signal that comes meanwhile is then an interruption like any other.
        again: the command line that resumes after an interruption.
    """
    signal.signal(signal.SIGTERM, _terminated)
    prepare_output()
    try:
        with redirect_stdout(Results(sys.stdout)):
            code = command() or 0
        sys.stdout.flush()  # here, where a full disk can still be reported
        return code
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted; go on with: {again}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        silence_output()
        return 0
    except OSError as error:
        silence_output()
        place = "standard output" if error.filename is None else error.filename
        print(f"error: cannot read or write {printable(str(place))}: {error.strerror or error}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        # The errors of torch when memory is refused; torch itself may not be loaded.
        told = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator: can't allocate" in str(error)
        if not told and not isinstance(error, MemoryError):
            raise
        print("error: there is not enough memory for this", file=sys.stderr)
        return 2


def _terminated(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt
