"""The command line as a user meets it: output, exit codes, one-line errors, and what stays as it was on disk."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lure.cli import main
from lure.cli.commands import COMMANDS, build_parser
from lure.metrics.corruptions import KINDS
from lure.metrics.hits import unpack_hits
from lure.recipe import Experiment
from lure.unlearners import Dash, Fire

ROOT = Path(__file__).parents[2]
QUICK = ["--epochs", "1", "--num-mega-batches", "2", "--mega-batch-size", "40", "--test-limit", "50", "--threads", "1"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def tree(directory: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() if p.is_file() else b"" for p in sorted(directory.rglob("*")) if p.name != ".lock"}


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must be refused; check that it said one line and changed nothing; return the line."""
    before = tree(Path())
    assert main(words) == 2
    captured = capsys.readouterr()
    assert tree(Path()) == before
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")


def test_run_writes_a_run_directory_and_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *QUICK, "--out", "here"]) == 0
    captured = capsys.readouterr()
    assert "saved in here" in captured.out
    assert re.fullmatch(  # no bar on a pipe: a line for each stage
        r"lure, seed 0, stage 1: 36 examples, test accuracy [\d.]+ %, [\d.]+ seconds\n"
        r"lure, seed 0, stage 2: 72 examples, test accuracy [\d.]+ %, [\d.]+ seconds\n",
        captured.err,
    )
    ledger = [json.loads(line) for line in Path("here/ledger.jsonl").read_text().splitlines()]
    assert [line["train_examples"] for line in ledger] == [36, 72]
    result = json.loads(Path("here/result.json").read_text())
    assert result["status"] == "complete"
    assert result["final_accuracy"] == ledger[-1]["accuracy"]
    assert result["cumulative_error_count"] == sum(line["error_count"] for line in ledger)
    assert result["anytime_relative_error"] == [(ledger[1]["error_count"] - ledger[0]["error_count"]) / 50]
    assert {
        "mean_error_rate",
        "train_flops",
        "train_seconds",
        "examples_seen",
        "python_version",
        "torch_version",
    } <= set(result)


def test_the_ledger_holds_what_the_design_promises() -> None:
    main(["run", *QUICK, "--out", "here"])
    promised = (
        "stage version unlearner seed train_examples test_examples error_count accuracy error_rate cumulative_errors "
        "generalization_gap expected_calibration_error negative_log_likelihood changed_fraction relative_distance "
        "unlearn_seconds train_seconds examples_seen train_flops epochs_run kept_epoch data_fingerprint accepted"
    )
    for line in Path("here/ledger.jsonl").read_text().splitlines():
        assert set(promised.split()) <= set(json.loads(line))


