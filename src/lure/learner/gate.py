"""The gate: whether a newly trained version takes the place of the one in use (champion and challenger).

All versions are measured on the same holdout, so two of them are compared on the examples on which they differ, by the
exact McNemar test. Were both equally good, each such example would be a fair coin; the gate refuses when so many fell
against the new version that chance brings it with less than 5 %. Many losses too small for the test could add up, so a
version may not fall more than one point below the best of its line either.

Where classes are new, an earlier version is compared on the examples that it was judged on and whose class it knows;
the other rules count the examples of classes that the version in use knows, and the new classes are reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from lure.settings import check_settings, setting

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Gate:
    """The rules that a new version must satisfy; the first version always passes.

    Raises:
        InputError: for a value of another type or out of range.

    Example:
        >>> Gate(minimum_accuracy=0.8).margin
        0.01
    """

    significance: float = setting(0.05, "refuse if worse with a p-value below this, by exact McNemar; 0: never", 0, 1)
    margin: float = setting(0.01, "refuse if less accurate than the best of its line by more than this share", 0, 1)
    minimum_accuracy: float | None = setting(None, "refuse below this accuracy on the holdout", 0, 1)
    minimum_class_accuracy: float | None = setting(None, "refuse if the accuracy of any class is below this", 0, 1)
    maximum_calibration_error: float | None = setting(None, "refuse above this expected calibration error", 0, 1)
    max_negative_flips: float | None = setting(
        None, "refuse if more than this share of the holdout was right before and is wrong now", 0, 1
    )

    def __post_init__(self) -> None:
        check_settings(self, accept_text=True)


@dataclass(frozen=True, kw_only=True)
class EarlierVersion:
    """An accepted version that a new one is compared with.

    Attributes:
        version: its number.
        correct: which of the examples that it was judged on it gets right, bool.
        among: which examples of today's holdout these are, bool (N,); None for all.
    """

    version: int
    correct: Tensor
    among: Tensor | None = None

    def hits_of(self, correct: Tensor) -> Tensor:
        """Return what a new version gets right of the examples that this one was judged on."""
        return correct if self.among is None else correct[self.among]

    def shortfall(self, correct: Tensor) -> float:
        """Return by how many of these examples, as a share of them, a new version falls below this one."""
        return (int(self.correct.sum()) - int(self.hits_of(correct).sum())) / max(1, len(self.correct))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How a new version does beside an earlier version.

    Attributes:
        version: the earlier version's.
        accuracy: the earlier version's on the holdout.
        lost: examples that the earlier version got right and the new version does not.
        won: examples that the new version gets right and the earlier version did not.
        p_value: chance of at least so many lost among those that changed side, were both equally good.
    """

    version: int
    accuracy: float
    lost: int
    won: int
    p_value: float


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What the gate decided, and why.

    Attributes:
        accepted: whether the version takes the current one's place.
        reasons: the rules that refused it, as sentences; none if it was accepted.
        comparisons: beside the current version, and the best of its line where that is another.
        warnings: what speaks against using the version and refuses nothing, as sentences.
        new_classes: accuracy on the holdout's examples of each class that the version in use does not know; None where
            there are none.
    """

    accepted: bool
    reasons: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    warnings: tuple[str, ...] = ()
    new_classes: Mapping[str, float | None] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for the ledger; warnings and new classes only where there are some."""
        values = asdict(self)
        values |= {name: list(values[name]) for name in ("reasons", "comparisons", "warnings")}
        return {name: value for name, value in values.items() if value or name not in ("warnings", "new_classes")}


def warn_of_chance(hits: int, class_counts: Sequence[int], class_names: Sequence[str]) -> tuple[str, ...]:
    """Return a warning where a version does no better than to answer the most frequent class always; else none.

    Args:
        hits: holdout examples that it gets right.
        class_counts: holdout examples of each class.
        class_names: the classes in that order; () where they have no names.

    Example:
        >>> warn_of_chance(5, [5, 5], ("cat", "dog"))[0]
        'accuracy 0.5000 does not beat the answer "always cat", which gets 0.5000 of the holdout right'
        >>> warn_of_chance(6, [5, 5], ())
        ()
    """
    most, total = max(class_counts), sum(class_counts)
    if hits > most or most == total:
        return ()
    number = list(class_counts).index(most)
    name = class_names[number] if class_names else f"class {number}"
    return (
        f'accuracy {hits / total:.4f} does not beat the answer "always {name}", which gets {most / total:.4f} of the '
        f"holdout right",
    )


