"""The run directory on disk: what is written, in which order, and how it is read back.

A stage's version is written as a folder, whole or not at all; only then is its line appended to the ledger, and that
line is the commit: a version without a line is the leftover of an interrupted commit and is written again. Nothing is
pickled. Every committed file's SHA-256 stands in the ledger, so damage is named and never silently used.
"""

import json
import re
import tokenize
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import filelock
import numpy as np
import torch
from torch import Tensor

from lure.data.examples import HASH_ROWS, Examples, HashedStore
from lure.errors import InputError
from lure.store.durable import (
    StorageError,
    bytes_to_tensors,
    checksum,
    make_folder,
    parsing,
    remove,
    replace_file,
    seal,
    temporary_name,
    tensors_to_bytes,
    to_json,
    unseal,
    write_folder,
    writing,
)
from lure.store.ledger import LEDGER, SEAL, Standing, append_line, read_ledger, renew_seal, standing

RECIPE, INITIAL, PRODUCTION, RESULT = "recipe.toml", "initial.safetensors", "production.json", "result.json"
MODEL, STATE, FACTS, HOLDOUT = "model.safetensors", "state.safetensors", "state.json", "holdout.safetensors"
PRODUCTION_FIELDS = ("holdout", "independent", "class_names", "columns", "normalization", "gate", "recipe")
WEIGHTS = (MODEL, STATE, FACTS)  # what a version needs to be used or gone on from; what pruning removes


