"""Digests of everything that a run decides, for every method and option: what a refactor must leave as it is.

    python tests/oracle.py > before.txt      # before the change
    python tests/oracle.py > after.txt       # after it, on the same machine
    diff before.txt after.txt                # nothing
    python tests/oracle.py --write           # after a change of numbers that is meant: the file of test_oracle.py

A digest is over the bits of all weights and states, the ledger less its times, and the evaluations. Bits differ from
machine to machine, so the digests are not stored; `test_oracle.py` keeps the short form, a few numbers of each case
with a tolerance. Only what users rely on is called here: the command line, the names exported from `lure`, and files.
"""

import contextlib
import csv
import hashlib
import io
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

import lure
from lure.cli import main

SHORT_FORM = Path(__file__).with_name("oracle.json")
TIMES = ("unlearn_seconds", "train_seconds", "committed_at", "line_sha256", "environment", "sha256", "command")

# The unlearner and schedule of 0.1.0 and no average, whatever is recommended today.
UNLEARNER = ["--unlearner", "lure"]
SCHEDULE = ["--schedule", "steps", "--milestones", "1", "--regularizers", ""]
COMMON = ["--epochs", "2", "--batch-size", "16", "--lr", "0.05", *SCHEDULE, "--threads", "1"]
IMAGES = ["--model", "convnet:width=4"]
TABLE = ["--model", "mlp:width=8", "--validation-fraction", "0.2"]

# case -> which data, flags beyond those that all share
CASES: dict[str, tuple[str, list[str]]] = {
    **{
        f"unlearner {choice}": ("images", [*IMAGES, "--unlearner", choice])
        for choice in (
            *lure.UNLEARNERS,
            "lure:forget_fraction=0.5",
            "lure:scope=all",
            "lure:scope=released:law=kaiming-uniform:sample=all:sample_size=30:ties=all",
            "scratch:reload=true",
            "shrink-perturb:shrink=0.2:perturb=0.8",
            "dash:alpha=0:shrink_floor=0:biases=false",
            "dash:sample=new",
            "dash:ema=chunk",
            "dash:shrink_floor=0.05:shuffled=256",
            "fire:iterations=4",
            "fire:start=frobenius",
            "redo:tau=0.5",
            "later-layers:forget_fraction=0.3",
            "knowledge-evolution:keep_fraction=0.3:mask_seed=2",
        )
    },
    **{
        f"replay {choice}": ("table", [*TABLE, "--replay", choice])
        for choice in (
            "full",
            "none",
            "last",
            "buffer:capacity=20:validation_capacity=5",
            "buffer:capacity=20:balanced=true",
            "buffer:capacity=20:validation_capacity=5:rule=released",
        )
    },
    "order file": ("table", [*TABLE, "--order", "file"]),
    "order released": ("table", [*TABLE, "--order", "released"]),
    "few shots": ("table", [*TABLE, "--shots", "12"]),
    "imbalance": ("table", [*TABLE, "--imbalance", "40,10,1"]),
    "label noise": ("table", [*TABLE, "--label-noise", "0.3"]),
    "sizes": ("table", [*TABLE, "--mega-batch-size", "50"]),
    "another seed": ("table", [*TABLE, "--seed", "7"]),
    "bf16": ("images", [*IMAGES, "--precision", "bf16"]),
    "adam": ("table", [*TABLE, "--optimizer", "adam", "--lr", "0.01"]),
    "adamw carried": ("table", [*TABLE, "--optimizer", "adamw", "--lr", "0.01", "--carry-optimizer", "true"]),
    "sgd carried": ("table", [*TABLE, "--carry-optimizer", "true"]),
    "carried as released": ("table", [*TABLE, "--carry-optimizer", "true", "--carry-as-released", "true"]),
    "averaging": ("table", [*TABLE, "--average-interval", "5", "--average-decay", "0.9"]),
    "averaging with batch norm": ("images", [*IMAGES, "--average-interval", "5", "--average-decay", "0.9"]),
    "pull to the start": ("table", [*TABLE, "--l2-init", "0.01"]),
    "regularizers": ("images", [*IMAGES, "--regularizers", "ema:decay=0.9,distill:focal=true,parseval"]),
    "last epoch": ("table", [*TABLE, "--keep", "last"]),
    "no validation": ("table", [*TABLE, "--validation-fraction", "0"]),
    "steps": ("table", [*TABLE, "--max-steps", "5"]),
    "target accuracy": ("table", [*TABLE, "--target-accuracy", "0.3"]),
    "warm-up and later rate": ("table", [*TABLE, "--warmup", "1", "--later-lr", "0.01"]),
    "augmented": ("images", [*IMAGES, "--augment", "crop-flip"]),
    "all of it augmented": (
        "images",
        [*IMAGES, "--augment", "crop-flip", "--sample-augmented", "true", "--validation-augmented", "true"],
    ),
    "sample all": ("table", [*TABLE, "--sample", "all"]),
    "dropout": ("images", ["--model", "vgg16_bn:width=2"]),
    "resnet": ("images", ["--model", "resnet18:width=4"]),
    "cifar resnet": ("images", ["--model", "resnet20s"]),
    "as released": (
        "images",
        [
            *IMAGES,
            *("--unlearner", "lure:scope=released:law=kaiming-uniform:sample=all:sample_size=30:ties=all"),
            *("--order", "released", "--replay", "buffer:capacity=20:validation_capacity=5:rule=released"),
            *("--sample-augmented", "true", "--validation-augmented", "true", "--augment", "crop-flip"),
            *("--carry-optimizer", "true", "--carry-as-released", "true", "--later-lr", "0.1"),
        ],
    ),
}


