"""One committed version of a run, for use: predictions as a stream, and files that other programs read.

Reading takes no lock and writes nothing in the run directory, so a version can be served while the next one is trained,
and from a disk that is read-only.
"""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TextIO

import torch
from torch import Tensor, nn

from lure.data.examples import Examples
from lure.data.sources.images import file_names
from lure.errors import InputError
from lure.learner.opening import agree, choose_device, parse_recipe, require_consent
from lure.learner.task import Task, build_network
from lure.randomness import forked_rng
from lure.recipe import Recipe, to_toml
from lure.store.durable import checksum, parsing, replace_file, to_json
from lure.store.exported import are_intact, read_facts, seal_facts
from lure.store.run_directory import RunDirectory
from lure.store.stage import Stage
from lure.store.tensors import bytes_to_tensors, tensors_to_bytes
from lure.store.versions import version_folder
from lure.training.predict import arithmetic, mixed_precision, stream_outputs
from lure.training.state import restore_model
from lure.weights.cross_entropy import read_logits
from lure.weights.layers import suits_channels_last
from lure.weights.modes import evaluating
from lure.words import spreadsheet_text

TOLERANCE = 1e-4  # largest difference of a probability between a model and its exported program


@dataclass(frozen=True, kw_only=True)
class Version:
    """A network as it was committed, with what is needed to use it.

    Attributes:
        stage: its line of the ledger.
        recipe: how it was trained.
        task: its classes and inputs.
        model: the network, on its device.
        device: where it computes.
    """

    stage: Stage
    recipe: Recipe
    task: Task
    model: nn.Module
    device: torch.device

    @classmethod
    def load(
        cls,
        path: Path | str,
        number: int | None = None,
        *,
        model: Callable[[], nn.Module] | str | None = None,
        device: str = "auto",
    ) -> Self:
        """Load a version of a run directory, or one that was exported to a `.safetensors` file.

        Args:
            path: the run directory, or the file; what `export` wrote beside the file is read, too.
            number: which version; None takes the one in use, or the one in the file.
            model: as for `Learner.open`: needed where the recipe names code of the user's own.
            device: "auto", "cpu" or "cuda".

        Raises:
            InputError: if there is no such version, its weights were pruned, or a file is damaged.
        """
        chosen = choose_device(device)
        if Path(path).is_file():
            recipe, stage, task, weights = _read_export(Path(path), number, model)
        else:
            directory = RunDirectory(path)
            directory.require()
            recipe = agree(directory, None, model)
            stage = directory.find_stage(number)
            files = directory.versions.read_model(stage)
            weights = dict(files.model)
            with parsing(directory.path / version_folder(stage.version)):
                task = Task.from_dict(files.task)
        with forked_rng(None):
            network = build_network(recipe, task, None if isinstance(model, str) else model)
        restore_model(network, weights)
        network.to(chosen)
        return cls(stage=stage, recipe=recipe, task=task, model=network.eval(), device=chosen)

    @property
    def class_names(self) -> list[str]:
        """The classes in order of labels; numbers where they have no names."""
        return list(self.task.class_names) or [str(label) for label in range(self.task.num_classes)]

    def logits(self, examples: Examples) -> Iterator[Tensor]:
        """Yield logits (n, classes), float32 on the CPU, piece by piece in stored order; labels are ignored.

        Raises:
            InputError: if the inputs do not fit.
        """
        self.task.check_inputs(examples)
        pieces = stream_outputs(self.model, examples, self.device, suits_channels_last(self.model))
        while True:
            # Entered for each piece, and not left open while the caller works on it.
            with arithmetic(self.recipe), mixed_precision(self.recipe, self.device), evaluating(self.model):
                logits = next(pieces, None)
            if logits is None:
                return
            yield logits