class RunDirectory:
    """One run on disk, held by one process at a time.

    Use it as a context: entering takes the lock, which the operating system frees when the process dies, however it
    dies. Reading needs no lock. Nothing is created before `create` is called.

    Args:
        path: the directory; need not exist.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._lock: filelock.BaseFileLock | None = None
        self._uncommitted: list[Path] = []

    def __enter__(self) -> Self:
        if self.path.exists():
            self._take_lock()
            try:
                self._tidy()
            except BaseException as error:
                self.__exit__(type(error), error, error.__traceback__)
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, InputError) and not isinstance(error, StorageError):
            self.discard()
        if self._lock is not None:
            self._lock.release()

    def _take_lock(self) -> None:
        if not self.path.is_dir():
            raise InputError(f"{self.path} is a file: give a directory")
        path = self.path / ".lock"
        if not path.exists():
            self._uncommitted.append(path)
        for name in (".lock", LEDGER, "chunks", "versions"):
            self._own(self.path / name)
        lock = filelock.FileLock(path, timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise InputError(f"{self.path} is in use by another process that is still running") from None
        except OSError as error:
            raise StorageError(f"cannot write to {self.path}: {error.strerror}") from None
        self._lock = lock

    def _tidy(self) -> None:
        """Throw away what a killed process left: what never got its name, and the checkpoint of a committed stage."""
        if not self.exists:
            return
        with writing(self.path):
            for name in (RECIPE, INITIAL, PRODUCTION, RESULT, LEDGER, SEAL):
                remove(temporary_name(self.path / name))
            for pattern in ("chunks/.*.tmp", "versions/.*.tmp"):
                for leftover in self.path.glob(pattern):
                    remove(leftover)
        renew_seal(self.path)
        num_stages = len(self.stages())
        # An interrupted commit leaves the next version. Any later one had a line once, and must not be written over.
        for number, version in self.version_folders():
            if number > num_stages + 1:
                raise InputError(
                    f"{version} stands there, but {self.path / LEDGER} has {num_stages} stages: "
                    f"restore the ledger from a backup"
                )
        folder = self.path / "progress"
        if folder.is_symlink():
            self.clear_progress()
        if folder.exists():
            facts = self.progress_facts()
            if facts is None or facts["stage"] <= num_stages:
                self.clear_progress()

    def _own(self, path: Path) -> None:
        """Raise if something in the directory is a link: what is written must not end up elsewhere."""
        if path.is_symlink():
            raise InputError(f"{path} is a link to somewhere else: put the file or folder itself there")

    def version_folders(self) -> list[tuple[int, Path]]:
        """Return the numbers and folders of the versions that are there, committed or not."""
        found = [folder for folder in (self.path / "versions").glob("[0-9]*") if folder.name.isdecimal()]
        return sorted((int(folder.name), folder) for folder in found)

    def discard(self) -> None:
        """Remove what this process wrote and did not commit: bad input changes nothing on disk."""
        with suppress(OSError):
            for path in reversed(self._uncommitted):
                if not path.is_dir() or path.parent.name == "chunks" or path.name == "progress":
                    remove(path)
                elif not any(path.iterdir()):
                    path.rmdir()
        self._uncommitted.clear()
        if self._lock is not None and not self.path.exists():
            self._lock.release()
            self._lock = None

    def _will_write(self, path: Path) -> None:
        """Note what is about to be made, so that `discard` can take it back."""
        if not path.exists():
            self._uncommitted.append(path)

    # What is there

    @property
    def exists(self) -> bool:
        """Whether a run was begun here; one that lost its recipe is damaged, and no new one."""
        return any((self.path / name).exists() for name in (RECIPE, LEDGER))

    def require(self) -> None:
        """Raise unless a run was begun here."""
        if not self.exists:
            raise InputError(f"{self.path} is not a run directory: it has no {RECIPE}")

    def require_vacant(self) -> None:
        """Raise if there is no run here, but something under the names that a run would write to.

        Raises:
            InputError: naming it.
        """
        for name in (SEAL, INITIAL, RESULT, "versions", "progress", "evaluations"):
            if (self.path / name).exists():
                raise InputError(
                    f"{self.path} holds {name} but no {RECIPE}: "
                    f"choose another directory (--out), or restore {RECIPE} from a backup"
                )

    def recipe_text(self) -> str:
        """Return the content of recipe.toml.

        Raises:
            InputError: if it is missing or not text.
        """
        path = self.path / RECIPE
        try:
            return path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise InputError(
                f"{path} is missing, but {LEDGER} is there: restore it from a backup, or choose another directory"
            ) from None
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise InputError(f"{path} is damaged: it is not UTF-8 text; restore it from a backup") from None

    def production(self) -> dict[str, Any] | None:
        """Return what `lure init` fixed (holdout, test set, class names, gate, recipe); None for a plain run.

        Raises:
            InputError: if the record is damaged.
        """
        path = self.path / PRODUCTION
        stages = self.stages()
        with parsing(self.path / LEDGER):
            expected = stages[0]["files"].get(PRODUCTION) if stages else None
        if expected is None and not path.exists():
            return None
        record = unseal(path.read_bytes() if expected is None else self.read_checked(PRODUCTION, expected))
        if record is None:
            raise InputError(f"{path} is damaged: restore it from a backup")
        with parsing(path):
            return {name: record[name] for name in PRODUCTION_FIELDS}

    def events(self) -> list[dict[str, Any]]:
        """Return every line of the ledger, oldest first.

        Raises:
            InputError: if the ledger is damaged.
        """
        return read_ledger(self.path)

    def standing(self) -> Standing:
        """Return what the ledger comes to: the version in use, for one."""
        with parsing(self.path / LEDGER):
            return standing(self.events())

    def stages(self) -> list[dict[str, Any]]:
        """Return the committed stages, oldest first.

        Raises:
            InputError: if the ledger is damaged.
        """
        lines = [line for line in self.events() if line["event"] == "stage"]
        return [{key: value for key, value in line.items() if key != "event"} for line in lines]

    def read_checked(self, name: str, expected: str) -> bytes:
        """Return a file's bytes after comparing their checksum.

        Raises:
            InputError: naming the file, if it is missing or damaged.
        """
        path = self.path / name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from None
        if checksum(data) != expected:
            raise InputError(f"{path} is damaged: its SHA-256 is not the one in the ledger; restore it from a backup")
        return data

    def _read_of_version(self, stage: Mapping[str, Any], name: str) -> bytes:
        name = f"{version_folder(stage['version'])}/{name}"
        with parsing(self.path / LEDGER):
            expected = stage["files"][name]
        return self.read_checked(name, expected)

    def read_model(self, stage: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return (weights, state facts) of a committed stage.

        Raises:
            InputError: naming the file, if one is missing or damaged.
        """
        where = self.path / version_folder(stage["version"])
        weights = bytes_to_tensors(self._read_of_version(stage, MODEL), where / MODEL)
        with parsing(where / FACTS):
            facts = json.loads(self._read_of_version(stage, FACTS))
            return weights, {name: dict(facts[name]) for name in ("task", "replay")}

    def read_state(self, stage: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the tensors of optimiser and replay memory of a committed stage.

        Raises:
            InputError: naming the file, if it is missing or damaged.
        """
        data = self._read_of_version(stage, STATE)
        return bytes_to_tensors(data, self.path / version_folder(stage["version"]) / STATE)

    def read_hits(self, stage: Mapping[str, Any]) -> Tensor:
        """Return which holdout examples a version gets right, bool (N,).

        Raises:
            InputError: naming the file, if it is missing or damaged.
        """
        data = self._read_of_version(stage, HOLDOUT)
        path = self.path / version_folder(stage["version"]) / HOLDOUT
        with parsing(path):
            return bytes_to_tensors(data, path)["correct"]

    @property
    def has_initial(self) -> bool:
        """Whether the weights from before stage 1 are there."""
        return (self.path / INITIAL).exists()

    def read_initial(self) -> dict[str, Tensor]:
        """Return the weights from before stage 1.

        Raises:
            InputError: if they are damaged; the ledger's checksum decides once a stage is committed.
        """
        stages = self.stages()
        path = self.path / INITIAL
        with parsing(self.path / LEDGER):
            data = self.read_checked(INITIAL, stages[0]["files"][INITIAL]) if stages else path.read_bytes()
        return bytes_to_tensors(data, path)

    # What is written, in the order of a run

    def create(self, recipe_text: str, prepare: Callable[[], Mapping[str, Any]] | None = None) -> None:
        """Begin a run: the directory, its lock, and last the recipe, whose presence says "begun".

        Args:
            recipe_text: what recipe.toml is to hold.
            prepare: stores what else must be there (a holdout), and returns the record for production.json.

        Raises:
            InputError: if the directory cannot be written to.
        """
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        for folder in reversed(missing):
            try:
                make_folder(folder)
            except OSError as error:
                self.discard()
                raise StorageError(f"cannot create {self.path}: {error.strerror}") from None
            self._uncommitted.append(folder)
        if self._lock is None:
            self._take_lock()
            if self.exists:
                raise InputError(f"{self.path} was begun by another process just now: run the same command again")
        if prepare is not None:
            record = prepare()
            self._will_write(self.path / PRODUCTION)
            replace_file(self.path / PRODUCTION, seal(record))
        self._will_write(self.path / RECIPE)
        replace_file(self.path / RECIPE, recipe_text.encode())

    def settle(self) -> None:
        """Say that what was written so far is to stay, whatever comes."""
        self._uncommitted.clear()

    def store_initial(self, tensors: Mapping[str, Tensor]) -> None:
        """Write the weights from before stage 1."""
        self._will_write(self.path / INITIAL)
        replace_file(self.path / INITIAL, tensors_to_bytes(tensors))

    def save_progress(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write the running stage's checkpoint. The old one is valid until the new one is whole."""
        folder = self.path / "progress"
        self._will_write(folder)
        with writing(folder):
            make_folder(folder)
            data = tensors_to_bytes(tensors)
            name = f"{facts['stage']:04d}-{facts['epoch']:05d}.safetensors"
            replace_file(folder / name, data)
            replace_file(folder / "progress.json", seal({**facts, "file": name, "sha256": checksum(data)}))
            for old in folder.glob("*.safetensors"):
                if old.name != name:
                    old.unlink()

    def progress_facts(self) -> dict[str, Any] | None:
        """Return where the running stage's checkpoint stands, or None if there is none.

        Raises:
            InputError: naming the file, if the record is damaged.
        """
        path = self.path / "progress" / "progress.json"
        try:
            facts = unseal(path.read_bytes())
        except FileNotFoundError:
            return None
        if facts is None or not {"stage", "epoch", "file", "sha256"} <= facts.keys():
            raise InputError(f"{path} is damaged: remove the folder {path.parent} to begin the running stage again")
        return facts

    def read_progress(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the running stage's checkpoint, or None if there is none.

        Raises:
            InputError: naming the file, if the checkpoint is damaged.
        """
        facts = self.progress_facts()
        if facts is None:
            return None
        folder = self.path / "progress"
        file = folder / Path(str(facts["file"])).name
        if not file.is_file() or checksum(data := file.read_bytes()) != facts["sha256"]:
            raise InputError(f"{file} is damaged: remove the folder {folder} to begin the running stage again")
        return bytes_to_tensors(data, file), facts

    def clear_progress(self) -> None:
        """Remove the checkpoint of the running stage: it is committed, or another one is begun."""
        with writing(self.path / "progress"):
            remove(self.path / "progress")

    def commit(
        self,
        stage: Mapping[str, Any],
        model: Mapping[str, Tensor],
        state: Mapping[str, Tensor],
        facts: Mapping[str, Any],
        correct: Tensor | None = None,
    ) -> dict[str, Any]:
        """Write a version and append its line to the ledger; return the stage as committed.

        Args:
            stage: the ledger line's fields, without `files`.
            model: the weights.
            state: tensors of optimiser and replay memory.
            facts: what else is needed to go on, as plain values.
            correct: which holdout examples the version gets right, bool (N,); None without a gate.
        """
        contents = {MODEL: tensors_to_bytes(model), STATE: tensors_to_bytes(state), FACTS: to_json(facts).encode()}
        if correct is not None:
            contents[HOLDOUT] = tensors_to_bytes({"correct": correct})
        folder = version_folder(stage["version"])
        write_folder(self.path / folder, contents)
        fixed = [name for name in (RECIPE, INITIAL, PRODUCTION) if (self.path / name).exists()]
        files = {name: checksum((self.path / name).read_bytes()) for name in fixed}
        files |= {f"{folder}/{name}": checksum(data) for name, data in contents.items()}
        line = {**stage, "files": files}
        self.append({"event": "stage", **line})
        self.settle()
        self.clear_progress()
        return line

    def append(self, event: Mapping[str, Any]) -> None:
        """Append one line to the ledger."""
        append_line(self.path, event)

    def remove_weights(self, version: int) -> None:
        """Remove a version's weights and state; which holdout examples it got right stays, for the gate."""
        folder = self.path / version_folder(version)
        self._own(folder)
        with writing(folder):
            for name in WEIGHTS:
                (folder / name).unlink(missing_ok=True)

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write result.json, its own checksum included."""
        record = {**result, "sha256": checksum(to_json(result).encode())}
        replace_file(self.path / RESULT, json.dumps(json.loads(to_json(record)), indent=2).encode() + b"\n")

    # Data that were handed to the run, stored once

    def store_chunk(self, examples: Examples) -> Examples:
        """Store examples under their fingerprint, unless they are there already; return the stored ones, mapped.

        They are stored as `as_stored` gives them.

        Raises:
            InputError: if what is stored there already is damaged, or the disk refuses.
        """
        examples = as_stored(examples)
        folder = self.path / "chunks" / examples.fingerprint
        if not folder.exists():
            self._will_write(folder.parent)
            self._uncommitted.append(folder)
            write_folder(folder, {"inputs.npy": _rows_of(examples), "labels.npy": _labels_of(examples)})
        return self.read_chunk(examples.fingerprint)

    def read_chunk(self, fingerprint: str) -> Examples:
        """Return stored examples, memory-mapped, after comparing their fingerprint.

        Raises:
            InputError: naming the folder, if they are missing or damaged.
        """
        examples = self.open_chunk(fingerprint)
        if examples.fingerprint != fingerprint:
            folder = self.path / "chunks" / fingerprint
            raise InputError(f"the stored chunk {folder} is damaged: its content does not match its name")
        return examples

    def open_chunk(self, fingerprint: str) -> Examples:
        """Return stored examples, memory-mapped, without reading them through.

        Raises:
            InputError: naming the folder, if they are missing or no arrays.
        """
        if not re.fullmatch("[0-9a-f]{64}", str(fingerprint)):
            raise InputError(f"{self.path}: {fingerprint!r} is no fingerprint of a chunk")
        return open_arrays(self.path / "chunks" / fingerprint)


@dataclass(frozen=True)
class DecodedRows:
    """The inputs of examples as they come out, whatever they are decoded from; an `InputStore`."""

    examples: Examples

    @property
    def shape(self) -> torch.Size:
        """(rows, ...)."""
        return torch.Size((len(self.examples), *self.examples.input_shape))

    @property
    def dtype(self) -> torch.dtype:
        """As the examples have it."""
        return self.examples.input_dtype

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Return the rows with these numbers."""
        return self.examples[rows].inputs


def as_stored(examples: Examples) -> Examples:
    """Return examples as a run directory stores them: encoded images decoded, and fingerprinted by that."""
    encoded = any(isinstance(part.inputs, HashedStore) for part in examples.parts)
    return Examples(DecodedRows(examples), examples.labels) if encoded else examples


def version_folder(version: int) -> str:
    """Return where a version stands in the run directory.

    Example:
        >>> version_folder(3)
        'versions/0003'
    """
    return f"versions/{version:04d}"


def open_arrays(folder: Path) -> Examples:
    """Return the examples in a folder that holds inputs.npy and labels.npy, mapped into memory."""
    try:
        # Copy-on-write: torch wants writable memory, and the file must not change.
        inputs, labels = (np.load(folder / f"{name}.npy", mmap_mode="c") for name in ("inputs", "labels"))
        return Examples(torch.from_numpy(inputs), torch.from_numpy(labels))
    except (OSError, ValueError, TypeError, EOFError, SyntaxError, ArithmeticError, tokenize.TokenError) as error:
        raise InputError(f"cannot read the stored chunk {folder}: {error}") from None


def _npy_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Return the bytes that an .npy file begins with."""
    text = f"{{'descr': {dtype.str!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    # Ten bytes stand before the text, and the array is to begin at a multiple of 64.
    text += " " * (-(10 + len(text) + 1) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def _rows_of(examples: Examples) -> Iterator[bytes]:
    """Yield the inputs as an .npy file, piece by piece: large data are never in memory whole."""
    kind = examples[:1].inputs.numpy().dtype
    yield _npy_header((len(examples), *examples.input_shape), kind)
    for start in range(0, len(examples), HASH_ROWS):
        yield examples[start : start + HASH_ROWS].inputs.contiguous().numpy().tobytes()


def _labels_of(examples: Examples) -> Iterator[bytes]:
    labels = examples.labels.numpy()
    yield _npy_header(labels.shape, labels.dtype)
    yield labels.tobytes()
