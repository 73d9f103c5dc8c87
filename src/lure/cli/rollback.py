"""`lure rollback`: go back to an earlier version."""

from lure.cli.parser import overruling

COMMAND = overruling("rollback", "Go back to an accepted version; nothing is deleted.")
