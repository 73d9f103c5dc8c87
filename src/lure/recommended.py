"""What to take as long as you have not compared policies on your own data: what the suite (docs/suite.md) supports."""

from collections.abc import Iterable, Mapping

from lure.recipe import OF_SCHEDULE

COMPARED = ("warm-start", "scratch", "lure", "shrink-perturb:shrink=0.8", "auto")
"""What is compared where no policy is named: retraining, and what may be cheaper or better, as the suite chose it."""

RECOMMENDED: Mapping[str, str] = {"unlearner": "warm-start", "schedule": "cosine", "regularizers": "ema"}
"""Recipe fields, as text. The suite judges every policy on top of the last two."""

WHY = (
    "in docs/suite.md no policy costs less than a warm start at the same budget, and on Fashion-MNIST and MNIST none "
    "is shown to be better on average; on CIFAR-10 --unlearner auto ends 1.7 points (90 % interval 1.3 to 2.1, 5 "
    "seeds) above it, for less than 1 % more cost"
)
"""Why these, in one sentence; a test compares its figures with the ledgers."""

WHY_IN_PART = "docs/suite.md judges every policy with schedule cosine and regularizers ema, and recommends warm-start"
"""Why those that are left, where some of them are the user's choice: WHY has figures for all together."""


def recommended_beside(given: Iterable[str]) -> dict[str, str]:
    """Return the recommended fields that go with those that somebody has set.

    Milestones have a meaning in the schedule `steps` only: whoever sets them wants that schedule, and who sets another
    field that one schedule reads wants none that is chosen for them.

    Args:
        given: names of recipe fields.

    Example:
        >>> recommended_beside(["epochs"])
        {'unlearner': 'warm-start', 'schedule': 'cosine', 'regularizers': 'ema'}
        >>> recommended_beside(["unlearner", "milestones"])
        {'regularizers': 'ema'}
    """
    taken = set(given)
    if not taken.isdisjoint(OF_SCHEDULE):
        taken.add("schedule")
    return {name: value for name, value in RECOMMENDED.items() if name not in taken}


def in_words(fields: Mapping[str, str]) -> str:
    """Write recipe fields as a sentence lists them.

    Example:
        >>> in_words({"unlearner": "auto", "schedule": "cosine"})
        'unlearner auto, schedule cosine'
    """
    return ", ".join(f"{name} {value}" for name, value in fields.items())
