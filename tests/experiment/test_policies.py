"""Policies and budgets: what a comparison runs, where, and how its reports put the runs together."""

from pathlib import Path

import pytest

from lure import Experiment, InputError
from lure.cli import main
from lure.experiment.compare import compare, plan
from lure.recipe import Policy, load_policies
from lure.recommended import COMPARED
from lure.report.comparison import group_runs
from lure.report.records import read_runs

SMALL = ["--num-mega-batches", "2", "--mega-batch-size", "20", "--epochs", "4", "--model", "mlp:width=4"]
TINY = Experiment(
    num_mega_batches=2, mega_batch_size=20, test_limit=50, epochs=4, model="mlp:width=4", milestones=(), threads=1
)


def test_policies_depart_from_the_shared_recipe_in_their_fields_alone() -> None:
    (run,) = plan(TINY, ["fast=unlearner=dash lr=0.5 milestones=1,2"], [3], "out")
    made = run.experiment
    assert (made.unlearner, made.lr, made.milestones, made.seed, made.epochs) == ("dash", 0.5, (1, 2), 3, 4)
    assert made.departs_from == ("lr=0.1", "milestones=")
    assert run.directory == Path("out/fast/seed-3")


def test_no_two_runs_share_a_directory() -> None:
    runs = plan(TINY, ["lure", "lure:sample=all", "a=lr=0.5", "b=budget=0.25"], [0, 1], "out", [0.5, 1])
    # A policy that sets its own budget runs at that alone.
    assert len(runs) == len({run.directory for run in runs}) == 2 * (3 * 2 + 1)
    assert {run.directory.parent.name for run in runs if run.experiment.policy == "b"} == {"b+budget=0.25"}
    for policies in (
        ["lure", "lure=lr=0.5"],
        ["a=lr=0.5", "A=lr=0.7"],
        [Policy(name="lure+budget=0.5", fields={"lr": 1}), "lure"],
    ):
        with pytest.raises(InputError, match="two policies have one name"):
            plan(TINY, policies, [0], "out", [0.5, 1])
    with pytest.raises(InputError, match=r"the budget 0\.5 is given twice"):
        plan(TINY, ["lure"], [0], "out", [0.5, 1, 0.5])


def test_a_policy_of_an_unlearner_alone_is_the_run_of_old() -> None:
    (run,) = plan(TINY, ["dash:alpha=0.1"], [0], "out")
    assert (run.experiment.policy, run.experiment.departs_from) == ("", ())
    assert run.directory == Path("out/dash+alpha=0.1/seed-0")


def test_runs_of_one_comparison_are_one_group_and_other_recipes_are_not(tmp_path: Path) -> None:
    policies = ["warm-start", Policy(name="hot", fields={"lr": 0.5, "epochs": 2, "milestones": [1]})]
    compare(TINY, policies, [0], tmp_path / "one", budgets=[0.5, 1], jobs=1)
    (group,) = group_runs(read_runs([tmp_path / "one"]))
    assert list(group.policies) == ["warm-start, budget 0.5", "warm-start", "hot, budget 0.5", "hot"]
    assert [run.stages[1].epochs_run for runs in group.policies.values() for run in runs] == [2, 4, 1, 2]
    compare(Experiment(**{**vars_of(TINY), "epochs": 2}), ["warm-start"], [0], tmp_path / "other")
    groups = group_runs(read_runs([tmp_path]))
    assert [(group.label, len(group.runs)) for group in groups] == [("epochs = 4", 4), ("epochs = 2", 1)]


def vars_of(experiment: Experiment) -> dict:
    return {name: getattr(experiment, name) for name in Experiment.__dataclass_fields__}


def recipe_file(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_recipe_file_holds_policies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = recipe_file(tmp_path, "lr = 0.2\nthreads = 1\n[policies.slow]\nlr = 0.01\n[policies.none]\nbatch_size = 5\n")
    assert [policy.name for policy in load_policies(file)] == ["slow", "none"]
    words = ["compare", file, *SMALL, "--seeds", "0", "--out", str(tmp_path / "out"), "--batch-size", "10"]
    assert main([*words, "--jobs", "1"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == ["none", "slow"]
    runs = {run.policy: run for run in read_runs([tmp_path / "out"])}
    assert (runs["slow"].recipe["lr"], runs["none"].recipe["lr"]) == (0.01, 0.2)
    assert runs["none"].recipe["batch_size"] == 10, "a flag wins over a policy"
    assert "slow" in capsys.readouterr().out


def test_only_policies_that_nobody_named_have_budgets_of_their_own(tmp_path: Path) -> None:
    words = ["compare", *SMALL, "--seeds", "0", "--jobs", "1", "--test-limit", "20", "--out"]
    for named, budgets in (([], {0.1, 0.3, 1.0}), (["--unlearners", ",".join(COMPARED)], {1.0})):
        out = tmp_path / str(len(named))
        assert main([*words, str(out), *named]) == 0
        assert {(run.policy, run.budget) for run in read_runs([out])} == {
            (policy, budget) for policy in COMPARED for budget in budgets
        }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--policy", "a=seed=3"], "policy a cannot set seed: all policies share the seeds and the data"),
        (["--policy", "a=dataset=cifar10"], "policy a cannot set dataset: all policies share"),
        (["--policy", "a=learning_rate=3"], "unknown recipe field in policy a 'learning_rate'"),
        (["--policy", "a=lr=fast"], "policy a: lr must be a number, got 'fast'"),
        (["--policy", "a=lr=1", "--policy", "a=lr=2"], "two policies are called a"),
        (["--policy", "a=lr=1", "--lr", "2"], "policy a sets lr, and so does --lr"),
        (["--policy", "a/b=lr=1"], "'a/b' cannot name a policy"),
        (["--policy", "a="], "policy a sets no field"),
        (["--budgets", "0.1,2"], "budget must be above 0 and at most 1, got 2"),
        (["--budgets", "0.1,0.1"], "the budget 0.1 is given twice"),
        (["--budgets", "few"], "--budgets must be a number, got 'few'"),
        (["--budgets", "1", "--budget", "1"], "give --budget or --budgets, not both"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *SMALL, "--out", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
