"""Faults of inputs: seeded, growing with severity, at the size that a network looks at."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from extract import INPUT_FAULTS, SEVERITIES, Card, faults_of_inputs, faulty_image, faulty_text
from extract.backbones.pixels import PixelRecipe

TEXT = "what a very happy day in the rain, and the dog is not sad at all about it"
SEED = hashlib.sha256(b"row").digest()
IMAGE_FAULTS = [name for name, fault in INPUT_FAULTS.items() if fault.modality == "image"]


def _card(resize: int | None = 64, mode: str = "shorter") -> Card:
    size = {"image_size": resize, "resize": resize, "interpolation": "bicubic"}
    mode = mode if resize else "dynamic"
    return Card(
        "toy",
        "toy",
        ("image",),
        {"image": {"pooled": 4}},
        "folder:toy",
        resize_mode=mode,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        **(size if resize else {}),
    )


def _picture(width: int = 96, height: int = 80) -> Image.Image:
    """A picture with edges and flat parts, which every fault changes."""
    y, x = np.mgrid[:height, :width]
    squares = ((x // 10 + y // 10) % 2 * 180 + 40).astype(np.uint8)
    return Image.fromarray(np.stack([squares, squares[::-1], np.full_like(squares, 90)], axis=2))


def _distance(a: Image.Image, b: Image.Image) -> float:
    return float(np.abs(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)).mean())


@pytest.mark.parametrize("name", IMAGE_FAULTS)
def test_image_fault_grows_with_severity_and_is_seeded(name: str) -> None:
    """The higher the severity, the further the pixels are off; equal seeds give equal pixels."""
    image = _picture(64, 64)
    made = [faulty_image(image, name, severity, seed=SEED, card=_card()) for severity in SEVERITIES]
    distances = [_distance(image, each) for each in made]
    assert distances[0] > 1
    # Squares of ten pixels meet the grids of JPEG and of downscaling by luck, so only the ends are ordered.
    assert distances[-1] > distances[0] * 1.15
    again = faulty_image(image, name, 3, seed=SEED, card=_card())
    assert again.tobytes() == made[2].tobytes()
    assert image.tobytes() == _picture(64, 64).tobytes()


def test_noise_has_the_published_deviation_and_differs_by_row() -> None:
    """On middle grey, where nothing is clipped, the noise has the level of ImageNet-C; rows differ."""
    grey = Image.new("RGB", (128, 128), (128, 128, 128))
    noisy = np.asarray(faulty_image(grey, "noise", 2, seed=SEED, card=_card(128)), dtype=np.float64)
    assert (noisy / 255).std() == pytest.approx(0.12, rel=0.02)
    other = faulty_image(grey, "noise", 2, seed=hashlib.sha256(b"other").digest(), card=_card(128))
    assert _distance(other, Image.fromarray(noisy.astype(np.uint8))) > 10


def test_large_pictures_are_shrunk_as_the_network_would_first() -> None:
    """Faults are made at the network's size, in the picture's shape; small pictures are not enlarged."""
    large = faulty_image(_picture(960, 800), "jpeg", 1, seed=SEED, card=_card(64))
    assert large.size == (76, 64)
    small = faulty_image(_picture(40, 30), "blur", 1, seed=SEED, card=_card(64))
    assert small.size == (40, 30)
    sizeless = faulty_image(_picture(960, 800), "downscale", 1, seed=SEED, card=_card(None))
    assert min(sizeless.size) == 448


@pytest.mark.parametrize("mode", ["shorter", "exact"])
@pytest.mark.parametrize("size", [(960, 800), (333, 1000), (1000, 90), (100, 40), (9000, 70)])
def test_faults_see_the_pixels_that_the_network_would(
    mode: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture that nothing happens to at the network's size gives the network the input of the raw file."""
    monkeypatch.setitem(faults_of_inputs._IMAGE_FAULTS, "jpeg", lambda image, _level, _seed: image)
    card, raw = _card(64, mode), _picture(*size)
    seen = faulty_image(raw, "jpeg", 1, seed=SEED, card=card)
    recipe = PixelRecipe.from_card(card, odd_margin="down")
    assert max(seen.size) <= 64 * 64
    if mode == "exact":
        assert seen.size == (min(64, size[0]), min(64, size[1]))
    if min(size) >= 64:  # smaller ones are enlarged by the network alone
        np.testing.assert_array_equal(recipe.apply(seen), recipe.apply(raw))


def test_text_faults_hold_those_of_lower_severities() -> None:
    """Words that are hit once stay hit as severity grows, in the same way."""
    lost = [set(TEXT.split()) - set(faulty_text(TEXT, "typos", s, seed=SEED).split()) for s in SEVERITIES]
    assert all(low <= high for low, high in pairwise(lost))
    assert len(lost[-1]) > len(lost[0])
    words = [faulty_text(TEXT, "dropped-words", s, seed=SEED).split() for s in SEVERITIES]
    for more, fewer in pairwise(words):
        left = iter(more)
        assert all(word in left for word in fewer)  # a subsequence


@pytest.mark.parametrize(("name", "severity"), [("typos", 3), ("dropped-words", 4)])
def test_text_faults_hit_the_share_of_words_they_name(name: str, severity: int) -> None:
    """Over many rows the share of words that are hit is the level."""
    hit = total = 0
    for row in range(300):
        seed = hashlib.sha256(str(row).encode()).digest()
        changed = faulty_text(TEXT, name, severity, seed=seed).split()
        total += len(TEXT.split())
        kept = [word for word in changed if word in TEXT.split()]
        hit += len(TEXT.split()) - len(kept)
    assert hit / total == pytest.approx(INPUT_FAULTS[name].levels[severity - 1], abs=0.03)


def test_text_faults_keep_at_least_one_word_and_leave_signs_alone() -> None:
    """No text is emptied; texts without letters come back as they are."""
    for row in range(50):
        seed = hashlib.sha256(str(row).encode()).digest()
        assert faulty_text("sun rain", "dropped-words", 5, seed=seed).strip() in ("sun", "rain", "sun rain")
        assert faulty_text("!? ...", "typos", 5, seed=seed) == "!? ..."
        assert faulty_text("", "dropped-words", 5, seed=seed) == ""
        assert faulty_text("我很好", "typos", 5, seed=seed) == "我很好"


def test_typos_swap_letters_or_hit_a_key_beside() -> None:
    """A typo keeps the length and the case, and changes one key or two neighbouring letters."""
    seen = set()
    for row in range(200):
        seed = hashlib.sha256(str(row).encode()).digest()
        typo = faulty_text("Rain", "typos", 5, seed=seed)
        seen.add(typo)
        assert len(typo) == 4
        assert sorted(typo) == sorted("Rain") or sum(a != b for a, b in zip(typo, "Rain", strict=True)) == 1
    assert {"Rain", "aRin", "Rian", "Rani", "Eain", "Tain"} <= seen


def test_unknown_faults_and_severities_are_refused() -> None:
    """A fault of the other modality, an unknown one and a severity of 6 name what is allowed."""
    with pytest.raises(
        ValueError, match=r"text fault 'noise' is not known; allowed are typos, dropped-words"
    ):
        faulty_text(TEXT, "noise", 1, seed=SEED)
    with pytest.raises(ValueError, match=r"image fault 'fog' is not known; allowed are noise, blur"):
        faulty_image(_picture(), "fog", 1, seed=SEED, card=_card())
    with pytest.raises(ValueError, match=r"Severity 6 is not allowed; severities go from 1 to 5"):
        faulty_text(TEXT, "typos", 6, seed=SEED)
