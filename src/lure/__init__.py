"""lure: keep a neural network current while its data arrive in chunks.

Learn, unlearn, relearn: before each new fit, forget what matters least. `unlearn_` is the one line for a training loop
of your own; `Learner` runs the whole cycle over a directory on disk; the command `lure` runs, compares and reports.

A name is imported when it is first used (PEP 562), so `import lure` is quick and loads only what a program needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for type checkers and editors; a test compares this list with the two below
    from lure.comparison import Comparison, compare, evaluate, run
    from lure.data.examples import Examples, Split
    from lure.data.replay import BufferReplay, FullReplay, LastReplay, NoReplay
    from lure.data.stream import mega_batches
    from lure.errors import InputError
    from lure.in_loop import compare_in_loop
    from lure.learner.learner import Learner
    from lure.metrics.anytime import cumulative_error
    from lure.metrics.calibration import expected_calibration_error
    from lure.recipe import Experiment, Policy, Recipe
    from lure.store.stage import Stage
    from lure.training.regularizers import (
        REGULARIZERS,
        Distill,
        Ema,
        FitContext,
        HareAndTortoise,
        HareTortoise,
        L2Init,
        Parseval,
    )
    from lure.unlearn import UnlearnReport, unlearn_
    from lure.unlearners import (
        UNLEARNERS,
        Auto,
        Context,
        Dash,
        Fire,
        FisherReset,
        HeadReset,
        KnowledgeEvolution,
        LaterLayers,
        Lure,
        MagnitudeReset,
        RandomReset,
        Redo,
        Scratch,
        ShrinkPerturb,
        Unlearner,
        WarmStart,
    )
    from lure.weights.growth import grow_head_
    from lure.weights.reinit import reinitialize_
    from lure.weights.saliency import snip_saliency
    from lure.weights.selection import lowest_fraction

    __version__: str

__all__ = [
    "REGULARIZERS",
    "UNLEARNERS",
    "Auto",
    "BufferReplay",
    "Comparison",
    "Context",
    "Dash",
    "Distill",
    "Ema",
    "Examples",
    "Experiment",
    "Fire",
    "FisherReset",
    "FitContext",
    "FullReplay",
    "HareAndTortoise",
    "HareTortoise",
    "HeadReset",
    "InputError",
    "KnowledgeEvolution",
    "L2Init",
    "LastReplay",
    "LaterLayers",
    "Learner",
    "Lure",
    "MagnitudeReset",
    "NoReplay",
    "Parseval",
    "Policy",
    "RandomReset",
    "Recipe",
    "Redo",
    "Scratch",
    "ShrinkPerturb",
    "Split",
    "Stage",
    "UnlearnReport",
    "Unlearner",
    "WarmStart",
    "compare",
    "compare_in_loop",
    "cumulative_error",
    "evaluate",
    "expected_calibration_error",
    "grow_head_",
    "lowest_fraction",
    "mega_batches",
    "reinitialize_",
    "run",
    "snip_saliency",
    "unlearn_",
]

# Where the names are: module -> names.
_HOME = {
    "comparison": ("Comparison", "compare", "evaluate", "run"),
    "data.examples": ("Examples", "Split"),
    "data.replay": ("BufferReplay", "FullReplay", "LastReplay", "NoReplay"),
    "data.stream": ("mega_batches",),
    "errors": ("InputError",),
    "in_loop": ("compare_in_loop",),
    "learner.learner": ("Learner",),
    "metrics.anytime": ("cumulative_error",),
    "metrics.calibration": ("expected_calibration_error",),
    "recipe": ("Experiment", "Policy", "Recipe"),
    "store.stage": ("Stage",),
    "training.regularizers": (
        "REGULARIZERS",
        "Distill",
        "Ema",
        "FitContext",
        "HareAndTortoise",
        "HareTortoise",
        "L2Init",
        "Parseval",
    ),
    "unlearn": ("UnlearnReport", "unlearn_"),
    "unlearners": (
        "UNLEARNERS",
        "Auto",
        "Context",
        "Dash",
        "Fire",
        "FisherReset",
        "HeadReset",
        "KnowledgeEvolution",
        "LaterLayers",
        "Lure",
        "MagnitudeReset",
        "RandomReset",
        "Redo",
        "Scratch",
        "ShrinkPerturb",
        "Unlearner",
        "WarmStart",
    ),
    "weights.growth": ("grow_head_",),
    "weights.reinit": ("reinitialize_",),
    "weights.saliency": ("snip_saliency",),
    "weights.selection": ("lowest_fraction",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

# `import lure; lure.metrics.accuracy(...)` works without a further import.
_SUBMODULES = (
    "comparison",
    "data",
    "distributed",
    "errors",
    "experiment",
    "in_loop",
    "learner",
    "metrics",
    "models",
    "randomness",
    "recipe",
    "settings",
    "store",
    "training",
    "unlearn",
    "unlearners",
    "weights",
    "words",
)

if not TYPE_CHECKING:  # a type checker would take it for a promise that every name exists

    def __getattr__(name):
        """Import a name when it is first used, and keep it."""
        if name in _MODULE_OF:
            value = getattr(import_module(f"lure.{_MODULE_OF[name]}"), name)
        elif name in _SUBMODULES:
            value = import_module(f"lure.{name}")
        elif name == "__version__":
            value = import_module("importlib.metadata").version("lure-torch")
        else:
            raise AttributeError(f"module 'lure' has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES, "__version__"})