def compare_with(correct: Tensor, earlier: EarlierVersion) -> Comparison:
    """Set a new version's hits on the holdout, (N,) bool, beside an earlier version's."""
    from lure.metrics.statistics import worse_p_value  # `lure init --help` needs the rules alone, and no scipy

    ours = earlier.hits_of(correct)
    lost, won = int((earlier.correct & ~ours).sum()), int((ours & ~earlier.correct).sum())
    accuracy = float(earlier.correct.double().mean())
    return Comparison(version=earlier.version, accuracy=accuracy, lost=lost, won=won, p_value=worse_p_value(lost, won))


def decide(
    gate: Gate,
    correct: Tensor,
    current: EarlierVersion | None,
    best: EarlierVersion | None,
    class_accuracies: Sequence[float | None],
    calibration_error: float,
    judged: Tensor | None = None,
) -> Decision:
    """Decide on a new version.

    Args:
        gate: the rules.
        correct: which holdout examples the new version gets right, bool (N,).
        current: the version in use; None before the first, which passes whatever the rules say.
        best: the accepted version with the most hits among those that the new one descends from.
        class_accuracies: of the new version on the judged examples, class by class; None for a class without any.
        calibration_error: of the new version on the judged examples.
        judged: which holdout examples decide, bool (N,): those of classes that the version in use knows; None for all.

    Example:
        >>> import torch
        >>> old = EarlierVersion(version=1, correct=torch.tensor([True] * 90 + [False] * 10))
        >>> decide(Gate(), torch.tensor([False] * 9 + [True] * 91), old, old, [0.91], 0.02).accepted
        True
        >>> decide(Gate(), torch.tensor([True] * 80 + [False] * 20), old, old, [0.8], 0.02).reasons[0]
        'significantly worse than version 1 on the holdout: 10 examples lost, 0 won (p = 0.00098, limit 0.05)'
    """
    if current is None:
        return Decision(accepted=True, reasons=(), comparisons=())
    earlier = [current] + ([best] if best is not None and best.version != current.version else [])
    comparisons = tuple(compare_with(correct, version) for version in earlier)
    accuracy = float((correct if judged is None else correct[judged]).double().mean())
    reasons = [
        f"significantly worse than version {c.version} on the holdout: {c.lost} examples lost, {c.won} won "
        f"(p = {c.p_value:.2g}, limit {gate.significance:g})"
        for c in comparisons
        if c.p_value < gate.significance
    ]
    top = max(earlier, key=lambda version: version.shortfall(correct))
    count, hits, best_hits = len(top.correct), int(top.hits_of(correct).sum()), int(top.correct.sum())
    # In whole examples: 0.01 * 300 is 3 up to rounding, and a fall of exactly 3 passes.
    if best_hits - hits > gate.margin * count + 1e-6:
        reasons.append(
            f"accuracy {hits / count:.4f} is more than {gate.margin:g} below the {best_hits / count:.4f} "
            f"of version {top.version}, the best of its line"
        )
    flips, among = comparisons[0].lost, len(current.correct)
    if gate.max_negative_flips is not None and flips > gate.max_negative_flips * among + 1e-6:
        reasons.append(
            f"{flips} of {among} examples that version {current.version} had right are wrong now: negative flips of "
            f"{flips / among:.4f} are above the maximum of {gate.max_negative_flips:g}"
        )
    if gate.minimum_accuracy is not None and accuracy < gate.minimum_accuracy:
        reasons.append(f"accuracy {accuracy:.4f} is below the minimum of {gate.minimum_accuracy:g}")
    for label, share in enumerate(class_accuracies):
        if gate.minimum_class_accuracy is not None and share is not None and share < gate.minimum_class_accuracy:
            reasons.append(
                f"accuracy {share:.4f} of class {label} is below the floor of {gate.minimum_class_accuracy:g}"
            )
    if gate.maximum_calibration_error is not None and calibration_error > gate.maximum_calibration_error:
        reasons.append(
            f"expected calibration error {calibration_error:.4f} is above the maximum of "
            f"{gate.maximum_calibration_error:g}"
        )
    return Decision(accepted=not reasons, reasons=tuple(reasons), comparisons=comparisons)
