"""What to take as long as you have not compared policies on your own data: what the suite (docs/suite.md) supports."""

from collections.abc import Iterable, Mapping

COMPARED = ("warm-start", "scratch", "lure", "shrink-perturb", "auto")
"""What is compared where no policy is named: retraining, what may be cheaper, and what is recommended."""

RECOMMENDED: Mapping[str, str] = {"unlearner": "auto", "schedule": "cosine", "regularizers": "ema"}
"""Recipe fields, as text. The suite judges every policy on top of the last two."""

WHY = "no other policy does better over the settings of docs/suite.md"
"""Why these, in half a sentence."""


def recommended_beside(given: Iterable[str]) -> dict[str, str]:
    """Return the recommended fields that go with those that somebody has set.

    Milestones have a meaning in the schedule `steps` only: whoever sets them wants that schedule.

    Args:
        given: names of recipe fields.

    Example:
        >>> recommended_beside(["epochs"])
        {'unlearner': 'auto', 'schedule': 'cosine', 'regularizers': 'ema'}
        >>> recommended_beside(["unlearner", "milestones"])
        {'regularizers': 'ema'}
    """
    taken = set(given)
    if not taken.isdisjoint(("milestones", "gamma")):
        taken.add("schedule")
    return {name: value for name, value in RECOMMENDED.items() if name not in taken}
