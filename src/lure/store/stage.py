"""The record of a stage: what one round of learn, unlearn, relearn gave. One line of the ledger."""

import dataclasses
import itertools
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from lure.errors import InputError

# What the fields that hold records, or lists of them, must hold. An earlier ledger may lack what can be None.
CONTENTS: dict[str, dict[str, Any]] = {
    "arrival": {
        "examples": int,
        "class_counts": list[int],
        "prequential_accuracy": float | None,
        "warnings": list[str],
        "name": str | None,
    },
    "decision": {
        "accepted": bool,
        "reasons": list[str],
        "comparisons": list[dict[str, Any]],
        "warnings": list[str] | None,
    },
    "independent": {"examples": int, "accuracy": float},
    "choices": {"candidate": str, "taken": bool, "loss": float | None},
}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The result of one round.

    Counts are of this stage alone, except `cumulative_errors`, which sums the errors of the version in use after each
    stage. Rates and fractions lie in [0, 1]. What needs a test set (or a validation split) is None without one; with a
    gate the holdout is the test set. `generalization_gap` is train minus validation accuracy, or train minus test
    accuracy where nothing is held out for validation. `forgotten` says for each trainable tensor which share of its
    entries the unlearner changed; it is empty where there was nothing to unlearn. FLOPs count a multiply-add as two;
    those of unlearning are its gradient passes over the sample, and the probes of one that chooses.

    `num_classes` is how many classes the version knows, `new_classes` names those that its parent did not, the last
    ones. Test examples of a class that it does not know count as errors; `known_accuracy` leaves them out.
    `holdout_added` is the fingerprint of the holdout examples that came with the stage. `negative_flips` counts the
    test examples that the version in use had right and this one has wrong, `negative_flips_by_class` those of each
    class that has some; None and {} where there is no version before.

    `parent` is the version that training started from (0: none), `taken_in` the stages whose chunks were added to the
    replay memory: its own, and those accepted by hand since. `stopped_by` says which limit ended the training. `exact`
    is False where the same command need not give the same bits: after a budget in seconds, on an accelerator, or once
    torch was changed. `arrival`, `decision` and `independent` (accuracy on the set that decides nothing) are None
    without a gate. `left_out` says of each tensor that the unlearner could not judge why; `choices` what an unlearner
    that chooses has tried, as in `UnlearnReport`; `again` that `--again` asked for the stage. None of the three is
    written where there is nothing to say.
    """

    stage: int
    parent: int
    unlearner: str
    seed: int
    train_examples: int
    validation_examples: int
    test_examples: int
    error_count: int | None
    accuracy: float | None
    error_rate: float | None
    cumulative_errors: int | None
    train_accuracy: float
    validation_accuracy: float | None
    generalization_gap: float | None
    expected_calibration_error: float | None
    negative_log_likelihood: float | None
    changed_fraction: float
    relative_distance: float
    forgotten: dict[str, float]
    unlearn_seconds: float
    train_seconds: float
    examples_seen: int
    train_flops: int
    unlearn_flops: int
    epochs_run: int
    kept_epoch: int
    data_fingerprint: str
    data_examples: int
    data_validation: int | None
    data_stored: bool
    test_fingerprint: str | None = None  # of the test set or holdout; earlier ledgers lack it
    num_classes: int | None = None  # what earlier ledgers lack has a default
    new_classes: list[str] = dataclasses.field(default_factory=list)
    holdout_added: str | None = None
    known_accuracy: float | None = None
    negative_flips: int | None = None
    negative_flips_by_class: dict[str, int] = dataclasses.field(default_factory=dict)
    taken_in: list[int]
    stopped_by: str
    exact: bool
    accepted: bool
    arrival: dict[str, Any] | None
    decision: dict[str, Any] | None
    independent: dict[str, Any] | None
    committed_at: str
    environment: dict[str, str]
    files: dict[str, str]
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)
    choices: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    again: bool = False

    @property
    def version(self) -> int:
        """Number of the version that the stage made: every stage makes one, so it is the stage's own."""
        return self.stage

    @property
    def chosen(self) -> str | None:
        """What an unlearner that chooses has taken; None where it does not choose."""
        return next((choice["candidate"] for choice in self.choices if choice.get("taken")), None)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, as a ledger line holds them."""
        values = dataclasses.asdict(self)
        unsaid = {name for name in ("left_out", "choices", "again") if not values[name]}
        return {"stage": self.stage, "version": self.version} | {k: v for k, v in values.items() if k not in unsaid}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: Path | str) -> Self:
        """Return the stage that `as_dict` wrote.

        Raises:
            InputError: naming `where`, if the fields are not those of a stage, or one holds what it cannot.
        """
        fields = {name: value for name, value in values.items() if name not in ("event", "version")}
        try:
            stage = cls(**fields)
        except TypeError as error:
            raise InputError(
                f"{where} was written by another version of lure: stage {values.get('stage')} does not fit ({error})"
            ) from None
        kinds = {field.name: field.type for field in dataclasses.fields(cls)}
        for name, value in fields.items():
            # NaN is written as null, but no time is NaN.
            missing = value is None and kinds[name] is float and not name.endswith("_seconds")
            if not missing and not _fits(value, kinds[name]):
                raise _damaged(where, name, value)
            records = value if isinstance(value, list) else [value] if value is not None else []
            for record, (key, kind) in itertools.product(records, CONTENTS.get(name, {}).items()):
                if not _fits(record.get(key), kind):
                    raise _damaged(where, f"{name}.{key}", record.get(key))
        return stage


def _damaged(where: Path | str, name: str, value: Any) -> InputError:
    return InputError(f"{where} is damaged ({name} cannot be {value!r:.60}): restore it from a backup")


def _fits(value: Any, kind: Any) -> bool:
    """Return whether a value that came out of JSON is of the kind that a field is annotated with."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return True
    if origin is types.UnionType:
        return any(_fits(value, each) for each in inside)
    if origin is list:
        return isinstance(value, list) and all(_fits(item, inside[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(item, inside[1]) for item in value.values())
    if kind in (int, float):  # JSON has one kind of number; true is none of it
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind)
