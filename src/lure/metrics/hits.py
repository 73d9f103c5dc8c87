"""Which test examples a model had right, as short text in a JSON file; without torch, because reports read it."""

import numpy as np
import numpy.typing as npt

from lure.errors import InputError


def pack_hits(hits: npt.ArrayLike) -> str:
    """Write which examples were right as hexadecimal text, four examples to a digit.

    Args:
        hits: (N,) bool.

    Example:
        >>> pack_hits([True, False, True, True, True]), unpack_hits("b8", 5).tolist()
        ('b8', [True, False, True, True, True])
    """
    return np.packbits(np.asarray(hits, dtype=bool)).tobytes().hex()


def unpack_hits(text: str, count: int) -> npt.NDArray[np.bool_]:
    """Read what `pack_hits` wrote for `count` examples, as a bool vector (count,).

    Raises:
        InputError: if the text has another length.
    """
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), dtype=np.uint8))
    if not 0 <= len(bits) - count < 8:
        raise InputError(f"the hits of {count} examples take {-(-count // 8)} bytes, got {len(bits) // 8}")
    return bits[:count].astype(bool)
