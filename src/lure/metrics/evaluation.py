"""All metrics of one model on one test set, as a dict that can be written as JSON.

The keys are the names of metrics, corruptions and attacks. Random choices are seeded and do not depend on the model, so
two models are shown the same corrupted images and are attacked on the same examples.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lure.data.examples import Examples
from lure.errors import InputError, require_within, unknown_name
from lure.metrics.adversarial import adversarial_accuracy
from lure.metrics.calibration import (
    brier_score,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability,
    undetermined_temperature,
)
from lure.metrics.change import class_change, mcnemar, weight_change
from lure.metrics.classification import accuracy, class_balanced_accuracy, error_count, per_class
from lure.metrics.corruptions import EXTRA, KINDS, SEVERITIES, corrupt, corruption_generator, read_corrupted
from lure.metrics.hits import pack_hits
from lure.randomness import derive_generator
from lure.training.predict import stream_outputs
from lure.weights.cross_entropy import read_logits
from lure.weights.layers import snapshot
from lure.weights.modes import evaluating
from lure.words import dtype_name

Model = Callable[[Tensor], Tensor]

# Images are corrupted and attacked in batches of at most CHUNK examples, and fewer if they are larger than 3 x 32 x 32.
# The size depends on nothing but the shape of an input, because random numbers are drawn batch by batch.
CHUNK = 500
CHUNK_VALUES = CHUNK * 3 * 32 * 32
EPSILONS: dict[str, tuple[float, ...]] = {
    "linf": (0.0, 1 / 255, 2 / 255, 4 / 255, 8 / 255, 16 / 255),
    "l2": (0.0, 0.125, 0.25, 0.5, 1.0, 2.0),
}


def evaluate(
    model: Model,
    examples: Examples,
    *,
    validation: Examples | None = None,
    class_names: Sequence[str] = (),
    corruptions: bool | Sequence[str] = False,
    corrupted_files: Path | str | None = None,
    adversarial: bool = False,
    limit: int | None = None,
    steps: int = 20,
    restarts: int = 1,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Return the metrics of a model on a test set; on request also temperature, corruptions and attacks.

    Args:
        model: inputs (batch, ...) -> logits (batch, classes), on `device`; images are passed as floats in [0, 1]. An
            `nn.Module` is run in eval mode, and its mode is restored.
        examples: the test set.
        validation: held-out examples to fit the temperature on; never the test set.
        class_names: names of the labels, for the per-class table.
        corruptions: True for all kinds, or the names of some.
        corrupted_files: folder of the published CIFAR-10-C files, read instead of corrupting `examples`.
        adversarial: attack with FGSM and PGD, in L-infinity and L2.
        limit: corrupt and attack only this many examples, chosen by the seed, the same for every model.
        steps: steps of PGD.
        restarts: restarts of PGD.
        seed: seed of all random choices.
        device: the model's device.

    Returns:
        `examples`, `error_count`, `accuracy`, `class_balanced_accuracy`, `negative_log_likelihood`, `brier_score`,
        `expected_calibration_error`, `expected_calibration_error_equal_mass`, `reliability` (see the function),
        `per_class` (see the function; with `name` if names are given; where there are more classes than examples, only
        those that have examples), `correct` (which examples are classified correctly; see `unpack_hits`), and
        `data_fingerprint` of the test set: results with the same one can be compared example by example. With
        `validation`, `temperature_scaling`: `temperature`, `validation_examples`, the calibration metrics after
        scaling, and why it is `undetermined` (and 1) where it is. With corruptions, `corruptions`: see
        `corruption_accuracy`. With attacks, `adversarial`: attack -> norm -> see `adversarial_accuracy`.

    Raises:
        InputError: if there are no examples, a name is unknown, or inputs are not images but must be.

    Example:
        >>> examples = Examples(torch.eye(2), torch.tensor([0, 1]))
        >>> result = evaluate(lambda inputs: 9 * inputs, examples)
        >>> result["accuracy"], round(result["expected_calibration_error"], 5)
        (1.0, 0.00012)
    """
    with evaluating(model) if isinstance(model, nn.Module) else nullcontext():
        logits = compute_logits(model, examples, device).double()  # once, and not for each metric
        labels = examples.labels
        rows = _listed(per_class(logits, labels), len(labels))
        for row in rows:
            if row["label"] < len(class_names):
                row["name"] = class_names[row["label"]]
        result: dict[str, Any] = {
            "examples": len(examples),
            "error_count": error_count(logits, labels),
            "accuracy": accuracy(logits, labels),
            "class_balanced_accuracy": class_balanced_accuracy(logits, labels),
            **calibration(logits, labels),
            "reliability": [dict(bin_) for bin_ in reliability(logits, labels)],
            "per_class": rows,
            "correct": pack_hits(logits.argmax(dim=1) == labels),
            "data_fingerprint": examples.fingerprint,
        }
        if validation is not None and len(validation):
            held = compute_logits(model, validation, device).double()
            temperature = fit_temperature(held, validation.labels)
            result["temperature_scaling"] = {
                "temperature": temperature,
                "validation_examples": len(validation),
                **({} if (why := undetermined_temperature(held, validation.labels)) is None else {"undetermined": why}),
                **calibration(logits / temperature, labels),
            }
        chosen = _choose(examples, limit, seed)
        if corruptions or corrupted_files is not None:
            kinds = list(KINDS) if corruptions in (True, False) else list(corruptions)  # type: ignore[arg-type]
            result["corruptions"] = corruption_accuracy(model, chosen, kinds, corrupted_files, limit, seed, device)
        if adversarial:
            batches = [(i.to(device), t.to(device)) for i, t in _chunks(_images(chosen))]
            result["adversarial"] = {
                attack: {
                    norm: adversarial_accuracy(
                        model,
                        batches,
                        EPSILONS[norm],
                        attack=attack,
                        norm=norm,
                        steps=steps,
                        restarts=restarts,
                        seed=seed,
                    )
                    for norm in ("linf", "l2")
                }
                for attack in ("fgsm", "pgd")
            }
    return result


