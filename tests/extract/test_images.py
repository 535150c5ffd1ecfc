"""Pictures: every kind of broken file is a status, every good one becomes RGB."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cache import Status
from extract.images import BadImageError, decode_image, read_header, read_image_file


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


@pytest.mark.parametrize("percent", [1, 10, 30, 50, 70, 90, 99])
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
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
