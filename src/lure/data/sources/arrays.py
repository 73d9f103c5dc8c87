"""Examples in a `.npz` file: `inputs` and integer `labels`, as `numpy.savez` writes them.

An uncompressed file is memory-mapped and never copied whole; a compressed one is unpacked into memory. Nothing is
unpickled, and the sizes in the headers are checked before memory is allocated.
"""

import math
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lure.data.examples import Examples
from lure.data.sources.dataset import Layout
from lure.errors import InputError
from lure.words import count, dtype_name

CHECKED_ROWS = 4096
PIECE = 1 << 20
# A compressed array may unpack to FREE_BYTES, or to EXPANSION times its size in the file, whichever is more.
FREE_BYTES = 1 << 26
EXPANSION = 200
MAX_CLASSES = 1_000_000
USUAL_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class MappedRows:
    """The rows of an array in a file, read on demand; an `InputStore`.

    Attributes:
        path: the file.
        offset: position of the array's first byte in the file.
        stored: numpy's name of the type in the file, such as "<f8".
        stored_shape: the array's shape in the file.
        by_columns: whether the first index runs fastest (Fortran order).
        order: permutation of the dimensions, such as (0, 3, 1, 2) if channels come last in the file.
        shape: the shape after the permutation.
        dtype: the type that rows are converted to.
    """

    path: Path
    offset: int
    stored: str
    stored_shape: tuple[int, ...]
    by_columns: bool
    order: tuple[int, ...]
    shape: torch.Size
    dtype: torch.dtype

    @cached_property
    def _array(self) -> npt.NDArray[Any]:
        layout: Any = "F" if self.by_columns else "C"
        return np.memmap(self.path, self.stored, "r", self.offset, self.stored_shape, layout)

    def __getstate__(self) -> dict[str, Any]:
        # A worker process maps the file again; pickling the mapping would copy the data.
        return {name: value for name, value in self.__dict__.items() if name != "_array"}

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Return the rows with these numbers, stacked."""
        return _convert(self._array[rows.numpy()], self.order, self.shape[1:], self.dtype)


def _convert(array: npt.NDArray[Any], order: tuple[int, ...], row: torch.Size, dtype: torch.dtype) -> Tensor:
    plain = np.ascontiguousarray(array.transpose(order), dtype=dtype_name(dtype))
    return torch.from_numpy(plain).view(len(plain), *row)


def load_npz(
    path: Path, labelled: bool = True, input_shape: Sequence[int] | None = None, layout: Layout | None = None
) -> Examples:
    """Load a `.npz` file.

    Args:
        path: holds `inputs` (N, H, W), (N, C, H, W), (N, H, W, C) or (N, features), and integer `labels` (N,). Images
            of integers must lie in [0, 255] and become uint8; floating inputs become float32 and must be finite.
        labelled: False if labels are not needed; they are then all 0.
        input_shape: the model's input, if there is one yet.
        layout: where the channels are in four dimensions. None takes the place that fits the model; without a model the
            second dimension if it is 1, 3 or 4, or else the last.

    Raises:
        InputError: if the file is damaged, lacks an array, does not show where its channels are, or holds values that
            cannot be used.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            wanted = ["inputs", "labels"] if labelled else ["inputs"]
            lacking = [name for name in wanted if name not in names]
            if lacking:
                raise InputError(
                    f"{path} lacks the array {lacking[0]!r}: it must hold 'inputs' and 'labels', "
                    f"and holds {', '.join(sorted(names)) or 'nothing'}"
                )
            arrays = {name: _read_array(archive, names[name], path, name) for name in wanted}
    except InputError:
        raise
    except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    inputs = _as_inputs(arrays["inputs"], path, input_shape, layout)
    total = inputs.shape[0]
    labels = _as_labels(arrays["labels"], path) if labelled else torch.zeros(total, dtype=torch.int64)
    if len(labels) != total:
        raise InputError(f"{path} holds {count(total, 'input')} and {count(len(labels), 'label')}")
    return Examples(inputs, labels)


