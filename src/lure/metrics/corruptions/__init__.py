"""The corruptions of CIFAR-10-C: computed here (kinds, filters), or read from the published files."""

from lure.metrics.corruptions.kinds import EXTRA, KINDS, SEVERITIES, corrupt, corruption_generator
from lure.metrics.corruptions.published import read_corrupted

__all__ = ["EXTRA", "KINDS", "SEVERITIES", "corrupt", "corruption_generator", "read_corrupted"]
