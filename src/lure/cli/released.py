"""The two scripts that the authors of LURE released, as front ends: what each of their flags means here.

LURE_main.py and ALMA.py at the root of the repository call `main`. Their flags (`lure.cli.released_flags`) become one
`Experiment`, so that the result is a run directory like any other. By default the slips of the released code are
corrected; `--as_released` keeps those that are not crashes (docs/paper.md lists them all).
"""

import inspect
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lure.cli.entry import exit_code
from lure.cli.released_flags import Call, Script, flags_of
from lure.cli.run import print_stages, train
from lure.errors import InputError, unknown_name
from lure.settings import format_value
from lure.words import percent

if TYPE_CHECKING:
    from lure.experiment.run import Placement
    from lure.recipe import Experiment
    from lure.store.stage import Stage

DATASETS = ("cifar10", "cifar100", "restricted_imagenet")
SALIENCY_BATCH = 100  # examples that the released saliency reads
RESETS = ("use_snip", "use_randinit", "use_llf", "use_fc", "use_shrink_perturb")  # at most one of them is on


def to_experiment(call: Call) -> "Experiment":
    """Return the experiment that a call asks for.

    Raises:
        InputError: for values that are refused, or flags that exclude each other.

    Example:
        >>> call = Call.parse("LURE_main.py", ["--arch", "resnet18", "--use_shrink_perturb", "-no_replay"])
        >>> experiment = to_experiment(call)
        >>> experiment.unlearner, experiment.replay, experiment.order
        ('shrink-perturb:shrink=0.3:perturb=0.001', 'none', 'iid')
    """
    from lure.recipe import Experiment

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
        test_limit=call["test_limit"],
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


def _model(call: Call) -> str:
    from lure.models import MODELS

    name: str = call["arch"]
    imagenet = call["dataset"] == "restricted_imagenet"
    if name not in MODELS:
        raise unknown_name("arch", name, MODELS)
    if _has_one_stem(name) or not (imagenet or call["imagenet_arch"]):
        return name
    seven = call["imagenet_arch"] or not call["as_released"]
    return f"{name}:stem={'imagenet' if seven else 'cifar'}"


def _has_one_stem(name: str) -> bool:
    """Tell whether a registered network offers no choice of its first layers."""
    from lure.models import MODELS

    return name in MODELS and "stem" not in inspect.signature(MODELS[name]).parameters


def _replay(call: Call) -> str:
    regime = call.one_of("no_replay", "one_replay", "buffer_replay")
    if call["as_released"] and call["dataset"] == "cifar100" and regime != "no_replay":
        return "full"
    if regime == "buffer_replay":
        sizes = f"capacity={call['buffer_size_train']}:validation_capacity={call['buffer_size_val']}"
        return f"buffer:{sizes}:rule=released" if call["as_released"] else f"buffer:{sizes}"
    return {None: "full", "no_replay": "none", "one_replay": "last"}[regime]


def _unlearner(call: Call) -> str:
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


def _released_saliency(call: Call) -> str:
    """Return LURE's options as released: which examples are read depends on data set and replay."""
    new_only = call["snip_no_replay"] and call["dataset"] != "cifar100"
    # With a buffer the released code puts the new examples first, and it reads the first ones.
    first_are_new = _replay(call).startswith("buffer")
    offered = SALIENCY_BATCH
    if call["dataset"] != "cifar10" or call["snip_no_replay"]:
        offered = max(1, int(call["meta_batch_size"] * call["snip_size"]))
    sample, size = "new" if new_only or first_are_new else "all", min(SALIENCY_BATCH, offered)
    return f"scope=released:law=kaiming-uniform:sample={sample}:sample_size={size}:ties=all"


def _gamma(call: Call) -> float:
    if call.script == "ALMA.py":
        return 1.0 if call["as_released"] else 0.1
    return float(call["gamma"])


def notes_on(call: Call) -> list[str]:
    """Return one line for each given flag that has no effect here, or a different one than in the released code.

    Example:
        >>> notes_on(Call.parse("LURE_main.py", ["--use_snip", "--seed", "1", "--n_shots", "5"]))
        ['--n_shots has no effect: it needs -few_shot']
    """
    import torch

    released, alma = call["as_released"], call.script == "ALMA.py"
    imagenet, cifar100 = call["dataset"] == "restricted_imagenet", call["dataset"] == "cifar100"
    unread, ignored = "the released code does not read it", "the released code ignores it for cifar100"
    idle = [
        ("data", imagenet, "restricted_imagenet is read from --imagenet_path"),
        ("imagenet_path", not imagenet, f"{call['dataset']} is read from --data"),
        ("imagenet_arch", _has_one_stem(call["arch"]), f"{call['arch']} has one stem"),
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
        ("snip_no_replay", not alma and not released, "the saliency is read on the new mega-batch anyway"),
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
        notes.append("the seed is 0, because --seed was not given")
    if released and call.values.get("use_llf") and call["arch"] != "resnet18":
        notes.append("--use_llf forgets the second half of the layers; the released code names those of resnet18 only")
    return notes


def run_directory_of(call: Call) -> Path:
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


def placement_of(call: Call) -> "Placement":
    """Return where a call runs."""
    import torch

    from lure.experiment.run import Placement
    from lure.experiment.trackers import Tracking

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


def closing_lines(stages: Sequence["Stage"]) -> list[str]:
    """Return what both scripts print at the end: test accuracy, errors, their change, and time."""
    from lure.experiment.run import summarize

    result = summarize(stages)
    seconds = [stage.train_seconds + stage.unlearn_seconds for stage in stages]
    return [
        f"Final test accuracy: {percent(result['final_accuracy'], 2)} %",
        f"CER: {[stage.error_count for stage in stages]}, in total {result['cumulative_error_count']}",
        f"Anytime relative error: {[round(change, 6) for change in result['anytime_relative_error']]}",
        f"Time per mega-batch in seconds: {[round(value, 1) for value in seconds]}, in total {sum(seconds):.1f}",
    ]


def main(script: Script, words: Sequence[str] | None = None) -> int:
    """Run one of the scripts; return its exit code.

    Args:
        script: which one.
        words: its flags; None takes those that this process was started with.
    """
    words = sys.argv[1:] if words is None else list(words)
    return exit_code(lambda: _run(Call.parse(script, words)), shlex.join(["python", script, *words]))


def _run(call: Call) -> None:
    from lure.recipe import policy_name

    experiment, directory = to_experiment(call), run_directory_of(call)
    for note in notes_on(call):
        print(f"note: {note}", file=sys.stderr)
    label = f"{policy_name(experiment.unlearner)}, seed {experiment.seed}"
    if stages := train(experiment, placement_of(call), directory, label):
        print_stages(directory)
        for line in (*closing_lines(stages), f"saved in {directory} (see: lure report {directory})"):
            print(line)
