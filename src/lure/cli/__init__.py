"""The command line `lure`, and the released scripts: read flags, call the library, print."""

from lure.cli.entry import main

__all__ = ["main"]
