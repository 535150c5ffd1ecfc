"""bf16 on a CPU, family by family: close to fp32, finite, and the same bits whatever shares the batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from extract.registry import open_backbone
from tests.kit import tiny_joint, tiny_paired, tiny_text, tiny_vision
from tests.kit.emoji_images import draw_emoji
from tests.kit.tower_inputs import inputs_of

TEXTS = ["sun", "the cat sat on the mat", "a", "happy dog sun sun sun"]
EMOJI = "😀😢🐶🌧"

MAKERS: dict[str, Callable[[Path], Path]] = {
    **{family: partial(tiny_text.make_tiny_encoder, family=family) for family in tiny_text.FAMILIES},
    **{family: partial(tiny_vision.make_tiny_vision, family=family) for family in tiny_vision.FAMILIES},
    **{family: partial(tiny_paired.make_tiny_projected, family=family) for family in tiny_paired.PROJECTED},
    "siglip": tiny_paired.make_tiny_siglip,
    "siglip2": partial(tiny_paired.make_tiny_siglip2, naflex=True),
    "flava": tiny_joint.make_tiny_flava,
    "blip": tiny_joint.make_tiny_blip,
    **{
        kind: partial(tiny_joint.make_tiny_qwen, kind=kind) for kind in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
    },
}


@pytest.mark.parametrize("family", MAKERS)
def test_bf16_holds_its_promises_in_every_family(family: str, tmp_path: Path) -> None:
    """Each tower's bf16 vectors lie within the tolerance of float32, and do not depend on their batch."""
    backbone = open_backbone(str(MAKERS[family](tmp_path / family)))
    for modality in backbone.card.modalities:
        exact, mixed = (backbone.open_tower(modality, precision=p) for p in ("fp32", "bf16"))
        inputs = inputs_of(exact, TEXTS, [draw_emoji(character, 40) for character in EMOJI])
        one, two = exact.forward(inputs)["pooled"], mixed.forward(inputs)["pooled"]
        assert two.dtype == np.float32 and not np.array_equal(one, two), "bf16 was not used"
        cosines = (one * two).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)
        assert cosines.min() > 0.999, modality  # NaN fails as well
        alone = np.concatenate([mixed.forward([item])["pooled"] for item in inputs])
        assert np.array_equal(alone, two), modality
