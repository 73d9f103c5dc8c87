"""Mean and spread of the inputs in production, and inputs that cannot be computed with."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch

from lure import Examples, InputError, Learner, Recipe
from lure.learner.gate import Gate
from lure.learner.production import init, update
from lure.learner.version import Version, write_predictions
from lure.store.durable import seal, unseal

RECIPE = Recipe(model="mlp:width=8", epochs=2, batch_size=16, lr=0.1, milestones=(), threads=1)


def table(seed: int, count: int, constant: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Three features, the last of which is large and may be constant; the first one decides the label."""
    numbers = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    inputs = numbers.normal(size=(count, 3)).astype(np.float32)
    inputs[:, 0] += 4 * labels
    inputs[:, 2] = 5e6 * inputs[:, 2] if constant is None else constant
    return inputs, labels


def save(name: str, inputs: np.ndarray, labels: np.ndarray) -> Path:
    np.savez(name, inputs=inputs, labels=labels)
    return Path(name)


def save_table(name: str, inputs: np.ndarray, labels: np.ndarray) -> Path:
    pandas.DataFrame({"age": inputs[:, 0], "height": inputs[:, 1], "income": inputs[:, 2], "label": labels}).to_parquet(
        name, index=False
    )
    return Path(name)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save("holdout.npz", *table(0, 200))


def agreement() -> dict[str, Any]:
    record = unseal(Path("run/production.json").read_bytes())
    assert record is not None
    return record


@pytest.mark.parametrize("first", ["constant", "constant and large", "one row"])
def test_a_first_chunk_that_shows_no_spread_does_not_spoil_later_ones(first: str) -> None:
    init("run", "holdout.npz", recipe=RECIPE, gate=Gate(significance=0, margin=1))
    inputs, labels = table(1, 60, constant={"constant": 7.0, "constant and large": 1234567.0}.get(first))
    rows = 1 if first == "one row" else 60
    update("run", save("first.npz", inputs[:rows], labels[:rows]))
    stage, _ = update("run", save("second.npz", *table(2, 60)))
    assert stage.accuracy is not None
    assert stage.accuracy > 0.5


def test_mean_and_spread_are_those_of_the_holdout() -> None:
    init("run", "holdout.npz", recipe=RECIPE)
    stored = agreement()["normalization"]
    inputs, _ = table(0, 200)
    np.testing.assert_allclose(stored, [inputs.astype(float).mean(0), inputs.astype(float).std(0)], rtol=1e-6)
    update("run", save("first.npz", *table(1, 60)))
    holder = Version.load("run").task
    assert [list(holder.mean), list(holder.std)] == stored


def test_a_learner_with_a_gate_takes_them_from_its_holdout_too() -> None:
    inputs, labels = map(torch.from_numpy, table(0, 200))
    with Learner.open("run", recipe=RECIPE, test=Examples(inputs, labels), gate=Gate()) as learner:
        learner.learn(Examples(inputs[:20], labels[:20]))
        assert learner.task is not None
        np.testing.assert_allclose(learner.task.mean, inputs.double().mean(0), rtol=1e-6)


def test_integers_have_no_statistics() -> None:
    tokens, labels = torch.arange(40).view(20, 2) % 7, torch.arange(20) % 2
    with Learner.open("run", recipe=RECIPE, test=Examples(tokens, labels), gate=Gate(), model=Words) as learner:
        learner.learn(Examples(tokens, labels))
        assert learner.task is not None
        assert learner.task.mean == ()


class Words(torch.nn.Sequential):
    def __init__(self) -> None:
        super().__init__(torch.nn.EmbeddingBag(7, 4), torch.nn.Linear(4, 2))


def test_a_directory_that_left_them_to_the_first_chunk_still_does() -> None:
    init("run", "holdout.npz", recipe=RECIPE)
    Path("run/production.json").write_bytes(seal({**agreement(), "normalization": None}))
    inputs, labels = table(1, 60)
    update("run", save("first.npz", inputs, labels))
    mean = Version.load("run").task.mean
    # 54 of the 60 rows are trained on; their mean is not the holdout's.
    assert abs(mean[2] - table(0, 200)[0][:, 2].mean()) > 1e4


def test_a_loss_that_is_not_finite_names_the_column_that_is_furthest_out() -> None:
    inputs, labels = table(0, 200, constant=3.0)
    save_table("holdout.parquet", inputs, labels)
    init("run", "holdout.parquet", recipe=RECIPE, gate=Gate(significance=0, margin=1))
    inputs, labels = table(1, 60, constant=3.0)
    inputs[17, 2] = 1e18
    with pytest.raises(InputError, match=r"column 'income' .*1e\+18 standard deviations .* at example 17"):
        update("run", save_table("first.parquet", inputs, labels))
    inputs[17, 2] = 3.0
    assert update("run", save_table("better.parquet", inputs, labels))[1]


def test_a_learning_rate_that_is_too_high_is_still_called_that() -> None:
    with Learner.open("run", recipe=Recipe(model="mlp:width=8", lr=1e30, threads=1)) as learner:
        inputs, labels = map(torch.from_numpy, table(0, 200))
        with pytest.raises(InputError, match=r"lower the learning rate \(lr = 1e\+30\).*furthest out is feature \d"):
            learner.learn(Examples(inputs, labels))


BAD = [("NaN", np.nan), ("infinity", np.inf), ("too large", 3e38)]


@pytest.mark.parametrize(("_", "value"), BAD)
def test_values_that_cannot_be_computed_with_are_refused_wherever_they_enter(_: str, value: float) -> None:
    inputs, labels = map(torch.from_numpy, table(0, 200))
    good = Examples(inputs, labels)
    spoilt = inputs.clone()
    spoilt[17, 1] = value
    bad = Examples(spoilt, labels)
    refused = pytest.raises(InputError, match=r"inputs hold NaN, infinity or a number .* at example 17, feature 1")
    for sets in ({"test": bad}, {"test": good, "independent": bad}):
        with refused, Learner.open("run", recipe=RECIPE, gate=Gate(), **sets) as learner:
            learner.begin()
    with refused, Learner.open("run", recipe=RECIPE, test=bad) as learner:
        learner.learn(good)
    with Learner.open("run", recipe=RECIPE, test=good) as learner:
        with refused:
            learner.learn(bad)
        assert not Path("run").exists()
        learner.learn(good)
        with refused:
            learner.predict(spoilt)
        with refused:
            learner.learn(bad)
    written = io.StringIO()
    with refused:
        write_predictions(Version.load("run"), bad, written, "csv")
    assert written.getvalue() == ""


def test_a_bad_value_in_a_holdout_leaves_no_directory() -> None:
    inputs, labels = table(0, 200)
    inputs[17, 1] = 3e38
    with pytest.raises(InputError, match="at example 17"):
        init("run", save("bad.npz", inputs, labels), recipe=RECIPE)
    assert not Path("run/production.json").exists()
