"""Standard output of a command: any encoding, no control characters from names in data, and readers that go away."""

import io
import os
import sys
from contextlib import suppress
from typing import Any, TextIO

from lure.errors import without_controls


class Results:
    """Standard output for `print`: what names in data hold for the terminal, it shows as escapes.

    Attributes:
        bare: the stream itself, for those who write styles of their own.
    """

    def __init__(self, bare: TextIO) -> None:
        self.bare = bare

    def write(self, text: str) -> int:
        """Write a text without control characters; return how many characters were written."""
        return self.bare.write(without_controls(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bare, name)


def prepare_output() -> None:
    """Let every name be printed, whatever the encoding of the terminal; a closed standard output takes nothing."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower().replace("-", "") != "utf8":
            stream.reconfigure(errors="backslashreplace")


def silence_output() -> None:
    """Let standard output take no more: what it still holds would raise the same error when the process ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
