"""lure: keep a neural network current while its data arrive in chunks.

Learn, unlearn, relearn: before each new fit, forget what matters least. `unlearn_` is the one line for a training loop
of your own; `Learner` runs the whole cycle over a directory on disk; the command `lure` runs, compares and reports.
"""

from importlib.metadata import version

from lure.data.examples import Examples, Split
from lure.data.replay import BufferReplay, FullReplay, LastReplay, NoReplay
from lure.data.stream import mega_batches
from lure.errors import InputError
from lure.learner.learner import Learner
from lure.metrics import cumulative_error, expected_calibration_error
from lure.recipe import Experiment, Recipe
from lure.store.stage import Stage
from lure.unlearn import UnlearnReport, unlearn_
from lure.unlearners import *  # noqa: F403 - every registered method, by its class name
from lure.unlearners import UNLEARNERS, Context, Unlearner
from lure.weights.reinit import reinitialize_
from lure.weights.saliency import snip_saliency
from lure.weights.selection import lowest_fraction

__version__ = version("lure-torch")

__all__ = [
    "UNLEARNERS",
    "BufferReplay",
    "Context",
    "Examples",
    "Experiment",
    "FullReplay",
    "InputError",
    "LastReplay",
    "Learner",
    "NoReplay",
    "Recipe",
    "Split",
    "Stage",
    "UnlearnReport",
    "Unlearner",
    "cumulative_error",
    "expected_calibration_error",
    "lowest_fraction",
    "mega_batches",
    "reinitialize_",
    "snip_saliency",
    "unlearn_",
    *(maker.__name__ for maker in UNLEARNERS.values()),
]
