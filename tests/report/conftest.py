import dataclasses
import json
import typing

import pytest

from lure.report.records import read_run
from lure.store.ledger import LEDGER, SEAL, Ledger
from lure.store.stage import Stage

RECIPE = {"dataset": "fashion-mnist-sample", "epochs": 20, "model": "mlp", "augment": "none"}


def blank(kind):
    """Return a value that a field of this kind may hold: None if it may, else an empty one."""
    return None if type(None) in typing.get_args(kind) else (typing.get_origin(kind) or kind)()


def make_stage(number, policy, seed, accuracy, *, test_examples=1000, **fields):
    errors = None if accuracy is None else round((1 - accuracy) * test_examples)
    stage = {field.name: blank(field.type) for field in dataclasses.fields(Stage)} | {
        "stage": number,
        "version": number,
        "parent": number - 1,
        "taken_in": [number],
        "unlearner": policy,
        "seed": seed,
        "train_examples": 500 * number,
        "test_examples": test_examples,
        "error_count": errors,
        "accuracy": None if errors is None else (test_examples - errors) / test_examples,
        "expected_calibration_error": 0.2,
        "train_accuracy": 0.95,
        "validation_accuracy": None,
        "changed_fraction": 0.2,
        "relative_distance": 0.11,
        "forgotten": {},
        "unlearn_seconds": 0.5,
        "unlearn_flops": 1e9,
        "train_seconds": 2.0 * number,
        "examples_seen": 10000 * number,
        "train_flops": 1e12 * number,
        "epochs_run": 20,
        "data_fingerprint": f"data-{seed}-{number}",
        "accepted": True,
    }
    return stage | fields


def write_ledger(directory, lines):
    """Write a ledger anew, with the checksums that belong to these lines."""
    for name in (LEDGER, SEAL):
        (directory / name).unlink(missing_ok=True)
    ledger = Ledger(directory)
    for line in lines:
        ledger.append({"event": "stage"} | line)


def read_lines(directory):
    return [json.loads(line) for line in (directory / LEDGER).read_text().splitlines()]


@pytest.fixture
def write_run(tmp_path):
    """Return write(policy, seed, accuracies, ...) -> directory of a run that looks like the learner's."""

    def write(policy, seed, accuracies, *, recipe=None, result=True, name=None, folder="", **fields):
        directory = tmp_path / folder / (name or f"{policy.replace(':', '+')}-{seed}-{len(list(tmp_path.iterdir()))}")
        directory.mkdir(parents=True)
        written = RECIPE | {"seed": seed, "unlearner": policy} | (recipe or {})
        lines = [f"{field} = {json.dumps(value)}" for field, value in written.items()]
        (directory / "recipe.toml").write_text("\n".join(lines) + "\n")
        stages = [make_stage(number, policy, seed, value, **fields) for number, value in enumerate(accuracies, 1)]
        write_ledger(directory, stages)
        if result:
            (directory / "result.json").write_text(
                json.dumps(
                    {
                        "status": "complete",
                        "final_accuracy": stages[-1]["accuracy"],
                        "python_version": "3.11.7",
                        "torch_version": "2.13.0",
                        "lure_version": "0.1.0",
                        "device": "cpu",
                        "command": f"lure run demo --unlearner {policy} --seed {seed}",
                    }
                )
            )
        return directory

    return write


@pytest.fixture
def change_ledger():
    """Return change(directory, function): rewrite a ledger with what a function makes of its list of lines."""

    def change(directory, function):
        lines = [{key: line[key] for key in line if key != "line_sha256"} for line in read_lines(directory)]
        write_ledger(directory, function(lines))

    return change


@pytest.fixture
def write_budgets(write_run):
    """Return make(accuracies, recipe=None, **fields): runs at budgets 0.1 and 1 over three seeds, as records.

    `accuracies` holds for each policy the final accuracy of seed 0 at either budget; each seed is a point better.
    """

    def make(accuracies, recipe=None, **fields):
        return [
            read_run(
                write_run(
                    policy,
                    seed,
                    [0.5, value + 0.01 * seed],
                    recipe={"budget": budget} | (recipe or {}),
                    train_flops=1000 * budget,
                    unlearn_flops=0,
                    **fields,
                )
            )
            for policy, values in accuracies.items()
            for budget, value in zip((0.1, 1.0), values, strict=True)
            for seed in range(3)
        ]

    return make
