"""Hostile pictures: bombs, polyglots and endless animations, each a few kilobytes or a pattern repeated.

``python -m tests.hostile.picture_corpus`` decodes each and prints a JSON object: what came of it, the seconds
of the processor that it took, and the most memory that the process has had.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable

from PIL import Image

from benchmarks.peak import peak_bytes
from extract.images import BadImageError, decode_image, read_header

OK, CORRUPT, LARGE, FORMAT = "ok", "image_corrupt", "image_too_large", "image_format"
_PNG = b"\x89PNG\r\n\x1a\n"


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    """Return a picture in a format."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def small(form: str = "JPEG", **options: object) -> bytes:
    """Return a picture of 20 x 10 pixels."""
    return encoded(Image.new("RGB", (20, 10), (200, 30, 90)), form, **options)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _header(width: int, height: int, depth: int, colour: int) -> bytes:
    return _PNG + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def _zeros(n_bytes: int) -> bytes:
    """Return compressed zeros: one megabyte, which refers to nothing before it, again and again."""
    squeeze = zlib.compressobj(9, wbits=-15)
    megabyte = squeeze.compress(bytes(1 << 20)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    squeeze = zlib.compressobj(9, wbits=-15)
    rest = squeeze.compress(bytes(n_bytes & 0xFFFFF)) + squeeze.flush()
    checksum = (n_bytes % 65_521) << 16 | 1  # Adler-32 of zeros
    return b"\x78\xda" + megabyte * (n_bytes >> 20) + rest + checksum.to_bytes(4, "big")


def png(width: int, height: int, depth: int = 8, colour: int = 2, extra: bytes = b"") -> bytes:
    """Return a black PNG of any kind and size, with chunks before its pixels."""
    row = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour] * depth // 8 * width + 1
    return (
        _header(width, height, depth, colour)
        + extra
        + _chunk(b"IDAT", _zeros(row * height))
        + _chunk(b"IEND", b"")
    )


def _three(number: int) -> bytes:
    return struct.pack("<I", number)[:3]


