"""Runs operations in forked children that really die, for tests/test_faults.py.

It is started once, imports everything, and then forks a child for each attempt: a child costs milliseconds, a fresh
Python seconds. It reads one JSON request a line and answers with one JSON line. No child ever returns to the loop.
"""

import builtins
import errno
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lure.learner.learner
import lure.store.durable
import lure.store.ledger
from lure import Examples, InputError, Learner, Recipe, Stage
from lure.learner.gate import Gate
from lure.learner.production import accept, init, prune, rollback, status, update, verify
from lure.learner.version import Version, write_predictions
from lure.store.run_directory import RunDirectory

TIMING = {"unlearn_seconds", "train_seconds", "committed_at", "line_sha256"}
RECIPE = Recipe(
    model="mlp:width=4:depth=1",
    unlearner="lure",
    epochs=3,
    batch_size=32,
    optimizer="adam",
    lr=0.1,
    milestones=(),
    validation_fraction=0.1,
    threads=1,
)
RULES = Gate(significance=1e-6, margin=0.3)


def save(path: Path, seed: int, count: int, shift: int = 0) -> None:
    """Write three clouds; a shift makes all labels wrong."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    inputs = 2 * torch.eye(3)[labels] + torch.randn(count, 3, generator=generator)
    np.savez(path, inputs=inputs.numpy(), labels=((labels + shift) % 3).numpy())


def save_new_class(chunk: Path, holdout: Path) -> None:
    """Write a chunk in which a fourth class arrives, and holdout examples of it."""
    save(chunk, 4, 40)
    with np.load(chunk) as arrays:
        inputs, labels = arrays["inputs"], arrays["labels"]
    labels[:10] = 3
    np.savez(chunk, inputs=inputs, labels=labels)
    np.savez(holdout, inputs=inputs[:20] + 0.1, labels=np.full(20, 3))


def plain(path: str) -> Examples:
    with np.load(path) as arrays:
        return Examples(torch.from_numpy(arrays["inputs"]), torch.from_numpy(arrays["labels"]))


def learn(run: str, chunk: str) -> None:
    """One stage without a gate; as with a stream, what is done is not done again."""
    with Learner.open(run, recipe=RECIPE, test=plain("holdout.npz")) as learner:
        if plain(chunk).fingerprint not in [stage.data_fingerprint for stage in learner.stages]:
            learner.learn(plain(chunk))


def fail(run: str) -> None:
    """An update that stores its chunk, and then finds that it cannot go on."""

    def give_up(arrival: Any) -> None:
        raise InputError("no such chunk, please")

    try:
        update(run, "two.npz", on_arrival=give_up)
    except InputError as error:
        if str(error) != "no such chunk, please":
            raise


def not_accepted(stage: Stage) -> None:
    assert not stage.accepted


OPERATIONS: dict[str, tuple[list[str], Callable[[str], Any]]] = {
    # name: (the operations before it, the operation itself)
    "init": ([], lambda run: init(run, "holdout.npz", independent="test.npz", recipe=RECIPE, gate=RULES)),
    "first": (["init"], lambda run: update(run, "one.npz")),
    "second": (["init", "first"], lambda run: update(run, "two.npz")),
    "grow": (["init", "first"], lambda run: update(run, "new.npz", new_classes="grow", holdout_add="added.npz")),
    "grown": (["init", "first", "grow"], lambda run: update(run, "two.npz")),
    "refused": (["init", "first"], lambda run: not_accepted(update(run, "bad.npz")[0])),
    "failed": (["init", "first"], fail),
    "accept": (["init", "first", "refused"], lambda run: accept(run, 2, "why")),
    "rollback": (["init", "first", "second"], lambda run: rollback(run, 1)),
    "prune": (["init", "first", "second", "refused"], lambda run: prune(run, 1)),
    "after": (["init", "first", "refused", "second", "accept"], lambda run: update(run, "three.npz")),
    "stage": ([], lambda run: learn(run, "one.npz")),
    "next-stage": (["stage"], lambda run: learn(run, "two.npz")),
}


def main(words: list[str]) -> int:
    """The command line; imported late, because what a process holds makes each fork of it slower."""
    import lure.cli.entry

    return lure.cli.entry.main(words)


def fork(work: Callable[[], Any], wait: bool = True) -> int:
    """Run something in a child; return how it ended (negative: by that signal), or its number without waiting."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            returned = work()
            code = returned if isinstance(returned, int) else 0
        except InputError as error:
            code = 2
            print(f"error: {error}", file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        finally:
            with suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    return ended(child) if wait else child


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fresh(name: str, operations: list[str]) -> Path:
    """Return a directory after these operations; built once, then copied."""
    base = Path("bases", "-".join(operations) or "nothing")
    if not base.exists() and operations:
        fresh(f"building-{len(operations)}", operations[:-1])
        built = Path(f"building-{len(operations)}")
        assert fork(lambda: OPERATIONS[operations[-1]][1](str(built))) == 0
        base.parent.mkdir(exist_ok=True)
        built.rename(base)
    shutil.rmtree(name, ignore_errors=True)
    if operations:
        shutil.copytree(base, name)
    return Path(name)


def content(directory: Path) -> dict[str, str]:
    """Return all that must not depend on what went wrong on the way: every file, and the ledger without its times."""
    files = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.name == "ledger.jsonl":
            lines = [json.loads(line) for line in path.read_bytes().splitlines()]
            files[name] = json.dumps([{k: v for k, v in line.items() if k not in TIMING} for line in lines])
        elif path.is_file() and path.name not in (".lock", "ledger.seal"):
            files[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return files


class Trap:
    """Counts what changes the disk, and springs at one of it: by SIGKILL, half a write done, or by an OSError."""

    def __init__(self, at: int, full: bool = False) -> None:
        self.at, self.full, self.count = at, full, 0

    def step(self, write_half: Callable[[], Any] | None = None) -> None:
        self.count += 1
        if self.count == self.at or (self.full and self.count >= self.at and write_half):
            if write_half:
                write_half()
            if self.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.kill(os.getpid(), signal.SIGKILL)

    def arm(self) -> None:
        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*words: Any, **options: Any) -> Any:
                self.step()
                return function(*words, **options)

            return call

        trap = self

        class File:
            def __init__(self, *words: Any, **options: Any) -> None:
                self.file = builtins.open(*words, **options)  # noqa: SIM115

            def __enter__(self) -> "File":
                return self

            def __exit__(self, *words: Any) -> None:
                self.file.close()

            def __getattr__(self, name: str) -> Any:
                return getattr(self.file, name)

            def write(self, data: bytes) -> int:
                def half() -> None:
                    self.file.write(data[: len(data) // 2])
                    self.file.flush()

                trap.step(half)
                return self.file.write(data)

        for name in ("fsync", "replace", "rename", "mkdir", "unlink", "remove", "rmdir"):
            setattr(os, name, counted(getattr(os, name)))
        for module in (lure.store.durable, lure.store.ledger):
            module.open = File  # type: ignore[attr-defined]


def attempt(operation: str, run: Path, at: int = 0, full: bool = False) -> int:
    def work() -> Any:
        trap = Trap(at, full)
        if at:
            trap.arm()
        OPERATIONS[operation][1](str(run))
        return 77 if at and trap.count < at else 0

    return fork(work)


def sweep(operation: str, full: bool, stride: int) -> dict[str, Any]:
    """Let the trap spring at the first step, then at the next, until the operation ends before it springs."""
    before, _ = OPERATIONS[operation]
    expected_run = fresh("expected", before)
    assert attempt(operation, expected_run) == 0
    expected, expected_status = content(expected_run), json.dumps(standing_of(expected_run))
    lines = {2: num_lines(fresh("work", before)), 0: num_lines(expected_run)}  # exit code -> how many there must be
    faults, at = [], 1
    while True:
        run = fresh("work", before)
        code = attempt(operation, run, at, full)
        if code == 77:
            break
        if code not in ((2, 0) if full else (-signal.SIGKILL,)):
            faults.append(f"step {at}: ended with {code}")
        if full and num_lines(run) != lines.get(code):
            faults.append(f"step {at}: ended with {code}, and {num_lines(run)} lines are committed")
        faults += [f"step {at}: {trouble}" for trouble in troubles(run)]
        code = attempt(operation, run)
        if code != 0:
            faults.append(f"step {at}: the second try ended with {code}")
        elif content(run) != expected or json.dumps(standing_of(run)) != expected_status:
            faults.append(f"step {at}: {differences(content(run), expected)}")
        at += stride
    return {"steps": at - 1, "faults": faults}


def num_lines(run: Path) -> int:
    return len(RunDirectory(run).ledger.events)


def troubles(run: Path) -> list[str]:
    """Return what is wrong with a directory that a process died in, beyond the traces that every death leaves."""
    if not (run / "recipe.toml").exists():
        return []
    traces = ("that was never finished", "stands in no line", "ledger.seal is missing")
    found = [complaint for complaint in verify(run) if not any(trace in complaint for trace in traces)]
    if status(run)["current_version"] and Version.load(run).stage.version != status(run)["current_version"]:
        found.append("the version in use cannot be loaded")
    return found


def standing_of(run: Path) -> Any:
    facts = status(run)
    return [facts["current_version"], facts["running"], facts["waiting_chunks"], list(verify(run))]


def differences(found: dict[str, str], expected: dict[str, str]) -> str:
    names = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    return f"differs in {', '.join(names)}"


JOBS = ["init", "first", "refused", "second", "accept", "after", "rollback", "prune"]


def random_kills(seed: int, kills: int) -> dict[str, Any]:
    """Kill a whole history again and again at random instants; what counts is how it ends."""
    generator = random.Random(seed)
    expected_run = fresh("expected", [])
    durations = {}
    for job in JOBS:
        began = time.perf_counter()
        assert attempt(job, expected_run) == 0
        durations[job] = time.perf_counter() - began
    run, landed = fresh("work", []), 0
    for number, job in enumerate(JOBS):
        for _ in range(kills // len(JOBS) + (number < kills % len(JOBS))):
            child = fork(lambda job=job: OPERATIONS[job][1](str(run)), wait=False)
            time.sleep(generator.uniform(0, durations[job]))
            os.kill(child, signal.SIGKILL)
            if ended(child) == -signal.SIGKILL:
                landed += 1
            else:  # it was done first: from now on there is less to do, so that later kills must come sooner
                durations[job] /= 2
        assert attempt(job, run) == 0
    faults = [] if content(run) == content(expected_run) else [differences(content(run), content(expected_run))]
    return {"landed": landed, "faults": faults}


def two_at_once() -> dict[str, Any]:
    """The second process is refused while the first lives, and takes over once it was killed."""
    before = OPERATIONS["second"][0]
    expected = fresh("expected", before)
    assert attempt("second", expected) == 0
    run = fresh("work", before)
    reading, writing = os.pipe()

    def hang(moment: Any) -> None:
        if moment.epoch == 2:
            os.write(writing, b"x")
            time.sleep(60)

    child = fork(lambda: update(run, "two.npz", watch=hang), wait=False)
    os.read(reading, 1)
    while_alive = content(run)
    refused = said(lambda: OPERATIONS["second"][1](str(run)))
    untouched = content(run) == while_alive
    readable = said(lambda: 0 if status(run)["current_version"] == 1 else 1)[0] == 0
    os.kill(child, signal.SIGKILL)
    ended(child)
    return {
        "refused": refused,
        "untouched": untouched,
        "readable": readable,
        "taken_over": attempt("second", run) == 0 and content(run) == content(expected),
    }


def said(work: Callable[[], Any]) -> tuple[int, str]:
    """Run in a child; return its exit code, and what it printed to standard error."""

    reading, writing = os.pipe()

    def speak() -> Any:
        os.dup2(writing, 2)
        return work()

    code = fork(speak)
    os.close(writing)
    with os.fdopen(reading) as text:
        return code, text.read()


def set_checkpoint_share(share: float) -> None:
    """Set the default of a public argument, which `lure update` does not offer."""
    Learner.open.__func__.__kwdefaults__["checkpoint_share"] = share  # type: ignore[attr-defined]


def signalled(number: int) -> dict[str, Any]:
    """A signal to the command line while it trains: what it says, and how it ends; then the same command again."""
    before = OPERATIONS["second"][0]
    expected = fresh("expected", before)
    assert attempt("second", expected) == 0
    fresh("work", before)
    set_checkpoint_share(1e-9)  # only the first epoch's checkpoint, and what the signal saves

    def work() -> Any:
        # A job in the background is born deaf to Ctrl-C, and this suite may run as one.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop = Stop(number, epoch=3)
        lure.learner.learner.fit = stop.fit
        return main(["update", "work", "two.npz"])

    code, text = said(work)
    running = status("work")["running"]
    again = fork(lambda: main(["update", "work", "two.npz"]))
    return {
        "code": code,
        "said": text,
        "running": running,
        "again": again,
        "same": content(Path("work")) == content(expected),
    }


class Stop:
    """Sends a signal to this very process when an epoch begins."""

    def __init__(self, number: int, epoch: int) -> None:
        self.number, self.epoch = number, epoch
        self.original = lure.learner.learner.fit

    def fit(self, *words: Any, watch: Any = None, **options: Any) -> Any:
        def send(moment: Any) -> None:
            if moment.epoch == self.epoch:
                os.kill(os.getpid(), self.number)
                time.sleep(5)

        return self.original(*words, watch=send, **options)


def small_files(limit: int) -> dict[str, Any]:
    """No file may grow past a limit, which is how a full disk looks without being able to fill one."""
    before = OPERATIONS["second"][0]
    expected = fresh("expected", before)
    assert attempt("second", expected) == 0
    run = fresh("work", before)
    untouched = content(run)

    def work() -> Any:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        return OPERATIONS["second"][1](str(run))

    code, text = said(work)
    kept = {name: value for name, value in content(run).items() if name in untouched}
    return {
        "code": code,
        "said": text,
        "kept": kept == untouched,
        "again": attempt("second", run) == 0 and content(run) == content(expected),
    }


def read_only() -> dict[str, Any]:
    """A directory that may not be written to can be read, and an update of it is refused."""
    run = fresh("work", OPERATIONS["second"][0])
    before = content(run)
    for path in (run, *run.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)

    def as_nobody(work: Callable[[], Any]) -> Callable[[], Any]:
        def run_it() -> Any:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            return work()

        return run_it

    refused = said(as_nobody(lambda: OPERATIONS["second"][1](str(run))))
    new = said(as_nobody(lambda: RunDirectory(run / "inside").create()))
    readable = said(as_nobody(lambda: write_predictions(Version.load(run), plain("two.npz"), sys.stdout, "csv")))
    same = content(run) == before
    for path in (run, *run.rglob("*")):
        path.chmod(0o755)
    return {"refused": refused, "new": new, "readable": readable, "same": same}


REQUESTS: dict[str, Callable[..., dict[str, Any]]] = {
    "sweep": sweep,
    "random_kills": random_kills,
    "two_at_once": two_at_once,
    "signalled": signalled,
    "small_files": small_files,
    "read_only": read_only,
}


def serve() -> None:
    torch.set_num_threads(1)
    for name, seed, count, shift in (
        ("holdout", 100, 150, 0),
        ("test", 101, 30, 0),
        ("one", 1, 40, 0),
        ("two", 2, 40, 0),
        ("three", 3, 40, 0),
        ("bad", 50, 200, 1),
    ):
        save(Path(f"{name}.npz"), seed, count, shift)
    save_new_class(Path("new.npz"), Path("added.npz"))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    # A checkpoint after every epoch, so that there is as much as possible to be interrupted.
    set_checkpoint_share(float("inf"))
    # A killed process loses nothing that the system has taken over, so flushing to the disk would only take time.
    os.fsync = lambda descriptor: None  # type: ignore[assignment]
    # Here, what is imported on first use is imported once, and not by every child.
    for operation in ("init", "first", "stage"):
        OPERATIONS[operation][1](f"warm-{operation == 'stage'}")
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = REQUESTS[request.pop("do")](**request)
        except Exception:
            answer = {"crashed": traceback.format_exc()}
        set_checkpoint_share(float("inf"))
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve()