def make_data(folder: Path, kind: str, seed: int = 0) -> Path:
    """Write train.npz and test.npz with something to learn; return the folder that holds them."""
    numbers = np.random.default_rng(seed)
    target = folder / f"{kind}-{seed}"
    target.mkdir(parents=True)
    size = 32 if kind == "images" else 6
    for name, count in (("train", 150), ("test", 60)):
        labels = np.arange(count) % 3
        if kind == "images":
            inputs = numbers.integers(0, 180, (count, 3, size, size), dtype=np.uint8)
            for row, label in zip(inputs, labels, strict=True):
                row[label] += 40
        else:
            inputs = numbers.normal(size=(count, size)).astype(np.float32)
            inputs[np.arange(count), labels] += 1.5
        np.savez(target / f"{name}.npz", inputs=inputs, labels=labels)
    return target


def call(words: Sequence[object]) -> str:
    """Run a command line in this process; return what it printed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()) as errors:
        code = main([str(word) for word in words])
    if code not in (0, 3):
        raise AssertionError(f"{words}: {code}: {errors.getvalue()}")
    return out.getvalue()


def without_times(value: Any) -> Any:
    """Return JSON values without what differs from run to run."""
    if isinstance(value, Mapping):
        kept = {key: item for key, item in value.items() if key not in TIMES and "seconds" not in key}
        # Checksums of whole files: comments and the layout of a file may change. Their tensors are compared themselves.
        return {key: without_times(item) for key, item in kept.items() if key != "files"}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def digest(*parts: Any) -> str:
    """Return the SHA-256 of bytes, or of values as JSON, shortened."""
    result = hashlib.sha256()
    for part in parts:
        result.update(part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode())
    return result.hexdigest()[:16]


def ledger_of(run: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's ledger."""
    return [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]


def tensors_of(file: Path) -> Iterator[bytes]:
    """Yield names and bytes of the tensors in a file; a replay memory's, which may stand in pieces, joined."""
    tensors = load_file(file)
    groups: dict[str, list[torch.Tensor]] = {}
    for name in sorted(tensors, key=lambda name: (name.rstrip("0123456789"), len(name), name)):
        pieces = name.startswith("replay.") and name.rpartition(".")[2].isdecimal()
        groups.setdefault(name.rpartition(".")[0] if pieces else name, []).append(tensors[name])
    for name, parts in sorted(groups.items()):
        yield from (name.encode(), torch.cat(parts).numpy().tobytes() if parts[0].dim() else parts[0].numpy().tobytes())


def digest_run(run: Path) -> str:
    """Return the digest of a run: ledger, weights, states, evaluations."""
    files = [part for file in sorted(run.glob("versions/*/*.safetensors")) for part in tensors_of(file)]
    evaluations = [json.loads(file.read_text()) for file in sorted(run.glob("evaluations/*.json"))]
    result = json.loads((run / "result.json").read_text()) if (run / "result.json").exists() else {}
    return digest(*files, *map(without_times, (ledger_of(run), evaluations, result)))


def run_case(folder: Path, name: str) -> Path:
    """Run one of `CASES` in a folder of its own; return the run directory."""
    kind, flags = CASES[name]
    data = folder / f"{kind}-0"
    if not data.exists():
        make_data(folder, kind)
    out = folder / f"case-{list(CASES).index(name)}"
    # A flag that stands twice has its last value.
    call(["run", "own-data", "--data", data, "--out", out, "--num-mega-batches", "3", *COMMON, *UNLEARNER, *flags])
    return out


def short_form(run: Path) -> list[float]:
    """Return a few numbers of a run that another machine's rounding moves little."""
    last = ledger_of(run)[-1]
    names = ("negative_log_likelihood", "changed_fraction", "relative_distance", "examples_seen", "train_flops")
    return [float(f"{last[name]:.6g}") for name in names]


