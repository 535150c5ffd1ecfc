"""Images: file to RGB pixels, with a status instead of an exception for every kind of broken picture."""

from __future__ import annotations

import io
import stat
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cache import Status

if TYPE_CHECKING:
    from PIL.Image import Image

#: Formats that are opened at all. JPEG includes MPO, what phones write under the name .jpg.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
MAX_PIXELS = 50_000_000
MAX_FILE_BYTES = 256 * 2**20
#: Most pixels times scans of a JPEG, some ten seconds: each scan of a progressive one goes over all pixels.
MAX_SCANNED_PIXELS = 2_000_000_000
_STRIP_PIXELS = 4_000_000

#: How pixels become RGB; enters the fingerprint of every image space.
DECODING = {"exif": "applied", "frame": "first", "alpha": "over white", "sixteen_bit": "scaled", "version": 1}

# What Pillow may raise for bad input, from its own fuzz tests (Tests/oss-fuzz/test_fuzzers.py) and from ours:
# EXIF of odd types is an AttributeError, fractions of it are divided by zero.
_PILLOW_ERRORS = (
    OSError, SyntaxError, ValueError, NotImplementedError, OverflowError, EOFError, IndexError, KeyError,
    TypeError, AttributeError, ZeroDivisionError, struct.error, zlib.error,
)  # fmt: skip


class BadImageError(ValueError):
    """The picture cannot be used.

    Attributes
    ----------
    status : Status
        The row status that says why.
    """

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Format and size of a picture in pixels, before EXIF orientation."""

    format: str
    width: int
    height: int


def read_image_file(path: Path) -> bytes:
    """Read the bytes of an image file.

    Raises
    ------
    BadImageError
        With status image_missing if there is no regular, readable file; image_too_large above 256 MiB.
    """
    try:
        info = path.stat()  # before opening: a FIFO would block for ever
        if not stat.S_ISREG(info.st_mode):
            raise BadImageError(Status.IMAGE_MISSING, "not a regular file")
        if info.st_size > MAX_FILE_BYTES:
            raise BadImageError(
                Status.IMAGE_TOO_LARGE,
                f"the file has {info.st_size:,} bytes; at most {MAX_FILE_BYTES:,} are read",
            )
        return path.read_bytes()
    except OSError as error:
        raise BadImageError(Status.IMAGE_MISSING, error.strerror or str(error)) from error


def read_header(data: bytes) -> ImageHeader:
    """Return format and size from the header alone, without decoding pixels.

    Raises
    ------
    BadImageError
        With status image_format (not one of the allowed formats), image_too_large (more than 50 million
        pixels) or image_corrupt.
    """
    with _open(data) as image:
        return ImageHeader(image.format or "", image.width, image.height)


def decode_image(data: bytes, *, enough: int | None = None) -> Image:
    """Decode to RGB: first frame, EXIF orientation applied, transparency over white, 16 bits scaled to 8.

    Parameters
    ----------
    data : bytes
        Of the whole file.
    enough : int, optional
        Pixels of a side that are enough: a JPEG is then decoded at 1/2, 1/4 or 1/8 of its size, which is
        faster, and other formats whole. For thumbnails, never for what a network reads.

    Returns
    -------
    PIL.Image.Image

    Raises
    ------
    BadImageError
        As for `read_header`; image_corrupt also for a file that ends too early.
    """
    with _open(data) as image:
        try:
            if enough is not None:
                image.draft("RGB", (enough, enough))
            image.load()
            return _to_rgb(_upright(image))
        except _PILLOW_ERRORS as error:
            raise BadImageError(Status.IMAGE_CORRUPT, f"the picture cannot be decoded: {error}") from error
        except MemoryError as error:
            raise BadImageError(Status.IMAGE_TOO_LARGE, "not enough memory to decode the picture") from error


def _open(data: bytes) -> Image:
    # Naming a format that Pillow has not loaded yet is a KeyError, so each allowed one is loaded by name.
    from PIL import (  # noqa: F401
        BmpImagePlugin,
        GifImagePlugin,
        Image,
        JpegImagePlugin,
        PngImagePlugin,
        UnidentifiedImageError,
        WebPImagePlugin,
    )

    if not data:
        raise BadImageError(Status.IMAGE_CORRUPT, "the file is empty")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise BadImageError(Status.IMAGE_FORMAT, f"not one of {', '.join(FORMATS)}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImageError(Status.IMAGE_TOO_LARGE, str(error)) from error
    except _PILLOW_ERRORS as error:
        raise BadImageError(Status.IMAGE_CORRUPT, f"the header cannot be read: {error}") from error
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width} x {image.height} pixels"
        image.close()
        raise BadImageError(Status.IMAGE_TOO_LARGE, f"{size}; at most {MAX_PIXELS:,} are decoded")
    # Within compressed data every FF is followed by 00, so this counts scans (and those of a thumbnail).
    scans = data.count(b"\xff\xda") if image.format in ("JPEG", "MPO") else 1
    if scans * image.width * image.height > MAX_SCANNED_PIXELS:
        image.close()
        raise BadImageError(Status.IMAGE_TOO_LARGE, f"{scans:,} scans of all its pixels")
    return image


def _upright(image: Image) -> Image:
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except _PILLOW_ERRORS:
        return image  # unreadable EXIF says nothing about orientation; the pixels are fine


def _to_rgb(image: Image) -> Image:
    from PIL import Image as PillowImage

    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        convert = _scale_to_eight_bits
    elif image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        convert = _over_white
    else:
        return image.convert("RGB")
    made = PillowImage.new("RGB", image.size)
    # Strip by strip: the steps of a whole picture of 50 million pixels would take more than a gigabyte.
    height = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, height):
        strip = image.crop((0, top, image.width, min(top + height, image.height)))
        made.paste(convert(strip), (0, top))
    return made


def _over_white(image: Image) -> Image:
    from PIL import Image as PillowImage

    layer = image.convert("RGBA")
    white = PillowImage.new("RGBA", layer.size, "white")
    return PillowImage.alpha_composite(white, layer).convert("RGB")


def _scale_to_eight_bits(image: Image) -> Image:
    """Map 16-bit grey to 8 bits by its full range; Pillow's own convert() would clip at 255."""
    import numpy as np
    from PIL import Image as PillowImage

    grey = np.asarray(image, dtype=np.float64)
    scaled = np.clip(grey / 257.0, 0, 255).round().astype(np.uint8)
    return PillowImage.fromarray(scaled).convert("RGB")