def write_predictions(
    version: Version,
    examples: Examples,
    file: TextIO,
    form: Literal["csv", "jsonl"],
    ids: Sequence[str] | None = None,
) -> None:
    """Write one line for each example, with the predicted class and the probability of every class.

    CSV has a header; a JSON line is {"row": 0, "prediction": "cat", "probabilities": {"cat": 0.9, ...}}. Images in
    files bring the path in their folder along ("file"), and rows of a table their names ("id"), where `ids` holds them.
    Classes that have no names go by their numbers. Lines are written as they are computed, so the data need not fit
    into memory. In CSV a name that a spreadsheet would take for a formula (`=cmd`) has an apostrophe before it, which
    makes it text there; JSON lines have all names as they are.

    Raises:
        InputError: if the inputs do not fit, or the form is unknown.
    """
    if form not in ("csv", "jsonl"):
        raise InputError(f"format must be csv or jsonl, got {form!r}")
    names = version.class_names
    answers: list[str | int] = list(version.task.class_names) or list(range(version.task.num_classes))
    table = csv.writer(file, lineterminator="\n")
    version.task.check(examples)
    files = file_names(examples)
    if form == "csv":
        places = [*(["file"] if files else []), *(["id"] if ids else [])]
        table.writerow(["row", *places, "prediction", *map(spreadsheet_text, names)])
    row = 0
    for logits in version.logits(examples):
        for shares in torch.softmax(logits.double(), dim=1).tolist():
            prediction = answers[max(range(len(shares)), key=shares.__getitem__)]
            place = {"row": row} | ({"file": files[row]} if files else {}) | ({"id": ids[row]} if ids else {})
            if form == "csv":
                cells = map(spreadsheet_text, [*place.values(), prediction])
                table.writerow([*cells, *(f"{share:.9g}" for share in shares)])
            else:
                probabilities = dict(zip(names, shares, strict=True))
                file.write(to_json({**place, "prediction": prediction, "probabilities": probabilities}) + "\n")
            row += 1


def export(version: Version, file: Path) -> list[Path]:
    """Write a version for use elsewhere; the ending says how.

    `.safetensors` holds the weights by name, and `.pt2` a program made by torch.export, which runs without this
    library. It takes inputs as chunks hold them (images uint8, 0 to 255), in batches of any size, and refuses any other
    type or shape. The recipe goes beside it as `.toml`, and what the weights need besides as `.json`: `task` (classes,
    shape of inputs, normalization), `program` (what the program takes and gives), `stage`, the version's line of the
    ledger, and checksums. `Version.load` takes the weights up again with what lies beside them. Both kinds may
    bear one name; an earlier export of that name is replaced, and no other file.

    Returns:
        The files written.

    Raises:
        InputError: for another ending, a folder that is not there, a name that other files have, or a program whose
            outputs are not the model's.
    """
    if file.suffix not in (".safetensors", ".pt2"):
        raise InputError(f"cannot export to {file}: the ending must be .safetensors or .pt2")
    if not file.parent.is_dir():
        raise InputError(f"cannot export to {file}: there is no folder {file.parent}")
    recipe_file, facts_file = file.with_suffix(".toml"), file.with_suffix(".json")
    earlier = read_facts(facts_file)
    strangers = [path for path in (file, recipe_file, facts_file) if path.exists() and earlier is None]
    if strangers:
        raise InputError(f"cannot export to {file}: {strangers[0]} is there and no export of lure; choose another name")
    content = tensors_to_bytes(version.model.state_dict()) if file.suffix == ".safetensors" else export_program(version)
    recipe = to_toml(version.recipe).encode()
    facts: dict[str, Any] = {
        "task": version.task.as_dict(),
        "program": _describe_program(version.task),
        "stage": version.stage.as_dict(),
    }
    facts = json.loads(to_json(facts))
    same = earlier is not None and all(earlier.get(name) == value for name, value in facts.items())
    facts["sha256"] = dict(earlier["sha256"]) if earlier and same else {}  # the other kind's stays, too
    facts["sha256"] |= {file.name: checksum(content), recipe_file.name: checksum(recipe)}
    contents = {recipe_file: recipe, facts_file: seal_facts(facts, facts_file.name), file: content}
    for path, data in contents.items():
        replace_file(path, data)
    return [file, recipe_file, facts_file]


