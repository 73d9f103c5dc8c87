"""Encoded images (PNG, JPEG and other formats that pillow reads), decoded on demand.

Pillow is imported by the functions that read an image, so that a run on tables or arrays does not load it.
"""

import functools
import hashlib
import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from lure.data.augmentation import Crops
from lure.data.examples import Examples
from lure.errors import InputError

# The formats that are read. Pillow knows more; some of them start other programs (EPS) or are hardly tested.
FORMATS = ("PNG", "JPEG", "MPO", "GIF", "WEBP", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000", "QOI")
# What is see-through lies on this grey, so that neither black nor white drawings vanish.
BACKGROUND = 128
ORIENTATION = 0x0112  # the EXIF tag that says how a camera was held
SCALED_PIXELS = 1 << 20
# The brightest value of the modes whose range is not 0 to 255.
BRIGHTEST = {"I": 65535, "I;16": 65535, "I;16L": 65535, "I;16B": 65535, "F": 1}


class ImageReader(Protocol):
    """Gives the encoded bytes of images by number."""

    def __len__(self) -> int: ...

    def name(self, row: int) -> str:
        """Return the image's name, for messages."""

    def key(self, row: int) -> str:
        """Return the image's name for the fingerprint, which must not depend on where the data are stored."""

    def read(self, row: int) -> bytes:
        """Return the encoded image."""


class EncodedImages:
    """Rows of images that are decoded on demand; an `InputStore` of uint8 (rows, channels, height, width).

    Args:
        reader: gives the encoded images.
        row_shape: (channels, height, width) of every decoded image, with 1 channel (grey) or 3 (RGB). An image of
            another size is cropped at the centre to this aspect ratio, then scaled.
        border: share of the image that is first cut off at each of its four sides, in [0, 0.5).

    Raises:
        InputError: when rows are asked for, if an image cannot be read or decoded.
    """

    dtype = torch.uint8

    def __init__(self, reader: ImageReader, row_shape: tuple[int, int, int], border: float = 0.0) -> None:
        self.reader = reader
        self.row_shape, self.border = row_shape, border
        self.shape = torch.Size((len(reader), *row_shape))
        self._digests: dict[int, bytes] = {}

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Decode the rows with these numbers."""
        return self.crop(rows, None)

    def crop(self, rows: Tensor, crops: Crops | None) -> Tensor:
        """Decode the given part of each row with these numbers; with `crops` None, the same as indexing.

        Parts are cut out of the full-size image and scaled to the shape of a row.
        """
        images = torch.empty((len(rows), *self.row_shape), dtype=torch.uint8)
        for position, row in enumerate(rows.tolist()):
            part = None if crops is None else (crops, position)
            content, name = self.reader.read(row), self.reader.name(row)
            images[position] = decode_image(content, name, self.row_shape, self.border, part)
        return images

    def hash_rows(self, rows: Tensor) -> bytes:
        """Return bytes that identify the content of these rows, without decoding them; for the fingerprint."""
        return b"".join(self._digest(row) for row in rows.tolist())

    def _digest(self, row: int) -> bytes:
        if row not in self._digests:
            content = self.reader.read(row)
            self._digests[row] = hashlib.sha256(f"{self.reader.key(row)} ".encode() + content).digest()
        return self._digests[row]


def file_names(examples: Examples) -> list[str]:
    """Return the path of each example's image in its folder, in order; [] if the examples are not image files."""
    names: list[str] = []
    for part in examples.parts:
        if not isinstance(part.inputs, EncodedImages):
            return []
        rows = range(len(part)) if part.rows is None else part.rows.tolist()
        names += [part.inputs.reader.key(row) for row in rows]
    return names if all(names) else []


def decode_image(
    content: bytes,
    name: str,
    shape: tuple[int, int, int],
    border: float = 0.0,
    part: tuple[Crops, int] | None = None,
) -> Tensor:
    """Decode one image of any mode to uint8 (channels, height, width), as a viewer shows it.

    It is turned upright as its EXIF data say, what is see-through lies on grey (128), and modes of more than 8 bits are
    scaled: 16 bits from [0, 65535], floats from [0, 1].

    Args:
        content: the encoded image.
        name: its name, for messages.
        shape: (channels, height, width) of the result, with 1 or 3 channels.
        border: share that is cut off at each side, in [0, 0.5).
        part: crops and a number: that crop is returned instead of the centre.

    Raises:
        InputError: if it is of another format, cannot be decoded, holds values out of range, or has so many pixels that
            pillow takes it for a decompression bomb.
    """
    from PIL import Image, ImageOps

    channels, height, width = shape
    with _decoding(name), _open(content) as image:
        plain = _as_seen(image, channels)
        if part is not None:
            crops, number = part
            box = crops.box(number, plain.height, plain.width)
            plain = plain.resize((width, height), Image.Resampling.BILINEAR, box)
            plain = ImageOps.mirror(plain) if bool(crops.mirrored[number]) else plain
        elif border or plain.size != (width, height):
            plain = ImageOps.fit(plain, (width, height), Image.Resampling.BILINEAR, bleed=border)
        pixels = torch.from_numpy(np.array(plain, dtype=np.uint8))
    return pixels.view(height, width, channels).permute(2, 0, 1)


def measure_image(content: bytes, name: str) -> tuple[int, int]:
    """Return (height, width) of an encoded image, upright.

    Raises:
        InputError: if it is not an image.
    """
    from PIL import ImageOps

    with _decoding(name), _open(content) as image:
        # Only an image that lies on its side is decoded for this.
        upright = ImageOps.exif_transpose(image) if image.getexif().get(ORIENTATION, 1) > 4 else image
        return upright.height, upright.width


def row_shape(
    reader: ImageReader, input_shape: Sequence[int] | None, size: int | None, place: str
) -> tuple[int, int, int]:
    """Return the shape of decoded images: the model's input, else RGB squares of `size`, else RGB like the first image.

    Raises:
        InputError: if the model's input is not an image of 1 or 3 channels.
    """
    if input_shape is None:
        height, width = (size, size) if size is not None else measure_image(reader.read(0), reader.name(0))
        return 3, height, width
    if len(input_shape) != 3 or input_shape[0] not in (1, 3):
        raise InputError(
            f"{place} holds images (3 channels, or 1 for grey), the model takes inputs of shape {tuple(input_shape)}"
        )
    return input_shape[0], input_shape[1], input_shape[2]


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except Exception as error:  # a damaged image can fail in any way
        reason = str(error).partition("\n")[0]
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else reason
        raise InputError(f"cannot decode the image {name}: {reason}") from error


def _open(content: bytes) -> Any:
    """Open an image of one of the formats in `FORMATS`.

    Pillow would take any file for what it starts with, whatever its name says, and for some formats starts a program.
    """
    from PIL import Image

    return Image.open(io.BytesIO(content), formats=_formats())


@functools.cache
def _formats() -> tuple[str, ...]:
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _as_seen(image: Any, channels: int) -> Any:
    """Return an image as grey or RGB, with its pixels as a viewer shows them: turned upright, nothing see-through."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    mode = "L" if channels == 1 else "RGB"
    if image.mode in BRIGHTEST:
        return _to_bytes(image).convert(mode)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layers = image.convert("RGBA")
        image = Image.new("RGB", layers.size, (BACKGROUND,) * 3)
        image.paste(layers, mask=layers.getchannel("A"))
    if image.mode == "LAB":
        image = image.convert("RGB")  # pillow cannot turn it grey directly
    return image.convert(mode)


def _to_bytes(image: Any) -> Any:
    """Scale a mode of more than 8 bits, which pillow would clip at 255, to grey."""
    from PIL import Image

    values, brightest, clear = np.asarray(image), BRIGHTEST[image.mode], image.info.get("transparency")
    pixels = np.empty(values.shape, np.uint8)
    # In pieces, for a pixel takes eight bytes meanwhile.
    step = max(1, SCALED_PIXELS // values.shape[1])
    for top in range(0, len(values), step):
        piece = values[top : top + step].astype(np.float64)
        if not ((piece >= 0) & (piece <= brightest)).all():
            raise InputError(
                f"it holds {'floats' if image.mode == 'F' else 'numbers'} outside of [0, {brightest}], or NaN: scale "
                f"it to that range, or save 8 bits per pixel"
            )
        scaled = (piece / brightest * 255).round()
        if isinstance(clear, int):
            scaled[piece == clear] = BACKGROUND
        pixels[top : top + step] = scaled
    return Image.fromarray(pixels)


class FolderReader:
    """Image files under one folder.

    Args:
        root: the folder.
        names: the files' paths in it, with forward slashes.
    """

    def __init__(self, root: Path, names: list[str]) -> None:
        self.root, self.names = root, names

    def __len__(self) -> int:
        return len(self.names)

    def name(self, row: int) -> str:
        """Return the path of the file."""
        return str(self.root / self.names[row])

    def key(self, row: int) -> str:
        """Return the path inside the folder."""
        return self.names[row]

    def read(self, row: int) -> bytes:
        """Return the bytes of the file.

        Raises:
            InputError: if it cannot be read.
        """
        try:
            return (self.root / self.names[row]).read_bytes()
        except OSError as error:
            raise InputError(f"cannot read the image {self.name(row)}: {error.strerror}") from error
