"""The paper's two commands: they run as documented, every flag has its meaning, and the slips can be had back."""

import dataclasses
import json
import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import stand_in_wandb
import torch
from miniatures import write_cifar10_binary, write_cifar10_python, write_cifar100_binary, write_restricted_imagenet

from lure.cli.commands import build_parser
from lure.cli.released import main, notes_on, placement_of, run_directory_of, to_experiment
from lure.cli.released_flags import ONLY_ALMA, ONLY_LURE, SHARED, Call, Script, flags_of
from lure.errors import InputError
from lure.experiment.run import run
from lure.recipe import Experiment, load_experiment, shipped_recipes
from lure.unlearners import build_unlearner

ROOT = Path(__file__).parents[2]
COMMON = (
    "--data DATA --run NAME --seed 10 --epochs 50 --decreasing_lr 20,40 --weight_decay 1e-4 --meta_batch_size 6250 "
    "--meta_batch_number 8 --snip_size 0.20 --save_dir SAVED --sparsity_level 1 -wb --gamma 0.1 --use_snip"
)
CIFAR = f"{COMMON} --log-dir LOGS --dataset cifar10 --arch resnet18 --batch_size 64"
IMAGENET = f"{COMMON} --imagenet_path IMAGENET --dataset restricted_imagenet --arch resnet50 --batch_size 128"


def call(words: str, script: Script = "LURE_main.py") -> Call:
    return Call.parse(script, shlex.split(words))


def experiment(words: str, script: Script = "LURE_main.py") -> Experiment:
    return to_experiment(call(words, script))


# The documented commands are the shipped recipes


def test_the_documented_cifar_command_is_the_recipe() -> None:
    assert experiment(CIFAR) == load_experiment("cifar10", {"seed": 10})
    assert experiment(CIFAR + " --as_released") == load_experiment("cifar10-as-released", {"seed": 10})


def test_the_documented_imagenet_command_is_the_recipe_but_for_its_stream() -> None:
    stream = {"seed": 10, "num_mega_batches": 8, "mega_batch_size": 6250}
    assert experiment(IMAGENET) == load_experiment("restricted-imagenet", stream)
    assert experiment(IMAGENET + " --as_released") == load_experiment("restricted-imagenet-as-released", stream)
    assert experiment(IMAGENET + " --as_released --imagenet_arch").model == "resnet50:stem=imagenet"


@pytest.mark.parametrize("released", ["", "-as-released"])
@pytest.mark.parametrize(
    ("recipe", "flags"),
    [
        ("cifar10-no-replay", "-no_replay"),
        ("cifar10-buffer", "-buffer_replay"),
        ("cifar100", "--dataset cifar100"),
        ("cifar100-no-replay", "--dataset cifar100 -no_replay"),
        (
            "restricted-imagenet-few-shot-10",
            "--dataset restricted_imagenet --arch resnet50 --batch_size 128 -few_shot --n_shots 540 "
            "--meta_batch_size 756 --meta_batch_number 10",
        ),
    ],
)
def test_flags_give_the_recipes(recipe: str, flags: str, released: str) -> None:
    words = f"{CIFAR} {flags}" + (" --as_released" if released else "")
    assert experiment(words) == load_experiment(recipe + released, {"seed": 10})


# Each flag

