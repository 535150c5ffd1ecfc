"""Pixels: from an RGB image to a network's input, equal to the network's own reference preprocessing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from extract.cards import Card

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
#: Longer images are first cut to this ratio around their middle. The square crop shows at most the middle
#: 1:1, and resizing a strip of one pixel by a million whole would need gigabytes.
LONGEST_RATIO = 64


@dataclass(frozen=True)
class PixelRecipe:
    """Resize, crop the middle square, scale to 0..1, normalise.

    Attributes
    ----------
    resize : int
        Shorter side after resizing, or in mode "exact" both sides, in pixels.
    crop : int
        Side of the square, in pixels.
    interpolation : {"nearest", "bilinear", "bicubic", "lanczos"}
        Pillow filter; all but "nearest" antialias when they shrink.
    mean, std : tuple of 3 floats
    odd_margin : {"down", "even"}
        Where the square starts when the margin is odd: transformers rounds half a pixel down, torchvision to
        even.
    mode : {"shorter", "exact"}
        "exact" squeezes the picture to a square, whatever its shape.
    rounding : {"uint8", "none"}
        Whether pixels are rounded to 8 bits after resizing. "none" is for networks whose reference scales
        first and resizes numbers (DINOv3); it costs several times as much.
    """

    resize: int
    crop: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    odd_margin: str
    mode: str = "shorter"
    rounding: str = "uint8"

    @classmethod
    def from_card(cls, card: Card, *, odd_margin: str, rounding: str = "uint8") -> PixelRecipe:
        """Return the recipe of an image backbone's card.

        Raises
        ------
        ValueError
            If the card's resize mode is "dynamic": such networks have a preprocessing of their own.
        """
        if card.resize_mode == "dynamic":
            raise ValueError(
                f"Card '{card.name}' has resize_mode 'dynamic'; pixel recipes are for 'shorter' and 'exact'."
            )
        assert card.resize and card.image_size and card.interpolation and card.mean and card.std, (
            "Card checks this"
        )
        return cls(
            card.resize, card.image_size, card.interpolation, card.mean, card.std, odd_margin,
            mode=card.resize_mode, rounding=rounding,
        )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe as plain JSON values; it enters the fingerprint."""
        size: dict[str, Any] = {"shorter_side": self.resize}
        if self.mode == "exact":
            size = {"height": self.resize, "width": self.resize}
        recipe: dict[str, Any] = {
            "resize": {
                **size,
                "interpolation": self.interpolation,
                "antialias": self.interpolation != "nearest",
            },
            "crop": {"size": self.crop, "place": "centre", "odd_margin": self.odd_margin},
            "scale": "1/255",
            "mean": list(self.mean),
            "std": list(self.std),
            "library": "pillow",
        }
        if self.mode == "shorter":
            recipe["longest_ratio"] = LONGEST_RATIO
        if self.rounding != "uint8":
            recipe["rounding"] = self.rounding
        return recipe

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
        if self.rounding == "none":
            return self._without_rounding(*self._geometry(image))
        pixels = self.square(image)
        values = np.empty((3, self.crop, self.crop), dtype=np.float32)
        for channel, levels in enumerate(self.levels):
            # No number of 8 bits is out of range; the mode only spares numpy looking (0.25 for 0.41 ms).
            np.take(levels, pixels[:, :, channel], out=values[channel], mode="clip")
        return values

    def square(self, image: Image.Image) -> np.ndarray:
        """Return the pixels that the network sees, where they are rounded to 8 bits.

        Returns
        -------
        ndarray of shape (crop, crop, 3), uint8
            Each stands for a number in `levels`. Not writable.

        Raises
        ------
        ValueError
            If the mode is not RGB.
        """
        assert self.rounding == "uint8", "other pixels are no whole numbers"
        image, size, box = self._geometry(image)
        return np.asarray(image.resize(size, _FILTERS[self.interpolation]).crop(box))

    def _geometry(self, image: Image.Image) -> tuple[Image.Image, tuple[int, int], tuple[int, int, int, int]]:
        """Return what is resized, to which size, and the square that is cut out then."""
        if image.mode != "RGB":
            raise ValueError(
                f"Image mode is '{image.mode}', allowed is 'RGB'. Convert it with image.convert('RGB')."
            )
        if self.mode == "shorter":
            image = cut_strip(image, LONGEST_RATIO)
        size = self._resized(*image.size)
        left, top = self._margin(size[0]), self._margin(size[1])
        return image, size, (left, top, left + self.crop, top + self.crop)

    def _without_rounding(
        self, image: Image.Image, size: tuple[int, int], box: tuple[int, int, int, int]
    ) -> np.ndarray:
        """Resize each channel as numbers in 0..1; Pillow then works in float32."""
        channels = []
        for band, mean, std in zip(image.split(), self.mean, self.std, strict=True):
            numbers = Image.fromarray(np.asarray(band, dtype=np.float32) / np.float32(255))
            square = np.asarray(numbers.resize(size, _FILTERS[self.interpolation]).crop(box))
            channels.append((square - np.float32(mean)) / np.float32(std))
        return np.stack(channels)

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        if self.mode == "exact":
            return self.resize, self.resize
        # The longer side is cut, not rounded: so do torchvision and transformers.
        if width <= height:
            return self.resize, int(self.resize * height / width)
        return int(self.resize * width / height), self.resize

    def _margin(self, side: int) -> int:
        spare = side - self.crop
        return spare // 2 if self.odd_margin == "down" else round(spare / 2)

    @cached_property
    def levels(self) -> np.ndarray:
        """The network's value of each of the 256 levels, (3, 256) float32, by the reference's arithmetic."""
        return network_levels(self.mean, self.std)


def network_levels(mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Return what a network takes for each of the 256 levels of a channel, by the reference's arithmetic.

    Parameters
    ----------
    mean, std : sequence of 3 floats
        Of pixels in 0..1.

    Returns
    -------
    ndarray of shape (3, 256), float32
    """
    levels = np.arange(256, dtype=np.float32) / np.float32(255)
    means, deviations = np.array(mean, dtype=np.float32), np.array(std, dtype=np.float32)
    return (levels - means[:, None]) / deviations[:, None]


def cut_strip(image: Image.Image, longest_ratio: int) -> Image.Image:
    """Return the middle of a picture that is longer than `longest_ratio` times its shorter side."""
    width, height = image.size
    longest = longest_ratio * min(width, height)
    if max(width, height) <= longest:
        return image
    left, top = max(0, (width - longest) // 2), max(0, (height - longest) // 2)
    return image.crop((left, top, min(width, left + longest), min(height, top + longest)))
