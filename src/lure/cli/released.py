"""The two scripts that the authors of LURE released, as front ends: their flags, and what each means here.

LURE_main.py and ALMA.py at the root of the repository call `main`. Their flags become one `Experiment`, so that what
they leave behind is a run directory like any other. By default the slips of the released code are mended; with
`--as_released` they are kept, as far as they are no crashes (docs/paper.md lists them all).
"""

import argparse
import dataclasses
import inspect
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from lure.cli.entry import Parser, exit_code
from lure.distributed import process_group, process_rank
from lure.errors import InputError, unknown_name
from lure.experiment.run import Placement, run, summarize
from lure.experiment.trackers import Tracking
from lure.models import MODELS
from lure.recipe import Experiment, policy_name
from lure.report.progress import StageProgress
from lure.report.records import read_run
from lure.report.table import report_console, run_table
from lure.settings import format_value
from lure.store.stage import Stage

Script = Literal["LURE_main.py", "ALMA.py"]
DATASETS = ("cifar10", "cifar100", "restricted_imagenet")
SALIENCY_BATCH = 100  # examples that the released saliency reads


@dataclass(frozen=True)
class Flag:
    """A flag as it is typed, its default, and what it means; False makes it a switch."""

    name: str
    default: Any
    meaning: str
    kind: type = str

    @property
    def key(self) -> str:
        """The name under which its value is found."""
        return self.name.lstrip("-").replace("-", "_")


SHARED = (
    Flag("--data", "../data", "folder of the CIFAR files"),
    Flag("--dataset", "cifar10", "cifar10, cifar100 or restricted_imagenet"),
    Flag("--meta_batch_size", 5000, "examples in each mega-batch", int),
    Flag("--meta_batch_number", 10, "number of mega-batches", int),
    Flag("--arch", "resnet20s", "network (see: lure list models)"),
    Flag("--imagenet_arch", False, "7x7 stem; restricted_imagenet has it anyhow"),
    Flag("--imagenet_path", "../imagenet", "ImageNet tree, for restricted_imagenet"),
    Flag("--seed", None, "decides every random choice; 0 if not given", int),
    Flag("--gpu", 0, "number of the GPU, where there is one", int),
    Flag("--workers", 0, "processes that read data too large for memory", int),
    Flag("--resume", False, "go on with the run at --checkpoint or --save_dir"),
    Flag("--checkpoint", None, "run directory to go on with, or a file in it"),
    Flag("--save_dir", None, "run directory; runs/RUN if not given"),
    Flag("--log-dir", None, "where the tracker keeps its files; in the run directory if not given"),
    Flag("-no_replay", False, "train on the new mega-batch only"),
    Flag("-one_replay", False, "train on the new mega-batch and the one before"),
    Flag("-buffer_replay", False, "train on the new mega-batch and a buffer"),
    Flag("--buffer_size_train", 182, "training examples in the buffer", int),
    Flag("--buffer_size_val", 182, "validation examples in the buffer", int),
    Flag("-snip_no_replay", False, "read the saliency on the new mega-batch"),
    Flag("-few_shot", False, "keep the first --n_shots images of each class"),
    Flag("--n_shots", 100, "images of each class", int),
    Flag("--batch_size", 128, "examples in one step", int),
    Flag("--lr", 0.1, "learning rate", float),
    Flag("--momentum", 0.9, "momentum of SGD", float),
    Flag("--weight_decay", 1e-4, "weight decay", float),
    Flag("--epochs", 182, "epochs for each mega-batch", int),
    Flag("--warmup", 0, "epochs of warm-up", int),
    Flag("--print_freq", 50, "no effect", int),
    Flag("--decreasing_lr", "91,136", "epochs after which the learning rate is multiplied by gamma"),
    Flag("--snip_size", 0.20, "share of the weights that is forgotten", float),
    Flag("--sparsity_level", 1.0, "no effect", float),
    Flag("-wb", False, "follow the run with Weights & Biases"),
    Flag("--project_name", "APP", "project of the tracker"),
    Flag("--run", "snip_fs-fr-im", "name of the run for the tracker"),
    Flag("--as_released", False, "keep the slips of the released code (docs/paper.md)"),
    Flag("--download", False, "fetch the official archive into --data if it is not there"),
)
ONLY_LURE = (
    Flag("--gamma", 1.0, "factor of the learning rate at each of --decreasing_lr", float),
    Flag("--use_snip", False, "LURE: forget the least salient weights before each new fit"),
    Flag("--use_randinit", False, "train from scratch at each mega-batch"),
    Flag("--use_llf", False, "forget the later layers"),
    Flag("--use_fc", False, "forget the classifier"),
    Flag("--use_shrink_perturb", False, "shrink the weights and add some of a fresh network"),
    Flag("--shrink", 0.3, "factor of the old weights", float),
    Flag("--perturb", 0.001, "factor of the fresh ones", float),
    Flag("--weight_pruning", False, "no effect"),
)
ONLY_ALMA = (
    Flag("--workers", 2, "processes that read data too large for memory", int),
    Flag("--sparsity_level", 0.0, "no effect", float),
    Flag("--run", "Anytime_fixed", "name of the run for the tracker"),
    Flag("--tickets_mask", None, "no effect"),
    Flag("--tickets_init", None, "no effect"),
    Flag("--pruner", "snip", "no effect"),
    Flag("--scope", "global", "no effect"),
)


