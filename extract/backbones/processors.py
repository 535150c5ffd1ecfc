"""Image processors: a card's image fields, read from a checkpoint's own processor settings.

The settings mean what they mean to the processor class that wrote them: an absent one takes the class's
default, and some classes have rules of their own. Both are written down here for the classes of
transformers 5.23 (``image_processing_pil_*.py``), so that another version's defaults change no vector.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from extract.backbones.contract import mismatch
from extract.weights import WeightsMissingError, read_json

PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")

_IMAGENET = {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)}
_HALF = {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)}
_CLIP = {
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
}
_STEPS = {"do_resize": True, "do_center_crop": False, "do_rescale": True, "do_normalize": True}
_COMMON = {**_STEPS, "rescale_factor": 1 / 255, "resample": 3}
_CROPPED = {
    **_COMMON, **_CLIP, "size": {"shortest_edge": 224}, "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
}  # fmt: skip
_SQUEEZED = {**_COMMON, **_HALF, "size": {"height": 224, "width": 224}}
#: Class without its ending -> its defaults.
CLASS_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "ViT": {**_SQUEEZED, "resample": 2},
    "Siglip": {**_SQUEEZED},
    "Beit": {**_SQUEEZED},
    "DeiT": {
        **_SQUEEZED, "size": {"height": 256, "width": 256}, "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224},
    },
    "Blip": {**_SQUEEZED, **_CLIP, "size": {"height": 384, "width": 384}},
    "Flava": {
        **_SQUEEZED, **_CLIP, "do_center_crop": True, "crop_size": {"height": 224, "width": 224},
    },
    "DINOv3ViT": {**_SQUEEZED, **_IMAGENET, "resample": 2},
    "Bit": {**_CROPPED},
    "CLIP": {**_CROPPED},
    "ChineseCLIP": {**_CROPPED},
    "ConvNext": {**_COMMON, **_HALF, "size": {"shortest_edge": 384}, "crop_pct": 224 / 256},
    "EfficientNet": {
        **_COMMON, **_HALF, "size": {"height": 346, "width": 346}, "include_top": True,
        "rescale_offset": False,
    },
}  # fmt: skip
#: Classes to which a size that is one number means the shorter side; to the others it means a square.
_NUMBER_IS_SHORTER = {"Bit", "CLIP", "ChineseCLIP", "ConvNext", "Siglip"}
#: Older files name no class; then the family tells it, as it does for transformers.
_CLASS_OF_FAMILY = {
    "beit": "Beit", "blip": "Blip", "chinese_clip": "ChineseCLIP", "clip": "CLIP", "convnext": "ConvNext",
    "convnextv2": "ConvNext", "deit": "DeiT", "dinov2": "Bit", "dinov2_with_registers": "Bit",
    "dinov3_convnext": "DINOv3ViT", "dinov3_vit": "DINOv3ViT", "efficientnet": "EfficientNet",
    "flava": "Flava", "resnet": "ConvNext", "siglip": "Siglip", "swin": "ViT", "swinv2": "ViT", "vit": "ViT",
}  # fmt: skip
#: Pillow's numbers of the filters that a card can name.
_FILTER_OF = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}


def image_settings(folder: Path, image_size: int | None = None) -> dict[str, Any]:
    """Read a card's image fields from the folder's image processor.

    Parameters
    ----------
    folder : Path
    image_size : int or None
        Side of the square that the network takes, in pixels; None if it takes any.

    Returns
    -------
    dict of str to Any
        Arguments of :class:`Card`: image_size, resize, resize_mode, interpolation, mean, std. Rescaling is
        folded into mean and std, which apply to values in 0 to 1.

    Raises
    ------
    WeightsMissingError
        If the folder has no image processor: its mean and size cannot be guessed.
    ValueError
        If it asks for something that a :class:`PixelRecipe` cannot do; all faults are named.
    """
    settings = read_processor(folder)
    kind = _class_of(settings, folder)
    faults = (
        [] if kind in CLASS_DEFAULTS else [f"class is {kind!r}, supported are {', '.join(CLASS_DEFAULTS)}"]
    )
    settings = {**_STEPS, **CLASS_DEFAULTS.get(kind, {}), **settings}
    fields, size_faults = _sizes(settings, kind)
    faults += [*size_faults, *_normalisation_faults(settings)]
    if image_size is not None and not size_faults:
        faults += mismatch("crop size", image_size, fields["image_size"])
    if settings.get("resample") not in _FILTER_OF:
        names = ", ".join(f"{number} ({name})" for number, name in _FILTER_OF.items())
        faults.append(f"resample is {settings.get('resample')!r}, supported are {names}")
    if faults:
        raise ValueError(
            f"Image processor in '{folder}' is not supported: {'; '.join(faults)}. Make its vectors "
            "elsewhere and use 'embedonce import'."
        )
    return {**fields, "interpolation": _FILTER_OF[settings["resample"]], **_normalisation(settings)}


def _sizes(settings: Mapping[str, Any], kind: str) -> tuple[dict[str, Any], list[str]]:
    """Return image_size, resize and resize_mode, or what is wrong with the sizes."""
    side, mode = _resized_side(settings.get("size"), kind)
    crop = _square(settings.get("crop_size")) if settings["do_center_crop"] else None
    if not settings["do_resize"]:
        return {}, ["do_resize is off"]
    if side is None:
        return {}, [f"size is {settings.get('size')!r}, not a shorter side or a square"]
    if settings["do_center_crop"] and (crop is None or crop > side):
        return {}, [f"crop_size is {settings.get('crop_size')!r}, not a square within {side} pixels"]
    if kind == "ConvNext":
        # Its rule: below 384 the picture is resized to size / crop_pct and cut, above it is squeezed.
        if crop not in (None, side):
            return {}, [f"crop_size is {settings.get('crop_size')!r} after a cut to {side}"]
        share = settings["crop_pct"] if side < 384 else 1
        if not isinstance(share, (int, float)) or not 0 < share <= 1:
            return {}, [f"crop_pct is {share!r}, not a share of the side"]
        resize = int(side / share)
        mode, side, crop = ("shorter" if side < 384 else "exact"), resize, side
    if mode == "shorter" and crop is None:
        return {}, ["do_center_crop is off, so that pictures would keep different sizes"]
    return {"image_size": crop or side, "resize": side, "resize_mode": mode}, []


def _resized_side(size: Any, kind: str) -> tuple[int | None, str]:
    if isinstance(size, int):
        return size, "shorter" if kind in _NUMBER_IS_SHORTER else "exact"
    if isinstance(size, dict) and set(size) == {"shortest_edge"}:
        return size["shortest_edge"], "shorter"
    return _square(size), "exact"


def _square(size: Any) -> int | None:
    if isinstance(size, int):
        return size
    if isinstance(size, dict) and set(size) == {"height", "width"} and size["height"] == size["width"]:
        return int(size["height"])
    return None


def _normalisation_faults(settings: Mapping[str, Any]) -> list[str]:
    faults = [
        f"{name} is {settings.get(name)!r}, not three numbers" + (" above 0" if name == "image_std" else "")
        for name in ("image_mean", "image_std")
        if not _is_triple(settings.get(name), positive=name == "image_std")
    ]
    factor = settings.get("rescale_factor", 1 / 255)
    if not isinstance(factor, (int, float)) or not math.isfinite(factor) or factor <= 0:
        faults.append(f"rescale_factor is {factor!r}, not a number above 0")
    return faults


def _is_triple(values: Any, *, positive: bool) -> bool:
    return (
        isinstance(values, (list, tuple))
        and len(values) == 3
        and all(isinstance(v, (int, float)) and math.isfinite(v) and (v > 0 or not positive) for v in values)
    )


def _normalisation(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Fold every step after the crop into one mean and std of values in 0 to 1."""
    mean, std = [0.0] * 3, [1.0] * 3
    if settings["do_normalize"]:
        mean, std = list(settings["image_mean"]), list(settings["image_std"])
    if settings.get("include_top"):
        # EfficientNet divides by std once more; its files hold the square roots of the usual values.
        std = [a * b for a, b in zip(std, settings["image_std"], strict=True)]
    offset = 1.0 if settings.get("rescale_offset") and settings["do_rescale"] else 0.0
    scale = 255 * settings.get("rescale_factor", 1 / 255) if settings["do_rescale"] else 255.0
    if abs(scale - 1) > 1e-7 or offset:  # the usual 1/255 leaves the stated numbers as they are
        mean, std = [(m + offset) / scale for m in mean], [s / scale for s in std]
    return {"mean": tuple(mean), "std": tuple(std)}


