"""Regularizers: what acts while a fit runs, one file each."""
