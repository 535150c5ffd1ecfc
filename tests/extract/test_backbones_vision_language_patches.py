"""Patches of vision-language backbones: those of transformers' own processor, in the network's order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from extract.backbones.patches import TOKEN_CAP, ImagePatches
from extract.registry import open_backbone
from tests.kit.vision_language import Library


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen3_vl"])
def test_patches_equal_the_pil_processor(qwen_folders: dict[str, Path], kind: str) -> None:
    """Grids and values equal transformers' PIL processor on odd shapes; no image passes the cap."""
    recipe = open_backbone(str(qwen_folders[kind])).patches
    processor = Library(qwen_folders[kind], kind).processor.image_processor
    noise = np.random.default_rng(0).integers(0, 256, (900, 1400, 3), dtype=np.uint8)
    shapes = [(1, 1), (14, 14), (13, 2600), (199, 1), (28, 28), (41, 43), (1400, 900), (700, 31)]
    for width, height in shapes:
        image = Image.fromarray(noise[np.arange(height) % 900][:, np.arange(width) % 1400])
        expected, found = processor([image], return_tensors="np"), recipe.apply(image)
        assert expected["image_grid_thw"].tolist() == [[1, found.height, found.width]]
        values = np.repeat(found.values.reshape(len(found.values), 3, 1, -1), 2, axis=2)
        np.testing.assert_allclose(
            values.reshape(len(values), -1), expected["pixel_values"], atol=1e-6, rtol=0
        )
        assert found.values.dtype == np.float32 and recipe.tokens(found) <= TOKEN_CAP


def test_patches_take_the_middle_of_strips_that_transformers_refuses(qwen_folders: dict[str, Path]) -> None:
    """A strip of 1 by 20,000 becomes the patches of its middle 1 by 200."""
    recipe = open_backbone(str(qwen_folders["qwen2_vl"])).patches
    column = np.random.default_rng(1).integers(0, 256, (20_000, 1, 3), dtype=np.uint8)
    found = recipe.apply(Image.fromarray(column))
    np.testing.assert_array_equal(found.values, recipe.apply(Image.fromarray(column[9_900:10_100])).values)
    with pytest.raises(ValueError, match=r"Image mode is 'L', allowed is 'RGB'\."):
        recipe.apply(Image.new("L", (9, 9)))


def test_image_patches_are_ordered_by_visual_token(qwen_folders: dict[str, Path]) -> None:
    """The four patches of one visual token follow each other, so that the network merges neighbours."""
    recipe = open_backbone(str(qwen_folders["qwen2_vl"])).patches
    pixels = np.zeros((56, 84, 3), dtype=np.uint8)
    pixels[:28, 28:56] = 255  # the second visual token of the first row
    patches = recipe.apply(Image.fromarray(pixels))
    assert isinstance(patches, ImagePatches) and (patches.height, patches.width) == (4, 6)
    bright = patches.values.mean(1) > patches.values.mean()
    assert np.flatnonzero(bright).tolist() == [4, 5, 6, 7]