def _class_of(settings: Mapping[str, Any], folder: Path) -> str:
    """Return the class that wrote the settings, without its ending: "ViTImageProcessorFast" is "ViT"."""
    named = settings.get("image_processor_type") or settings.get("feature_extractor_type")
    if not named:
        config = folder / "config.json"
        family = read_json(config).get("model_type") if config.is_file() else None
        return _CLASS_OF_FAMILY.get(str(family), "not named")
    return re.sub(r"(ImageProcessor(Fast|Pil)?|FeatureExtractor)$", "", str(named))


def processor_files(folder: Path) -> list[Path]:
    """Return the files of `folder` that may say how images are prepared; the first one counts."""
    return [folder / name for name in PROCESSOR_FILES if (folder / name).is_file()]


def read_processor(folder: Path) -> dict[str, Any]:
    """Return the image settings of a checkpoint, as its processor class wrote them.

    Raises
    ------
    WeightsMissingError
        If no file has them.
    """
    for path in processor_files(folder):
        settings = read_json(path)
        # transformers 5 may nest it in one file with the tokenizer's settings.
        return dict(settings.get("image_processor", settings))
    raise WeightsMissingError(
        f"Folder '{folder}' lacks {' or '.join(repr(name) for name in PROCESSOR_FILES)}, which say how "
        "images are prepared. Copy the whole folder of the model."
    )