def production_digests(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the digests of a model kept current: updates, a refusal, an acceptance, a rollback, pruning, exports."""
    chunks = [make_data(folder / "chunks", "table", seed) for seed in range(1, 6)]
    for gate, unlearner in ((["--margin", "0"], "lure"), (["--significance", "0", "--margin", "1"], "dash")):
        out = folder / f"kept-{unlearner}"
        call(["init", out, "--holdout", chunks[0] / "test.npz", "--test", chunks[1] / "test.npz", *COMMON, *TABLE,
              *("--unlearner", unlearner, "--replay", "buffer:capacity=40"), *gate])  # fmt: skip
        for chunk in chunks:
            call(["update", out, chunk / "train.npz", "--json"])
        refused = [line["version"] for line in ledger_of(out) if not line["accepted"]]
        for version in refused:
            call(["accept", out, version, "--reason", "try"])
        call(["update", out, chunks[0] / "test.npz"])
        call(["rollback", out, 1])
        call(["update", out, chunks[0] / "train.npz", "--again"])
        call(["prune", out, "--keep", 3])
        call(["export", out, folder / f"{unlearner}.safetensors"])
        status = without_times(json.loads(call(["status", out, "--json"])))
        status.pop("directory")
        yield f"production {unlearner}: run ({len(refused)} refused)", digest_run(out)
        yield f"production {unlearner}: status", digest(status)
        yield f"production {unlearner}: predictions", digest(call(["predict", out, chunks[2] / "test.npz"]).encode())
        yield (
            f"production {unlearner}: evaluation",
            digest(without_times(json.loads(call(["evaluate", out, "--json"])))),
        )
        yield f"production {unlearner}: export", digest((folder / f"{unlearner}.safetensors").read_bytes())


def comparison_digests(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the digests of a comparison: its runs, and every number of its report."""
    out = folder / "compared"
    chosen = "warm-start,scratch,lure,dash:shrink_floor=0.05"
    call(["compare", "own-data", "--data", folder / "table-0", "--out", out, *COMMON, *TABLE,
          *("--unlearners", chosen, "--seeds", "0,1,2")])  # fmt: skip
    for run in sorted(out.glob("*/seed-*")):
        yield f"compared {run.relative_to(out)}", digest_run(run)

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in value.items() if key != "directory"}
        return [plain(item) for item in value] if isinstance(value, list) else value

    yield "report", digest(plain(without_times(json.loads(call(["report", out, "--json"])))))
    committed = Path(__file__).parent.parent / "results" / "demo-last-epoch"
    yield (
        "report of results/demo-last-epoch",
        digest(plain(without_times(json.loads(call(["report", committed, "--json"]))))),
    )


def one_line_digests() -> Iterator[tuple[str, str]]:
    """Yield the digests of weights and optimiser after `unlearn_` by every method."""
    torch.set_num_threads(1)
    for method in (name for name in lure.UNLEARNERS if name != "auto"):  # without a probe auto is shrink-perturb
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            *(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU()),
            *(torch.nn.Flatten(), torch.nn.Linear(144, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)),
        )
        initial = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        loader = [(torch.randn(16, 3, 8, 8), torch.randint(3, (16,))) for _ in range(3)]
        for inputs, labels in loader:
            torch.nn.functional.cross_entropy(model(inputs), labels).backward()
            optimizer.step()
        report = lure.unlearn_(model, loader, method, optimizer=optimizer, seed=3, initial=initial)
        tensors = [*model.state_dict().values()]
        tensors += [value for state in optimizer.state.values() for value in state.values()]
        table = str(report).partition("\n")[2].encode()  # its first line holds the seconds
        yield f"unlearn_ {method}", digest(*(tensor.numpy().tobytes() for tensor in tensors), table)


def all_digests(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (case, digest) of everything."""
    for name in CASES:
        run = run_case(folder, name)
        call(["evaluate", run, "--data", folder / f"{CASES[name][0]}-0", "--calibration"])
        if name in ("unlearner lure", "resnet"):
            flags = ["--corruptions", "--adversarial", "--limit", "10"]
            call(["evaluate", run, "--data", folder / f"{CASES[name][0]}-0", *flags])
        yield name, digest_run(run)
    yield from production_digests(folder)
    yield from comparison_digests(folder)
    yield from one_line_digests()


def write_short_form(folder: Path) -> None:
    """Write the file that `test_oracle.py` compares with, one case a line."""
    lines = [f"  {json.dumps(name)}: {json.dumps(short_form(run_case(folder, name)))}" for name in CASES]
    SHORT_FORM.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        if sys.argv[1:] == ["--write"]:
            write_short_form(Path(place))
            sys.exit()
        writer = csv.writer(sys.stdout, delimiter="\t", lineterminator="\n")
        for case in all_digests(Path(place)):
            writer.writerow(case)
            sys.stdout.flush()
