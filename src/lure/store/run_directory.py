"""The run directory on disk: what is written, in which order, and how it is read back.

A stage's version is written as a folder, whole or not at all; only then is its line appended to the ledger, and that
line is the commit: a version without a line is the leftover of an interrupted commit and is written again. Nothing is
pickled. Every committed file's SHA-256 stands in the ledger, so damage is named and never silently used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import filelock

from lure.errors import InputError
from lure.recipe import Experiment, parse_toml
from lure.settings import format_value
from lure.store.agreement import Agreement
from lure.store.chunks import Chunks
from lure.store.durable import (
    StorageError,
    checksum,
    make_folder,
    parsing,
    read_checked,
    read_file,
    remove,
    replace_file,
    require_own,
    temporary_name,
    tidying,
    to_sealed_json,
    writing,
)
from lure.store.ledger import LEDGER, SEAL, Ledger, Standing
from lure.store.progress import Progress
from lure.store.stage import Stage
from lure.store.undo import UndoList
from lure.store.versions import VersionFiles, Versions

if TYPE_CHECKING:
    from torch import Tensor

RECIPE, INITIAL, AGREEMENT, RESULT = "recipe.toml", "initial.safetensors", "production.json", "result.json"
EVALUATIONS = "evaluations"
FIXED = (RECIPE, INITIAL, AGREEMENT)  # what a run is begun with; their checksums stand in every line of the ledger


class DirectoryInUse(InputError):
    """Another process holds the run directory: it may be free later."""


class RunDirectory:
    """One run on disk, held by one process at a time.

    Use it as a context: entering takes the lock, which the operating system frees when the process dies, however it
    dies. Reading needs no lock. Nothing is created before `create` is called.

    Args:
        path: the directory; need not exist.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.ledger = Ledger(self.path)
        self.undo = UndoList()
        self.chunks = Chunks(self.path / "chunks", self.undo, self.named_chunks)
        self.progress = Progress(self.path / "progress", self.undo)
        self.versions = Versions(self.path)
        self._lock: filelock.BaseFileLock | None = None

    def __enter__(self) -> Self:
        if self.path.exists():
            self._take_lock()
            self.ledger.forget()  # another process may have appended to it before
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
        self.undo.add(path)
        for name in (".lock", LEDGER, "chunks", "versions"):
            require_own(self.path / name)
        lock = filelock.FileLock(path, timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise DirectoryInUse(f"{self.path} is in use by another process that is still running") from None
        except OSError as error:
            raise StorageError(f"cannot write to {self.path}: {error.strerror}") from None
        self._lock = lock

    def _tidy(self) -> None:
        """Remove what a killed process left: temporary files, and the checkpoint of a committed stage."""
        if not self.exists:
            return
        with writing(self.path):
            for name in (RECIPE, INITIAL, AGREEMENT, RESULT, LEDGER, SEAL):
                remove(temporary_name(self.path / name))
            for pattern in (".progress*.tmp", "chunks/.*.tmp", "versions/.*.tmp"):
                for leftover in self.path.glob(pattern):
                    remove(leftover)
        self.ledger.renew_seal()
        num_stages = len(self.stages)
        # An interrupted commit leaves the next version. Any later one had a line once, and must not be written over.
        for number, version in self.versions.folders():
            if number > num_stages + 1:
                raise InputError(
                    f"{version} stands there, but {self.ledger.path} has {num_stages} stages: "
                    f"restore the ledger from a backup"
                )
        if self.progress.folder.is_symlink():
            self.progress.clear()
        if self.progress.folder.exists():
            record = self.progress.record()
            if record is None or record["stage"] <= num_stages:
                self.progress.clear()

    def discard(self) -> None:
        """Remove what this process wrote and did not commit: bad input changes nothing on disk."""
        self.undo.undo()
        if self._lock is not None and not self.path.exists():
            self._lock.release()
            self._lock = None

    # What is there

    @property
    def exists(self) -> bool:
        """Whether a run was begun here; one that lost its recipe is damaged, and no new one."""
        return any((self.path / name).exists() for name in (RECIPE, LEDGER))

    def require(self) -> None:
        """Raise unless a run was begun here.

        Raises:
            InputError: if not.
        """
        if not self.exists:
            if not self.path.exists():
                raise InputError(f"there is no directory {self.path}")
            raise InputError(f"{self.path} is not a run directory: it has no {RECIPE}")

    def require_vacant(self) -> None:
        """Raise if there is no run here, but something under the names that a run would write to.

        Raises:
            InputError: naming it.
        """
        for name in (SEAL, INITIAL, RESULT, "versions", "progress", EVALUATIONS):
            if (self.path / name).exists():
                raise InputError(
                    f"{self.path} holds {name} but no {RECIPE}: "
                    f"choose another directory, or restore {RECIPE} from a backup"
                )

    @property
    def stages(self) -> Sequence[Stage]:
        """The committed stages, oldest first.

        Raises:
            InputError: if the ledger is damaged.
        """
        return self.ledger.stages

    @property
    def standing(self) -> Standing:
        """The state that the ledger implies: the version in use, for one.

        Raises:
            InputError: if the ledger is damaged.
        """
        return self.ledger.standing

    def find_stage(self, number: int | None = None) -> Stage:
        """Return the stage of a version, or of the version in use.

        Raises:
            InputError: if there is none, or its weights were pruned.
        """
        number = self.standing.current if number is None else number
        if not self.stages:
            raise InputError(f"{self.path} has no version yet: give it a first chunk (lure update)")
        if not 1 <= number <= len(self.stages):
            raise InputError(f"{self.path} has no version {number}: it has 1 to {len(self.stages)}")
        if number in self.standing.pruned:
            raise InputError(f"version {number} of {self.path} was pruned: its weights are gone")
        return self.stages[number - 1]

    def agreement(self) -> Agreement | None:
        """Return what `lure init` fixed; None for a plain run.

        Raises:
            InputError: if the record is damaged.
        """
        path = self.path / AGREEMENT
        expected = self.stages[0].files.get(AGREEMENT) if self.stages else None
        if expected is None and not path.exists():
            return None
        return Agreement.from_bytes(read_file(path) if expected is None else read_checked(path, expected), path)

    def class_names(self) -> list[str]:
        """Return the classes in order of labels: those that `lure init` fixed, and those that stages brought since.

        A class that a refused version brought keeps its place, so a label means one class for ever. [] without names.

        Raises:
            InputError: if ledger or record is damaged.
        """
        agreement = self.agreement()
        names = list(agreement.class_names) if agreement is not None else []
        for stage in self.stages if names else ():
            if (known := stage.num_classes or 0) > len(names):
                names += stage.new_classes[len(names) - known :]
        return names

    def holdout(self) -> tuple[str, ...]:
        """Return the fingerprints of the holdout's parts: what `lure init` stored, and what stages added, in order.

        Raises:
            InputError: if ledger or record is damaged.
        """
        agreement = self.agreement()
        added = [stage.holdout_added for stage in self.stages if stage.holdout_added is not None]
        return () if agreement is None else (agreement.holdout, *added)

    def named_chunks(self) -> list[str]:
        """Return the fingerprints of all chunks that the ledger, or what `lure init` fixed, says are stored here.

        Raises:
            InputError: if ledger or record is damaged.
        """
        agreement = self.agreement()
        sets = () if agreement is None else (*self.holdout(), agreement.independent)
        chunks = [stage.data_fingerprint for stage in self.stages if stage.data_stored]
        return list(dict.fromkeys([*chunks, *filter(None, sets)]))

    def recipe_text(self) -> str:
        """Return the content of recipe.toml, which is still what the run was begun with.

        Raises:
            InputError: if it is missing, damaged, or was edited; names the fields where they are known.
        """
        path = self.path / RECIPE
        try:
            text = read_file(path).decode()
        except FileNotFoundError:
            raise InputError(
                f"{path} is missing, but {LEDGER} is there: restore it from a backup, or choose another directory"
            ) from None
        except UnicodeDecodeError:
            raise InputError(f"{path} is damaged: it is not UTF-8 text; restore it from a backup") from None
        agreement = self.agreement()
        if agreement is not None and (differing := _differing_values(agreement.recipe, parse_toml(text, path))):
            raise InputError(f"{path} was edited after lure init ({'; '.join(differing)}): put the values back")
        with parsing(self.ledger.path):
            unchanged = not self.stages or checksum(text.encode()) == self.stages[0].files[RECIPE]
        if not unchanged:
            raise InputError(f"{path} was edited after the first stage: restore it from a backup")
        return text

    @property
    def has_initial(self) -> bool:
        """Whether the weights from before stage 1 are there."""
        return (self.path / INITIAL).exists()

    def read_initial(self) -> dict[str, Tensor]:
        """Return the weights from before stage 1.

        Raises:
            InputError: if they are damaged; the ledger's checksum decides once a stage is committed.
        """
        from lure.store.tensors import bytes_to_tensors

        path = self.path / INITIAL
        with parsing(self.ledger.path):
            expected = self.stages[0].files[INITIAL] if self.stages else None
        return bytes_to_tensors(read_file(path) if expected is None else read_checked(path, expected), path)

    # What is written, in the order of a run

    def create(self) -> None:
        """Make the directory and take its lock; `begin` then says that a run is there.

        Raises:
            InputError: if the directory cannot be written to.
            DirectoryInUse: if another process begins a run there.
        """
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        for folder in reversed(missing):
            try:
                self.undo.add(folder, whole=False)
                make_folder(folder)
            except OSError as error:
                self.discard()
                raise StorageError(f"cannot create {self.path}: {error.strerror}") from None
        if self._lock is None:
            self._take_lock()
            if self.exists:
                raise DirectoryInUse(f"{self.path} was begun by another process just now: run the same command again")

    def begin(self, recipe_text: str, agreement: Agreement | None = None) -> None:
        """Begin a run in the directory that `create` made; the recipe comes last, for its presence says "begun".

        Args:
            recipe_text: what recipe.toml is to hold.
            agreement: what every update must agree with; the data sets that it names are stored already.

        Raises:
            StorageError: if the disk refuses.
        """
        if agreement is not None:
            self._write(self.path / AGREEMENT, agreement.to_bytes())
        self._write(self.path / RECIPE, recipe_text.encode())

    def store_initial(self, tensors: Mapping[str, Tensor]) -> None:
        """Write the weights from before stage 1."""
        from lure.store.tensors import tensors_to_bytes

        self._write(self.path / INITIAL, tensors_to_bytes(tensors))

    def _write(self, path: Path, content: bytes) -> None:
        self.undo.add(path)
        replace_file(path, content)

    def commit(self, stage: Stage, files: VersionFiles) -> Stage:
        """Write a version and append its line to the ledger; return the stage as committed.

        Args:
            stage: the line, but for `files`.
            files: what the version's folder is to hold.

        Raises:
            StorageError: if the disk refuses; the stage is then not committed.
        """
        sums = {name: checksum((self.path / name).read_bytes()) for name in FIXED if (self.path / name).exists()}
        sums |= self.versions.write(stage.version, files)
        committed = dataclasses.replace(stage, files=sums)
        self.ledger.append({"event": "stage", **committed.as_dict()})
        self.undo.clear()
        with tidying(self.progress.folder):
            self.progress.clear()
        return committed

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write result.json, its own checksum included."""
        replace_file(self.path / RESULT, to_sealed_json(result))


def _differing_values(agreed: Mapping[str, Any], stored: Mapping[str, Any]) -> list[str]:
    """Return "field: agreed -> stored" for the fields in which two recipes differ; one left out has its default."""
    defaults = {field.name: field.default for field in dataclasses.fields(Experiment)}
    differing = []
    for name in dict.fromkeys((*agreed, *stored)):
        old, new = (_plain(values.get(name, defaults.get(name))) for values in (agreed, stored))
        if old != new:
            differing.append(f"{name}: {format_value(old)} -> {format_value(new)}")
    return differing


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
