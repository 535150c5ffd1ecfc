"""Patches: from an RGB image of any size to the patches that a Qwen vision tower takes.

Equal to transformers' ``Qwen2VLImageProcessorPil`` (5.23), which all three generations share: each side
becomes a multiple of one visual token's side, as near to the picture's own size as the limits allow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from extract.backbones.pixels import cut_strip, network_levels
from extract.backbones.processors import read_processor

#: Most visual tokens of one image. The checkpoints allow up to 16,384; a picture of a post (600 x 563 pixels)
#: has 330 to 440, so this shrinks only larger ones.
TOKEN_CAP = 512
#: transformers refuses longer strips; here their middle is taken.
LONGEST_RATIO = 200
_CLASSES = ("Qwen2VLImageProcessor", "Qwen2VLImageProcessorFast", "Qwen2VLImageProcessorPil")
# The class's defaults (image_processing_pil_qwen2_vl.py).
_DEFAULTS: Mapping[str, Any] = {
    "patch_size": 14, "merge_size": 2, "temporal_patch_size": 2, "resample": 3, "rescale_factor": 1 / 255,
    "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
    "do_resize": True, "do_rescale": True, "do_normalize": True,
}  # fmt: skip
_DEFAULT_PIXELS = (56 * 56, 28 * 28 * 1280)


@dataclass(frozen=True)
class ImagePatches:
    """One image as patches.

    Attributes
    ----------
    values : ndarray of shape (height * width, 3 * patch * patch), float32
        Ordered by visual token: the patches that are merged into one token follow each other.
    height, width : int
        Patches per column and per row.
    """

    values: np.ndarray
    height: int
    width: int


@dataclass(frozen=True)
class PatchRecipe:
    """Resize to a grid of visual tokens, scale to 0..1, normalise, cut into patches.

    Attributes
    ----------
    patch : int
        Side of a patch, in pixels.
    merge : int
        A visual token is made of merge x merge patches.
    frames : int
        How often the network wants every patch repeated: it takes videos too.
    least_pixels, most_pixels : int
        Limits of height x width after resizing.
    mean, std : tuple of 3 floats
    """

    patch: int
    merge: int
    frames: int
    least_pixels: int
    most_pixels: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def token_side(self) -> int:
        """Side of a visual token, in pixels."""
        return self.patch * self.merge

    def tokens(self, patches: ImagePatches) -> int:
        """Return how many visual tokens an image becomes."""
        return patches.height * patches.width // self.merge**2

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe as plain JSON values; it enters the fingerprint."""
        return {
            "resize": {
                "multiple_of": self.token_side,
                "least_pixels": self.least_pixels,
                "most_pixels": self.most_pixels,
                "interpolation": "bicubic",
                "antialias": True,
            },
            "patch": self.patch,
            "merge": self.merge,
            "frames": self.frames,
            "scale": "1/255",
            "mean": list(self.mean),
            "std": list(self.std),
            "longest_ratio": LONGEST_RATIO,
            "library": "pillow, as Qwen2VLImageProcessorPil of transformers 5.23",
        }

    def apply(self, image: Image.Image) -> ImagePatches:
        """Return the network's input.

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
        image = cut_strip(image, LONGEST_RATIO)
        size = self.resized(*image.size)
        pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC))  # (height, width, 3) uint8
        levels = np.stack([self._levels[c][pixels[:, :, c]] for c in range(3)])  # (3, height, width) float32
        width, height = size[0] // self.patch, size[1] // self.patch
        m, p = self.merge, self.patch
        blocks = levels.reshape(3, height // m, m, p, width // m, m, p).transpose(1, 4, 2, 5, 0, 3, 6)
        return ImagePatches(blocks.reshape(height * width, 3 * p * p), height, width)

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height after resizing, in pixels."""
        side, area = self.token_side, width * height
        new_width, new_height = round(width / side) * side, round(height / side) * side
        if new_width * new_height > self.most_pixels:
            shrink = math.sqrt(area / self.most_pixels)
            new_width = max(side, math.floor(width / shrink / side) * side)
            new_height = max(side, math.floor(height / shrink / side) * side)
        elif new_width * new_height < self.least_pixels:
            grow = math.sqrt(self.least_pixels / area)
            new_width = math.ceil(width * grow / side) * side
            new_height = math.ceil(height * grow / side) * side
        return new_width, new_height

    @property
    def _levels(self) -> np.ndarray:
        """The network's value of each of the 256 levels, (3, 256) float32."""
        return network_levels(self.mean, self.std)


def read_patch_recipe(folder: Path, *, least_tokens: int | None = None) -> PatchRecipe:
    """Read the recipe from the folder's image processor settings, with at most ``TOKEN_CAP`` visual tokens.

    Parameters
    ----------
    folder : Path
    least_tokens : int or None
        Fewest visual tokens, where a model's documentation says another number than its files.

    Raises
    ------
    WeightsMissingError
        If the folder has no image processor.
    ValueError
        If it asks for other steps; all faults are named.
    """
    settings = read_processor(folder)
    named = settings.get("image_processor_type")
    settings = {**_DEFAULTS, **{name: value for name, value in settings.items() if value is not None}}
    steps = ("do_resize", "do_rescale", "do_normalize")
    faults = [f"{step} is off" for step in steps if settings[step] is not True]
    faults += [] if named in _CLASSES else [f"class is {named!r}, supported are {', '.join(_CLASSES)}"]
    if settings["resample"] != 3:
        faults.append(f"resample is {settings['resample']!r}, supported is 3 (bicubic)")
    if abs(settings["rescale_factor"] - 1 / 255) > 1e-9:
        faults.append(f"rescale_factor is {settings['rescale_factor']!r}, supported is 1/255")
    if faults:
        raise ValueError(
            f"Image processor in '{folder}' is not supported: {'; '.join(faults)}. Make its vectors "
            "elsewhere and use 'embedonce import'."
        )
    token_pixels = (settings["patch_size"] * settings["merge_size"]) ** 2
    least, most = _pixel_limits(settings)
    return PatchRecipe(
        patch=settings["patch_size"],
        merge=settings["merge_size"],
        frames=settings["temporal_patch_size"],
        least_pixels=least if least_tokens is None else least_tokens * token_pixels,
        most_pixels=min(most, TOKEN_CAP * token_pixels),
        mean=tuple(settings["image_mean"]),
        std=tuple(settings["image_std"]),
    )


def _pixel_limits(settings: Mapping[str, Any]) -> tuple[int, int]:
    """Return the limits; older files state them as min_pixels and max_pixels, which win over size."""
    size = settings.get("size") or {}
    least = settings.get("min_pixels") or size.get("shortest_edge") or _DEFAULT_PIXELS[0]
    most = settings.get("max_pixels") or size.get("longest_edge") or _DEFAULT_PIXELS[1]
    return least, most
