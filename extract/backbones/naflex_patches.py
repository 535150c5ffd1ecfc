"""NaFlex patches: a picture of any shape, resized to whole patches and cut into them.

The rule is that of SigLIP 2 (https://arxiv.org/abs/2502.14786) as transformers' Siglip2ImageProcessorPil
implements it: the largest size, by a common scale, whose sides are whole patches and whose patches are no
more than a limit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from extract.backbones.pixels import network_levels

#: The search for the scale ends at this accuracy; another one would give some pictures another size.
_SCALE_ACCURACY = 1e-5
_LARGEST_SCALE = 100.0


class Patches(NamedTuple):
    """A network's input for one picture.

    Attributes
    ----------
    pixels : ndarray of shape (n_patches, patch_size * patch_size * 3), float32
        Rows first; filled up with zeros.
    mask : ndarray of shape (n_patches,), int64
        1 for the picture's own patches.
    grid : tuple of int
        Rows and columns of the picture's own patches.
    """

    pixels: np.ndarray
    mask: np.ndarray
    grid: tuple[int, int]


@dataclass(frozen=True)
class NaflexRecipe:
    """Resize to whole patches, scale to 0..1, normalise, cut.

    Attributes
    ----------
    patch_size : int
        Pixels.
    n_patches : int
        Most patches of a picture, and the number that each one is filled up to.
    mean, std : tuple of 3 floats
    """

    patch_size: int
    n_patches: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe as plain JSON values; it enters the fingerprint."""
        return {
            "resize": {"rule": "NaFlex", "interpolation": "bilinear", "antialias": True},
            "patch_size": self.patch_size,
            "n_patches": self.n_patches,
            "scale": "1/255",
            "mean": list(self.mean),
            "std": list(self.std),
            "library": "pillow",
        }

    def apply(self, image: Image.Image) -> Patches:
        """Return the patches of a picture.

        Parameters
        ----------
        image : PIL.Image.Image
            Mode "RGB", any size.

        Raises
        ------
        ValueError
            If the mode is not RGB.
        """
        if image.mode != "RGB":
            raise ValueError(
                f"Image mode is '{image.mode}', allowed is 'RGB'. Convert it with image.convert('RGB')."
            )
        rows, columns = self.grid(image.height, image.width)
        side = self.patch_size
        resized = np.asarray(image.resize((columns * side, rows * side), Image.Resampling.BILINEAR))
        values = np.stack([self._levels[c][resized[:, :, c]] for c in range(3)], axis=-1)
        cut = values.reshape(rows, side, columns, side, 3).swapaxes(1, 2).reshape(rows * columns, -1)
        pixels = np.zeros((self.n_patches, cut.shape[1]), dtype=np.float32)
        pixels[: len(cut)] = cut
        mask = (np.arange(self.n_patches) < len(cut)).astype(np.int64)
        return Patches(pixels, mask, (rows, columns))

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return the rows and columns of patches of a picture of that many pixels."""
        low, high = _SCALE_ACCURACY / 10, _LARGEST_SCALE
        while high - low >= _SCALE_ACCURACY:
            scale = (low + high) / 2
            rows, columns = self._patches(height, scale), self._patches(width, scale)
            low, high = (scale, high) if rows * columns <= self.n_patches else (low, scale)
        return self._patches(height, low), self._patches(width, low)

    def _patches(self, pixels: int, scale: float) -> int:
        return max(1, math.ceil(pixels * scale / self.patch_size))

    @cached_property
    def _levels(self) -> np.ndarray:
        """The network's value of each of the 256 levels, (3, 256) float32, by the reference's arithmetic."""
        return network_levels(self.mean, self.std)
