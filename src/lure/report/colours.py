"""One colour and one mark for each policy, the same in every picture.

The colours are those of Okabe and Ito, and of Paul Tol, which people with any of the usual forms of colour blindness
can tell apart; the marks help where two colours are close, and in print. Neither options nor the budget change a
policy's colour: two settings of one method differ by their line style.
"""

import hashlib
from collections.abc import Iterable

from lure.settings import split_choice

# policy -> (colour, mark), in the order of `lure.unlearners.UNLEARNERS`, which is also that of tables. Fixed, so that a
# new policy never changes the colour of an old one.
FIXED: dict[str, tuple[str, str]] = {
    "warm-start": ("#E69F00", "o"),
    "scratch": ("#4D4D4D", "s"),
    "lure": ("#0072B2", "D"),
    "random-reset": ("#56B4E9", "v"),
    "magnitude-reset": ("#332288", "^"),
    "fisher-reset": ("#6699CC", "<"),
    "shrink-perturb": ("#009E73", "P"),
    "head-reset": ("#CC79A7", ">"),
    "later-layers": ("#882255", "h"),
    "knowledge-evolution": ("#999933", "p"),
    "dash": ("#D55E00", "X"),
    "fire": ("#AA4499", "*"),
    "redo": ("#44AA99", "d"),
    "auto": ("#EE3377", "8"),
}
# For the policies that users name; a colour and a mark are drawn apart from one another, so that few share both.
OTHER_COLOURS = ("#117733", "#661100", "#888888", "#B0752B", "#2A9DC4", "#7A4B94", "#B22222", "#D14D9B")
OTHER_MARKS = ("8", "H", "D", "s", "o", "^", "P", "X")
LINE_STYLES = ("-", "--", ":", "-.")


def colour(policy: str) -> tuple[str, str]:
    """Return (colour as #RRGGBB, matplotlib mark) of a policy, whatever its options and budget.

    A policy that is not in the table, such as a named one, gets another colour and mark by a hash of its name, so it
    keeps them, too.

    Example:
        >>> colour("lure:forget_fraction=0.3") == colour("lure, budget 0.1") == colour("lure")
        True
    """
    name = _method(policy)
    if name in FIXED:
        return FIXED[name]
    first, second = hashlib.sha256(name.encode()).digest()[:2]
    return OTHER_COLOURS[first % len(OTHER_COLOURS)], OTHER_MARKS[second % len(OTHER_MARKS)]


def _method(policy: str) -> str:
    return split_choice(policy.partition(", budget ")[0])[0]


def line_styles(policies: Iterable[str]) -> dict[str, str]:
    """Return policy -> line style: solid for the first of each method, dashed and dotted for its other settings.

    Example:
        >>> line_styles(["dash", "lure", "lure:forget_fraction=0.3"])
        {'dash': '-', 'lure': '-', 'lure:forget_fraction=0.3': '--'}
    """
    seen: dict[str, int] = {}
    styles = {}
    for policy in sorted(policies):  # whatever order a picture has them in
        name = _method(policy)
        styles[policy] = LINE_STYLES[seen.get(name, 0) % len(LINE_STYLES)]
        seen[name] = seen.get(name, 0) + 1
    return styles