FIELDS = {
    "--meta_batch_size 30": {"mega_batch_size": 30},
    "--meta_batch_number 3": {"num_mega_batches": 3},
    "--test_limit 30": {"test_limit": 30},
    "--arch vgg16_bn": {"model": "vgg16_bn"},
    "--arch wide_resnet50_2 --imagenet_arch": {"model": "wide_resnet50_2:stem=imagenet"},
    "--seed 5": {"seed": 5},
    "-no_replay": {"replay": "none"},
    "-one_replay": {"replay": "last"},
    "-buffer_replay --buffer_size_train 7 --buffer_size_val 3": {"replay": "buffer:capacity=7:validation_capacity=3"},
    "-few_shot": {"shots": 100},
    "-few_shot --n_shots 4": {"shots": 4},
    "--batch_size 32": {"batch_size": 32},
    "--lr 0.05": {"lr": 0.05},
    "--momentum 0.5": {"momentum": 0.5},
    "--weight_decay 0.01": {"weight_decay": 0.01},
    "--epochs 9": {"epochs": 9},
    "--warmup 2": {"warmup": 2},
    "--decreasing_lr 3,5,7": {"milestones": (3, 5, 7)},
    "--gamma 0.5": {"gamma": 0.5},
    "--use_snip": {"unlearner": "lure:forget_fraction=0.2"},
    "--use_snip --snip_size 0.35": {"unlearner": "lure:forget_fraction=0.35"},
    "--use_randinit": {"unlearner": "scratch"},
    "--use_llf": {"unlearner": "later-layers"},
    "--use_fc": {"unlearner": "head-reset"},
    "--use_shrink_perturb": {"unlearner": "shrink-perturb:shrink=0.3:perturb=0.001"},
    "--use_shrink_perturb --shrink 0.5 --perturb 0.1": {"unlearner": "shrink-perturb:shrink=0.5:perturb=0.1"},
}


@pytest.mark.parametrize("flags", FIELDS)
def test_a_flag_does_what_its_name_says_and_nothing_else(flags: str) -> None:
    assert experiment(flags) == dataclasses.replace(experiment(""), **FIELDS[flags])


def test_defaults_are_those_of_the_released_scripts() -> None:
    plain = experiment("")
    assert (plain.dataset, plain.model, plain.unlearner, plain.replay) == ("cifar10", "resnet20s", "warm-start", "full")
    assert (plain.num_mega_batches, plain.mega_batch_size, plain.batch_size, plain.epochs) == (10, 5000, 128, 182)
    assert (plain.lr, plain.gamma, plain.milestones, plain.seed) == (0.1, 1.0, (91, 136), 0)
    warm = experiment("", "ALMA.py")
    assert warm == dataclasses.replace(plain, gamma=0.1)
    assert placement_of(call("")).workers == 0
    assert placement_of(call("", "ALMA.py")).workers == 2


def test_a_fair_pair_differs_in_the_unlearner_only() -> None:
    words = CIFAR.replace(" --gamma 0.1 --use_snip", "")
    assert experiment(words, "ALMA.py") == dataclasses.replace(experiment(CIFAR), unlearner="warm-start")


AS_RELEASED = {
    "--use_randinit": {"unlearner": "scratch:reload=true"},
    "--use_fc": {"unlearner": "warm-start"},
    "--use_llf --arch resnet18": {"unlearner": "later-layers:first_layer=layer3.0.conv1", "model": "resnet18"},
    "--use_llf": {"unlearner": "later-layers"},
    "-one_replay": {"replay": "last"},
    "-one_replay --dataset cifar100": {"replay": "full", "dataset": "cifar100"},
    "-buffer_replay --dataset cifar100": {"replay": "full", "dataset": "cifar100"},
    "-no_replay --dataset cifar100": {"replay": "none", "dataset": "cifar100"},
    "-buffer_replay": {"replay": "buffer:capacity=182:validation_capacity=182:rule=released"},
    "--lr 0.5": {"lr": 0.5},
    "--lr 0.5 --warmup 1": {"lr": 0.5, "warmup": 1, "later_lr": None},
}


@pytest.mark.parametrize("flags", AS_RELEASED)
def test_slips_come_back_as_released(flags: str) -> None:
    assert experiment(flags + " --as_released") == dataclasses.replace(
        experiment("--as_released"), **AS_RELEASED[flags]
    )


def test_as_released_sets_every_option() -> None:
    assert experiment("--as_released") == dataclasses.replace(
        experiment(""),
        order="released",
        validation_augmented=True,
        sample_augmented=True,
        carry_optimizer=True,
        carry_as_released=True,
        later_lr=0.1,
    )
    assert experiment("--as_released", "ALMA.py").gamma == 1.0