def webp(width: int, height: int, frames: int = 1) -> bytes:
    """Return an animated WebP that claims a canvas."""
    pixels = encoded(Image.new("RGB", (1, 1)), "WEBP", lossless=True)[12:]
    frame = _three(0) * 4 + _three(10) + b"\0" + pixels
    parts = [(b"VP8X", b"\2\0\0\0" + _three(width - 1) + _three(height - 1)), (b"ANIM", bytes(6))]
    parts += [(b"ANMF", frame)] * frames
    body = b"WEBP" + b"".join(k + struct.pack("<I", len(d)) + d + b"\0" * (len(d) % 2) for k, d in parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _gif_of_frames() -> bytes:
    two = encoded(Image.new("P", (1, 1)), "GIF", save_all=True, append_images=[Image.new("P", (1, 1), 1)])
    at = two.index(b",")
    return two[:-1] + two[at:-1] * 1_000_000 + b";"


def _gif_of_comments() -> bytes:
    one = encoded(Image.new("P", (1, 1)), "GIF")
    at = one.index(b",")
    return one[:at] + b"\x21\xfe" + (b"\xff" + b"x" * 255) * 100_000 + b"\0" + one[at:]


def _apng() -> bytes:
    control = struct.pack(">IIIIHHBB", 1, 1, 0, 0, 1, 1, 0, 0)
    dot = zlib.compress(bytes(4))
    frames = [
        _chunk(b"fcTL", struct.pack(">I", 2 * i + 1) + control)
        + _chunk(b"fdAT", struct.pack(">I", 2 * i + 2) + dot)
        for i in range(100_000)
    ]
    first = _chunk(b"acTL", struct.pack(">II", 1_000_000, 0)) + _chunk(
        b"fcTL", struct.pack(">I", 0) + control
    )
    return _header(1, 1, 8, 2) + first + _chunk(b"IDAT", dot) + b"".join(frames) + _chunk(b"IEND", b"")


def jpeg_with(segment: bytes) -> bytes:
    """Return a picture of 20 x 10 pixels with a segment before its pixels."""
    return small()[:2] + segment + small()[2:]


def _jpeg_of_scans() -> bytes:
    good = encoded(Image.new("L", (4000, 4000)), "JPEG", progressive=True)
    return good[:-2] + good[good.rindex(b"\xff\xda") : -2] * 3000 + b"\xff\xd9"


def _with_zip(picture: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("x.py", "import os")
    return picture + buffer.getvalue()


def _bmp(width: int, height: int, *, bits: int = 24, compression: int = 0, colours: int = 0) -> bytes:
    fields = (54, 0, 0, 54, 40, width, height, 1, bits, compression, 10, 0, 0, colours, 0)
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", *fields) + bytes(400)


_EXIF_LOOP = b"\xff\xe1\0\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x87\x69\0\4\0\0\0\1\0\0\0\x08\0\0\0\x08"

#: Name -> (maker, what must come of it).
PICTURES: dict[str, tuple[Callable[[], bytes], str]] = {
    # 50 million pixels are allowed: every way of making them RGB stays within memory.
    "50 megapixels, RGB": (lambda: png(7071, 7071), OK),
    "50 megapixels, RGBA": (lambda: png(7071, 7071, 8, 6), OK),
    "50 megapixels, 16-bit grey": (lambda: png(7071, 7071, 16, 0), OK),
    "50 megapixels, 16-bit RGBA": (lambda: png(7071, 7071, 16, 6), OK),
    "50 megapixels, palette": (
        lambda: png(7071, 7071, 8, 3, _chunk(b"PLTE", bytes(768)) + _chunk(b"tRNS", bytes(256))),
        OK,
    ),
    "PNG of 400 megapixels": (lambda: png(20_000, 20_000, 8, 0), LARGE),
    "PNG of 2^31 pixels a side": (lambda: _header(2**31 - 1, 2**31 - 1, 8, 2) + _chunk(b"IDAT", b""), LARGE),
    "WebP of 16383 pixels a side": (lambda: webp(16383, 16383), LARGE),
    "WebP of 2^24 pixels a side": (lambda: webp(1 << 24, 255), LARGE),
    "BMP of 49 megapixels in a few bytes": (
        lambda: _bmp(7000, 7000, bits=8, compression=1, colours=2),
        CORRUPT,
    ),
    "BMP of 2^31 rows": (lambda: _bmp(10, -(2**31)), LARGE),
    "BMP of 2^32 colours": (lambda: _bmp(10, 10, bits=8, colours=2**32 - 1), CORRUPT),
    "pixels that unpack to 500 MB": (
        lambda: _header(10, 10, 8, 2) + _chunk(b"IDAT", _zeros(500 << 20)) + _chunk(b"IEND", b""),
        OK,
    ),
    "text that unpacks to 500 MB": (
        lambda: png(10, 10, extra=_chunk(b"iTXt", b"k\0\1\0\0\0" + _zeros(500 << 20))),
        CORRUPT,
    ),
    "texts that unpack to 200 MB": (
        lambda: png(10, 10, extra=_chunk(b"zTXt", b"k\0\0" + _zeros(1 << 20)) * 200),
        CORRUPT,
    ),
    "text of 80 MB": (lambda: png(10, 10, extra=_chunk(b"tEXt", b"k\0" + b"x" * (80 << 20))), CORRUPT),
    "profile that unpacks to 500 MB": (
        lambda: png(10, 10, extra=_chunk(b"iCCP", b"k\0\0" + _zeros(500 << 20))),
        CORRUPT,
    ),
    "65535 EXIF entries": (
        lambda: png(10, 10, extra=_chunk(b"eXIf", b"MM\0*\0\0\0\x08\xff\xff" + bytes(range(12)) * 65_535)),
        OK,
    ),
    "EXIF that points at itself": (lambda: jpeg_with(_EXIF_LOOP), OK),
    "1,000 EXIF segments": (lambda: jpeg_with((b"\xff\xe1\xff\xff" + bytes(65_533)) * 1000), OK),
    "profile in 255 pieces": (
        lambda: jpeg_with(
            b"".join(
                b"\xff\xe2\xff\xffICC_PROFILE\0" + bytes([i + 1, 255]) + bytes(65_519) for i in range(255)
            )
        ),
        OK,
    ),
    "3,000 scans": (_jpeg_of_scans, LARGE),
    "2 MB of fill bytes": (lambda: jpeg_with(b"\xff" * (2 << 20)), OK),
    "GIF of a million frames": (_gif_of_frames, OK),
    "GIF of 25 MB of comments": (_gif_of_comments, OK),
    "WebP of a million frames": (lambda: webp(1, 1, 1_000_000), OK),
    "APNG that claims a million frames": (_apng, OK),
    "JPEG and ZIP in one": (lambda: _with_zip(small()), OK),
    "PNG and ZIP in one": (lambda: _with_zip(small("PNG")), OK),
    "GIF and script in one": (lambda: b"GIF89a/*" + small("GIF")[8:] + b"*/=1;alert(1)", OK),
    "PNG with a tail": (lambda: small("PNG") + bytes(1 << 20), OK),
    "PDF with a picture": (lambda: b"%PDF-1.4\n" + small(), FORMAT),
    "TIFF": (lambda: encoded(Image.new("RGB", (9, 9)), "TIFF"), FORMAT),
    "EPS": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", FORMAT),
    "SVG": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>', FORMAT),
    "ICO": (lambda: encoded(Image.new("RGB", (16, 16)), "ICO"), FORMAT),
}


def verdict(data: bytes) -> str:
    """Return "ok", or the status that a picture gets."""
    try:
        read_header(data)
        decode_image(data)
    except BadImageError as error:
        return error.status.label
    return OK


def main() -> None:
    """Decode all."""
    warnings.filterwarnings("ignore", module=r"PIL\.")  # as the command line does
    found = {}
    for name, (make, _) in PICTURES.items():
        data = make()
        began = time.process_time()
        found[name] = (verdict(data), round(time.process_time() - began, 2))
    sys.stdout.write(json.dumps({"found": found, "peak_bytes": peak_bytes()}))


if __name__ == "__main__":
    main()
