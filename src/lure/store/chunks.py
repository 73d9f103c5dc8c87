"""Data that were handed to a run: stored once under their fingerprint, memory-mapped, with a digest of every row.

A chunk is a folder of plain `.npy` files. Checking one needs no torch, and looking for rows that repeat reads eight
bytes a row, not the data.
"""

from __future__ import annotations

import hashlib
import re
import tokenize
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lure.errors import InputError
from lure.store.durable import remove, replace_file, write_folder, writing
from lure.store.undo import UndoList

if TYPE_CHECKING:
    from lure.data.examples import Examples

INPUTS, LABELS, ROW_DIGESTS = "inputs.npy", "labels.npy", "row_digests.npy"
PIECE = 4096  # rows that are read in one go

Digests = npt.NDArray[np.uint64]


class Chunks:
    """The chunks of one run directory.

    Args:
        folder: `DIR/chunks`; need not exist.
        undo: notes what is made here.
        named: returns the fingerprints of the chunks that are committed. What else lies here was left by a process that
            died.
    """

    def __init__(self, folder: Path, undo: UndoList, named: Callable[[], Collection[str]]) -> None:
        self.folder = folder
        self._undo, self._named = undo, named

    def store(self, examples: Examples) -> Examples:
        """Store examples under their fingerprint, unless they are there already; return the stored ones, mapped.

        Encoded images are stored as they decode (`lure.data.examples.as_stored`). What a killed process left unfinished
        is written anew.

        Raises:
            InputError: if what is stored there already is damaged, or the disk refuses.
        """
        from lure.data.examples import as_stored

        examples = as_stored(examples)
        folder = self.folder / examples.fingerprint
        if folder.exists() and folder.name not in self._named():
            self._undo.adopt(folder)
            if not self._is_whole(folder):
                with writing(folder):
                    remove(folder)
        if not folder.exists():
            self._undo.add(self.folder, whole=False)
            self._undo.add(folder)
            digests: list[int] = []
            # Written in this order: the digests are known once the inputs have passed by.
            files = {
                INPUTS: _input_bytes(examples, digests),
                LABELS: _array_bytes(examples.labels.numpy()),
                ROW_DIGESTS: _digest_bytes(digests),
            }
            write_folder(folder, files)
        return self.read(examples.fingerprint)

    def read(self, fingerprint: str) -> Examples:
        """Return stored examples, memory-mapped, after comparing their content with the fingerprint.

        Raises:
            InputError: naming the folder, if they are missing or damaged.
        """
        self.check(fingerprint)
        examples = self.open(fingerprint)
        vars(examples)["fingerprint"] = fingerprint  # just compared: no need to read the data once more
        return examples

    def open(self, fingerprint: str) -> Examples:
        """Return stored examples, memory-mapped, without reading them through.

        Raises:
            InputError: naming the folder, if they are missing or no arrays.
        """
        from lure.data.examples import Examples

        folder = self._folder(fingerprint)
        with _opening(folder):
            import torch

            inputs, labels = _map_arrays(folder)
            return Examples(torch.from_numpy(inputs), torch.from_numpy(labels))

    def count(self, fingerprint: str) -> int:
        """Return how many examples a chunk holds.

        Raises:
            InputError: naming the folder, if they are missing or no arrays.
        """
        folder = self._folder(fingerprint)
        with _opening(folder):
            return len(_map_arrays(folder)[1])

    def class_counts(self, fingerprint: str) -> list[int]:
        """Return how many examples of each class a chunk holds, in order of labels.

        Raises:
            InputError: naming the folder, if they are missing or no arrays.
        """
        folder = self._folder(fingerprint)
        with _opening(folder):
            counts: list[int] = np.bincount(_map_arrays(folder)[1]).tolist()
            return counts

    def check(self, fingerprint: str) -> None:
        """Raise unless the stored content is what the fingerprint says.

        Raises:
            InputError: naming the folder, if the chunk is missing or damaged.
        """
        folder = self._folder(fingerprint)
        with _opening(folder):
            arrays = _map_arrays(folder)
            for name, array in zip((INPUTS, LABELS), arrays, strict=True):
                _require_end(folder / name, array)
            found = _fingerprint(*arrays)
        if found != fingerprint:
            raise InputError(f"the stored chunk {folder} is damaged: its content does not match its name")

    def unfinished(self) -> Iterator[Path]:
        """Yield the folders here that are no whole chunk, and that nothing committed names.

        Raises:
            InputError: if what names the chunks is damaged.
        """
        named = set(self._named())
        for folder in sorted(self.folder.glob("[!.]*")):
            if folder.name not in named and not self._is_whole(folder):
                yield folder

    def _is_whole(self, folder: Path) -> bool:
        try:
            self.check(folder.name)
            self.check_row_digests(folder.name)
        except InputError:
            return False
        return True

    def row_digests(self, fingerprint: str) -> Digests:
        """Return a 64-bit digest of each input, (N,); equal inputs have equal digests.

        A chunk that an earlier version of lure stored has none beside it: they are computed, and kept for the next
        time.

        Raises:
            InputError: naming the folder, if the chunk is missing or no arrays.
        """
        folder = self._folder(fingerprint)
        with _opening(folder):
            if (folder / ROW_DIGESTS).exists():
                digests: Digests = np.load(folder / ROW_DIGESTS)
                if digests.dtype != np.uint64 or digests.shape != (self.count(fingerprint),):
                    raise ValueError(f"{ROW_DIGESTS} does not hold one digest a row")
                return digests
            digests = digest_rows(_map_arrays(folder)[0])
        self._undo.add(folder / ROW_DIGESTS)
        replace_file(folder / ROW_DIGESTS, b"".join(_array_bytes(digests)))
        return digests

    def check_row_digests(self, fingerprint: str) -> None:
        """Raise unless the digests beside a chunk, if there are any, are those of its rows.

        Raises:
            InputError: naming the file.
        """
        folder = self._folder(fingerprint)
        if not (folder / ROW_DIGESTS).exists():
            return
        with _opening(folder):
            _require_end(folder / ROW_DIGESTS, np.load(folder / ROW_DIGESTS, mmap_mode="r"))
            intact = np.array_equal(self.row_digests(fingerprint), digest_rows(_map_arrays(folder)[0]))
        if not intact:
            raise InputError(f"{folder / ROW_DIGESTS} is damaged: remove it; the next update writes it anew")

    def _folder(self, fingerprint: str) -> Path:
        if not re.fullmatch("[0-9a-f]{64}", str(fingerprint)):
            raise InputError(f"{self.folder.parent}: {fingerprint!r} is not the fingerprint of a chunk")
        return self.folder / fingerprint