@pytest.mark.parametrize(
    ("flags", "sample", "size"),
    [
        ("", "all", 100),
        ("-no_replay", "all", 100),
        ("-buffer_replay", "new", 100),
        ("-snip_no_replay", "new", 100),
        ("-snip_no_replay --dataset cifar100", "all", 100),
        ("--meta_batch_size 200", "all", 100),  # for CIFAR-10 the released sample is 128 images whatever the sizes
        ("--meta_batch_size 200 -snip_no_replay", "new", 40),
        ("--meta_batch_size 200 --dataset cifar100", "all", 40),
        ("--meta_batch_size 200 --dataset restricted_imagenet", "all", 40),
    ],
)
def test_the_released_saliency_reads_what_it_reads(flags: str, sample: str, size: int) -> None:
    unlearner = experiment(f"--use_snip --as_released {flags}").unlearner
    assert f":sample={sample}:sample_size={size}:" in unlearner


# Flags without effect

QUIET = "--seed 1"
NOTES = {
    "--print_freq 5": ["--print_freq has no effect: progress is a bar on the terminal"],
    "--sparsity_level 1": ["--sparsity_level has no effect: the released code only names a file with it"],
    "--weight_pruning": ["--weight_pruning has no effect: the released code does not read it"],
    "--n_shots 3": ["--n_shots has no effect: it needs -few_shot"],
    "--shrink 0.1": ["--shrink has no effect: it needs --use_shrink_perturb"],
    "--snip_size 0.1": ["--snip_size has no effect: it needs --use_snip"],
    "--log-dir x": ["--log-dir has no effect: it needs -wb"],
    "--project_name x": ["--project_name has no effect: it needs -wb"],
    "--run x": [],
    "--run x --save_dir y": ["--run has no effect: it needs -wb"],
    "--checkpoint x": ["--checkpoint has no effect: it needs --resume"],
    "--imagenet_path x": ["--imagenet_path has no effect: cifar10 is read from --data"],
    "--dataset restricted_imagenet --data x": [
        "--data has no effect: restricted_imagenet is read from --imagenet_path"
    ],
    "--imagenet_arch": ["--imagenet_arch has no effect: resnet20s has one stem"],
    "--decreasing_lr 3": ["--decreasing_lr has no effect: --gamma is 1"],
    "--decreasing_lr 3 --gamma 0.1": [],
    "-snip_no_replay": ["-snip_no_replay has no effect: the saliency is read on the new mega-batch anyway"],
    "-snip_no_replay --as_released": [],
    "--use_fc --as_released": ["--use_fc has no effect: the released code looks for a layer that no network there has"],
    "-one_replay --dataset cifar100 --as_released": [
        "-one_replay has no effect: the released code ignores it for cifar100"
    ],
    "-buffer_replay": ["-buffer_replay keeps a sample of fixed size; the released buffer grows (--as_released)"],
    "--use_llf --as_released": [
        "--use_llf forgets the second half of the layers; the released code names those of resnet18 only"
    ],
    "-wb --log-dir x --project_name y --run z": [],
}


@pytest.mark.parametrize("flags", NOTES)
def test_a_flag_without_effect_says_so_in_one_line(flags: str) -> None:
    assert notes_on(call(f"{QUIET} {flags}")) == NOTES[flags]


def test_what_is_said_about_the_warm_started_script() -> None:
    found = notes_on(call(f"{QUIET} --pruner mag --snip_size 0.1 -snip_no_replay", "ALMA.py"))
    assert found == [
        "-snip_no_replay has no effect: ALMA.py forgets nothing",
        "--snip_size has no effect: ALMA.py forgets nothing",
        "--pruner has no effect: the released code does not read it",
        "the learning rate falls to a tenth at each of --decreasing_lr, as in a fair pair; --as_released: never",
    ]
    assert notes_on(call(f"{QUIET} --as_released --decreasing_lr 3", "ALMA.py")) == [
        "--decreasing_lr has no effect: the released ALMA.py never decays"
    ]
    assert notes_on(call("")) == ["the seed is 0, because --seed was not given"]


def test_the_gpu_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert placement_of(call("--gpu 1")).device == "cuda:1"
    assert notes_on(call(f"{QUIET} --gpu 1")) == []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert placement_of(call("--gpu 1")).device == "cpu"
    assert notes_on(call(f"{QUIET} --gpu 1")) == [
        "--gpu has no effect: there is no CUDA device here, so the CPU is used"
    ]