def test_compare_runs_every_pair_once(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", *QUICK, "--unlearners", "warm-start,scratch,lure:forget_fraction=0.5", "--seeds", "0,1"]
    words += ["--out", "all", "--jobs", "1"]
    assert main(words) == 0
    out, said = capsys.readouterr()
    assert len(said.splitlines()) == 3 * 2 * 2  # on a pipe, a line for each stage
    assert said.startswith("run 1 of 6: warm-start, seed 0, stage 1: 36 examples, test accuracy ")
    runs = sorted(str(path.parent) for path in Path("all").rglob("result.json"))
    assert runs == sorted(
        f"all/{policy}/seed-{seed}"
        for policy in ("warm-start", "scratch", "lure+forget_fraction=0.5")
        for seed in (0, 1)
    )
    assert "lure:forget_fraction=0.5" in out
    assert Path("all/accuracy_over_stages.png").read_bytes().startswith(b"\x89PNG")
    before = tree(Path("all"))
    assert main(words) == 0
    after = tree(Path("all"))
    assert {k: v for k, v in after.items() if not k.endswith("png")} == {
        k: v for k, v in before.items() if not k.endswith("png")
    }


def test_compare_evaluates_the_last_versions_and_pairs_them(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", *QUICK, "--jobs", "1", "--unlearners", "warm-start,scratch", "--seeds", "0", "--out", "all"]
    assert main(words) == 0
    out = " ".join(capsys.readouterr().out.split())
    first, second = (
        unpack_hits(json.loads(Path(f"all/{policy}/seed-0/evaluations/2.json").read_text())["correct"], 50)
        for policy in ("warm-start", "scratch")
    )
    changed = int((first != second).sum())
    assert changed
    assert f"{changed} test examples are right under only one of" in out
    Path("all/scratch/seed-0/evaluations/2.json").unlink()  # a comparison that was stopped here goes on here
    assert main(words) == 0
    assert Path("all/scratch/seed-0/evaluations/2.json").exists()


def test_report_reads_what_compare_wrote(capsys: pytest.CaptureFixture[str]) -> None:
    main(["compare", *QUICK, "--jobs", "1", "--unlearners", "warm-start,scratch", "--seeds", "0", "--out", "all"])
    compared = capsys.readouterr().out
    assert main(["report", "all"]) == 0
    assert capsys.readouterr().out.strip() in compared


@pytest.mark.parametrize("what", ["data", "models", "unlearners", "regularizers", "recipes"])
def test_list_names_everything_once(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", what]) == 0
    table, _, _ = capsys.readouterr().out.partition("\n\n")
    names = [line.split()[0] for line in table.splitlines() if not line.startswith(" ")]
    assert len(names) == len(set(names)) > 2


def test_list_says_which_setting_is_which_program(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "unlearners"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for preset, meaning in (Dash.presets | Fire.presets).items():
        assert f"{preset} is {meaning}" in shown
    assert "One of your own is chosen by its path, as in my_package.my_module:MyClass" in shown


WRONG = {
    ("run", "--epoch", "3"): "unknown flag '--epoch': did you mean '--epochs'?",
    ("run", "--epochs", "three"): "recipe demo: epochs must be a whole number, got 'three'",
    ("run", "--epochs", "0"): "recipe demo: epochs must be at least 1, got 0",
    ("run", "--label-noise", "1.5"): "recipe demo: label_noise must lie in [0, 1], got 1.5",
    ("run", "--unlearner", "lurre"): "recipe demo: unknown unlearner 'lurre': did you mean 'lure'?",
    ("run", "--unlearner", "lure:forget_fraction=1.3"): "recipe demo: forget_fraction must lie in [0, 1], got 1.3",
    ("run", "--unlearner", "lure:forget=0.3"): "unknown option of lure 'forget': did you mean 'forget_fraction'?",
    ("run", "--replay", "ful"): "unknown replay regime 'ful': did you mean 'full'?",
    ("run", "--model", "resnet19"): "unknown model 'resnet19': did you mean 'resnet18'?",
    ("run", "--optimizer", "adan"): "unknown value of optimizer 'adan': did you mean 'adam'?",
    ("run", "--dataset", "file"): "--dataset alone would train with the settings of the demonstration",
    ("run", "--dataset", "cifar11", "--label-noise", "0"): "unknown data set 'cifar11': did you mean 'cifar10'?",
    ("run", "--mega-batch-size", "0"): "mega_batch_size must be at least 1, got 0",
    ("run", "--num-mega-batches", "9"): "3000 examples are too few for 9 mega-batches of 500",
    ("run", "demmo"): "unknown recipe 'demmo': did you mean 'demo'?",
    ("run", "missing.toml"): "there is no recipe file missing.toml",
    ("run", "demo", "extra"): "unexpected argument 'extra'",
    ("run", "cifar10"): "--data",
    ("run", "cifar10", "--data", "nowhere"): "nowhere",
    ("run", "--device", "tpu"): "device must be auto, cpu or cuda, got 'tpu'",
    ("run", "--device", "meta"): "device must be auto, cpu or cuda, got 'meta'",
    ("run", "--workers", "-1"): "workers must be at least 0, got -1",
    ("run", "--lr", "inf"): "recipe demo: lr must be a finite number, got inf",
    ("run", "--imbalance", "50,5,1e6"): "gamma in (0, 50], got 50,5,1e+06 for 10 classes",
    ("run", "--imbalance", "inf,5,1"): "imbalance must be a finite number, got inf",
    ("run", "--out", "/dev/null"): "/dev/null is a file: give a directory",
    ("run", "--out", "/dev/null/below"): "cannot create /dev/null/below: Not a directory",
    ("compare", "--seeds", "0,x"): "--seeds must be whole numbers with commas between, got '0,x'",
    ("compare", "--unlearners", "lure,dahs"): "unknown unlearner 'dahs': did you mean 'dash'?",
    ("compare", "--unlearners", ","): "give at least one policy",
    ("run", "--unlearner", "head-reset:head=nope"): "the model has no layer named 'nope'",
    ("compare", "--unlearners", "lure,later-layers:first_layer=fc"): "unknown layer with weights 'fc'",
    ("report", "nowhere"): "nowhere",
    ("lst",): "unknown command 'lst': did you mean 'list'? (valid: accept, ",
    ("list", "recipees"): "unknown list 'recipees': did you mean 'recipes'?",
    ("run", "--milestones", "cosine"): "milestones must be whole numbers with commas between, got 'cosine'",
    ("status", "nowhere"): "there is no directory nowhere",
    (): "the following arguments are required: COMMAND",
}


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_bad_input_gets_one_line_and_changes_nothing(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert WRONG[words] in refused(list(words), capsys)


WRONG_FILES = {
    'epoch = 3\ndataset = "cifar10"': "recipe.toml: unknown recipe field 'epoch': did you mean 'epochs'?",
    'epochs = "many"': "recipe.toml: epochs must be a whole number, got 'many'",
    "epochs = 2.5": "recipe.toml: epochs must be a whole number, got 2.5",
    "lr = true": "recipe.toml: lr must be a number, got True",
    "milestones = [1, -2]": "recipe.toml: milestones must be at least 1, got -2",
    "milestones = 3": "recipe.toml: milestones must be a list of whole numbers, got 3",
    "epochs =": "recipe.toml is not valid TOML",
    "lr = nan": "recipe.toml: lr must be at least 0, got nan",
}


@pytest.mark.parametrize("text", WRONG_FILES)
def test_a_bad_recipe_file_is_named_with_its_field(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("recipe.toml").write_text(text)
    assert WRONG_FILES[text] in refused(["run", "recipe.toml"], capsys)


def test_a_run_of_another_recipe_is_refused_with_the_fields(capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", *QUICK, "--out", "here"])
    capsys.readouterr()
    message = refused(["run", *QUICK, "--lr", "0.5", "--out", "here"], capsys)
    assert "another recipe (lr: 0.001 -> 0.5)" in message


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("Linear(3, num_classes)", "does not take uint8 inputs of shape (1, 28, 28): mat1 and mat2"),
        ("Linear(784, 3)", "must return logits (batch, 10), one for each class, got shape (batch, 3)"),
        ("Linear(num_classes)", "failed: TypeError: "),
    ],
)
def test_a_network_of_ones_own_that_does_not_fit_is_refused_before_any_training(
    layer: str, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("nets.py").write_text(
        f"from torch import nn\n\n\ndef build(num_classes):\n    return nn.Sequential(nn.Flatten(), nn.{layer})\n"
    )
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "nets", raising=False)
    assert message in refused(["run", *QUICK, "--out", "here", "--model", "nets:build"], capsys)


def test_a_loss_that_becomes_nan_stops_with_the_place(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", *QUICK, "--optimizer", "sgd", "--lr", "1e30", "--out", "here"]
    message = refused(words, capsys)
    assert "stage 1, epoch 1, step" in message


def test_a_folder_that_holds_something_else_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("versions/0001", "progress", "evaluations", "result.json", "initial.safetensors"):
        place = Path(name.replace("/", "-"), name)
        place.mkdir(parents=True)
        (place / "notes.txt").write_text("mine")
        message = refused(["run", *QUICK, "--out", str(place.parents[name.count("/")])], capsys)
        assert f"holds {name.partition('/')[0]} but no recipe.toml: choose another directory" in message


def test_a_run_that_lost_its_recipe_does_not_go_on_with_another(capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", *QUICK, "--out", "here"])
    capsys.readouterr()
    Path("here/recipe.toml").unlink()
    message = refused(["run", *QUICK, "--lr", "0.5", "--out", "here"], capsys)
    assert "here/recipe.toml is missing, but ledger.jsonl is there" in message


def test_a_finished_run_is_not_done_again(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", *QUICK, "--out", "here"]
    main(words)
    first, before = capsys.readouterr().out, tree(Path("here"))
    assert main(words) == 0
    assert capsys.readouterr().out == first
    assert tree(Path("here")) == before


def test_a_file_of_the_users_own_is_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text("epochs = 3\nthreads = 1\nnum_mega_batches = 2\nmega_batch_size = 30\nlr = 0.01\n")
    assert main(["run", "mine.toml", "--epochs", "1", "--out", "here"]) == 0
    stored = Experiment.from_toml(Path("here/recipe.toml").read_text(), "stored")
    assert (stored.epochs, stored.lr, stored.gamma) == (1, 0.01, 0.1)  # flag, file, default


def test_every_field_has_a_flag_and_every_flag_a_help_text() -> None:
    parser = build_parser()
    for command in parser.commands.values():
        for action in command.complete()._actions:
            assert action.help
    flags = set(parser.commands["run"]._option_string_actions)
    fields = Experiment.__dataclass_fields__.keys() - {"policy", "departs_from"}  # these are written by a comparison
    assert {f"--{name.replace('_', '-')}" for name in fields} <= flags


def shown_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as leaving:
        main([*words, "--help"])
    assert leaving.value.code == 0
    return capsys.readouterr().out


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown_help([], capsys)
    for command in COMMANDS:
        assert f"\n    {command} " in text


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_80_columns(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, shown_help(command.split(), capsys).splitlines())) <= 80


@pytest.mark.parametrize("what", ["data", "models", "unlearners", "regularizers", "recipes"])
def test_lists_fit_80_columns(what: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["list", what]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_the_flags_of_records_are_kept_apart() -> None:
    parser = build_parser()
    words = ["init", "here", "--holdout", "data.npz", "--margin", "0.02", "--lr", "0.5", "--epochs", "3"]
    arguments = parser.parse_all(words)
    assert arguments.gate == {"margin": "0.02"}
    assert arguments.fields == {"lr": "0.5", "epochs": "3"}
    assert parser.parse_all(words[:4]).fields == {}  # nothing of one call is left in the next


def start(*words: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lure", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def wait_for_checkpoint(path: Path, process: subprocess.Popen[str]) -> None:
    """Wait until the process has written a checkpoint, or another one than was there."""
    before = path.stat().st_mtime_ns if path.exists() else None
    for _ in range(1200):
        if path.exists() and path.stat().st_mtime_ns != before:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError(f"{path} never came")


def test_interrupted_says_how_to_go_on_and_another_process_waits_its_turn(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "--epochs", "4000", "--num-mega-batches", "1", "--threads", "1", "--out", "here"]
    checkpoint = Path("here/progress/progress.json")
    first = start(*words)
    wait_for_checkpoint(checkpoint, first)
    assert main(words) == 2
    assert "here is in use by another process that is still running" in capsys.readouterr().err
    first.terminate()
    _, err = first.communicate(timeout=60)
    assert first.returncode == 130
    assert err == f"interrupted; go on with: lure {' '.join(words)}\n"
    epochs = [json.loads(checkpoint.read_text().splitlines()[0])["epoch"]]
    killed = start(*words)
    wait_for_checkpoint(checkpoint, killed)
    killed.kill()
    killed.communicate()
    epochs.append(json.loads(checkpoint.read_text().splitlines()[0])["epoch"])
    again = start(*words)  # the dead process' lock is free
    wait_for_checkpoint(checkpoint, again)
    again.terminate()
    assert again.communicate(timeout=60)[1].startswith("interrupted")
    epochs.append(json.loads(checkpoint.read_text().splitlines()[0])["epoch"])
    assert epochs == sorted(set(epochs))  # each went on from where the one before it was


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("program", "module"),
    [
        ("-m lure run --out here", "torch"),
        ("-m lure run --out here", "argparse"),  # which is among the first
        (f"{ROOT / 'LURE_main.py'} --seed 1", "torch"),
    ],
)
def test_an_interruption_while_modules_load_is_one_line(program: str, module: str, number: signal.Signals) -> None:
    if number == signal.SIGINT and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        pytest.skip("a child would ignore it, too")
    Path("packages").mkdir()
    slow = "import time\nfrom pathlib import Path\nPath('loading').touch()\ntime.sleep(60)\n"
    Path("packages", f"{module}.py").write_text(slow)  # takes the place of the real one, and forever
    process = subprocess.Popen(
        [sys.executable, *shlex.split(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(["packages", *sys.path])},
    )
    while not Path("loading").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    command = {"-m": "lure run --out here"}.get(program.split()[0], "python LURE_main.py --seed 1")
    assert (process.returncode, out, err) == (130, "", f"interrupted; go on with: {command}\n")


def test_what_a_killed_process_left_goes_and_what_is_the_users_own_stays() -> None:
    main(["run", *QUICK, "--out", "here"])
    for name in (".recipe.toml.tmp", ".ledger.seal.tmp", ".notes.tmp"):
        Path("here", name).write_text("half")
    assert main(["run", *QUICK, "--out", "here"]) == 0
    assert [path.name for path in Path("here").glob(".*.tmp")] == [".notes.tmp"]


@pytest.mark.filterwarnings("default::UserWarning")
def test_an_evaluation_that_cannot_be_kept_is_printed_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", *QUICK, "--out", "here"])
    (evaluation,) = Path("here/evaluations").iterdir()
    evaluation.unlink()
    Path("here/evaluations").rmdir()
    Path("here/evaluations").write_text("a file in its place")
    capsys.readouterr()
    assert main(["evaluate", "here"]) == 0
    captured = capsys.readouterr()
    assert "accuracy %" in captured.out
    assert captured.err.startswith("warning: cannot write to here/evaluations/2.json: ")
    assert captured.err.count("\n") == 1


def test_a_class_may_first_come_in_a_later_mega_batch(capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    for part, labels in (("train", [0, 1] * 20 + [2] * 20), ("test", [0, 1] * 5)):
        inputs = generator.normal(size=(len(labels), 4))
        np.savez(f"{part}.npz", inputs=inputs, labels=labels)
    words = ["run", "own-data", "--data", ".", "--order", "file", "--num-mega-batches", "3", "--epochs", "1"]
    assert main([*words, "--out", "here"]) == 0, capsys.readouterr().err
    capsys.readouterr()
    assert main(["evaluate", "here", "--data", ".", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["per_class"]) == 3


def test_a_recipe_may_begin_with_the_mark_of_an_editor(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text("epochs = 0", encoding="utf-8-sig")
    assert "mine.toml: epochs must be at least 1, got 0" in refused(["run", "mine.toml"], capsys)


def test_damage_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", *QUICK, "--out", "here"])
    Path("here/result.json").unlink()
    weights = Path("here/versions/0002/model.safetensors")
    data = np.frombuffer(weights.read_bytes(), np.uint8).copy()
    data[len(data) // 2] ^= 1
    weights.write_bytes(data.tobytes())
    capsys.readouterr()
    assert "here/versions/0002/model.safetensors is damaged" in refused(["run", *QUICK, "--out", "here"], capsys)


def test_evaluate_measures_the_version_in_use_and_keeps_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", *QUICK, "--validation-fraction", "0.2", "--out", "here"])
    ledger = [json.loads(line) for line in Path("here/ledger.jsonl").read_text().splitlines()]
    capsys.readouterr()
    assert main(["evaluate", "here", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["accuracy"] == ledger[-1]["accuracy"]
    assert result["expected_calibration_error"] == pytest.approx(ledger[-1]["expected_calibration_error"])
    assert result["temperature_scaling"]["validation_examples"] == 16
    assert json.loads(Path("here/evaluations/2.json").read_text())["accuracy"] == result["accuracy"]
    assert main(["evaluate", "here", "--version", "1", "--calibration", "--adversarial", "--limit", "10"]) == 0
    text = capsys.readouterr().out
    assert f"{100 * ledger[0]['accuracy']:.2f}" in text
    assert "pgd in linf, 10 examples" in text
    assert "version 9" in refused(["evaluate", "here", "--version", "9"], capsys)


def test_evaluate_computes_as_the_run_did(capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", *QUICK, "--precision", "bf16", "--out", "here"])
    ledger = [json.loads(line) for line in Path("here/ledger.jsonl").read_text().splitlines()]
    capsys.readouterr()
    assert main(["evaluate", "here", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["negative_log_likelihood"] == pytest.approx(
        ledger[-1]["negative_log_likelihood"], rel=1e-6
    )


def test_evaluate_compares_with_the_version_before(capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", *QUICK, "--out", "here"])
    ledger = [json.loads(line) for line in Path("here/ledger.jsonl").read_text().splitlines()]
    capsys.readouterr()
    assert main(["evaluate", "here", "--json"]) == 0
    change = json.loads(capsys.readouterr().out)["change"]
    assert change["from_version"] == 1
    test = change["paired_test"]
    assert test["only_first_right"] - test["only_second_right"] == ledger[0]["error_count"] - ledger[1]["error_count"]
    assert sum(row["became_right"] for row in change["per_class"]) == test["only_first_right"]
    assert [row["name"] for row in change["weights"]] == list(ledger[1]["forgotten"])
    assert main(["evaluate", "here"]) == 0
    text = capsys.readouterr().out
    assert f"answers since version 1: {test['only_first_right']} became right" in text
    assert "weights since version 1" in text
    assert main(["evaluate", "here", "--version", "1", "--json"]) == 0
    assert "change" not in json.loads(capsys.readouterr().out)  # the first came from nowhere
    assert main(["report", "here", "--html", "page.html"]) == 0
    page = Path("page.html").read_text()
    for part in ("What was forgotten where", "How far the weights moved", "Class by class, against the version before"):
        assert part in page


def test_evaluate_measures_an_exported_file_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", *QUICK, "--out", "here"])
    main(["export", "here", "net.safetensors"])
    main(["export", "here", "old.safetensors", "--version", "1"])
    before = tree(Path())
    capsys.readouterr()
    for name, version in (("net", 2), ("old", 1)):
        assert main(["evaluate", f"{name}.safetensors", "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        ledger = json.loads(Path("here/ledger.jsonl").read_text().splitlines()[version - 1])
        assert (result["version"], result["accuracy"]) == (version, ledger["accuracy"])
    assert tree(Path()) == before
    assert "holds version 1, not 2" in refused(["evaluate", "old.safetensors", "--version", "2"], capsys)
    assert "give a run directory, or a .safetensors file" in refused(["evaluate", "net.json"], capsys)


def test_evaluate_reads_published_corruptions(capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", *QUICK, "--out", "here"])
    capsys.readouterr()
    assert "there is no file published/gaussian_noise.npy" in refused(
        ["evaluate", "here", "--corrupted", "published"], capsys
    )
    Path("published").mkdir()
    np.save("published/labels.npy", np.zeros(10, np.int64))
    for kind in KINDS:
        np.save(f"published/{kind}.npy", np.zeros((50, 32, 32, 3), np.uint8))
    message = refused(["evaluate", "here", "--corrupted", "published"], capsys)
    assert message.endswith("holds images of shape (3, 32, 32), the model takes (1, 28, 28)")
    for kind in KINDS:
        np.save(f"published/{kind}.npy", np.zeros((50, 28, 28, 1), np.uint8))
    for label, complaint in ((10, "holds the label 10, the model's classes are 0 to 9"), (-1, "labels from 0 on")):
        np.save("published/labels.npy", np.full(10, label))
        message = refused(["evaluate", "here", "--corrupted", "published"], capsys)
        assert message.startswith("published/labels.npy")
        assert complaint in message
    Path("published/labels.npy").write_bytes(b"no array")
    message = refused(["evaluate", "here", "--corrupted", "published"], capsys)
    assert message.endswith("cannot be read as an array: it is not a .npy file, or it holds objects")
    np.save("published/labels.npy", np.zeros(10, np.int64))
    assert main(["evaluate", "here", "--corrupted", "published", "--json"]) == 0
    corruptions = json.loads(capsys.readouterr().out)["corruptions"]
    kinds = corruptions["kinds"]
    assert corruptions["examples"] == 10
    # Fifty black images: one answer for all, so that the accuracy is 0 or 1 at every severity of every kind.
    assert {row["accuracy"] for values in kinds.values() for row in values["severities"]} <= {0.0, 1.0}
    assert len({values["mean_accuracy"] for values in kinds.values()}) == 1


def test_report_writes_a_page_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", *QUICK, "--out", "here"])
    capsys.readouterr()
    assert main(["report", "here", "--html", "page.html", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["groups"][0]["policies"]["lure"]["seeds"] == [0]
    assert Path("page.html").read_text().startswith("<!doctype html>")
