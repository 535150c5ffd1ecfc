"""Pictures: every kind of broken file is a status, every good one becomes RGB."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cache import Status
from extract.images import BadImageError, decode_image, read_header, read_image_file

FORMS = ["JPEG", "PNG", "GIF", "WEBP", "BMP"]


def _encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _picture(mode: str = "RGB", size: tuple[int, int] = (20, 10)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        ("RGB", "JPEG"),
        ("L", "JPEG"),
        ("CMYK", "JPEG"),
        ("P", "GIF"),
        ("P", "PNG"),
        ("1", "PNG"),
        ("RGBA", "PNG"),
        ("LA", "PNG"),
        ("RGB", "WEBP"),
        ("RGB", "BMP"),
    ],
)
def test_decode_image_makes_rgb_of_any_mode(mode: str, form: str) -> None:
    """Grey, palette, CMYK, transparent and black-and-white pictures become RGB of the same size."""
    image = decode_image(_encoded(_picture(mode), form))
    assert (image.mode, image.size) == ("RGB", (20, 10))


def test_decode_image_puts_transparency_over_white() -> None:
    """A transparent pixel is white, not the colour that happens to lie beneath."""
    image = decode_image(_encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 0))))
    assert image.getpixel((0, 0)) == (255, 255, 255)


def test_decode_image_scales_sixteen_bits() -> None:
    """A 16-bit grey picture keeps its contrast instead of being clipped to white."""
    grey = Image.fromarray(np.array([[0, 0x8080, 0xFFFF]], dtype=np.uint16))
    image = decode_image(_encoded(grey))
    assert [image.getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]


def test_decode_image_applies_exif_orientation() -> None:
    """A phone picture lying on its side is turned upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_image(_encoded(_picture(), "JPEG", exif=exif)).size == (10, 20)


def test_decode_image_takes_the_first_frame() -> None:
    """Of an animation the first frame counts."""
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = _encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(data).getpixel((0, 0)) == (255, 0, 0)


#: What viewers do for each EXIF orientation, and what a camera did to need it.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
@pytest.mark.parametrize("orientation", TURNS)
def test_decode_image_turns_every_orientation_upright(orientation: int, form: str) -> None:
    """Whatever way the camera was held, the pixels come out as they were seen."""
    seen = _picture()
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if form == "WEBP" else {}
    data = _encoded(seen.transpose(TURNS[orientation]), form, exif=exif, **lossless)
    np.testing.assert_array_equal(np.asarray(decode_image(data)), np.asarray(seen))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_decode_image_ignores_a_senseless_orientation(orientation: int) -> None:
    """An orientation that does not exist leaves the picture as it is."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode_image(_encoded(_picture(), "PNG", exif=exif))
    np.testing.assert_array_equal(np.asarray(image), np.asarray(_picture()))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_decode_image_takes_the_smallest_pictures(form: str, size: tuple[int, int]) -> None:
    """One pixel, and strips of one pixel, are pictures."""
    colour = (200, 30, 90)
    image = decode_image(_encoded(Image.new("RGB", size, colour), form))
    assert (image.mode, image.size) == ("RGB", size)
    found = image.getpixel((0, 0))
    assert isinstance(found, tuple) and max(abs(a - b) for a, b in zip(found, colour, strict=True)) < 8


def test_decode_image_keeps_the_colours_of_cmyk() -> None:
    """A CMYK JPEG shows red as red; printers' JPEGs store it inverted."""
    colours = {"red": (255, 0, 0), "blue": (0, 0, 255), "white": (255, 255, 255), "black": (0, 0, 0)}
    for name, expected in colours.items():
        data = _encoded(Image.new("RGB", (16, 16), name).convert("CMYK"), "JPEG", quality=95)
        found = decode_image(data).getpixel((8, 8))
        assert isinstance(found, tuple)
        assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) < 8


