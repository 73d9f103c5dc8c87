"""An unpickler for the official CIFAR files: it accepts only their names, and builds only bytes and labels."""

import io
import pickle
from typing import Any, ClassVar, Literal

import numpy as np

from lure.errors import InputError


class Bytes:
    """Stands in for a numpy array of bytes; its pickled state is read here, not by numpy.

    Like the other stand-ins it is a class with a `__setstate__`, so a pickle cannot set attributes on it.
    """

    # Kept as they were pickled and made an array only when asked for: a pickle can name the same bytes many times.
    pickled: tuple[bytes | str, tuple[int, ...], Literal["C", "F"]] = (b"", (0,), "C")

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, _, by_columns, content = state
        self.fill(content, shape, "F" if by_columns else "C")

    def fill(self, content: bytes | str, shape: tuple[int, ...], order: Literal["C", "F"]) -> None:
        """Take the array's bytes and shape."""
        self.pickled = content, shape, order

    def to_array(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Return the array, which may be written to.

        Raises:
            ValueError: if shape and bytes do not belong together; also TypeError or UnicodeEncodeError.
        """
        content, shape, order = self.pickled
        raw = content.encode("latin1") if isinstance(content, str) else content
        return np.frombuffer(bytearray(raw), np.uint8).reshape(shape, order=order)


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
    Nothing is allocated before the bytes that fill it are read, and what a few bytes repeat may not outgrow the file.
    """

    dispatch: ClassVar[dict[int, Any]] = {
        code: load
        for code, load in pickle._Unpickler.dispatch.items()
        if code not in (pickle.NEWOBJ[0], pickle.NEWOBJ_EX[0])  # no official file needs them
    }

    def __init__(self, content: bytes, shown: str) -> None:
        super().__init__(io.BytesIO(content), encoding="latin1")
        self.shown = shown
        self.left = 2 * len(content)

    def load_reduce(self) -> None:
        """Call an admitted name, and count the bytes that it made."""
        super().load_reduce()  # type: ignore[misc]
        made = self.stack[-1]  # type: ignore[attr-defined]
        self.left -= len(made) if isinstance(made, bytes) else 0
        if self.left < 0:
            raise InputError(f"{self.shown} unpacks to more than twice its size, which no official CIFAR file does")

    dispatch[pickle.REDUCE[0]] = load_reduce

    def load_bytearray8(self) -> None:
        """Read bytes that may be changed; pickle would allocate what is announced before it reads."""
        size = int.from_bytes(self.read(8), "little")  # type: ignore[attr-defined]
        content = self.read(size)  # type: ignore[attr-defined]
        if len(content) != size:
            raise EOFError
        self.append(bytearray(content))  # type: ignore[attr-defined]

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for an admitted name."""
        if (module, name) not in ADMITTED:
            raise InputError(f"{self.shown} asks to load {module}.{name}, which no official CIFAR file needs: refused")
        return ADMITTED[module, name]
