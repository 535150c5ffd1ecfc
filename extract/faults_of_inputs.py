"""Faults of inputs: pictures with noise, blur, JPEG artefacts or few pixels; texts with typos or lost words.

Each fault has five severities. The same input has the same fault every time, and a higher severity of a text
fault holds the lower ones: what differs along a curve is the severity, not the luck of the draw.

References
----------
D. Hendrycks and T. Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", ICLR 2019 (the levels of the picture faults: ``make_imagenet_c.py``, for pictures whose
shorter side is 224 pixels).
Y. Belinkov and Y. Bisk, "Synthetic and Natural Noise Both Break Neural Machine Translation", ICLR 2018
(swapped letters and neighbouring keys; the shares of words are our own choice).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from extract.augmentations.draws import Draws
from extract.augmentations.texts import text_pieces

if TYPE_CHECKING:
    from PIL.Image import Image

    from extract.cards import Card

SEVERITIES = (1, 2, 3, 4, 5)
#: Raised when the same arguments would give another input.
FAULTS_VERSION = 2

_SIDE = 224  # of the pictures for which the levels were set, in pixels
_UNSIZED = 448  # shorter side for networks that take many sizes


@dataclass(frozen=True)
class InputFault:
    """One way in which an input gets worse.

    Attributes
    ----------
    name : str
    modality : {"text", "image"}
    meaning : str
        What the levels are.
    levels : tuple of 5 floats
        One per severity.
    """

    name: str
    modality: str
    meaning: str
    levels: tuple[float, ...]


INPUT_FAULTS: Mapping[str, InputFault] = {
    fault.name: fault
    for fault in (
        InputFault(
            "noise", "image", "standard deviation of Gaussian noise, of 1", (0.08, 0.12, 0.18, 0.26, 0.38)
        ),
        InputFault(
            "blur", "image", "standard deviation of a Gaussian blur, in 224ths of a side", (1, 2, 3, 4, 6)
        ),
        InputFault("jpeg", "image", "quality of the JPEG encoder", (25, 18, 15, 10, 7)),
        InputFault("downscale", "image", "share of each side that is left", (0.6, 0.5, 0.4, 0.3, 0.25)),
        InputFault("typos", "text", "share of words with a typing mistake", (0.05, 0.1, 0.2, 0.3, 0.5)),
        InputFault("dropped-words", "text", "share of words that are lost", (0.1, 0.2, 0.3, 0.5, 0.7)),
    )
}

_KEY_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def _key_neighbours() -> dict[str, str]:
    """Return letter -> the keys beside it, on its own row of an English keyboard."""
    return {row[i]: row[max(0, i - 1) : i] + row[i + 1 : i + 2] for row in _KEY_ROWS for i in range(len(row))}


_NEIGHBOURS = _key_neighbours()


def faulty_text(text: str, name: str, severity: int, *, seed: bytes) -> str:
    """Return a text with a fault.

    Parameters
    ----------
    text : str
        Cleaned text.
    name : {"typos", "dropped-words"}
    severity : int
        1 to 5.
    seed : bytes
        Hash of the input.

    Returns
    -------
    str
        At least one word is left of a text that has one. Typos are made in alphabetic words only: a Han or
        kana character has no neighbour on the keyboard.

    Raises
    ------
    ValueError
        If there is no such fault of texts, or no such severity.
    """
    share = _level(name, severity, "text")
    draws = Draws(f"fault-{name}-{FAULTS_VERSION}", seed, 1)
    pieces = text_pieces(text)
    luck = [draws.between(0.0, 1.0) for _ in pieces]
    if name == "typos":
        # Every piece draws, hit or not, so that a word has the same typo at every severity.
        made = [_typo(piece, draws) for piece, _ in pieces]
        return "".join(
            typo if counts and at < share else piece
            for (piece, counts), at, typo in zip(pieces, luck, made, strict=True)
        )
    words = [i for i, (_, counts) in enumerate(pieces) if counts]
    safest = max(words, key=lambda i: luck[i], default=-1)
    gone = {i for i in words if luck[i] < share and i != safest}
    gone |= {i + 1 for i in gone if i + 1 < len(pieces) and pieces[i + 1][0].isspace()}
    return "".join(piece for i, (piece, _) in enumerate(pieces) if i not in gone).strip()


def _typo(word: str, draws: Draws) -> str:
    """Swap two neighbouring letters, or hit the key beside the right one; words without such stay."""
    swap_first, place, which = draws.happens(0.5), draws.between(0.0, 1.0), draws.between(0.0, 1.0)
    swaps = [
        i
        for i in range(len(word) - 1)
        if word[i].isalpha() and word[i + 1].isalpha() and word[i] != word[i + 1]
    ]
    keys = [i for i, letter in enumerate(word) if letter.lower() in _NEIGHBOURS]
    if swaps and (swap_first or not keys):
        i = swaps[int(place * len(swaps))]
        return word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    if not keys:
        return word
    i = keys[int(place * len(keys))]
    beside = _NEIGHBOURS[word[i].lower()]
    hit = beside[int(which * len(beside))]
    return word[:i] + (hit.upper() if word[i].isupper() else hit) + word[i + 1 :]


def faulty_image(image: Image, name: str, severity: int, *, seed: bytes, card: Card) -> Image:
    """Return a picture with a fault.

    Parameters
    ----------
    image : PIL.Image.Image
        RGB. Not changed.
    name : {"noise", "blur", "jpeg", "downscale"}
    severity : int
        1 to 5.
    seed : bytes
        Hash of the input.
    card : Card
        Of the network that will look at it.

    Returns
    -------
    PIL.Image.Image
        RGB. A picture larger than what the network resizes to is resized to that first, as the network would
        (in its shape or to a square, the middle of a long strip): noise on pixels that are averaged
        afterwards would not reach it, and a blur of two pixels says nothing without their size. Pictures are
        never enlarged.

    Raises
    ------
    ValueError
        If there is no such fault of pictures, or no such severity.
    """
    level = _level(name, severity, "image")
    seen = _as_the_network_resizes(image, card)
    return _IMAGE_FAULTS[name](seen, level, seed)


def _level(name: str, severity: int, modality: str) -> float:
    fault = INPUT_FAULTS.get(name)
    if fault is None or fault.modality != modality:
        known = ", ".join(fault.name for fault in INPUT_FAULTS.values() if fault.modality == modality)
        raise ValueError(f"{modality} fault {name!r} is not known; allowed are {known}.")
    if severity not in SEVERITIES:
        raise ValueError(f"Severity {severity} is not allowed; severities go from 1 to 5.")
    return fault.levels[severity - 1]


def _as_the_network_resizes(image: Image, card: Card) -> Image:
    from PIL.Image import Resampling

    from extract.backbones.pixels import LONGEST_RATIO, cut_strip

    side = card.resize or _UNSIZED
    if card.resize_mode == "shorter":
        image = cut_strip(image, LONGEST_RATIO)
    width, height = image.size
    if card.resize_mode == "exact":
        size = (min(side, width), min(side, height))
    else:
        # The longer side is cut, as in PixelRecipe, whose own resize then has nothing left to do.
        short = min(side, width, height)
        size = (short * width // min(width, height), short * height // min(width, height))
    if size == image.size:
        return image
    return image.resize(size, Resampling[(card.interpolation or "bicubic").upper()])


def _noise(image: Image, level: float, seed: bytes) -> Image:
    from PIL import Image as PillowImage

    generator = np.random.Generator(np.random.PCG64(int.from_bytes(seed, "little")))
    pixels = np.asarray(image, dtype=np.float32) / 255
    noisy = pixels + np.float32(level) * generator.standard_normal(pixels.shape, dtype=np.float32)
    return PillowImage.fromarray((noisy.clip(0, 1) * 255).round().astype(np.uint8))


def _blur(image: Image, level: float, _seed: bytes) -> Image:
    from PIL import ImageFilter

    return image.filter(ImageFilter.GaussianBlur(level * min(image.size) / _SIDE))


def _jpeg(image: Image, level: float, _seed: bytes) -> Image:
    from PIL import Image as PillowImage

    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(level))
    buffer.seek(0)
    with PillowImage.open(buffer, formats=("JPEG",)) as read:
        return read.convert("RGB")


def _downscale(image: Image, level: float, _seed: bytes) -> Image:
    from PIL.Image import Resampling

    small = (max(1, int(image.width * level)), max(1, int(image.height * level)))
    return image.resize(small, Resampling.BOX).resize(image.size, Resampling.BOX)


_IMAGE_FAULTS: Mapping[str, Callable[[Image, float, bytes], Image]] = {
    "noise": _noise,
    "blur": _blur,
    "jpeg": _jpeg,
    "downscale": _downscale,
}
