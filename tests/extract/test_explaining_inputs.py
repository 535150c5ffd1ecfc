"""Occlusions and integrated gradients: the parts of an input that a vector depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from extract import open_backbone
from extract.augmentations.texts import text_pieces
from extract.integrated_gradients import patch_attribution, token_attribution
from extract.occlusions import cell_edits, word_edits
from tests.kit.tiny_checkpoints import make_resnet18, make_tiny_bert
from tests.kit.tiny_paired import make_tiny_projected
from tests.kit.tiny_text import make_tiny_pipeline
from tests.kit.tiny_vision import make_tiny_vision

TEXT = "the cat sat, the very happy cat 😀"


def make_tiny_clip(folder: Path) -> Path:
    """A CLIP whose weights are spread less than in other tests: its scores are smooth enough to follow."""
    return make_tiny_projected(folder, "clip")


TEXTS = {"clip": make_tiny_clip, "bert": make_tiny_bert, "sentence-transformer": make_tiny_pipeline}
PICTURES = {"clip": make_tiny_clip, "vit": lambda f: make_tiny_vision(f, "vit"), "resnet18": make_resnet18}


def test_word_edits_leave_out_one_occurrence_each() -> None:
    """Every word has one edit, which takes away that word and its space and nothing else."""
    edits = word_edits(TEXT)
    pieces = [piece for piece, _ in text_pieces(TEXT)]
    assert [pieces[place] for place, _ in edits] == [
        "the",
        "cat",
        "sat,",
        "the",
        "very",
        "happy",
        "cat",
        "😀",
    ]
    changed = [edit.text(TEXT, b"") for _, edit in edits]
    assert changed[0] == "cat sat, the very happy cat 😀"
    assert changed[3] == "the cat sat, very happy cat 😀"
    assert changed[6] == "the cat sat, the very happy 😀"
    assert changed[7] == "the cat sat, the very happy cat"
    assert edits[6][1].text("cat only once", b"") == "cat only once"  # another cleaning lost the second


def test_cell_edits_paint_every_pixel_once() -> None:
    """The cells of a grid cover the picture without overlap, in its mean colour."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (31, 45, 3)).astype(np.uint8))
    mean = np.asarray(image, dtype=np.float64).mean(axis=(0, 1))
    times = np.zeros((31, 45), dtype=int)
    for edit in cell_edits(3, 4):
        painted = np.asarray(edit.image(image, b""))
        changed = (painted != np.asarray(image)).any(axis=2)
        times += changed
        assert np.abs(painted[changed] - mean).max() <= 0.5
    # A pixel may happen to have the mean colour already.
    assert (times == 1).mean() > 0.99
    assert times.max() == 1


def _score(seed: int, width: int, *, scale: float | None = None):
    """Return a smooth score of a vector, as a head's probability is."""
    weights = torch.randn(width, generator=torch.Generator().manual_seed(seed))
    weights *= scale or 1 / (3 * width**0.5)
    return lambda readouts: torch.sigmoid(readouts["pooled"] @ weights)


def _tower(folder: Path, make: Any, modality: str):
    backbone = open_backbone(str(make(folder / "net")))
    return backbone.open_tower(modality), backbone.card.width(modality, "pooled")


@pytest.mark.parametrize("name", TEXTS)
def test_token_values_add_up_to_the_difference(tmp_path: Path, name: str) -> None:
    """Completeness: the sum is the score minus that of the same tokens with embeddings of zero."""
    tower, width = _tower(tmp_path, TEXTS[name], "text")
    score = _score(1, width, scale=2.0 if name == "sentence-transformer" else None)  # of vectors of length 1
    found = token_attribution(tower, TEXT, score)
    whole = score({k: torch.from_numpy(v) for k, v in tower.forward(tower.tokenise([TEXT])).items()})
    size = np.abs(found.values).sum()
    assert size > 1e-3
    assert found.values.sum() == pytest.approx(found.difference, abs=0.01 * size)
    assert float(whole) > found.difference  # the baseline is no text at all, not a score of zero
    covered = "".join(TEXT[start:stop] for start, stop in dict.fromkeys(found.spans))
    assert covered.replace(" ", "").startswith("thecatsat")


def test_long_texts_are_cut_as_the_tower_cuts_them(tmp_path: Path) -> None:
    """Tokens beyond the limit have no value."""
    tower, width = _tower(tmp_path, make_tiny_clip, "text")
    text = "cat " * 40
    found = token_attribution(tower, text.strip(), _score(1, width))
    assert len(found.values) == tower._limit - 2  # without the opening and the closing one
    assert found.values.sum() == pytest.approx(found.difference, rel=0.01, abs=1e-4)


@pytest.mark.parametrize("name", PICTURES)
def test_patch_values_add_up_to_the_difference(tmp_path: Path, name: str) -> None:
    """Completeness, over the network's own patches or a grid of seven; the picture is what it sees."""
    tower, width = _tower(tmp_path, PICTURES[name], "image")
    generator = np.random.default_rng(4)
    pixels = generator.integers(0, 256, (60, 80, 3)).astype(np.uint8)
    score = _score(2, width)
    found = patch_attribution(tower, Image.fromarray(pixels), score)
    side = tower.preprocess(Image.fromarray(pixels)).shape[1]
    assert found.values.shape == ((7, 7) if name == "resnet18" else (4, 4))
    assert found.seen.size == (side, side)
    assert abs(found.difference) > 1e-3
    assert found.values.sum() == pytest.approx(found.difference, rel=0.05)
    mean, std = np.array(tower._recipe.mean), np.array(tower._recipe.std)
    levels = ((np.asarray(found.seen) / 255 - mean) / std).transpose(2, 0, 1)
    np.testing.assert_allclose(levels, tower.preprocess(Image.fromarray(pixels)), atol=1e-5)


def test_gradients_of_patches_are_where_the_score_looks(tmp_path: Path) -> None:
    """With a score of one corner's pixels, only that corner has a value."""
    tower, _ = _tower(tmp_path, make_tiny_clip, "image")
    tower._readout = lambda pixels: {"pooled": pixels[:, :, :8, :8].flatten(1)}
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8))
    found = patch_attribution(tower, image, lambda readouts: readouts["pooled"].sum(dim=1))
    assert abs(found.values[0, 0]) > 1e-3
    assert np.abs(np.delete(found.values.ravel(), 0)).max() == 0
    assert found.values.sum() == pytest.approx(found.difference, rel=1e-5)


def test_other_towers_are_refused(tmp_path: Path) -> None:
    """A text is not attributed by an image tower, and the message names the way out."""
    tower, width = _tower(tmp_path, make_resnet18, "image")
    with pytest.raises(ValueError, match=r"networks of kind ConvTower. Use --method occlusion"):
        token_attribution(tower, TEXT, _score(1, width))
    text, _ = _tower(tmp_path / "b", make_tiny_bert, "text")
    with pytest.raises(ValueError, match=r"networks of kind EncoderTower. Use --method occlusion"):
        patch_attribution(text, Image.new("RGB", (8, 8)), _score(1, width))
