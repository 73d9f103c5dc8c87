"""The versions of a run: a folder each, written whole or not at all, and removed only by pruning."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lure.store.durable import checksum, json_bytes, parsing, read_checked, require_own, tidying, write_folder
from lure.store.ledger import LEDGER
from lure.store.stage import Stage

if TYPE_CHECKING:
    from torch import Tensor

MODEL, STATE, FACTS, HOLDOUT = "model.safetensors", "state.safetensors", "state.json", "holdout.safetensors"
WEIGHTS = (MODEL, STATE, FACTS)  # what a version needs to be used or trained further; what pruning removes


@dataclass(frozen=True, kw_only=True)
class VersionFiles:
    """What a version's folder holds.

    Attributes:
        model: the weights, name -> tensor.
        state: tensors of optimiser and replay memory.
        task: the task's fields.
        replay: what else the replay memory needs, as plain values.
        correct: which test or holdout examples the version gets right, bool (N,); None without any.
    """

    model: Mapping[str, Tensor]
    state: Mapping[str, Tensor]
    task: Mapping[str, Any]
    replay: Mapping[str, Any]
    correct: Tensor | None = None


class Versions:
    """The versions in one run directory.

    Args:
        path: the run directory.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def folders(self) -> list[tuple[int, Path]]:
        """Return the numbers and folders of the versions that are there, committed or not."""
        found = [folder for folder in (self._path / "versions").glob("[0-9]*") if folder.name.isdecimal()]
        return sorted((int(folder.name), folder) for folder in found)

    def write(self, version: int, files: VersionFiles) -> dict[str, str]:
        """Write a version; return the SHA-256 of each of its files.

        Raises:
            StorageError: if the disk refuses.
        """
        from lure.store.tensors import tensors_to_bytes

        facts = {"task": files.task, "replay": files.replay}
        contents = {
            MODEL: tensors_to_bytes(files.model),
            STATE: tensors_to_bytes(files.state),
            FACTS: json_bytes(facts),
        }
        if files.correct is not None:
            contents[HOLDOUT] = tensors_to_bytes({"correct": files.correct})
        folder = version_folder(version)
        write_folder(self._path / folder, contents)
        return {f"{folder}/{name}": checksum(data) for name, data in contents.items()}

    def read_model(self, stage: Stage) -> VersionFiles:
        """Return weights, task and replay facts of a version; optimiser and replay tensors stay unread.

        Raises:
            InputError: naming the file, if one is missing or damaged.
        """
        from lure.store.tensors import bytes_to_tensors

        where = self._path / version_folder(stage.version)
        model = bytes_to_tensors(self._read(stage, MODEL), where / MODEL)
        with parsing(where / FACTS):
            facts = json.loads(self._read(stage, FACTS))
            return VersionFiles(model=model, state={}, task=dict(facts["task"]), replay=dict(facts["replay"]))

    def read(self, stage: Stage) -> VersionFiles:
        """Return all that training can go on from.

        Raises:
            InputError: naming the file, if one is missing or damaged.
        """
        from lure.store.tensors import bytes_to_tensors

        path = self._path / version_folder(stage.version) / STATE
        files = self.read_model(stage)
        return replace(files, state=bytes_to_tensors(self._read(stage, STATE), path))

    def read_hits(self, stage: Stage) -> Tensor | None:
        """Return which test examples a version gets right, bool (N,); None where the version never noted it.

        Raises:
            InputError: naming the file, if it is missing or damaged.
        """
        from lure.store.tensors import bytes_to_tensors

        if f"{version_folder(stage.version)}/{HOLDOUT}" not in stage.files:
            return None

        path = self._path / version_folder(stage.version) / HOLDOUT
        with parsing(path):
            return bytes_to_tensors(self._read(stage, HOLDOUT), path)["correct"]

    def check(self, stage: Stage) -> None:
        """Raise unless all that training can go on from is there and intact.

        Raises:
            InputError: naming the first file that is not.
        """
        for name in WEIGHTS:
            self._read(stage, name)

    def require_own(self, version: int) -> None:
        """Raise if a version's folder is a link: what is removed must not lie elsewhere.

        Raises:
            InputError: naming it.
        """
        require_own(self._path / version_folder(version))

    def remove_weights(self, version: int) -> None:
        """Remove a version's weights and state; which holdout examples it got right stays, for the gate.

        That they are gone is committed already, so what the disk refuses is a warning.
        """
        self.require_own(version)
        folder = self._path / version_folder(version)
        with tidying(folder):
            for name in WEIGHTS:
                (folder / name).unlink(missing_ok=True)

    def _read(self, stage: Stage, name: str) -> bytes:
        name = f"{version_folder(stage.version)}/{name}"
        with parsing(self._path / LEDGER):
            expected = stage.files[name]
        return read_checked(self._path / name, expected)


def version_folder(version: int) -> str:
    """Return where a version stands in the run directory.

    Example:
        >>> version_folder(3)
        'versions/0003'
    """
    return f"versions/{version:04d}"
