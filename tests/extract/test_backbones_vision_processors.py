"""Image processors: the same pixels as the library's own processor class makes from the same file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from PIL import Image

from extract.backbones.pixels import PixelRecipe
from extract.backbones.processors import CLASS_DEFAULTS, image_settings
from extract.cards import Card
from extract.registry import find_card, open_backbone

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
SIZES = [(333, 217), (217, 501), (31, 57), (256, 256), (641, 225), (225, 640), (1, 1), (1, 40), (40, 1)]

#: What published checkpoints have in their preprocessor_config.json.
PUBLISHED: dict[str, dict[str, Any]] = {
    "vit-base-patch16-224-in21k": {
        "image_processor_type": "ViTImageProcessor", "do_normalize": True, "do_rescale": True,
        "do_resize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "resample": 2,
        "rescale_factor": 0.00392156862745098, "size": {"height": 224, "width": 224},
    },
    "dinov2-base": {
        "image_processor_type": "BitImageProcessor", "do_resize": True, "size": {"shortest_edge": 256},
        "resample": 3, "do_center_crop": True, "crop_size": {"height": 224, "width": 224},
        "do_rescale": True, "rescale_factor": 0.00392156862745098, "do_normalize": True, **IMAGENET,
    },
    "convnext-base-224": {
        "feature_extractor_type": "ConvNextFeatureExtractor", "crop_pct": 0.875, "do_normalize": True,
        "do_resize": True, **IMAGENET, "resample": 3, "size": 224,
    },
    "convnext-base-384": {
        "feature_extractor_type": "ConvNextFeatureExtractor", "crop_pct": 0.875, "do_normalize": True,
        "do_resize": True, **IMAGENET, "resample": 3, "size": 384,
    },
    "efficientnet-b0": {
        "image_processor_type": "EfficientNetImageProcessor", "do_center_crop": False, "do_normalize": True,
        "crop_size": {"height": 289, "width": 289}, "do_rescale": True, "do_resize": True,
        "image_mean": [0.485, 0.456, 0.406], "image_std": [0.47853944, 0.4732864, 0.47434163],
        "include_top": True, "resample": 0, "rescale_factor": 0.00392156862745098, "rescale_offset": False,
        "size": {"height": 224, "width": 224},
    },
    "siglip-base-patch16-224": {
        "image_processor_type": "SiglipImageProcessor", "do_normalize": True, "do_rescale": True,
        "do_resize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "resample": 3,
        "rescale_factor": 0.00392156862745098, "size": {"height": 224, "width": 224},
    },
    "dinov3": {
        "image_processor_type": "DINOv3ViTImageProcessorFast", "do_center_crop": None, "crop_size": None,
        "do_normalize": True, "do_rescale": True, "do_resize": True, **IMAGENET, "resample": 2,
        "rescale_factor": 0.00392156862745098, "size": {"height": 224, "width": 224},
    },
    "deit-base-patch16-224": {
        "feature_extractor_type": "DeiTFeatureExtractor", "size": 256, "crop_size": 224,
        "do_center_crop": True, "do_resize": True, "do_normalize": True, **IMAGENET, "resample": 3,
    },
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "odd crop": {**PUBLISHED["dinov2-base"], "size": {"shortest_edge": 257}},
    "lanczos": {**PUBLISHED["siglip-base-patch16-224"], "resample": 1},
    "rescaled to -1..1": {
        **PUBLISHED["efficientnet-b0"], "rescale_factor": 1 / 127.5, "rescale_offset": True,
    },
    "not normalised": {**PUBLISHED["siglip-base-patch16-224"], "do_normalize": False},
    "not rescaled": {
        **PUBLISHED["vit-base-patch16-224-in21k"], "do_rescale": False,
        "image_mean": [120.0, 115.0, 100.0], "image_std": [58.0, 57.0, 56.0],
    },
    "fast class": {**PUBLISHED["dinov2-base"], "image_processor_type": "BitImageProcessorFast"},
    "null is off": {**PUBLISHED["siglip-base-patch16-224"], "do_center_crop": None, "do_normalize": None},
}  # fmt: skip
DEFAULTS = {f"{kind} defaults": {"image_processor_type": f"{kind}ImageProcessor"} for kind in CLASS_DEFAULTS}
ALL = {**PUBLISHED, **VARIANTS, **DEFAULTS}


def noise(width: int, height: int) -> Image.Image:
    """Draw coloured noise: every pixel that is resampled wrongly shows."""
    values = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def write(folder: Path, settings: dict[str, Any], name: str = "preprocessor_config.json") -> Path:
    """Save processor settings; returns `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(settings), encoding="utf-8")
    return folder


def recipe_of(folder: Path, rounding: str = "uint8") -> PixelRecipe:
    """Return the recipe of a card that has the folder's image settings."""
    card = Card(
        name="tiny", family="vit", modalities=("image",), readouts={"image": {"pooled": 8}},
        source="folder:tiny", **image_settings(folder),
    )  # fmt: skip
    return PixelRecipe.from_card(card, odd_margin="down", rounding=rounding)


def library_processor(settings: dict[str, Any]) -> Any:
    """Return the library's processor that works with Pillow; DINOv3 has only one that works with tensors."""
    kind = settings.get("image_processor_type", settings.get("feature_extractor_type", ""))
    kind = kind.removesuffix("Fast").removesuffix("ImageProcessor").removesuffix("FeatureExtractor")
    ending = "ImageProcessor" if kind == "DINOv3ViT" else "ImageProcessorPil"
    return getattr(transformers, kind + ending).from_dict(settings)


@pytest.mark.parametrize("name", ALL)
def test_image_settings_equal_the_library(name: str, tmp_path: Path) -> None:
    """Published files, unusual ones and each class's defaults give the library's own pixels."""
    recipe = recipe_of(
        write(tmp_path / "model", ALL[name]), rounding="none" if "dinov3" in name.lower() else "uint8"
    )
    processor = library_processor(ALL[name])
    for size in SIZES:
        expected = np.asarray(processor(noise(*size), return_tensors="np")["pixel_values"][0])
        # DINOv3's reference resizes by torch, whose filter weights are rounded to float32.
        tolerance = {"atol": 2e-4} if "dinov3" in name.lower() else {"atol": 1e-6, "rtol": 2e-6}
        np.testing.assert_allclose(recipe.apply(noise(*size)), expected, **tolerance)


@pytest.mark.parametrize("name", ["dinov2-base", "vit-base-patch16-224-in21k", "convnext-base-224"])
def test_image_settings_equal_the_library_on_a_big_picture(name: str, tmp_path: Path) -> None:
    """A photograph of twelve megapixels is resampled as the library resamples it."""
    recipe = recipe_of(write(tmp_path / "model", ALL[name]))
    big = noise(403, 302).resize((4032, 3024), Image.Resampling.BICUBIC)
    expected = library_processor(ALL[name])(big, return_tensors="np")["pixel_values"][0]
    np.testing.assert_allclose(recipe.apply(big), np.asarray(expected), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("vit-b16", "vit-base-patch16-224-in21k"),
        ("dinov2-s", "dinov2-base"),
        ("dinov2-b", "dinov2-base"),
        ("dinov2-l", "dinov2-base"),
        ("dinov3-vits16", "dinov3"),
        ("dinov3-vitb16", "dinov3"),
        ("dinov3-vitl16", "dinov3"),
        ("convnext-tiny", "convnext-base-224"),
        ("convnext-base", "convnext-base-224"),
        ("efficientnet-b0", "efficientnet-b0"),
    ],
)
def test_registered_card_agrees_with_the_published_processor(name: str, file: str, tmp_path: Path) -> None:
    """The card of a hub checkpoint says what the checkpoint's own processor file says."""
    settings = image_settings(write(tmp_path / "model", PUBLISHED[file]))
    card = find_card(name)
    for field, value in settings.items():
        if field in ("mean", "std"):
            np.testing.assert_allclose(getattr(card, field), value, atol=1e-7)
        else:
            assert getattr(card, field) == value
    rounding = open_backbone(name).recipe.rounding  # type: ignore[attr-defined]
    assert rounding == ("none" if file == "dinov3" else "uint8")


def test_image_settings_keep_usual_numbers(tmp_path: Path) -> None:
    """The usual rescaling leaves mean and std as the file states them, so that cards compare equal."""
    settings = image_settings(write(tmp_path / "model", PUBLISHED["dinov2-base"]))
    assert settings["mean"] == (0.485, 0.456, 0.406) and settings["std"] == (0.229, 0.224, 0.225)
    assert (settings["resize_mode"], settings["resize"], settings["image_size"]) == ("shorter", 256, 224)
    squeezed = image_settings(write(tmp_path / "vit", PUBLISHED["vit-base-patch16-224-in21k"]))
    assert (squeezed["resize_mode"], squeezed["resize"], squeezed["image_size"]) == ("exact", 224, 224)


def test_image_settings_take_the_class_from_the_family(tmp_path: Path) -> None:
    """A file that names no class means what the family's class would make of it."""
    settings = {key: value for key, value in PUBLISHED["convnext-base-224"].items() if "type" not in key}
    folder = write(tmp_path / "model", settings)
    write(folder, {"model_type": "convnext"}, "config.json")
    assert image_settings(folder)["resize"] == 256
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=r"class is 'not named', supported are ViT, Siglip"):
        image_settings(folder)


def test_image_settings_read_the_nested_file(tmp_path: Path) -> None:
    """transformers 5 may keep the settings in processor_config.json, beside the tokenizer's."""
    nested = {"image_processor": PUBLISHED["dinov2-base"], "processor_class": "X"}
    assert image_settings(write(tmp_path / "model", nested, "processor_config.json"), 224)["resize"] == 256


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_processor_type": "OddImageProcessor"}, r"class is 'Odd', supported are ViT"),
        ({"do_resize": False}, r"do_resize is off"),
        ({"do_center_crop": False}, r"do_center_crop is off"),
        ({"size": {"shortest_edge": 224, "longest_edge": 300}}, r"size is \{'shortest_edge': 224, 'long"),
        ({"size": {"height": 200, "width": 300}}, r"size is .*, not a shorter side or a square"),
        ({"crop_size": {"height": 200, "width": 300}}, r"crop_size is .*, not a square within 256 pixels"),
        ({"crop_size": 300}, r"crop_size is 300, not a square within 256 pixels"),
        ({"resample": 5}, r"resample is 5, supported are 0 \(nearest\), 1 \(lanczos\), 2 \(bilinear\), 3"),
        ({"image_std": [0.2, 0.2]}, r"image_std is \[0.2, 0.2\], not three numbers above 0"),
        ({"image_std": [0.2, 0.2, 0]}, r"image_std is \[0.2, 0.2, 0\], not three numbers above 0"),
        ({"rescale_factor": "x"}, r"rescale_factor is 'x', not a number above 0"),
        ({"size": None}, r"size is None, not a shorter side or a square"),
        (
            {
                "image_processor_type": "ConvNextImageProcessor",
                "do_center_crop": False,
                "crop_pct": None,
                "size": 224,
            },
            r"crop_pct is None, not a share of the side",
        ),
        ({"resample": 5, "do_resize": False}, r"do_resize is off; resample is 5"),
    ],
)
def test_image_settings_refuse_what_they_cannot_do(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    """Settings outside the recipe are named, all in one message, with the way out."""
    folder = write(tmp_path / "model", {**PUBLISHED["dinov2-base"], **changes})
    with pytest.raises(ValueError, match=message) as caught:
        image_settings(folder)
    assert "is not supported: " in str(caught.value) and "'embedonce import'" in str(caught.value)


def test_image_settings_check_the_networks_size(tmp_path: Path) -> None:
    """A processor that cuts another square than the network takes is refused."""
    folder = write(tmp_path / "model", PUBLISHED["dinov2-base"])
    with pytest.raises(ValueError, match=r"crop size is 224, the card says 336"):
        image_settings(folder, 336)
    with pytest.raises(FileNotFoundError, match=r"lacks 'preprocessor_config.json' or"):
        image_settings(tmp_path)