@pytest.mark.parametrize("script", ["LURE_main.py", "ALMA.py"])
def test_every_flag_is_accepted(script: Script) -> None:
    words = []
    for flag in flags_of(script).values():
        words.append(flag.name)
        if flag.default is not False:
            words.append("7")
    parsed = Call.parse(script, words)
    assert parsed.given == set(flags_of(script))
    assert all(parsed[key] in (True, 7, "7") for key in parsed.given)


def test_the_list_of_flags_is_the_released_one() -> None:
    """Pinned: scripts of other people rely on these names."""
    names = [" ".join(flag.name for flag in flags) for flags in (SHARED, ONLY_LURE, ONLY_ALMA)]
    assert names == [
        "--data --dataset --meta_batch_size --meta_batch_number --arch --imagenet_arch --imagenet_path --seed --gpu "
        "--workers --resume --checkpoint --save_dir --log-dir -no_replay -one_replay -buffer_replay "
        "--buffer_size_train --buffer_size_val -snip_no_replay -few_shot --n_shots --batch_size --lr --momentum "
        "--weight_decay --epochs --warmup --print_freq --decreasing_lr --snip_size --sparsity_level -wb "
        "--project_name --run --as_released --test_limit --download",
        "--gamma --use_snip --use_randinit --use_llf --use_fc --use_shrink_perturb --shrink --perturb --weight_pruning",
        "--workers --sparsity_level --run --tickets_mask --tickets_init --pruner --scope",
    ]


BAD = {
    "--use_snip --use_fc": "--use_snip and --use_fc exclude each other: give one of them",
    "-no_replay -one_replay": "-no_replay and -one_replay exclude each other: give one of them",
    "--dataset mnist": "unknown dataset 'mnist'",
    "--arch resnet19": "unknown arch 'resnet19': did you mean 'resnet18'",
    "--epochs 0": "epochs must be at least 1, got 0",
    "--use_snip --snip_size 2": r"forget_fraction must lie in \[0, 1\], got 2.0",
    "--decreasing_lr 3;4": "milestones must be whole numbers with commas between, got '3;4'",
    "--epochs many": "argument --epochs: invalid int value: 'many'",
    "--epoch 3": "unknown flag '--epoch': did you mean '--epochs'",
    "--meta_batch_size": "argument --meta_batch_size: expected one argument",
}


@pytest.mark.parametrize("flags", BAD)
def test_bad_flags_get_one_line(flags: str) -> None:
    with pytest.raises(InputError, match=BAD[flags]) as caught:
        experiment(flags)
    assert "\n" not in str(caught.value)


# Real runs

SMALL = "--arch resnet20s --epochs 1 --meta_batch_size 12 --meta_batch_number 3 --batch_size 8 --seed 3"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_cifar10_python(folder)
    write_cifar100_binary(folder)
    write_restricted_imagenet(folder / "imagenet")
    return folder


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def without_wandb() -> dict[str, str]:
    """The environment without what wandb left in it, such as the address of another test's service."""
    return {key: value for key, value in os.environ.items() if "WANDB" not in key}