def _read_export(
    file: Path, number: int | None, model: Callable[[], nn.Module] | str | None
) -> tuple[Recipe, Stage, Task, dict[str, Tensor]]:
    """Return recipe, stage, task and weights of a version that `export` wrote."""
    if file.suffix != ".safetensors":
        raise InputError(
            f"cannot read a model from {file}: give a run directory, or a .safetensors file of lure export"
        )
    beside = {ending: file.with_suffix(ending) for ending in (".toml", ".json")}
    for part in beside.values():
        if not part.is_file():
            raise InputError(f"{file} needs {part.name} beside it: lure export writes both")
    contents = {part.name: part.read_bytes() for part in (file, *beside.values())}
    with parsing(beside[".json"]):
        facts = json.loads(contents[beside[".json"].name])
        if not are_intact(facts, beside[".json"].name):
            raise InputError(f"{beside['.json']} is not what was exported: export the version again")
        stage, task, sums = Stage.from_dict(facts["stage"], file), Task.from_dict(facts["task"]), dict(facts["sha256"])
    for name in (file.name, beside[".toml"].name):
        if checksum(contents[name]) != sums.get(name):
            raise InputError(f"{file.with_name(name)} is not what was exported: export the version again")
    if number not in (None, stage.version):
        raise InputError(f"{file} holds version {stage.version}, not {number}")
    with parsing(beside[".toml"]):
        recipe = parse_recipe(contents[beside[".toml"].name].decode(), str(beside[".toml"]))
    require_consent(str(file), recipe, {"model": model})
    return recipe, stage, task, bytes_to_tensors(contents[file.name], file)


class _Program(nn.Module):
    """A network as other programs call it: inputs as chunks hold them, logits as float32."""

    def __init__(self, network: nn.Module, input_dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.input_dtype = network, input_dtype

    def forward(self, inputs: Tensor) -> Tensor:
        # A traced program checks no type by itself, and would compute nonsense from another one.
        torch.ops.aten._assert_tensor_metadata(inputs, dtype=self.input_dtype)
        if self.input_dtype == torch.uint8:
            inputs = inputs.to(torch.float32) / 255
        return read_logits(self.network(inputs)).float()


def _describe_program(task: Task) -> dict[str, Any]:
    """Return what a program takes and gives, for those who call it."""
    image = task.input_dtype == "uint8"
    takes = {"dtype": task.input_dtype, "shape": ["batch", *task.input_shape], "range": [0, 255] if image else None}
    return {"takes": takes, "gives": {"dtype": "float32", "shape": ["batch", task.num_classes], "meaning": "logits"}}


def export_program(version: Version) -> bytes:
    """Return the model as a program of torch.export, after comparing its outputs with the model's."""
    import io

    inputs = _made_up_inputs(version)
    network = _Program(version.model, inputs.dtype).eval()
    with arithmetic(version.recipe), evaluating(version.model), torch.no_grad():
        shapes: Any = ({0: torch.export.Dim("batch")},)
        program = torch.export.export(network, (inputs,), dynamic_shapes=shapes)
        stream = io.BytesIO()
        torch.export.save(program, stream)
        stream.seek(0)
        again = torch.export.load(stream).module()
        for batch in (inputs, inputs[:1], torch.cat([inputs, inputs])):
            ours, theirs = (torch.softmax(net(batch), dim=1) for net in (network, again))
            difference = float((ours - theirs).abs().max())
            if not difference <= TOLERANCE:
                raise InputError(
                    f"the exported program does not compute what the model does: probabilities differ by {difference:g}"
                )
    return stream.getvalue()


def _made_up_inputs(version: Version) -> Tensor:
    shape, kind = version.task.input_shape, getattr(torch, version.task.input_dtype)
    generator = torch.Generator().manual_seed(0)
    if kind == torch.uint8:
        return torch.randint(0, 256, (8, *shape), dtype=kind, generator=generator).to(version.device)
    if kind.is_floating_point:
        return torch.rand((8, *shape), generator=generator).to(version.device, kind)
    return torch.zeros((8, *shape), dtype=kind, device=version.device)
