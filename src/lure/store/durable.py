"""Writing so that a process killed at any instant leaves the old state or the new one, never a half.

A file is written under a temporary name, flushed to the disk, renamed, and the folder that holds it is flushed; a
folder goes the same way as a whole. A folder that has to go is renamed first, so that none is ever seen half removed.
Temporary names begin with a dot and end in `.tmp`; what a killed process left under such a name is removed by the next
one. Nothing is pickled: tensors are safetensors (`lure.store.tensors`), everything else is JSON.
"""

import hashlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lure.errors import InputError

Content = bytes | Iterable[bytes]  # what goes into a file: whole, or piece by piece where it is large


class StorageError(InputError):
    """The disk refused a write: it is full, read-only or gone. What was committed before stands."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Run a block that writes to `path`; what the operating system refuses becomes one line.

    Raises:
        StorageError: naming the path and the reason.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot write to {path}: {error.strerror or error} (what is committed stands)") from None


@contextmanager
def tidying(path: Path) -> Iterator[None]:
    """Run a block that writes to `path` after a commit; what the operating system refuses becomes a warning.

    What is committed must not be reported as failed, and whatever is left to do here, the next command does.
    """
    try:
        with writing(path):
            yield
    except StorageError as error:
        warnings.warn(f"{error}: this command is committed, and the next one tidies up", stacklevel=4)


@contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Run a block that takes apart what was read from `path`; what lacks the form it was written in is damage.

    Raises:
        InputError: naming the path and the reason.
    """
    try:
        yield
    except InputError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path} is damaged ({reason}): restore it from a backup") from None


def checksum(data: bytes) -> str:
    """Return the SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def file_checksum(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal, however large it is."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_file(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        FileNotFoundError: if it is not there.
        InputError: naming the file, if it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def read_checked(path: Path, expected: str) -> bytes:
    """Return a file's bytes after comparing their SHA-256 with the one in the ledger.

    Raises:
        InputError: naming the file, if it is missing or damaged.
    """
    try:
        data = read_file(path)
    except FileNotFoundError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    if checksum(data) != expected:
        raise InputError(f"{path} is damaged: its SHA-256 is not the one in the ledger; restore it from a backup")
    return data


def require_own(path: Path) -> None:
    """Raise if something in a run directory is a link: what is written must not end up elsewhere.

    Raises:
        InputError: naming it.
    """
    if path.is_symlink():
        raise InputError(f"{path} is a link to somewhere else: put the file or folder itself there")


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder durable; Windows neither needs it nor allows it."""
    if os.name != "nt":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder, if it is not there, so that it stays there."""
    if not path.is_dir():
        path.mkdir(exist_ok=True)  # another process may have made it just now: the runs of a policy share a parent
        sync_folder(path.parent)


def write_new(path: Path, content: Content) -> None:
    """Write a file that does not exist yet, and flush it to the disk."""
    # "x" refuses whatever stands there, a link to somewhere else included.
    with open(path, "xb") as file:
        for piece in [content] if isinstance(content, bytes) else content:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def temporary_name(path: Path) -> Path:
    """Return the name that a file or folder bears until it is whole."""
    return path.with_name(f".{path.name}.tmp")


def is_temporary(path: Path) -> bool:
    """Return whether a file or folder bears the name of something that is not whole yet, or about to go."""
    return path.name.startswith(".") and path.name.endswith(".tmp")


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it is there; whenever the process dies, a folder is whole or gone."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    if not is_temporary(path):
        gone = temporary_name(path.with_name(f"{path.name}.gone"))
        remove(gone)
        os.replace(path, gone)
        sync_folder(path.parent)
        path = gone
    shutil.rmtree(path)


def replace_file(path: Path, content: Content) -> None:
    """Put a file in place as a whole or not at all.

    Raises:
        StorageError: if the disk refuses; the old file then stands.
    """
    temporary = temporary_name(path)
    with writing(path):
        remove(temporary)
        try:
            write_new(temporary, content)
            os.replace(temporary, path)
            sync_folder(path.parent)
        except BaseException:
            remove(temporary)
            raise


def write_folder(path: Path, contents: Mapping[str, Content]) -> None:
    """Put a folder of files in place as a whole or not at all; what stood there is replaced.

    Args:
        path: the folder; the one above it is made if need be.
        contents: file name -> content.

    Raises:
        StorageError: if the disk refuses.
    """
    temporary = temporary_name(path)
    with writing(path):
        make_folder(path.parent)
        remove(temporary)
        temporary.mkdir()
        try:
            for name, content in contents.items():
                write_new(temporary / name, content)
            sync_folder(temporary)
            remove(path)
            os.replace(temporary, path)
            sync_folder(path.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def to_json(value: Any) -> str:
    """Write JSON on one line; NaN and infinity, which JSON lacks, become null."""

    def finite(item: Any) -> Any:
        if isinstance(item, float):
            return item if math.isfinite(item) else None
        if isinstance(item, dict):
            return {key: finite(value) for key, value in item.items()}
        return [finite(value) for value in item] if isinstance(item, list | tuple) else item

    return json.dumps(finite(value), ensure_ascii=False, allow_nan=False)


def json_bytes(value: Any) -> bytes:
    """Return what `to_json` writes, as UTF-8.

    Raises:
        InputError: quoting the text, if one is no text: names of files may hold any bytes.
    """
    text = to_json(value)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        name = text[: error.start].rpartition('"')[2] + text[error.start :].partition('"')[0]
        raise InputError(
            f"{name!r} is no text (UTF-8), which is all that can be recorded: write it otherwise"
        ) from None


def seal(record: Mapping[str, Any]) -> bytes:
    """Return a record as a line of JSON, and its SHA-256 on a second line."""
    text = json_bytes(record)
    return text + b"\n" + checksum(text).encode() + b"\n"


def unseal(data: bytes) -> dict[str, Any] | None:
    """Return the record that `seal` wrote, or None if it is damaged.

    Example:
        >>> unseal(seal({"stage": 3})), unseal(seal({"stage": 3}).replace(b"3", b"4", 1))
        ({'stage': 3}, None)
    """
    text, _, digest = data.partition(b"\n")
    if digest != checksum(text).encode() + b"\n":
        return None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def to_sealed_json(record: Mapping[str, Any]) -> bytes:
    """Return a record as JSON for people and programs, its SHA-256 among its fields."""
    plain = json.loads(to_json(record))
    return json.dumps({**plain, "sha256": checksum(json_bytes(plain))}, indent=2).encode() + b"\n"


def read_sealed_json(path: Path, required: bool = True) -> dict[str, Any]:
    """Return the record that `to_sealed_json` wrote, without its checksum.

    Args:
        path: the file.
        required: whether it must hold a checksum; earlier versions of lure wrote none for some files.

    Raises:
        InputError: naming the file, if it is missing, damaged or was edited.
    """
    try:
        record = json.loads(read_file(path))
        found = record.pop("sha256", None)
        intact = found == checksum(to_json(record).encode()) or (found is None and not required)
    except FileNotFoundError:
        raise InputError(f"{path} is missing") from None
    except InputError:
        raise
    except (ValueError, AttributeError, TypeError, RecursionError):
        intact = False
    if not intact:
        raise InputError(f"{path} is damaged, or was edited: remove it and run the command that writes it again")
    return dict(record)
