"""`lure accept`: accept a version that the gate refused."""

from lure.cli.parser import overruling

COMMAND = overruling("accept", "Accept a version that the gate refused, and its chunk.")
