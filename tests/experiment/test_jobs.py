"""Runs side by side, each in a process of its own: bits, deaths, interruptions, and two comparisons in one place."""

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lure import Experiment, InputError
from lure.cli import main
from lure.experiment import threads as threads_of
from lure.experiment.compare import compare, plan, warn_of_too_many_threads
from lure.experiment.engines import local
from lure.experiment.job import Ended, Event, Job, Note, PlannedRun, event_from_json, event_to_json
from lure.experiment.run import Placement, command_line, run
from lure.experiment.trackers import Tracking
from lure.report.progress import RunsProgress
from lure.store.run_directory import RunDirectory
from lure.training.fit import Progress

TINY = Experiment(
    num_mega_batches=2, mega_batch_size=20, test_limit=50, epochs=2, model="mlp:width=4", milestones=(), threads=1
)
LONG = ["--epochs", "9000", "--num-mega-batches", "1", "--mega-batch-size", "40", "--unlearners", "lure,scratch"]
LONG += ["--seeds", "0", "--threads", "1", "--out", "all", "--jobs", "2"]

# A network whose builder kills the process that it runs in, where that is a worker and the file `die` is there.
DYING = """
import os, signal, sys, torch
from pathlib import Path
def build(num_classes, input_shape):
    main = sys.modules["__main__"].__spec__
    if main and main.name == "lure.experiment.worker" and Path(__file__).with_name("die").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    print("built")
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, num_classes))
"""


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.name in ("model.safetensors", "state.safetensors", "recipe.toml", "initial.safetensors")
    }


@pytest.mark.filterwarnings("ignore:2 runs at once with 2 threads")
def test_side_by_side_gives_the_bits_of_one_after_the_other(tmp_path: Path) -> None:
    policies = ["lure", "scratch", "fast=lr=0.5 threads=2"]  # a process is used twice, or needs other threads
    said: list[tuple[str, str]] = []
    compare(
        TINY,
        policies,
        [0],
        tmp_path / "two",
        jobs=2,
        watch=lambda run, moment: said.append((run.label, "moved")),
        on_stage=lambda run, stage: said.append((run.label, f"stage {stage.stage}")),
        on_end=lambda run, problem: said.append((run.label, f"ended{problem}")),
    )
    compare(TINY, policies, [0], tmp_path / "one", jobs=1)
    two, one = files(tmp_path / "two"), files(tmp_path / "one")
    assert two == one
    for result in (tmp_path / "two").rglob("result.json"):
        assert json.loads(result.read_text())["command"] == command_line()
    assert len(one) == 3 * (2 + 2 * 2)
    assert len(list((tmp_path / "two").glob("*/seed-0/evaluations/2.json"))) == 3
    for label in ("lure, seed 0", "fast, seed 0"):
        events = [event for name, event in said if name == label]
        assert events[0] == "moved"
        assert [event for event in events if event != "moved"] == ["stage 1", "stage 2", "ended"]


def test_runs_that_die_or_are_refused_are_named_and_the_others_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dying.py").write_text(DYING)
    (tmp_path / "die").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    words = ["compare", "--epochs", "1", "--num-mega-batches", "2", "--mega-batch-size", "20", "--seeds", "0"]
    for policy in ("bad=model=dying:build", "hot=lr=1e30 optimizer=sgd", "good=lr=0.01"):
        words += ["--policy", policy]
    assert main([*words, "--jobs", "2", "--out", "all"]) == 2
    said = capsys.readouterr().err.splitlines()
    how = "bad, seed 0: SIGKILL ended its process, as the system does when memory runs out"
    assert how in said
    assert said[-1].startswith("error: 2 of 3 runs could not be done: ")
    assert how in said[-1]
    assert "hot, seed 0: the " in said[-1]
    assert said[-1].endswith("; the others are done, and the same command goes on")
    assert [path.parent.parent.name for path in Path("all").rglob("result.json")] == ["good"]
    Path("die").unlink()
    assert main([*words, "--jobs", "1", "--out", "all"]) == 2, (
        "in this process, the one that is refused ends the comparison"
    )
    assert sorted(path.parent.parent.name for path in Path("all").rglob("result.json")) == ["bad", "good"]


def is_free(directory: Path) -> bool:
    try:
        with RunDirectory(directory):
            return True
    except InputError:
        return False


def wait_until(condition: Any, seconds: float = 60) -> None:
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it never came")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_run_outlives_its_comparison(number: signal.Signals, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "lure", "compare", *LONG],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    directories = [tmp_path / "all" / policy / "seed-0" for policy in ("lure", "scratch")]
    wait_until(lambda: all((path / "progress/progress.json").exists() for path in directories))
    assert not any(map(is_free, directories))
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert said == f"interrupted; go on with: lure compare {' '.join(LONG)}\n"
        assert all(map(is_free, directories))
    else:
        assert said == "", "the processes end without a word"
    wait_until(lambda: all(map(is_free, directories)), 20)
    assert all((path / "progress/progress.json").exists() for path in directories), "so that they go on from there"


def test_a_job_waits_for_whoever_holds_its_directory_and_finds_the_work_done(tmp_path: Path) -> None:
    planned = PlannedRun(TINY, tmp_path / "run")
    planned.directory.mkdir()
    heard: list[Event] = []

    def tell(event: Event) -> None:
        heard.append(event)
        if isinstance(event, Note):
            holder.__exit__(None, None, None)
            run(TINY, planned.directory)

    holder = RunDirectory(planned.directory)
    holder.__enter__()
    Job(planned, Placement(device="cpu")).do(tell)
    (note,) = heard
    assert isinstance(note, Note)
    assert note.text.startswith("waiting: ")
    assert note.text.endswith("run is in use by another process that is still running")
    assert planned.is_done


