"""Evaluate a committed version on its test set, and keep what came out in the run directory for the reports."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from lure.data.examples import Examples
from lure.data.sources import load_examples
from lure.data.sources.dataset import Hints
from lure.errors import InputError
from lure.experiment.run import Placement, open_dataset, stream_of
from lure.learner.mega_batch import MegaBatch
from lure.learner.version import Version
from lure.metrics import compare_versions, evaluate
from lure.recipe import Experiment
from lure.store.durable import (
    StorageError,
    make_folder,
    read_sealed_json,
    replace_file,
    require_own,
    to_sealed_json,
    writing,
)
from lure.store.run_directory import EVALUATIONS, RunDirectory
from lure.training.predict import arithmetic, mixed_precision


def evaluate_version(
    path: Path | str,
    number: int | None = None,
    *,
    placement: Placement | None = None,
    file: Path | None = None,
    hints: Hints | None = None,
    model: str | None = None,
    corruptions: bool = False,
    corrupted_files: Path | None = None,
    adversarial: bool = False,
    limit: int | None = None,
) -> dict[str, Any]:
    """Evaluate a version, compare it with the one it came from, and keep the result in its run directory.

    The result goes to `evaluations/VERSION.json`, where the reports look for it; if the disk refuses it, there is a
    warning.

    A run of a named data set is measured on that set's test examples; a directory kept current by updates on its
    independent set, or else its holdout. The temperature is fitted on the validation examples of all chunks that led to
    the version. `file` stands in for the test examples; then nothing is written, for the reports compare like with
    like, and nor is it for a version that was exported to a file.

    Args:
        path: the run directory, or a `.safetensors` file that `lure.learner.version.export` wrote.
        number: which version; None takes the one in use.
        placement: where the named data set lies, and the device.
        file: other labelled examples to measure on.
        hints: what this file does not say itself, such as which column holds the labels.
        model: consent to run a network of the user's own, as for `Learner.open`.
        corruptions: corrupt the images in all ways of CIFAR-10-C.
        corrupted_files: folder of the published CIFAR-10-C files, to be read instead of corrupting the images.
        adversarial: attack with FGSM and PGD.
        limit: corrupt and attack only so many examples.

    Returns:
        What `lure.metrics.evaluate` returns, and `version`, `unlearner`, `seed`. Where the version came from another
        one that is still there, also `change`: what `lure.metrics.compare_versions` returns, and `from_version`.

    Raises:
        InputError: if version or data are missing or damaged, or the examples do not fit the model.
    """
    placement, in_directory = placement or Placement(), Path(path).is_dir()
    target = Path(path) / EVALUATIONS if file is None and in_directory else None
    if target is not None:
        require_own(target)
    version = Version.load(path, number, model=model, device=placement.device)
    test, validation = _examples(Path(path), version, placement, file, hints)
    if file is None:  # what came for classes that arrived later is nothing that this version could know
        test = test[torch.nonzero(test.labels < version.task.num_classes).flatten()]
    version.task.check(test)
    with arithmetic(version.recipe), mixed_precision(version.recipe, version.device):
        result = {
            "version": version.stage.version,
            "unlearner": version.stage.unlearner,
            "seed": version.stage.seed,
            **evaluate(
                version.model,
                test,
                validation=validation,
                class_names=version.class_names,
                corruptions=corruptions,
                corrupted_files=corrupted_files,
                adversarial=adversarial,
                limit=limit,
                device=version.device,
            ),
        }
        parent = version.stage.parent
        if in_directory and parent and parent not in RunDirectory(path).standing.pruned:
            before = Version.load(path, parent, model=model, device=placement.device)
            result["change"] = {
                "from_version": parent,
                **compare_versions(before.model, version.model, test, version.device),
            }
    if target is not None:
        target /= f"{version.stage.version}.json"
        try:
            with writing(target):
                make_folder(target.parent)
            replace_file(target, to_sealed_json(_kept(target, result)))
        except StorageError as error:
            warnings.warn(f"{error}: reports will not show this evaluation", stacklevel=2)
    return result


def evaluate_finished(directories: Iterable[Path], placement: Placement, model: str | None = None) -> None:
    """Evaluate the last version of each of these runs that was not evaluated yet, so that reports can show it.

    Raises:
        InputError: as `evaluate_version`.
    """
    for directory in directories:
        if not is_evaluated(directory):
            evaluate_version(directory, placement=placement, model=model)


def is_evaluated(directory: Path) -> bool:
    """Tell whether the version in use was evaluated.

    Raises:
        InputError: if the ledger is damaged.
    """
    last = RunDirectory(directory).standing.current
    return (directory / EVALUATIONS / f"{last}.json").exists()


def _kept(target: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Return a result with the corruptions and attacks of an earlier one on the same examples, if it has none."""
    if not target.exists():
        return result
    try:
        earlier = read_sealed_json(target, required=False)
    except InputError:
        return result
    if earlier.get("data_fingerprint") != result["data_fingerprint"]:
        return result
    return {key: earlier[key] for key in ("corruptions", "adversarial") if key in earlier} | result


def _examples(
    path: Path, version: Version, placement: Placement, file: Path | None, hints: Hints | None
) -> tuple[Examples, Examples | None]:
    """Return what to measure on, and the validation examples where there are any."""
    if file is not None:
        task = version.task
        test = load_examples(file, version.class_names or None, task.input_shape, form=task.form, hints=hints)
        return test, _held_out(path, version) if path.is_dir() else None
    recipe = version.recipe
    if path.is_dir() and (agreement := (directory := RunDirectory(path)).agreement()) is not None:
        sets = [agreement.independent] if agreement.independent else directory.holdout()
        return Examples.concatenate([directory.chunks.read(each) for each in sets]), _held_out(path, version)
    if not isinstance(recipe, Experiment):
        raise InputError(f"{path} does not say which data to measure on: give them with --on FILE")
    dataset = open_dataset(recipe, placement)
    held = [
        MegaBatch.cut(mega_batch, recipe, stage).split.validation
        for stage, mega_batch in enumerate(stream_of(recipe, dataset)[: version.stage.stage], start=1)
    ]
    return dataset.test, Examples.concatenate(held)


def _held_out(path: Path, version: Version) -> Examples | None:
    """Return the validation examples of the stored chunks that led to a version; None where none are stored."""
    directory, number = RunDirectory(path), version.stage.version
    held: list[Examples] = []
    while number:
        stage = directory.stages[number - 1]
        for taken_in in reversed(stage.taken_in):
            chunk = directory.stages[taken_in - 1]
            if not chunk.data_stored:
                return None
            whole = directory.chunks.read(chunk.data_fingerprint)
            held.append(MegaBatch.cut(whole, version.recipe, taken_in, chunk.data_validation).split.validation)
        number = stage.parent
    return Examples.concatenate(held[::-1])