def flags_of(script: Script) -> dict[str, Flag]:
    """Return key -> flag of one script."""
    own = ONLY_LURE if script == "LURE_main.py" else ONLY_ALMA
    return {flag.key: flag for flag in (*SHARED, *own)}


@dataclass(frozen=True)
class Command:
    """A call of one of the scripts: which one, the flags that were typed, and the values of all.

    Example:
        >>> call = Command.parse("LURE_main.py", ["--arch", "resnet18", "--use_snip"])
        >>> call["arch"], call["epochs"], sorted(call.given)
        ('resnet18', 182, ['arch', 'use_snip'])
    """

    script: Script
    values: dict[str, Any]
    given: frozenset[str]

    @classmethod
    def parse(cls, script: Script, words: Sequence[str]) -> "Command":
        """Read a command line.

        Raises:
            InputError: for an unknown flag or a value of another type.
        """
        flags = flags_of(script)
        meaning = "LURE" if script == "LURE_main.py" else "the warm-started baseline"
        parser = Parser(
            prog=f"python {script}", description=f"Run {meaning} on a stream of mega-batches.", allow_abbrev=False
        )
        for flag in flags.values():
            options: dict[str, Any] = {"dest": flag.key, "default": argparse.SUPPRESS, "help": flag.meaning}
            if flag.default is False:
                parser.add_argument(flag.name, action="store_true", **options)
            else:
                if flag.default is not None:
                    options["help"] += f" (default {flag.default})"
                parser.add_argument(flag.name, type=flag.kind, metavar=flag.kind.__name__.upper(), **options)
        typed = vars(parser.parse_all(words))
        return cls(script, {key: flag.default for key, flag in flags.items()} | typed, frozenset(typed))

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def one_of(self, *keys: str) -> str | None:
        """Return which of some switches is on, or None.

        Raises:
            InputError: if more than one is.
        """
        on = [key for key in keys if self.values.get(key)]
        if len(on) > 1:
            names = [flags_of(self.script)[key].name for key in on]
            raise InputError(f"{' and '.join(names)} exclude each other: give one of them")
        return on[0] if on else None


def to_experiment(call: Command) -> Experiment:
    """Return the experiment that a call asks for.

    Raises:
        InputError: for values that are refused, or flags that exclude each other.

    Example:
        >>> call = Command.parse("LURE_main.py", ["--arch", "resnet18", "--use_shrink_perturb", "-no_replay"])
        >>> experiment = to_experiment(call)
        >>> experiment.unlearner, experiment.replay, experiment.order
        ('shrink-perturb:shrink=0.3:perturb=0.001', 'none', 'iid')
    """
    if call["dataset"] not in DATASETS:
        raise unknown_name("dataset", call["dataset"], DATASETS)
    released, imagenet = call["as_released"], call["dataset"] == "restricted_imagenet"
    dataset = call["dataset"].replace("_", "-")
    return Experiment(
        dataset=f"{dataset}:statistics=cifar10" if imagenet and released else dataset,
        num_mega_batches=call["meta_batch_number"],
        mega_batch_size=call["meta_batch_size"],
        order="released" if released else "iid",
        shots=call["n_shots"] if call["few_shot"] else None,
        model=_model(call),
        unlearner=_unlearner(call),
        sample_augmented=released,
        replay=_replay(call),
        validation_fraction=0.1,
        validation_augmented=released,
        keep="best",
        epochs=call["epochs"],
        batch_size=call["batch_size"],
        optimizer="sgd",
        carry_optimizer=released,
        carry_as_released=released,
        lr=call["lr"],
        # The released warm-up ends at --lr; without it the rate goes back to 0.1 whatever --lr is.
        later_lr=0.1 if released and not call["warmup"] else None,
        momentum=call["momentum"],
        weight_decay=call["weight_decay"],
        milestones=call["decreasing_lr"],
        gamma=_gamma(call),
        warmup=call["warmup"],
        augment="imagenet" if imagenet else "crop-flip",
        seed=call["seed"] or 0,
    )


def _model(call: Command) -> str:
    name: str = call["arch"]
    imagenet = call["dataset"] == "restricted_imagenet"
    if name not in MODELS:
        raise unknown_name("arch", name, MODELS)
    if not _has_stem(name) or not (imagenet or call["imagenet_arch"]):
        return name
    seven = call["imagenet_arch"] or not call["as_released"]
    return f"{name}:stem={'imagenet' if seven else 'cifar'}"


