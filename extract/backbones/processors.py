"""Image processors: a card's image fields, read from a checkpoint's own processor settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from extract.backbones.contract import mismatch
from extract.weights import WeightsMissingError, read_json

PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
#: Pillow's numbers of the filters that a card can name.
_FILTER_OF = {2: "bilinear", 3: "bicubic"}


def image_settings(folder: Path, image_size: int) -> dict[str, Any]:
    """Read a card's image fields from the folder's image processor.

    Raises
    ------
    WeightsMissingError
        If the folder has no image processor: its mean and size cannot be guessed.
    ValueError
        If it asks for something other than resize, centre crop, scale and normalise; all faults are named.
    """
    settings = _processor(folder)
    size, crop = settings.get("size"), settings.get("crop_size")
    shorter = size.get("shortest_edge") if isinstance(size, dict) else size
    side = crop.get("height") if isinstance(crop, dict) and crop.get("height") == crop.get("width") else crop
    steps = ("do_resize", "do_center_crop", "do_normalize", "do_rescale")
    faults = [f"{step} is off" for step in steps if settings.get(step, True) is not True]
    faults += [f"size is {size!r}, not a shorter side"] if not isinstance(shorter, int) else []
    faults += mismatch("crop size", image_size, side)
    if settings.get("resample") not in _FILTER_OF:
        faults.append(f"resample is {settings.get('resample')!r}, supported are 2 (bilinear) and 3 (bicubic)")
    if abs(settings.get("rescale_factor", 1 / 255) - 1 / 255) > 1e-9:
        faults.append(f"rescale_factor is {settings['rescale_factor']!r}, supported is 1/255")
    if faults:
        raise ValueError(
            f"Image processor in '{folder}' is not supported: {'; '.join(faults)}. Make its vectors "
            "elsewhere and use "
            "'embedonce import'."
        )
    return {
        "image_size": image_size,
        "resize": shorter,
        "interpolation": _FILTER_OF[settings["resample"]],
        "mean": tuple(settings["image_mean"]),
        "std": tuple(settings["image_std"]),
    }


def _processor(folder: Path) -> Any:
    for name in PROCESSOR_FILES:
        if (folder / name).is_file():
            settings = read_json(folder / name)
            # transformers 5 may nest it in one file with the tokenizer's settings.
            return settings.get("image_processor", settings)
    raise WeightsMissingError(
        f"Folder '{folder}' lacks {' or '.join(repr(name) for name in PROCESSOR_FILES)}, which say how "
        "images are prepared. "
        "Copy the whole folder of the model."
    )
