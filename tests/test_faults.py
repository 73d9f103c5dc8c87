"""What happens when a process dies, the disk fills up, or two come at once: each is really done, in forked children."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Return a function that has the driver do something, and gives its answer."""
    folder = tmp_path_factory.mktemp("faults")
    folder.chmod(0o755)
    driver = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("faults_driver.py"))],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
    )

    def request(do: str, **options: Any) -> dict[str, Any]:
        assert driver.stdin
        assert driver.stdout
        driver.stdin.write(json.dumps({"do": do, **options}) + "\n")
        driver.stdin.flush()
        answer = json.loads(driver.stdout.readline())
        assert "crashed" not in answer, answer["crashed"]
        return answer

    yield request
    assert driver.stdin
    assert driver.stdout
    driver.stdin.close()
    driver.wait(timeout=30)
    driver.stdout.close()


# At least how many steps each operation takes on the disk: a sweep that ends early would prove nothing.
STEPS = {
    "init": 35,
    "first": 60,
    "second": 55,
    "grow": 75,
    "grown": 60,
    "refused": 55,
    "failed": 25,
    "accept": 8,
    "rollback": 8,
    "prune": 12,
    "after": 55,
    "stage": 60,
    "next-stage": 50,
}
SHORT = ["init", "failed", "accept", "rollback", "prune", "next-stage"]


@pytest.mark.parametrize("operation", SHORT)
def test_killed_at_every_step_and_started_again_it_ends_the_same(operation: str, ask: Ask) -> None:
    answer = ask("sweep", operation=operation, full=False, stride=1)
    assert answer["faults"] == []
    assert answer["steps"] >= STEPS[operation]


@pytest.mark.slow
@pytest.mark.parametrize("operation", sorted(STEPS.keys() - set(SHORT)))
def test_killed_at_every_step_of_the_longer_histories(operation: str, ask: Ask) -> None:
    answer = ask("sweep", operation=operation, full=False, stride=1)
    assert answer["faults"] == []
    assert answer["steps"] >= STEPS[operation]


@pytest.mark.parametrize("operation", sorted(STEPS.keys() - set(SHORT)))
def test_killed_here_and_there_in_the_longer_histories(operation: str, ask: Ask) -> None:
    assert ask("sweep", operation=operation, full=False, stride=5)["faults"] == []


@pytest.mark.parametrize("operation", ["init", "second", "failed", "accept", "rollback", "prune", "stage"])
def test_a_disk_that_fills_up_at_any_step_costs_nothing(operation: str, ask: Ask) -> None:
    answer = ask("sweep", operation=operation, full=True, stride=7)
    assert answer["faults"] == []
    assert answer["steps"] >= 7


@pytest.mark.slow
@pytest.mark.parametrize("operation", STEPS)
def test_a_disk_that_fills_up_at_every_step_costs_nothing(operation: str, ask: Ask) -> None:
    assert ask("sweep", operation=operation, full=True, stride=1)["faults"] == []


def test_killed_at_random_instants_a_whole_history_ends_the_same(ask: Ask) -> None:
    answer = ask("random_kills", seed=0, kills=24)
    assert answer["faults"] == []
    assert answer["landed"] >= 1  # how many do depends on how busy the machine is


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9))
def test_killed_at_random_instants_again_and_again(seed: int, ask: Ask) -> None:
    answer = ask("random_kills", seed=seed, kills=160)
    assert answer["faults"] == []
    assert answer["landed"] >= 40


def test_a_second_process_is_refused_while_the_first_lives_and_takes_over_when_it_died(ask: Ask) -> None:
    answer = ask("two_at_once")
    assert answer["refused"] == [2, "error: work is in use by another process that is still running\n"]
    assert answer["untouched"]
    assert answer["readable"]
    assert answer["taken_over"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_says_how_to_go_on(number: int, ask: Ask) -> None:
    answer = ask("signalled", number=int(number))
    assert (answer["code"], answer["said"]) == (130, "interrupted; go on with: lure update work two.npz\n")
    assert answer["running"] == {"stage": 2, "epochs_done": 2}
    assert answer["again"] == 0
    assert answer["same"]


@pytest.mark.parametrize("limit", [0, 100, 400, 900])
def test_a_write_that_the_system_refuses_is_one_line_and_costs_nothing(limit: int, ask: Ask) -> None:
    answer = ask("small_files", limit=limit)
    assert answer["code"] == 2
    assert answer["said"].startswith("error: cannot write to work/")
    assert answer["said"].endswith("File too large (what is committed stands)\n")
    assert answer["said"].count("\n") == 1
    assert answer["kept"]
    assert answer["again"]


def test_a_directory_that_is_read_only_can_be_read_and_is_not_written(ask: Ask) -> None:
    answer = ask("read_only")
    assert answer["refused"] == [2, "error: cannot write to work: Permission denied\n"]
    assert answer["new"] == [2, "error: cannot create work/inside: Permission denied\n"]
    assert answer["readable"] == [0, ""]
    assert answer["same"]
