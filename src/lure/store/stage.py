"""The record of a stage: what one round of learn, unlearn, relearn gave. One line of the ledger."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from lure.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The result of one round.

    Counts are of this stage alone, except `cumulative_errors`, which sums the errors of the version in use after each
    stage. Rates and fractions lie in [0, 1]. What needs a test set (or a validation split) is None without one; with a
    gate the holdout is the test set. `generalization_gap` is train minus validation accuracy, or train minus test
    accuracy where nothing is held out for validation. `forgotten` says for each trainable tensor which share of its
    entries the unlearner changed; it is empty where there was nothing to unlearn. FLOPs count a multiply-add as two;
    those of unlearning are its gradient passes over the sample.

    `parent` is the version that training started from (0: none), `taken_in` the stages whose chunks were added to the
    replay memory: its own, and those accepted by hand since. `stopped_by` says which limit ended the training. `exact`
    is False where the same command need not give the same bits: after a budget in seconds, on an accelerator, or once
    torch was changed. `arrival`, `decision` and `independent` (accuracy on the set that decides nothing) are None
    without a gate.
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

    @property
    def version(self) -> int:
        """Number of the version that the stage made: every stage makes one, so it is the stage's own."""
        return self.stage

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, as a ledger line holds them."""
        return {"stage": self.stage, "version": self.version, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: Path | str) -> Self:
        """Return the stage that `as_dict` wrote.

        Raises:
            InputError: naming `where`, if the fields are not those of a stage.
        """
        fields = {name: value for name, value in values.items() if name not in ("event", "version")}
        try:
            return cls(**fields)
        except TypeError as error:
            raise InputError(
                f"{where} was written by another version of lure: stage {values.get('stage')} does not fit ({error})"
            ) from None