def _has_stem(name: str) -> bool:
    return "stem" in inspect.signature(MODELS[name]).parameters


def _replay(call: Command) -> str:
    regime = call.one_of("no_replay", "one_replay", "buffer_replay")
    if call["as_released"] and call["dataset"] == "cifar100" and regime != "no_replay":
        return "full"
    if regime == "buffer_replay":
        sizes = f"capacity={call['buffer_size_train']}:validation_capacity={call['buffer_size_val']}"
        return f"buffer:{sizes}:rule=released" if call["as_released"] else f"buffer:{sizes}"
    return {None: "full", "no_replay": "none", "one_replay": "last"}[regime]


RESETS = ("use_snip", "use_randinit", "use_llf", "use_fc", "use_shrink_perturb")


def _unlearner(call: Command) -> str:
    released = call["as_released"]
    match call.one_of(*RESETS):
        case "use_snip":
            choice = f"lure:forget_fraction={format_value(call['snip_size'])}"
            return f"{choice}:{_released_saliency(call)}" if released else choice
        case "use_randinit":
            return "scratch:reload=true" if released else "scratch"
        case "use_llf":
            return (
                "later-layers:first_layer=layer3.0.conv1" if released and call["arch"] == "resnet18" else "later-layers"
            )
        case "use_fc":
            return "warm-start" if released else "head-reset"
        case "use_shrink_perturb":
            return f"shrink-perturb:shrink={format_value(call['shrink'])}:perturb={format_value(call['perturb'])}"
        case _:
            return "warm-start"


def _released_saliency(call: Command) -> str:
    """Return LURE's options as released: which examples are read depends on data set and replay."""
    new_only = call["snip_no_replay"] and call["dataset"] != "cifar100"
    # With a buffer the released code puts the new examples first, and it reads the first ones.
    first_are_new = _replay(call).startswith("buffer")
    offered = SALIENCY_BATCH
    if call["dataset"] != "cifar10" or call["snip_no_replay"]:
        offered = max(1, int(call["meta_batch_size"] * call["snip_size"]))
    sample, size = "new" if new_only or first_are_new else "all", min(SALIENCY_BATCH, offered)
    return f"scope=released:law=kaiming-uniform:sample={sample}:sample_size={size}:ties=all"


def _gamma(call: Command) -> float:
    if call.script == "ALMA.py":
        return 1.0 if call["as_released"] else 0.1
    return float(call["gamma"])


def notes_on(call: Command) -> list[str]:
    """Return one line for each given flag that has no effect here, or another one than in the released code.

    Example:
        >>> notes_on(Command.parse("LURE_main.py", ["--use_snip", "--seed", "1", "--n_shots", "5"]))
        ['--n_shots has no effect: it needs -few_shot']
    """
    released, alma = call["as_released"], call.script == "ALMA.py"
    imagenet, cifar100 = call["dataset"] == "restricted_imagenet", call["dataset"] == "cifar100"
    unread, ignored = "the released code does not read it", "the released code ignores it for cifar100"
    idle = [
        ("data", imagenet, "restricted_imagenet is read from --imagenet_path"),
        ("imagenet_path", not imagenet, f"{call['dataset']} is read from --data"),
        ("imagenet_arch", call["arch"] in MODELS and not _has_stem(call["arch"]), f"{call['arch']} has one stem"),
        ("download", imagenet, "ImageNet cannot be fetched without an account"),
        ("gpu", not torch.cuda.is_available(), "there is no CUDA device here, so the CPU is used"),
        ("checkpoint", not call["resume"], "it needs --resume"),
        ("log_dir", not call["wb"], "it needs -wb"),
        ("project_name", not call["wb"], "it needs -wb"),
        ("run", not call["wb"] and call["save_dir"] is not None, "it needs -wb"),
        ("one_replay", released and cifar100, ignored),
        ("buffer_replay", released and cifar100, ignored),
        ("buffer_size_train", not call["buffer_replay"], "it needs -buffer_replay"),
        ("buffer_size_val", not call["buffer_replay"], "it needs -buffer_replay"),
        ("n_shots", not call["few_shot"], "it needs -few_shot"),
        ("snip_no_replay", alma, "ALMA.py forgets nothing"),
        ("snip_no_replay", not alma and not released, "the saliency is read on the new mega-batch anyhow"),
        ("snip_no_replay", not alma and released and cifar100, ignored),
        ("snip_size", not call.values.get("use_snip"), "ALMA.py forgets nothing" if alma else "it needs --use_snip"),
        ("shrink", not call.values.get("use_shrink_perturb"), "it needs --use_shrink_perturb"),
        ("perturb", not call.values.get("use_shrink_perturb"), "it needs --use_shrink_perturb"),
        ("decreasing_lr", alma and released, "the released ALMA.py never decays"),
        ("decreasing_lr", not alma and _gamma(call) == 1, "--gamma is 1"),
        ("use_fc", released, "the released code looks for a layer that no network there has"),
        ("print_freq", True, "progress is a bar on the terminal"),
        ("sparsity_level", True, "the released code only names a file with it"),
        *((key, True, unread) for key in ("weight_pruning", "tickets_mask", "tickets_init", "pruner", "scope")),
    ]
    notes = [
        f"{flags_of(call.script)[key].name} has no effect: {why}" for key, on, why in idle if on and key in call.given
    ]
    if not released and call["buffer_replay"]:
        notes.append("-buffer_replay keeps a sample of fixed size; the released buffer grows (--as_released)")
    if not released and alma:
        notes.append(
            "the learning rate falls to a tenth at each of --decreasing_lr, as in a fair pair; --as_released: never"
        )
    if not released and call["seed"] is None:
        notes.append("the seed is 0, for --seed was not given")
    if released and call.values.get("use_llf") and call["arch"] != "resnet18":
        notes.append("--use_llf forgets the second half of the layers; the released code names those of resnet18 only")
    return notes


