"""Inputs of a tower, whatever its modality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image


def inputs_of(tower: Any, texts: Sequence[str], images: Sequence[Image.Image]) -> Sequence[Any]:
    """Return what `tower` takes: the texts as tokens, the images as pixels, or the pairs of both."""
    if hasattr(tower, "tokenise"):
        tokens: Sequence[Any] = tower.tokenise(texts)
        return tokens
    if hasattr(tower, "prepare"):
        return [tower.prepare(text, image) for text, image in zip(texts, images, strict=True)]
    return [tower.preprocess(image) for image in images]