def script(words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run LURE_main.py in a process of its own."""
    return subprocess.run(
        [sys.executable, str(ROOT / "LURE_main.py"), *shlex.split(words)],
        env=without_wandb() | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def ledger(directory: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in Path(directory, "ledger.jsonl").read_text().splitlines()]


def test_the_documented_command_runs_as_it_stands(data: Path) -> None:
    """Paths are filled in, and what costs hours is asked for smaller by flags that follow; wandb is offline."""
    pytest.importorskip("wandb")
    words = CIFAR.replace("DATA", str(data)).replace("LOGS", "logs").replace("SAVED", "saved").replace("NAME", "try")
    done = script(f"{words} {SMALL}", WANDB_MODE="offline", WANDB_API_KEY="k" * 40)
    assert done.returncode == 0, done.stderr
    lines = ledger("saved")
    errors = [line["error_count"] for line in lines]
    assert [line["unlearner"] for line in lines] == ["lure:forget_fraction=0.2"] * 3
    accuracy = 100 - 100 * int(str(errors[-1])) / 10
    assert f"Final test accuracy: {accuracy:.2f} %" in done.stdout
    assert f"CER: {errors}, in total {lines[-1]['cumulative_errors']}" in done.stdout
    assert re.search(r"Anytime relative error: \[-?\d\.\d+, -?\d\.\d+\]", done.stdout)
    assert re.search(r"Time per mega-batch in seconds: \[[\d.]+, [\d.]+, [\d.]+\], in total [\d.]+", done.stdout)
    assert "note: --sparsity_level has no effect" in done.stderr
    assert [re.search(r"stage (\d): ", line)[1] for line in done.stderr.splitlines() if "seconds" in line] == [*"123"]
    assert list(Path("logs", "wandb").glob("offline-run-*/*.wandb"))
    written = [path for path in Path().rglob("*") if path.is_file()]
    assert not [path for path in written if b"k" * 40 in path.read_bytes()]


def test_without_a_login_the_documented_command_says_what_to_do(data: Path) -> None:
    pytest.importorskip("wandb")
    home = str(Path("home").resolve())  # where nobody has logged in
    done = script(CIFAR.replace("DATA", str(data)).replace("SAVED", "saved"), HOME=home, USERPROFILE=home)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if not line.startswith("note: ")]
    assert len(errors) == 1
    assert errors[0].startswith("error: nobody is logged in to Weights & Biases: run 'wandb login', or set WANDB_MODE")
    assert done.stdout == ""
    assert not Path("saved").exists()


def imagenet_words(data: Path) -> list[str]:
    """The documented command without the tracker; what costs hours is asked for smaller by flags that follow."""
    words = IMAGENET.replace("IMAGENET", str(data / "imagenet")).replace("SAVED", "saved").replace(" -wb", "")
    return shlex.split(f"{words} {SMALL}")


def test_the_imagenet_command_runs(data: Path) -> None:
    """What the command asks for, on smaller images, because those of 224 pixels take half a minute."""
    asked = Call.parse("LURE_main.py", imagenet_words(data))
    small = dataclasses.replace(to_experiment(asked), dataset="restricted-imagenet:size=32")
    run(small, run_directory_of(asked), placement=placement_of(asked))
    assert [line["test_examples"] for line in ledger("saved")] == [69] * 3


@pytest.mark.slow
def test_the_imagenet_command_runs_on_images_of_full_size(data: Path) -> None:
    assert main("LURE_main.py", [*imagenet_words(data), "--arch", "convnet"]) == 0
    assert [line["test_examples"] for line in ledger("saved")] == [69] * 3


def test_the_warm_started_script_runs(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"--data {data} --dataset cifar100 --run a/b:c --tickets_mask none {SMALL}"
    assert main("ALMA.py", shlex.split(words)) == 0
    assert {line["unlearner"] for line in ledger("runs/a_b_c")} == {"warm-start"}
    captured = capsys.readouterr()
    assert "note: --tickets_mask has no effect" in captured.err
    assert "saved in runs/a_b_c" in captured.out.replace("\\", "/")


@pytest.mark.parametrize("flags", ["--use_snip", "--use_randinit", "-buffer_replay"])
def test_it_runs_as_released(flags: str, data: Path) -> None:
    words = f"--data {data} --save_dir saved --as_released {SMALL} {flags}"
    assert main("LURE_main.py", shlex.split(words)) == 0
    lines = ledger("saved")
    assert [line["train_examples"] for line in lines][:1] == [10]
    assert [line["validation_examples"] for line in lines][:1] == [2]


def test_the_released_later_layers_run(data: Path) -> None:
    """In a narrow network: the released layer is one of resnet18."""
    asked = call(f"--data {data} --as_released --save_dir saved {SMALL} --use_llf --arch resnet18")
    narrow = dataclasses.replace(to_experiment(asked), model="resnet18:width=2")
    run(narrow, run_directory_of(asked), placement=placement_of(asked))
    assert {line["unlearner"] for line in ledger("saved")} == {"later-layers:first_layer=layer3.0.conv1"}


def test_the_tracker_is_told_of_the_run(data: Path) -> None:
    Path("packages").mkdir()
    Path("packages", "wandb.py").write_text(Path(stand_in_wandb.__file__).read_text())
    words = f"--data {data} --save_dir saved --as_released {SMALL} -wb --run named --project_name mine --log-dir logs"
    done = script(words, PYTHONPATH=os.pathsep.join(["packages", *sys.path]))
    assert done.returncode == 0, done.stderr
    told = stand_in_wandb.told()
    assert [what for what, _ in told] == ["init", "config", *["log"] * 6, "finish"]  # an epoch and a stage, three times
    assert told[0][1] == {"project": "mine", "name": "named", "dir": str(Path("logs").resolve())}
    assert told[1][1]["unlearner"] == "warm-start"
    assert told[-2][1]["stage/accuracy"] == ledger("saved")[-1]["accuracy"]


# Going on


def test_a_stopped_run_says_how_to_go_on_and_goes_on_with_resume(data: Path) -> None:
    words = f"--data {data} --use_snip --as_released -buffer_replay {SMALL} --epochs 2"
    assert script(f"{words} --save_dir whole").returncode == 0
    stopped = shlex.split(f"{words} --save_dir stopped")
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "LURE_main.py"), *stopped],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not Path("stopped/ledger.jsonl").is_file():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    errors = [line for line in err.splitlines() if not line.startswith("note: ")]
    assert errors.pop() == f"interrupted; go on with: python LURE_main.py {shlex.join(stopped)}"
    assert all(re.search(r", seed 3, stage \d: \d+ examples, test accuracy", line) for line in errors)  # what is done
    assert len(ledger("stopped")) < 3
    done = script(f"{words} --resume --checkpoint stopped/versions/0001/model.safetensors")
    assert done.returncode == 0, done.stderr
    weights = [Path(name, "versions", "0003", "model.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert weights[0] == weights[1]


def test_what_cannot_be_resumed_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--resume needs --checkpoint or --save_dir"):
        run_directory_of(call("--resume"))
    with pytest.raises(InputError, match=r"there is no run to resume at old.pth.tar: give the --save_dir of a run"):
        run_directory_of(call("--resume --checkpoint old.pth.tar"))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.toml").write_text("")
    assert run_directory_of(call("--resume --save_dir one")) == Path("one")
    assert run_directory_of(call("--resume --checkpoint one/versions --save_dir one")) == Path("one")
    with pytest.raises(InputError, match="--checkpoint lies in one, but --save_dir is two"):
        run_directory_of(call("--resume --checkpoint one --save_dir two"))


def test_a_save_dir_to_resume_is_the_run_directory_itself(tmp_path: Path) -> None:
    """Not one that happens to lie around it, such as the current folder."""
    (tmp_path / "recipe.toml").write_text("")
    with pytest.raises(InputError, match="there is no run to resume at new"):
        run_directory_of(call("--resume --save_dir new"))


@pytest.mark.parametrize("name", ["..", ".", "", "../..", ".hidden", "C:\\runs"])
def test_a_runs_name_stays_inside_the_folder_of_runs(name: str) -> None:
    folder = run_directory_of(Call.parse("LURE_main.py", ["--run", name]))
    assert folder.parts[0] == "runs"
    assert len(folder.parts) == 2
    assert not folder.name.startswith(".")


def test_a_number_of_workers_is_checked(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("LURE_main.py", shlex.split(f"--data {data} --save_dir saved --workers -1 {SMALL}")) == 2
    assert capsys.readouterr().err == "error: workers must be at least 0, got -1\n"
    assert not Path("saved").exists()


def test_missing_data_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("LURE_main.py", ["--data", "nowhere", "--seed", "1"]) == 2
    assert capsys.readouterr().err.startswith("error: no cifar10 in nowhere: it must be or hold cifar-10-batches-py")


def test_requirements_name_the_extras_and_the_constraints() -> None:
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines == ["-c constraints.txt", ".[data,paper]"]


def test_binary_files_do_as_well(tmp_path: Path) -> None:
    write_cifar10_binary(tmp_path)
    assert main("LURE_main.py", shlex.split(f"--data {tmp_path} --save_dir saved --use_fc {SMALL}")) == 0


def test_the_protocol_goes_on_where_its_time_was_up(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = runpy.run_path(str(ROOT / "benchmarks" / "paper_cifar10.py"))
    words = f"paper_cifar10.py --data {data} --out out --ledgers records --policies lure-as-released,scratch "
    words += "--set num_mega_batches=2 --set mega_batch_size=12 --set model=resnet18:width=2 --set threads=1"

    def piece(flags: str) -> int:
        monkeypatch.setattr(sys, "argv", shlex.split(f"{words} {flags}"))
        return int(script["main"]())

    assert piece("--set epochs=1 --seconds 0") == script["MORE_TO_DO"]
    assert not Path("records", "scratch").exists()
    assert piece("--set epochs=1") == 0
    assert len(ledger("records/lure-as-released/seed-0")) == len(ledger("records/scratch/seed-0")) == 2
    assert "out/scratch/seed-0: 2 stages, complete" in capsys.readouterr().out.replace("\\", "/")
    with pytest.raises(InputError, match="was begun with another recipe"):
        piece("--set epochs=2")
    with pytest.raises(InputError, match="unknown recipe field 'epoch'"):
        piece("--set epoch=2")
    with pytest.raises(InputError, match="unknown policy 'lura'"):
        piece("--policies lura")


# The page that explains all this

PAGE = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^((?:lure|python) .+)$", PAGE, re.MULTILINE) + re.findall(r"`(lure [a-z]+ [^`]+)`", PAGE)


@pytest.mark.parametrize("line", sorted(set(COMMANDS)))
def test_the_commands_of_the_page_are_understood(line: str) -> None:
    program, *words = shlex.split(line)
    if program == "python":
        script, *flags = words
        assert (ROOT / script).is_file()
        if script in ("LURE_main.py", "ALMA.py"):
            to_experiment(Call.parse("ALMA.py" if script == "ALMA.py" else "LURE_main.py", flags))
        return
    parsed = vars(build_parser().parse_all(words))
    if parsed["command"] in ("run", "compare"):
        load_experiment(parsed["recipe"], parsed["fields"])
        for unlearner in (parsed.get("unlearners") or "lure").split(","):
            build_unlearner(unlearner)


def test_the_page_names_every_flag_and_every_recipe() -> None:
    for flag in (*SHARED, *ONLY_LURE, *ONLY_ALMA):
        assert f"`{flag.name}`" in PAGE, flag.name
    table = PAGE[PAGE.index("## Recipes") : PAGE.index("## Flags")]
    found, last = set(), ""
    for name in re.findall(r"`(-?[a-z][a-z0-9-]+|-[0-9]+)`", table):
        if name.startswith("-"):
            name = (last.rpartition("-")[0] if name[1:].isdigit() else "restricted-imagenet") + name
        found.add(name)
        last = name
    assert found == {name for name in shipped_recipes() if name.startswith(("cifar10", "cifar100", "restricted"))} - {
        "cifar10-small"
    }


def test_the_settings_of_the_page_bring_the_released_behaviour_back() -> None:
    """Every setting in the last column of the table of differences is one that exists."""
    rows = [line.split(" | ") for line in PAGE.splitlines() if line.startswith("| ") and line.count(" | ") == 2]
    start = next(number for number, row in enumerate(rows) if row[0] == "| released code")
    settings = [word for row in rows[start + 1 :] for word in re.findall(r"`([^`]+)`", row[2])]
    assert len(settings) >= 15
    for setting in settings:
        if setting == "--as_released":
            continue
        if setting.startswith("--"):
            given = dict(zip(*[iter(shlex.split(setting))] * 2, strict=True))
            load_experiment("cifar10", {key[2:].replace("-", "_"): value for key, value in given.items()})
        elif setting.startswith("buffer"):
            load_experiment("cifar10", {"replay": setting})
        else:
            build_unlearner(setting)
