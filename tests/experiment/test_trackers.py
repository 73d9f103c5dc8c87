"""Trackers: what they are told and when, that they decide nothing, and what is said where one cannot be used."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import stand_in_wandb

from lure import Experiment, InputError
from lure.experiment.compare import compare
from lure.experiment.run import Placement, run
from lure.experiment.trackers import Tracking

SMALL = Experiment(
    num_mega_batches=2,
    mega_batch_size=60,
    test_limit=50,
    model="mlp:width=8",
    epochs=3,
    batch_size=16,
    threads=1,
    seed=4,
)
WANDB = Tracking(name="wandb")


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """Put the stand-in where `import wandb` finds it; `told()` is then what it was told."""
    spec = importlib.util.spec_from_file_location("wandb", stand_in_wandb.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.chdir(tmp_path)
    return module


def weights(directory: Path) -> bytes:
    return (directory / "versions" / "0002" / "model.safetensors").read_bytes()


def test_epochs_and_stages_are_logged_in_order(wandb: ModuleType, tmp_path: Path) -> None:
    stages = run(SMALL, tmp_path / "run", placement=Placement(tracking=WANDB))
    told = wandb.told()
    assert [what for what, _ in told] == ["init", "config", *["log"] * 8, "finish"]
    logged = [values for what, values in told if what == "log"]
    assert [next(iter(values)).partition("/")[0] for values in logged] == (["epoch"] * 3 + ["stage"]) * 2
    assert [values["step"] for values in logged] == [1, 2, 3, 3, 4, 5, 6, 6]
    first, last = logged[0], logged[-1]
    assert first["epoch/learning_rate"] == SMALL.lr
    assert {"epoch/train_loss", "epoch/train_accuracy", "epoch/validation_accuracy"} <= set(first)
    assert last["stage/accuracy"] == stages[-1].accuracy
    assert last["stage/cumulative_errors"] == stages[-1].cumulative_errors
    assert last["stage/train_seconds"] == stages[-1].train_seconds
    everything = [value for _, values in told[1:] if values for value in values.values()]
    assert all(isinstance(value, bool | int | float | str) for value in everything)
    assert told[1][1]["milestones"] == "20,40"


def test_a_tracker_decides_nothing(wandb: ModuleType, tmp_path: Path) -> None:
    run(SMALL, tmp_path / "with", placement=Placement(tracking=WANDB))
    run(SMALL, tmp_path / "without")
    assert weights(tmp_path / "with") == weights(tmp_path / "without")
    recipes = [(tmp_path / name / "recipe.toml").read_text() for name in ("with", "without")]
    assert recipes[0] == recipes[1]
    assert "wandb" not in recipes[0]


def test_a_finished_run_is_not_tracked_again(wandb: ModuleType, tmp_path: Path) -> None:
    run(SMALL, tmp_path / "run")
    run(SMALL, tmp_path / "run", placement=Placement(tracking=WANDB))
    assert wandb.told() == []


def test_an_interrupted_run_closes_its_tracker(wandb: ModuleType, tmp_path: Path) -> None:
    def stop(moment: Any) -> None:
        if moment.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(SMALL, tmp_path / "run", placement=Placement(tracking=WANDB), watch=stop)
    assert wandb.told()[-1][0] == "finish"


def test_a_tracker_that_cannot_start_is_named(
    wandb: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb, "init", wandb.failing(OSError("no way\nto the server")))
    with pytest.raises(InputError, match=r"^the tracker wandb cannot start: no way to the server$"):
        run(SMALL, tmp_path / "run", placement=Placement(tracking=WANDB))
    assert not (tmp_path / "run" / "ledger.jsonl").exists()


def test_a_log_folder_that_is_a_file_is_one_line(wandb: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"the tracker wandb cannot start: .*file"):
        run(SMALL, tmp_path / "run", placement=Placement(tracking=Tracking(name="wandb", folder=tmp_path / "file")))
    assert not (tmp_path / "run" / "ledger.jsonl").exists()


def test_a_tracker_that_fails_midway_does_not_stop_the_run(
    wandb: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(values: dict[str, Any], step: int) -> None:
        wandb.note("failed", step)
        raise ConnectionResetError("connection lost")

    monkeypatch.setattr(wandb, "log", fail)
    with pytest.warns(UserWarning, match="the tracker wandb failed, and the run goes on without it: connection lost"):
        run(SMALL, tmp_path / "with", placement=Placement(tracking=WANDB))
    assert [values for what, values in wandb.told() if what == "failed"] == [1]
    run(SMALL, tmp_path / "without")
    assert weights(tmp_path / "with") == weights(tmp_path / "without")


def test_a_tracker_that_cannot_finish_does_not_stop_the_run(
    wandb: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb, "finish", wandb.failing(ConnectionResetError()))
    with pytest.warns(UserWarning, match="the run goes on without it: ConnectionResetError"):
        assert len(run(SMALL, tmp_path / "run", placement=Placement(tracking=WANDB))) == 2


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(InputError, match="unknown tracker 'wandbb': did you mean 'wandb'"):
        Tracking(name="wandbb")  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "package"), [("wandb", r"'lure-torch\[paper\]'"), ("mlflow", "mlflow")])
def test_a_missing_package_is_named_before_any_training(
    name: Any, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked: None if asked == name else find(asked))
    placement = Placement(tracking=Tracking(name=name))
    message = f"the tracker {name} is not installed: pip install {package}, or run without a tracker"
    with pytest.raises(InputError, match=message):
        run(SMALL, tmp_path / "run", placement=placement)
    with pytest.raises(InputError, match=message):
        compare(SMALL, ["lure"], [0], tmp_path / "many", placement=placement)
    assert list(tmp_path.iterdir()) == []


def logged_out(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Leave wandb without any login, and without a way to ask for one."""
    for name in list(os.environ):
        if name.startswith("WANDB"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("NETRC", str(home / "netrc"))
    monkeypatch.chdir(home)


def test_nobody_logged_in_is_said_before_any_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    logged_out(monkeypatch, tmp_path)
    with pytest.raises(
        InputError, match="nobody is logged in to Weights & Biases: run 'wandb login', or set WANDB_MODE"
    ):
        run(SMALL, tmp_path / "run", placement=Placement(tracking=WANDB))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "value"), [("WANDB_MODE", "sometimes"), ("WANDB_API_KEY", "short")])
def test_settings_that_wandb_refuses_are_one_line(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    logged_out(monkeypatch, tmp_path)
    monkeypatch.setenv(name, value)
    import wandb

    wandb.teardown()  # settings that an earlier test read would stand for those of the environment
    with pytest.raises(InputError, match=r"^Weights & Biases refuses its settings: ") as caught:
        run(SMALL, tmp_path / "run", placement=Placement(tracking=WANDB))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_tensorboard_writes_its_events(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    stages = run(SMALL, tmp_path / "run", placement=Placement(tracking=Tracking(name="tensorboard", run="first")))
    events = EventAccumulator(str(tmp_path / "run" / "tracker" / "lure" / "first"))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("stage/accuracy")]
    assert found == [(3, pytest.approx(stages[0].accuracy)), (6, pytest.approx(stages[1].accuracy))]


def test_mlflow_gets_its_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    stages = run(SMALL, tmp_path / "run", placement=Placement(tracking=Tracking(name="mlflow", run="first")))
    found = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert [one.data.metrics["stage/accuracy"] for one in found] == [stages[1].accuracy]
    assert found[0].data.params["unlearner"] == "lure"