def calibration(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Return the calibration metrics by name."""
    return {
        "negative_log_likelihood": negative_log_likelihood(logits, labels),
        "brier_score": brier_score(logits, labels),
        "expected_calibration_error": expected_calibration_error(logits, labels),
        "expected_calibration_error_equal_mass": expected_calibration_error(logits, labels, bins="equal_mass"),
    }


def compare_versions(
    before: nn.Module, after: nn.Module, examples: Examples, device: torch.device | str = "cpu"
) -> dict[str, Any]:
    """Return what changed from one version of a model to another, in predictions and weights.

    Where the head has grown, the older version counts as never answering the new classes, and weights are compared in
    the rows that both have.

    Args:
        before: the older version; run in eval mode, and its mode is restored.
        after: the newer version; likewise.
        examples: the test set.
        device: the device of both models.

    Returns:
        `paired_test`: exact McNemar, the newer version first (see `mcnemar`); `per_class`: see `class_change`;
        `weights`: see `weight_change`.

    Raises:
        InputError: if there are no examples, or the two networks have different parameters.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> before, after = nn.Linear(2, 2), nn.Linear(2, 2)
        >>> result = compare_versions(before, after, Examples(torch.eye(2), torch.tensor([0, 1])))
        >>> [row["name"] for row in result["weights"]], len(result["per_class"])
        (['weight', 'bias'], 2)
    """
    with evaluating(before), evaluating(after):
        old, new = (compute_logits(model, examples, device).double() for model in (before, after))
    first, second = snapshot(before), snapshot(after)
    if (grown := new.shape[1] - old.shape[1]) > 0:
        old = F.pad(old, (0, grown), value=-math.inf)
        lengths = {name: len(tensor) for name, tensor in first.items() if tensor.dim()}
        second = {name: tensor[: lengths[name]] if name in lengths else tensor for name, tensor in second.items()}
    return {
        "paired_test": dict(mcnemar(new, old, examples.labels)),
        "per_class": _listed(class_change(old, new, examples.labels), len(examples)),
        "weights": [dict(row) for row in weight_change(first, second)],
    }


def _listed(rows: Sequence[Mapping[str, Any]], num_examples: int) -> list[dict[str, Any]]:
    """Return the rows of classes; where there are more classes than examples, those of classes that have examples."""
    return [dict(row) for row in rows if len(rows) <= num_examples or row["examples"]]


def compute_logits(model: Model, examples: Examples, device: torch.device | str = "cpu") -> Tensor:
    """Return the logits (N, classes), float32 on the CPU, in order; uint8 inputs become floats in [0, 1].

    Raises:
        InputError: if there are no examples.
    """
    if not len(examples):
        raise InputError("there are no examples to evaluate on")
    return torch.cat(list(stream_outputs(model, examples, device)))


def corruption_accuracy(
    model: Model,
    examples: Examples,
    kinds: Sequence[str] = tuple(KINDS),
    files: Path | str | None = None,
    limit: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Return the accuracy of a model under each corruption at each severity.

    Args:
        model: floats in [0, 1] -> logits; in eval mode.
        examples: uint8 images; with `files` they are used only for the accuracy without corruption.
        kinds: names in `KINDS`.
        files: folder of the published CIFAR-10-C files, read instead of corrupting `examples`.
        limit: use only this many rows of each published file, chosen by the seed.
        seed: seed of all random choices.
        device: the model's device.

    Returns:
        `examples`; `clean_accuracy`; `kinds`: name -> `synthetic` (not made as published), `severities`, a list of
        {`severity`, `accuracy`}, and their `mean_accuracy`; `mean_corruption_accuracy`, the mean over those of the 15
        usual kinds that were requested (over all requested kinds if there are none); `relative_accuracy`, this mean
        divided by `clean_accuracy`, None if that is 0.

    Raises:
        InputError: if a kind is unknown, inputs are not uint8 images, or a file is missing or invalid.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise unknown_name("corruption", kind, KINDS)
        if files is not None and (shape := read_corrupted(files, kind, 1).input_shape) != examples.input_shape:
            raise InputError(
                f"{Path(files) / kind}.npy holds images of shape {shape}, the model takes {examples.input_shape}"
            )
    clean = accuracy(compute_logits(model, _images(examples), device), examples.labels)
    count = len(examples)
    table: dict[str, Any] = {}
    for kind in kinds:
        points = []
        for severity in SEVERITIES:
            if files is None:
                value = accuracy(_corrupted_logits(model, examples, kind, severity, seed, device), examples.labels)
            else:
                read = _choose(read_corrupted(files, kind, severity), limit, seed)
                logits, count = compute_logits(model, read, device), len(read)
                if int(read.labels.max()) >= logits.shape[1]:
                    raise InputError(
                        f"{Path(files) / 'labels.npy'} holds the label {int(read.labels.max())}, the model's classes "
                        f"are 0 to {logits.shape[1] - 1}"
                    )
                value = accuracy(logits, read.labels)
            points.append({"severity": severity, "accuracy": value})
        table[kind] = {
            "synthetic": files is None and KINDS[kind].synthetic,
            "severities": points,
            "mean_accuracy": sum(point["accuracy"] for point in points) / len(points),
        }
    usual = [kind for kind in kinds if kind not in EXTRA] or list(kinds)
    mean = sum(table[kind]["mean_accuracy"] for kind in usual) / len(usual)
    return {
        "examples": count,
        "clean_accuracy": clean,
        "kinds": table,
        "mean_corruption_accuracy": mean,
        "relative_accuracy": mean / clean if clean else None,
    }


@torch.no_grad()
def _corrupted_logits(
    model: Model, examples: Examples, kind: str, severity: int, seed: int, device: torch.device | str
) -> Tensor:
    pieces = []
    for number, (inputs, _) in enumerate(_chunks(examples)):
        corrupted = corrupt(inputs.to(device), kind, severity, corruption_generator(seed, kind, severity, number))
        pieces.append(read_logits(model(corrupted)).cpu())
    return torch.cat(pieces)


def _chunks(examples: Examples) -> Iterator[tuple[Tensor, Tensor]]:
    size = max(1, min(CHUNK, CHUNK_VALUES // math.prod(examples.input_shape)))
    for start in range(0, len(examples), size):
        piece = examples[start : start + size]
        inputs = piece.inputs
        yield inputs.float() / 255 if inputs.dtype == torch.uint8 else inputs, piece.labels


def _choose(examples: Examples, limit: int | None, seed: int) -> Examples:
    if limit is None or limit >= len(examples):
        return examples
    require_within("limit", limit, 1)
    order = torch.randperm(len(examples), generator=derive_generator(seed, 0, "evaluate"))
    return examples[order[:limit].sort().values]


def _images(examples: Examples) -> Examples:
    if len(examples.input_shape) != 3 or examples.input_dtype != torch.uint8:
        raise InputError(
            f"corruptions and attacks need uint8 images (channels, height, width), "
            f"got {dtype_name(examples.input_dtype)} of shape {examples.input_shape}"
        )
    return examples
