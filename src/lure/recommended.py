"""What to take as long as you have not compared policies on your own data: what the suite (docs/suite.md) supports."""

from collections.abc import Iterable, Mapping

COMPARED = ("warm-start", "scratch", "lure", "shrink-perturb", "auto")
"""What is compared where no policy is named: retraining, and what may be cheaper or better."""

RECOMMENDED: Mapping[str, str] = {"unlearner": "warm-start", "schedule": "cosine", "regularizers": "ema"}
"""Recipe fields, as text. The suite judges every policy on top of the last two."""

WHY = (
    "nothing in docs/suite.md costs less, and half the time it is within a point of the best; the longer the fits, the "
    "more --unlearner auto gains: 1.3 points (90 % interval 0.6 to 2.1, 3 seeds) at the full budget, for 9 % more cost"
)
"""Why these, in one sentence; a test compares its figures with the ledgers."""

WHY_TRAINED_SO = "every policy in docs/suite.md is judged with these"
"""Why the others, where the unlearner is the user's choice."""


def recommended_beside(given: Iterable[str]) -> dict[str, str]:
    """Return the recommended fields that go with those that somebody has set.

    Milestones have a meaning in the schedule `steps` only: whoever sets them wants that schedule.

    Args:
        given: names of recipe fields.

    Example:
        >>> recommended_beside(["epochs"])
        {'unlearner': 'warm-start', 'schedule': 'cosine', 'regularizers': 'ema'}
        >>> recommended_beside(["unlearner", "milestones"])
        {'regularizers': 'ema'}
    """
    taken = set(given)
    if not taken.isdisjoint(("milestones", "gamma")):
        taken.add("schedule")
    return {name: value for name, value in RECOMMENDED.items() if name not in taken}


def in_words(fields: Mapping[str, str]) -> str:
    """Write recipe fields as a sentence lists them.

    Example:
        >>> in_words({"unlearner": "auto", "schedule": "cosine"})
        'unlearner auto, schedule cosine'
    """
    return ", ".join(f"{name} {value}" for name, value in fields.items())
