"""The flags of the two scripts that the authors of LURE released, as tables, and a call that was read with them.

The names and defaults are those of the released code. What a flag means here: `lure.cli.released`.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lure.cli.parser import Parser
from lure.errors import InputError

Script = Literal["LURE_main.py", "ALMA.py"]


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
    Flag("--imagenet_arch", False, "7x7 stem; restricted_imagenet always has it"),
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
    Flag("-wb", False, "log the run to Weights & Biases"),
    Flag("--project_name", "APP", "project of the tracker"),
    Flag("--run", "snip_fs-fr-im", "name of the run for the tracker"),
    Flag("--as_released", False, "keep the slips of the released code (docs/paper.md)"),
    Flag("--test_limit", None, "measure only the first so many test images after each mega-batch", int),
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
    Flag("--perturb", 0.001, "factor of the fresh weights", float),
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
class Call:
    """A call of one of the scripts: which one, the flags that were given, and the values of all.

    Example:
        >>> call = Call.parse("LURE_main.py", ["--arch", "resnet18", "--use_snip"])
        >>> call["arch"], call["epochs"], sorted(call.given)
        ('resnet18', 182, ['arch', 'use_snip'])
    """

    script: Script
    values: dict[str, Any]
    given: frozenset[str]

    @classmethod
    def parse(cls, script: Script, words: Sequence[str]) -> "Call":
        """Read a command line.

        Raises:
            InputError: for an unknown flag or a value of another type.
        """
        flags = flags_of(script)
        meaning = "LURE" if script == "LURE_main.py" else "the warm-started baseline"
        parser = Parser(prog=f"python {script}", description=f"Run {meaning} on a stream of mega-batches.")
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