def digest_rows(inputs: npt.NDArray[Any]) -> Digests:
    """Return a 64-bit digest of each row of inputs (N, ...), read piece by piece.

    Example:
        >>> first, second, again = digest_rows(np.array([[1, 2], [3, 4], [1, 2]]))
        >>> first == again, first == second
        (np.True_, np.False_)
    """
    pieces = (inputs[start : start + PIECE] for start in range(0, len(inputs), PIECE))
    return np.array([digest for piece in pieces for digest in _digests_of(piece)], dtype=np.uint64)


def _digests_of(piece: npt.NDArray[Any]) -> Iterator[int]:
    rows = np.ascontiguousarray(piece).reshape(len(piece), -1).view(np.uint8)
    return (int.from_bytes(hashlib.blake2b(row.data, digest_size=8).digest(), "little") for row in rows)


@contextmanager
def _opening(folder: Path) -> Iterator[None]:
    """Run a block that reads a chunk; what numpy makes of a damaged file becomes one line."""
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, TypeError, EOFError, SyntaxError, ArithmeticError, tokenize.TokenError) as error:
        raise InputError(f"cannot read the stored chunk {folder}: {error}") from None


def _map_arrays(folder: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    # Copy-on-write: torch wants writable memory, and the file must not change.
    inputs, labels = (np.load(folder / name, mmap_mode="c") for name in (INPUTS, LABELS))
    return inputs, labels


def _require_end(path: Path, array: npt.NDArray[Any]) -> None:
    """Raise if a file goes on after the array that was mapped from it."""
    surplus = path.stat().st_size - getattr(array, "offset", 0) - array.nbytes
    if isinstance(array, np.memmap) and surplus:
        raise ValueError(f"{path.name} has {surplus} bytes too many")


def _fingerprint(inputs: npt.NDArray[Any], labels: npt.NDArray[Any]) -> str:
    """Return what `Examples.fingerprint` is for the same content."""
    digest = hashlib.sha256(f"{inputs.shape[1:]} torch.{inputs.dtype} {len(labels)}".encode())
    for start in range(0, len(inputs), PIECE):
        digest.update(inputs[start : start + PIECE].tobytes())
    digest.update(labels.tobytes())
    return digest.hexdigest()


def _input_bytes(examples: Examples, digests: list[int]) -> Iterator[bytes]:
    """Yield the inputs as an .npy file, piece by piece, and add each row's digest to the list."""
    kind = examples[:1].inputs.numpy().dtype
    yield _npy_header((len(examples), *examples.input_shape), kind)
    for start in range(0, len(examples), PIECE):
        piece = examples[start : start + PIECE].inputs.contiguous().numpy()
        digests += _digests_of(piece)
        yield piece.tobytes()


def _digest_bytes(digests: list[int]) -> Iterator[bytes]:
    """Yield the digests as an .npy file; the list is read only when the first bytes are asked for."""
    yield from _array_bytes(np.array(digests, dtype=np.uint64))


def _array_bytes(array: npt.NDArray[Any]) -> Iterator[bytes]:
    yield _npy_header(array.shape, array.dtype)
    yield array.tobytes()


def _npy_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Return the bytes that an .npy file begins with."""
    text = f"{{'descr': {dtype.str!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    # Ten bytes stand before the text, and the array is to begin at a multiple of 64.
    text += " " * (-(10 + len(text) + 1) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()
