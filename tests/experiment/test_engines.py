"""SLURM and Ray, for real where they can be had: submitit's local jobs, and a Ray of two CPUs."""

import dataclasses
import importlib
import os
import signal
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lure import Experiment, InputError
from lure.cli import main
from lure.experiment.compare import compare, plan
from lure.experiment.engines import ENGINES, build_engine, cluster
from lure.experiment.job import Ended, Event, Job, PlannedRun
from lure.experiment.run import Placement
from lure.store.stage import Stage

TINY = Experiment(
    num_mega_batches=2, mega_batch_size=20, test_limit=50, epochs=2, model="mlp:width=4", milestones=(), threads=1
)


def weights(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("model.safetensors")}


@pytest.fixture
def submitit() -> Any:
    if importlib.util.find_spec("submitit") is None:
        pytest.skip("submitit is not installed: pip install 'lure-torch[slurm]'")
    return importlib.import_module("submitit")


def test_slurm_gives_the_bits_of_this_process_and_goes_on_after_preemption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, submitit: Any
) -> None:
    from submitit.local.local import LocalExecutor

    submitted: list[Any] = []
    submit = LocalExecutor._submit_command

    def recorded(self: Any, command: str) -> Any:
        submitted.append(submit(self, command))
        return submitted[-1]

    monkeypatch.setattr(LocalExecutor, "_submit_command", recorded)
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.05)
    engine = build_engine("slurm", {"cluster": "local", "time": 30})
    (planned,) = plan(TINY, ["lure"], [0], tmp_path / "there")
    heard: list[Event] = []

    def report(run: PlannedRun, event: Event) -> None:
        heard.append(event)
        if isinstance(event, Stage) and event.stage == 1:
            controller = submitted[0].job_id
            (task,) = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
            os.kill(int(task), signal.SIGUSR2)  # as SLURM does before it takes the node away

    longer = dataclasses.replace(planned.experiment, epochs=1500)
    engine.run([Job(dataclasses.replace(planned, experiment=longer), Placement(device="cpu"))], None, report)
    assert [event.stage for event in heard if isinstance(event, Stage)] == [1, 2]
    assert heard[-1] == Ended()
    logs = "".join(path.read_text() for path in (tmp_path / "there/slurm").glob("*.err"))
    assert "this job is preempted" in logs
    compare(longer, ["lure"], [0], tmp_path / "here", jobs=1)
    there = {name: content for name, content in weights(tmp_path / "there").items() if not name.startswith("slurm")}
    assert there == weights(tmp_path / "here")


@pytest.fixture(scope="module")
def ray_address() -> Iterator[str]:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'lure-torch[ray]'")
    ray = importlib.import_module("ray")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


def test_ray_gives_the_bits_of_this_process(tmp_path: Path, ray_address: str) -> None:
    words = [sys.executable, "-m", "lure", "compare", "--unlearners", "lure,scratch", "--seeds", "0"]
    words += ["--epochs", "1", "--num-mega-batches", "2", "--mega-batch-size", "20", "--model", "mlp:width=4"]
    words += ["--engine", "ray", "--engine-option", f"address={ray_address}", "--out", str(tmp_path / "there")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "scratch" in done.stdout
    assert len(done.stderr.splitlines()) == 4, done.stderr
    words = ["compare", "--unlearners", "lure,scratch", "--seeds", "0", "--jobs", "1", "--out", str(tmp_path / "here")]
    words += ["--epochs", "1", "--num-mega-batches", "2", "--mega-batch-size", "20", "--model", "mlp:width=4"]
    assert main(words) == 0
    assert weights(tmp_path / "there") == weights(tmp_path / "here")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_a_ray_that_does_not_answer_is_one_line(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "ray", types.SimpleNamespace(is_initialized=lambda: False))
    with pytest.raises(InputError, match=rf"^there is no Ray at '{address}' \(ConnectionRefusedError\)"):
        build_engine("ray", {"address": address})


@pytest.mark.parametrize("engine", ["slurm", "ray"])
def test_a_missing_package_is_one_line(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=rf"^the engine {engine} needs .*lure-torch\[{engine}\]"):
        build_engine(engine)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--engine", "slurm", "--engine-option", "queue=gpu"], "unknown option of slurm 'queue'"),
        (["--engine", "slurm", "--engine-option", "time=0"], "time must be at least 1, got 0"),
        (["--engine", "slurm", "--engine-option", "gpus=half"], "gpus must be a whole number, got 'half'"),
        (["--engine", "ray", "--engine-option", "gpus=-1"], "gpus must be at least 0, got -1"),
        (["--engine", "slurm"], "there is no SLURM here"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "there is no SLURM" in message and importlib.util.find_spec("submitit") is None:
        pytest.skip("submitit is not installed")
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert main(["compare", "--out", str(tmp_path / "out"), *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert message in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_what_slurm_refuses_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, submitit: Any
) -> None:
    def refuse(self: Any, command: str) -> Any:
        raise submitit.core.utils.FailedSubmissionError("sbatch: error: invalid partition\n")

    monkeypatch.setattr("submitit.local.local.LocalExecutor._submit_command", refuse)
    with pytest.raises(InputError, match=r"^SLURM refuses the jobs: sbatch: error: invalid partition$"):
        compare(TINY, ["lure"], [0], tmp_path / "out", engine="slurm", engine_options={"cluster": "local"})
    assert not list(tmp_path.iterdir())


def test_every_option_says_what_it_is() -> None:
    for engine in ENGINES.values():
        assert engine.__doc__
        for field in dataclasses.fields(engine):
            assert field.metadata["meaning"]