def test_jobs_and_events_travel_as_json(tmp_path: Path) -> None:
    tracking = Tracking(name="mlflow", folder=tmp_path / "here")
    placement = Placement(data=tmp_path / "data", device="cuda:1", workers=2, tracking=tracking)
    experiment = dataclasses.replace(TINY, policy="smooth", departs_from=("lr=0.1",), patience=3)
    job = Job(PlannedRun(experiment, tmp_path / "run"), placement)
    assert Job.from_json(job.to_json()) == job
    (stage,) = run(dataclasses.replace(TINY, num_mega_batches=1), tmp_path / "run")
    for event in (stage, Progress(1, 2, 3, 4, 5, None), Note("a\nb"), Ended()):
        assert event_from_json(event_to_json(event)) == event
        assert "\n" not in event_to_json(event)


@pytest.mark.parametrize(
    ("threads", "limit", "expected"), [(1, None, 8), (3, None, 2), (16, None, 1), (1, 3, 3), (1, 99, 10)]
)
def test_how_many_run_at_once(threads: int, limit: int | None, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "number_of_cores", lambda: 8)
    experiment = dataclasses.replace(TINY, threads=threads)
    jobs = [Job(planned, Placement(device="cpu")) for planned in plan(experiment, ["lure"], range(10), "out")]
    assert local.side_by_side(jobs, limit) == expected
    assert local.side_by_side(jobs[:1], limit) == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    if limit is None:
        assert local.side_by_side(jobs, limit) == 1
    else:
        with pytest.raises(InputError, match="cannot go with torchrun"):
            local.side_by_side(jobs, limit)


def test_more_threads_than_cores_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lure.experiment.compare.number_of_cores", lambda: 2)
    jobs = [Job(PlannedRun(dataclasses.replace(TINY, threads=n), Path("out")), Placement(device="cpu")) for n in (1, 2)]
    with pytest.warns(UserWarning, match="2 runs at once with 2 threads each are more than 2 cores"):
        warn_of_too_many_threads(jobs, 2)
    warn_of_too_many_threads(jobs[:1], 3)


def test_gpus_are_dealt_out_one_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    planned = plan(TINY, ["lure"], range(10), "out")
    assert local.side_by_side([Job(each, Placement()) for each in planned], None) == 3
    assert local.side_by_side([Job(each, Placement(device="cuda:1")) for each in planned], None) == 1
    assert local.side_by_side([Job(each, Placement(device="cuda")) for each in planned], 6) == 6


def test_a_small_network_takes_one_thread_and_a_run_that_was_begun_keeps_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stored(policy: str) -> int:
        text = (tmp_path / policy / "seed-0/recipe.toml").read_text()
        return int(text.partition("\nthreads = ")[2].split("\n")[0])

    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    open_ = dataclasses.replace(TINY, threads=0)
    run(dataclasses.replace(open_, unlearner="warm-start"), tmp_path / "warm-start/seed-0")
    assert stored("warm-start") == 1
    monkeypatch.setattr(threads_of, "LARGE_STEP", 0)
    run(dataclasses.replace(open_, unlearner="dash"), tmp_path / "dash/seed-0")
    assert stored("dash") == 2
    for policies in (["a=threads=3", "warm-start"], ["a=threads=3", "warm-start", "scratch"]):
        compare(open_, policies, [0], tmp_path, jobs=1)
    assert [stored(policy) for policy in ("a", "warm-start", "scratch")] == [3, 1, 1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--jobs", "0"], "jobs must be at least 1, got 0"),
        (["--engine", "slrm"], "unknown engine 'slrm'"),
        (["--engine-option", "partition"], "--engine-option must be KEY=VALUE, got 'partition'"),
        (["--engine-option", "partition=gpu"], "unknown option of local 'partition' (there are none)"),
        (["--engine-option", "a=1", "--engine-option", "a=2"], "--engine-option a is given twice"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "--out", str(tmp_path / "out"), *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert message in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_line_for_each_run_in_flight_and_one_for_all(tmp_path: Path) -> None:
    first, second, third = plan(dataclasses.replace(TINY, num_mega_batches=1), ["lure"], [0, 1, 2], tmp_path)
    console = Console(force_terminal=True, width=100, file=open(os.devnull, "w"), color_system=None)  # noqa: SIM115

    def lines() -> list[str]:
        assert progress._live is not None
        plain = Console(width=100, file=io.StringIO())
        with plain.capture() as capture:
            plain.print(progress._live.get_renderable())
        shown = capture.get().translate(dict.fromkeys(map(ord, "━╸╺"), " ")).splitlines()
        return [" ".join(line.split()) for line in shown]

    with console.file, RunsProgress([first, second, third], console) as progress:
        progress.show(first, Progress(1, 1, 2, 5, 10, None))
        progress.show(second, Progress(1, 2, 2, 10, 10, 0.5))
        row, other, overall = lines()
        assert row == "lure, seed 0 stage 1, epoch 1 of 2"
        assert other == "lure, seed 1 stage 1, epoch 2 of 2, accuracy 50.0 %"
        assert overall.startswith("0 of 3 runs done about 0:0")
        progress.run_ended(first, "")
        assert [line.split(" about")[0] for line in lines()] == [other, "1 of 3 runs done"]
