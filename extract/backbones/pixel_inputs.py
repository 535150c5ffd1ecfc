"""Pixel inputs: how pictures travel to a network: to a GPU as bytes, which it turns into numbers itself."""

from __future__ import annotations

import numpy as np
import torch
from PIL.Image import Image

from extract.backbones.pixels import PixelRecipe


class PixelInputs:
    """Turns pictures into arrays on the host, and these into what the network takes on its device.

    Pixels that are rounded to 8 bits have 256 values a channel. A GPU is sent the bytes, a fourth of the
    float32 numbers, and looks the numbers up: to the last bit those of :meth:`PixelRecipe.apply`, rounded to
    the network's dtype.

    Parameters
    ----------
    recipe : PixelRecipe
    device : str
        "cpu", "cuda" or "cuda:N".
    dtype : torch.dtype
        Of the network's weights.
    """

    def __init__(self, recipe: PixelRecipe, *, device: str, dtype: torch.dtype) -> None:
        self._recipe, self._dtype = recipe, dtype
        self._levels: torch.Tensor | None = None  # (3, 256)
        if device != "cpu" and recipe.rounding == "uint8":
            self._levels = torch.from_numpy(recipe.levels).to(device, dtype)

    def prepare(self, image: Image) -> np.ndarray:
        """Return (side, side, 3) uint8 for a GPU, where pixels are rounded; else (3, side, side) float32."""
        return self._recipe.apply(image) if self._levels is None else self._recipe.square(image)

    def numbers(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the network's input (b, 3, side, side) for a batch of what :meth:`prepare` returns."""
        if self._levels is None:
            return pixels.to(self._dtype)
        batch, height, width, _ = pixels.shape
        values = pixels.new_empty((batch, 3, height, width), dtype=self._dtype)
        # A channel at a time: the indices take four bytes a pixel.
        for channel, levels in enumerate(self._levels):
            found = levels.index_select(0, pixels[..., channel].reshape(-1).int())
            values[:, channel] = found.view(batch, height, width)
        return values