@dataclass(frozen=True)
class _Array:
    """An array of the file: mapped at `offset`, or unpacked into `content`."""

    stored: str
    shape: tuple[int, ...]
    by_columns: bool
    offset: int
    content: npt.NDArray[Any] | None

    def view(self, path: Path) -> npt.NDArray[Any]:
        layout: Any = "F" if self.by_columns else "C"
        if self.content is not None:
            return self.content.view(self.stored).reshape(self.shape, order=layout)
        return np.memmap(path, self.stored, "r", self.offset, self.shape, layout)


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, name: str) -> _Array:
    """Read the header of one array, check it against the sizes in the file, then read the bytes and the checksum."""
    with archive.open(member) as file:
        try:
            version = np.lib.format.read_magic(file)
            readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, by_columns, kind = readers[version](file)
        except (ValueError, KeyError, TypeError, SyntaxError, RecursionError, tokenize.TokenError) as error:
            raise InputError(f"{path}: the array {name!r} has no valid header") from error
        if kind.kind not in "iuf" or kind.itemsize > 8:
            raise InputError(f"{path}: the array {name!r} is of type {kind}; only whole numbers and floats are read")
        header = file.tell()
        size = math.prod(shape) * kind.itemsize
        if any(type(length) is not int or length < 0 for length in shape) or header + size != member.file_size:
            raise InputError(
                f"{path}: the array {name!r} is damaged: shape {shape} of {kind} needs {size} bytes, "
                f"it has {member.file_size - header}"
            )
        mapped = member.compress_type == zipfile.ZIP_STORED
        if not mapped and size > max(FREE_BYTES, EXPANSION * min(member.compress_size, path.stat().st_size)):
            raise InputError(
                f"{path}: the array {name!r} would unpack to {size} bytes, more than {EXPANSION} times its size in the "
                f"file: refused; save it without compression (numpy.savez)"
            )
        content = None if mapped else np.empty(size, np.uint8)
        at = 0
        # A mapped array is read once, too, to verify its checksum.
        while piece := file.read(PIECE):
            if content is not None:
                content[at : at + len(piece)] = np.frombuffer(piece, np.uint8)
            at += len(piece)
        if at != size:
            raise InputError(f"{path}: the array {name!r} is truncated: {at} bytes of {size}")
    with path.open("rb") as raw:
        # Name and extra field lie between the member's local header and its bytes, and may differ from the directory's.
        raw.seek(member.header_offset + 26)
        lengths = raw.read(4)
    begin = member.header_offset + 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
    return _Array(kind.str, shape, by_columns, begin + header, content)


def _find_layout(shape: Sequence[int], path: Path, input_shape: Sequence[int] | None) -> Layout:
    """Return where the channels are in an array of four dimensions."""
    fits: dict[Layout, bool] = {
        "channels-first": tuple(shape[1:]) == tuple(input_shape or ()),
        "channels-last": (shape[3], shape[1], shape[2]) == tuple(input_shape or ()),
    }
    if not any(fits.values()) or all(fits.values()):
        fits = {"channels-first": shape[1] in USUAL_CHANNELS, "channels-last": shape[3] in USUAL_CHANNELS}
    found = next((layout for layout, is_fit in fits.items() if is_fit), None)
    if found is None:
        raise InputError(
            f"{path}: inputs have the shape {tuple(shape)}, and neither the second nor the last dimension is 1, 3 or 4 "
            f"channels: say which it is (--layout channels-first or --layout channels-last)"
        )
    return found


def _as_inputs(
    array: _Array, path: Path, input_shape: Sequence[int] | None, layout: Layout | None
) -> MappedRows | Tensor:
    shape = array.shape
    if len(shape) not in (2, 3, 4) or 0 in shape:
        raise InputError(
            f"{path}: inputs must be (N, features), (N, H, W), (N, C, H, W) or (N, H, W, C), got shape {shape}"
        )
    order = tuple(range(len(shape)))
    row = shape[1:] if len(shape) != 3 else (1, *shape[1:])
    if len(shape) == 4 and (layout or _find_layout(shape, path, input_shape)) == "channels-last":
        order, row = (0, 3, 1, 2), (shape[3], shape[1], shape[2])
    whole = np.dtype(array.stored).kind in "iu"
    images = len(shape) > 2
    dtype = torch.float32
    if whole:
        dtype = torch.uint8 if images or array.stored == "|u1" else torch.int64
    values = array.view(path)
    for start in range(0, len(values), CHECKED_ROWS):
        _check_values(values[start : start + CHECKED_ROWS], start, images, path)
    if array.content is not None:
        return _convert(values, order, torch.Size(row), dtype)
    size = torch.Size((shape[0], *row))
    return MappedRows(path.resolve(), array.offset, array.stored, shape, array.by_columns, order, size, dtype)


def _check_values(rows: npt.NDArray[Any], start: int, images: bool, path: Path) -> None:
    """Refuse values that cannot be trained on or would wrap around: NaN, infinity, pixels that do not fit a byte."""
    if rows.dtype.kind == "f":
        # A value too large for float32 would become infinity.
        good = np.abs(rows) <= np.finfo(np.float32).max
        wrong = "NaN, infinity or a number too large for float32"
    elif images and rows.dtype != np.uint8:
        good = (rows >= 0) & (rows <= 255)
        wrong = "a pixel outside of [0, 255]"
    elif rows.dtype == np.uint64:
        good = rows < 1 << 63
        wrong = "a number of 2**63 or more"
    else:
        return
    if not good.all():
        example = start + int(np.argmin(good.reshape(len(rows), -1).all(axis=1)))
        raise InputError(f"{path}: inputs hold {wrong} at example {example}")


def _as_labels(array: _Array, path: Path) -> Tensor:
    if np.dtype(array.stored).kind not in "iu" or len(array.shape) != 1:
        raise InputError(
            f"{path}: labels must be a vector of integers, got {np.dtype(array.stored)} of shape {array.shape}"
        )
    labels = array.view(path)
    wrong = np.flatnonzero((labels < 0) | (labels >= MAX_CLASSES))
    if len(wrong):
        raise InputError(
            f"{path}: labels must lie in [0, {MAX_CLASSES - 1}], got {labels[wrong[0]]} at example {wrong[0]}"
        )
    return torch.from_numpy(labels.astype(np.int64))
