"""An unpickler for the official CIFAR files: it accepts only their names, and builds only bytes and labels."""

import io
import pickle
from typing import Any, Literal

import numpy as np

from lure.errors import InputError


class Bytes:
    """Stands in for a numpy array of bytes; its pickled state is read here, not by numpy.

    Like the other stand-ins it is a class with a `__setstate__`, so a pickle cannot set attributes on it.
    """

    array: np.ndarray[Any, np.dtype[np.uint8]] = np.empty(0, np.uint8)

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, _, by_columns, content = state
        self.fill(content, shape, "F" if by_columns else "C")

    def fill(self, content: bytes | str, shape: tuple[int, ...], order: Literal["C", "F"]) -> None:
        """Set the array from its bytes and shape."""
        raw = content.encode("latin1") if isinstance(content, str) else content
        self.array = np.frombuffer(bytearray(raw), np.uint8).reshape(shape, order=order)


class FilledBytes(Bytes):
    """An array of bytes as newer versions of numpy pickle it: by its constructor, not by its state."""

    def __init__(self, content: bytes, kind: "Uint8", shape: tuple[int, ...], order: Literal["C", "F"]) -> None:
        self.fill(content, shape, order)


class Uint8:
    """Stands in for numpy's uint8, the only type in these files."""

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        if code not in ("u1", "|u1"):
            raise ValueError(f"the data are of type {code} instead of bytes")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        pass  # byte order and alignment do not matter for bytes


class Encoded:
    """Stands in for the function with which newer versions of Python write bytes in older pickle protocols."""

    def __new__(cls, text: str, encoding: str) -> bytes:  # type: ignore[misc]
        """Return the bytes that the text stands for."""
        return text.encode("latin1")

    def __setstate__(self, state: object) -> None:
        raise ValueError("bytes have no state")


# Under numpy's old and new module names. Newer versions of Python and numpy use the last three for the same arrays.
ADMITTED: dict[tuple[str, str], type] = {
    ("numpy", "ndarray"): Bytes,
    ("numpy", "dtype"): Uint8,
    ("numpy.core.multiarray", "_reconstruct"): Bytes,
    ("numpy._core.multiarray", "_reconstruct"): Bytes,
    ("numpy.core.numeric", "_frombuffer"): FilledBytes,
    ("numpy._core.numeric", "_frombuffer"): FilledBytes,
    ("_codecs", "encode"): Encoded,
}


class Unpickler(pickle._Unpickler):
    """Reads the official files, and nothing that could run code.

    It extends the unpickler written in Python: the one in C allocates memory for any index that a hostile file names.
    """

    def __init__(self, content: bytes, shown: str) -> None:
        super().__init__(io.BytesIO(content), encoding="latin1")
        self.shown = shown

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for an admitted name."""
        if (module, name) not in ADMITTED:
            raise InputError(f"{self.shown} asks to load {module}.{name}, which no official CIFAR file needs: refused")
        return ADMITTED[module, name]
