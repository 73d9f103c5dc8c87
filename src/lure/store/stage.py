"""Records of a stage: what one round came to, and the task that the first mega-batch fixes for ever."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lure.errors import InputError
from lure.store.run_directory import RunDirectory


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What one round came to; one line of the ledger.

    Counts are of this stage alone, except `cumulative_errors`, which sums the errors of the version in use after each
    stage. Rates and fractions lie in [0, 1]. What needs a test set (or a validation split) is None without one; with a
    gate the holdout is the test set. `generalization_gap` is train minus validation accuracy, or train minus test
    accuracy where nothing is held out for validation. `forgotten` says for each trainable tensor which share of its
    entries the unlearner changed; it is empty where there was nothing to unlearn. FLOPs count a multiply-add as two;
    those of unlearning are its gradient passes over the sample.

    `parent` is the version that training went on from (0: none), `taken_in` the stages whose chunks this one admitted:
    its own, and those that were let in by hand since. `stopped_by` says which limit ended the training. `exact` is
    False where the same command need not give the same bits: after a budget in seconds, on an accelerator, or once
    torch was changed. `arrival`, `decision` and `independent` (accuracy on the set that decides nothing) are None
    without a gate.
    """

    stage: int
    version: int
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


def as_stage(line: Mapping[str, Any], directory: RunDirectory) -> Stage:
    """Return a stage line of the ledger as a record."""
    try:
        return Stage(**line)
    except TypeError as error:
        raise InputError(
            f"{directory.path} was written by another version of lure: stage {line['stage']} does not fit ({error})"
        ) from None