def test_decode_image_puts_a_transparent_palette_over_white() -> None:
    """A palette picture with one transparent colour shows white there and its own colours elsewhere."""
    image = Image.new("P", (4, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((3, 0), 1)
    for form in ("PNG", "GIF"):
        decoded = decode_image(_encoded(image, form, transparency=0))
        assert (decoded.getpixel((0, 0)), decoded.getpixel((3, 0))) == ((255, 255, 255), (0, 0, 255))


def _png(colour_type: int, depth: int, width: int, rows: list[bytes]) -> bytes:
    """Write a PNG by hand: Pillow writes no colour of 16 bits."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_decode_image_scales_every_sixteen_bit_kind(colour_type: int, channels: int) -> None:
    """Grey, colour, and both with transparency keep their contrast at 16 bits a channel."""
    has_alpha = colour_type in (4, 6)
    values = [[level] * (channels - has_alpha) + [0xFFFF] * has_alpha for level in (0, 0x8080, 0xFFFF)]
    row = struct.pack(f">{3 * channels}H", *(value for pixel in values for value in pixel))
    image = decode_image(_png(colour_type, 16, 3, [row]))
    assert [image.getpixel((x, 0)) for x in range(3)] == [(v, v, v) for v in (0, 128, 255)]


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_decode_image_takes_the_first_frame_of_any_animation(form: str) -> None:
    """Of animated GIF, WebP and PNG the first frame counts, even when a later one is cut off."""
    frames = [Image.new("RGB", (30, 20), colour) for colour in ("red", "blue", "green")]
    options = {"lossless": True} if form == "WEBP" else {}
    data = _encoded(frames[0], form, save_all=True, append_images=frames[1:], duration=100, **options)
    assert decode_image(data).getpixel((5, 5)) == (255, 0, 0)


@pytest.mark.parametrize("percent", [1, 10, 30, 50, 70, 90, 99])
@pytest.mark.parametrize("form", FORMS)
def test_decode_image_refuses_truncated_files(form: str, percent: int) -> None:
    """A file that ends too early is never half a grey picture."""
    data = _encoded(_picture(size=(120, 90)), form)
    with pytest.raises(BadImageError, match=r".") as caught:
        decode_image(data[: len(data) * percent // 100])
    assert caught.value.status in (Status.IMAGE_CORRUPT, Status.IMAGE_FORMAT)


@pytest.mark.parametrize("seed", range(60))
def test_decode_image_survives_flipped_bytes(seed: int) -> None:
    """A damaged file decodes to a picture of some size or is refused; nothing else is raised."""
    generator = np.random.default_rng(seed)
    data = bytearray(_encoded(_picture(), ["JPEG", "PNG", "GIF", "WEBP", "BMP"][seed % 5]))
    for place in generator.integers(0, len(data), 3):
        data[place] ^= 1 << int(generator.integers(8))
    try:
        assert decode_image(bytes(data)).mode == "RGB"
    except BadImageError as error:
        assert error.status in (Status.IMAGE_CORRUPT, Status.IMAGE_FORMAT, Status.IMAGE_TOO_LARGE)


def test_read_header_refuses_a_bomb_before_decoding() -> None:
    """A small file that claims 144 million pixels is refused on its header."""
    data = _encoded(Image.new("1", (12_000, 12_000)))
    assert len(data) < 100_000
    with pytest.raises(BadImageError, match="pixels") as caught:
        read_header(data)
    assert caught.value.status == Status.IMAGE_TOO_LARGE


def _claims(form: str, width: int, height: int) -> bytes:
    """Return a small file whose header claims another size."""
    data = bytearray(_encoded(Image.new("RGB", (8, 8)), form))
    if form == "PNG":
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif form == "GIF":
        data[6:10] = struct.pack("<HH", width, height)
    elif form == "BMP":
        data[18:26] = struct.pack("<ii", width, height)
    else:
        start = data.index(b"\xff\xc0")
        data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP"])
@pytest.mark.parametrize("size", [(20_000, 20_000), (50_000, 1_001), (1_001, 50_000)])
def test_a_picture_of_too_many_pixels_is_refused_before_decoding(form: str, size: tuple[int, int]) -> None:
    """400 million pixels are refused on the header's word, without memory for them."""
    data = _claims(form, *size)
    tracemalloc.start()
    for read in (read_header, decode_image):
        with pytest.raises(BadImageError, match=r"pixels") as caught:
            read(data)
        assert caught.value.status == Status.IMAGE_TOO_LARGE
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("data", [b"<html></html>", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\x80\x04\x95pickle"])
def test_read_header_refuses_other_formats(data: bytes) -> None:
    """Only pictures of the allowed formats are opened, whatever the ending says."""
    with pytest.raises(BadImageError, match="not one of") as caught:
        read_header(data)
    assert caught.value.status == Status.IMAGE_FORMAT


def test_read_image_file_never_waits_for_a_pipe(tmp_path: Path) -> None:
    """A FIFO, a folder and a missing file are missing pictures."""
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "pipe.jpg", tmp_path, tmp_path / "none.jpg"):
        with pytest.raises(BadImageError, match="file") as caught:
            read_image_file(path)
        assert caught.value.status == Status.IMAGE_MISSING
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(BadImageError, match="empty"):
        read_header(read_image_file(tmp_path / "empty.jpg"))
