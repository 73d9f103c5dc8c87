"""The checkpoint of the running stage: there between two epochs, gone once the stage is committed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lure.errors import InputError
from lure.store.durable import checksum, file_checksum, make_folder, remove, replace_file, seal, unseal, writing
from lure.store.undo import UndoList

if TYPE_CHECKING:
    from torch import Tensor

RECORD = "progress.json"


class Progress:
    """The checkpoint folder of one run: a file of tensors, and a record of what they belong to.

    Args:
        folder: `DIR/progress`; need not exist.
        undo: notes what is made here.
    """

    def __init__(self, folder: Path, undo: UndoList) -> None:
        self.folder = folder
        self._undo = undo

    def save(self, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """Write a checkpoint. The old one is valid until the new one is whole.

        Args:
            tensors: name -> tensor.
            record: plain values; holds `stage` and `epoch` at least.

        Raises:
            StorageError: if the disk refuses; the old checkpoint then stands.
        """
        from lure.store.tensors import tensors_to_bytes

        self._undo.add(self.folder)
        with writing(self.folder):
            make_folder(self.folder)
            data = tensors_to_bytes(tensors)
            name = f"{record['stage']:04d}-{record['epoch']:05d}.safetensors"
            replace_file(self.folder / name, data)
            replace_file(self.folder / RECORD, seal({**record, "file": name, "sha256": checksum(data)}))
            for old in self.folder.glob("*.safetensors"):
                if old.name != name:
                    old.unlink()

    def record(self) -> dict[str, Any] | None:
        """Return the record, or None if there is no checkpoint.

        Raises:
            InputError: naming the file, if the record is damaged.
        """
        path = self.folder / RECORD
        try:
            record = unseal(path.read_bytes())
        except FileNotFoundError:
            return None
        if record is None or not {"stage", "epoch", "file", "sha256"} <= record.keys():
            raise InputError(f"{path} is damaged: remove the folder {self.folder} to begin the running stage again")
        return record

    def check(self) -> dict[str, Any] | None:
        """Return the record, or None if there is no checkpoint, after comparing the checksum of the tensors.

        Raises:
            InputError: naming the file, if one is damaged.
        """
        record = self.record()
        if record is not None:
            file = self._file(record)
            if not file.is_file() or file_checksum(file) != record["sha256"]:
                raise InputError(f"{file} is damaged: remove the folder {self.folder} to begin the running stage again")
        return record

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return tensors and record, or None if there is no checkpoint.

        Raises:
            InputError: naming the file, if one is damaged.
        """
        from lure.store.tensors import bytes_to_tensors

        record = self.check()
        if record is None:
            return None
        file = self._file(record)
        return bytes_to_tensors(file.read_bytes(), file), record

    def clear(self) -> None:
        """Remove the checkpoint: its stage is committed, or another one is begun."""
        with writing(self.folder):
            remove(self.folder)

    def _file(self, record: Mapping[str, Any]) -> Path:
        return self.folder / Path(str(record["file"])).name
