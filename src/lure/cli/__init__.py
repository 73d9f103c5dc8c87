"""The command line `lure`, a module for each command, and the flags of the scripts that the LURE authors released.

`parser.py` holds what all commands share, `commands.py` the table of commands, `entry.py` the way from words to an exit
code, `output.py` what is done to standard output. A command's function imports the library when it runs, so help and
errors in usage appear at once.
"""

from lure.cli.entry import main

__all__ = ["main"]