def run_directory_of(call: Command) -> Path:
    """Return the run directory of a call: --save_dir, or with --resume the run that --checkpoint lies in.

    Raises:
        InputError: if there is no run to resume, or the two flags name different ones.
    """
    if not call["resume"]:
        # A run's name may hold what no folder's name can, or lead out of the folder.
        return Path(call["save_dir"] or Path("runs") / (re.sub(r"[^\w.+=-]|^\.+", "_", call["run"]) or "_"))
    place = call["checkpoint"] or call["save_dir"]
    if not place:
        raise InputError("--resume needs --checkpoint or --save_dir: the run directory to go on with")
    # A checkpoint may be a file in the run directory; --save_dir is the directory itself.
    folders = (Path(place), *Path(place).parents) if call["checkpoint"] else (Path(place),)
    found = next((folder for folder in folders if (folder / "recipe.toml").is_file()), None)
    if found is None:
        raise InputError(f"there is no run to resume at {place}: give the --save_dir of a run of this program")
    if call["save_dir"] and Path(call["save_dir"]).resolve() != found.resolve():
        raise InputError(
            f"--checkpoint lies in {found}, but --save_dir is {call['save_dir']}: a run goes on where it is"
        )
    return found


def placement_of(call: Command) -> Placement:
    """Return where a call runs."""
    imagenet = call["dataset"] == "restricted_imagenet"
    folder = Path(call["log_dir"]) if call["log_dir"] else None
    return Placement(
        data=Path(call["imagenet_path"] if imagenet else call["data"]),
        download=call["download"] and not imagenet,
        device=f"cuda:{call['gpu']}" if torch.cuda.is_available() else "cpu",
        workers=call["workers"],
        tracking=Tracking(name="wandb", project=call["project_name"], run=call["run"], folder=folder)
        if call["wb"]
        else None,
    )


def closing_lines(stages: Sequence[Stage]) -> list[str]:
    """Return what both scripts say at the end: test accuracy, errors, their change, and time."""
    result = summarize(stages)
    seconds = [stage.train_seconds + stage.unlearn_seconds for stage in stages]
    return [
        f"Final test accuracy: {100 * result['final_accuracy']:.2f} %",
        f"CER: {[stage.error_count for stage in stages]}, in total {result['cumulative_error_count']}",
        f"Anytime relative error: {[round(change, 6) for change in result['anytime_relative_error']]}",
        f"Time per mega-batch in seconds: {[round(value, 1) for value in seconds]}, in total {sum(seconds):.1f}",
    ]


def main(script: Script, words: Sequence[str] | None = None) -> int:
    """Run one of the scripts; return its exit code."""
    words = sys.argv[1:] if words is None else list(words)

    def command() -> None:
        call = Command.parse(script, words)
        experiment, directory = to_experiment(call), run_directory_of(call)
        for note in notes_on(call):
            print(f"note: {note}", file=sys.stderr)
        label = f"{policy_name(experiment.unlearner)}, seed {experiment.seed}"
        placement = placement_of(call)
        with process_group(placement.device, directory) as (device, mine):
            placement = dataclasses.replace(placement, device=device)
            with StageProgress() as progress:
                stages = run(experiment, mine, placement=placement, watch=lambda moment: progress.show(label, moment))
            if process_rank():
                return
        report_console().print(run_table(read_run(directory)))
        for line in (*closing_lines(stages), f"saved in {directory} (see: lure report {directory})"):
            print(line)

    return exit_code(command, shlex.join(["python", script, *words]))
