"""Pixels: from an RGB image to a network's input, equal to the network's own reference preprocessing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from extract.cards import Card

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
#: Longer images are first cut to this ratio around their middle. The square crop shows at most the middle
#: 1:1, and resizing a strip of one pixel by a million whole would need gigabytes.
LONGEST_RATIO = 64


@dataclass(frozen=True)
class PixelRecipe:
    """Resize the shorter side, crop the middle square, scale to 0..1, normalise.

    Attributes
    ----------
    resize : int
        Shorter side after resizing, in pixels.
    crop : int
        Side of the square, in pixels.
    interpolation : {"bilinear", "bicubic"}
        Pillow filter, which antialiases when it shrinks.
    mean, std : tuple of 3 floats
    odd_margin : {"down", "even"}
        Where the square starts when the margin is odd: transformers rounds half a pixel down, torchvision to
        even.
    """

    resize: int
    crop: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    odd_margin: str

    @classmethod
    def from_card(cls, card: Card, *, odd_margin: str) -> PixelRecipe:
        """Return the recipe of an image backbone's card."""
        assert card.resize and card.image_size and card.interpolation and card.mean and card.std, (
            "Card checks this"
        )
        return cls(card.resize, card.image_size, card.interpolation, card.mean, card.std, odd_margin)

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe as plain JSON values; it enters the fingerprint."""
        return {
            "resize": {"shorter_side": self.resize, "interpolation": self.interpolation, "antialias": True},
            "crop": {"size": self.crop, "place": "centre", "odd_margin": self.odd_margin},
            "scale": "1/255",
            "mean": list(self.mean),
            "std": list(self.std),
            "longest_ratio": LONGEST_RATIO,
            "library": "pillow",
        }

    def apply(self, image: Image.Image) -> np.ndarray:
        """Return the network's input.

        Parameters
        ----------
        image : PIL.Image.Image
            Mode "RGB", any size.

        Returns
        -------
        ndarray of shape (3, crop, crop), float32

        Raises
        ------
        ValueError
            If the mode is not RGB.
        """
        if image.mode != "RGB":
            raise ValueError(
                f"Image mode is '{image.mode}', allowed is 'RGB'. Convert it with image.convert('RGB')."
            )
        image = _cut_strip(image)
        width, height = self._resized(*image.size)
        left, top = self._margin(width), self._margin(height)
        square = image.resize((width, height), _FILTERS[self.interpolation]).crop(
            (left, top, left + self.crop, top + self.crop)
        )
        pixels = np.asarray(square)  # (crop, crop, 3) uint8
        return np.stack([self._levels[channel][pixels[:, :, channel]] for channel in range(3)])

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        # The longer side is cut, not rounded: so do torchvision and transformers.
        if width <= height:
            return self.resize, int(self.resize * height / width)
        return int(self.resize * width / height), self.resize

    def _margin(self, side: int) -> int:
        spare = side - self.crop
        return spare // 2 if self.odd_margin == "down" else round(spare / 2)

    @cached_property
    def _levels(self) -> np.ndarray:
        """The network's value of each of the 256 levels, (3, 256) float32, by the reference's arithmetic."""
        levels = np.arange(256, dtype=np.float32) / np.float32(255)
        mean, std = np.array(self.mean, dtype=np.float32), np.array(self.std, dtype=np.float32)
        return (levels - mean[:, None]) / std[:, None]


def _cut_strip(image: Image.Image) -> Image.Image:
    width, height = image.size
    longest = LONGEST_RATIO * min(width, height)
    if max(width, height) <= longest:
        return image
    left, top = max(0, (width - longest) // 2), max(0, (height - longest) // 2)
    return image.crop((left, top, min(width, left + longest), min(height, top + longest)))
