"""Run one experiment, compare many, evaluate what they left, and send their course to a tracker."""
