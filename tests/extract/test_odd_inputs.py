"""Odd inputs: a whole pass over every kind of picture and text that breaks naive extractors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cache import FeatureStore
from extract import PassOptions, PassReport, open_backbone, read_data_set, run_pass
from tests.kit.data_sets import write_list
from tests.kit.tiny_checkpoints import make_tiny_clip
from tests.kit.tiny_joint import make_tiny_blip, make_tiny_flava, make_tiny_qwen

TEXTS = {
    "no-words": b"",
    "100000-words": b"the cat " * 50_000,
    "nul": b"the\0cat",
    "emoji-only": "😀🎉".encode(),
    "right-to-left": "مرحبا".encode(),
    "plain": b"the cat",
}
STATUSES = {"no-words": "text_empty", "nul": "text_encoding"}


def _rgb(size: tuple[int, int] = (48, 40)) -> Image.Image:
    values = np.random.default_rng(7).integers(0, 256, (size[1], size[0], 3))
    return Image.fromarray(values.astype(np.uint8))


def _one_pixel(path: Path) -> Image.Image:
    Image.new("RGB", (1, 1), (10, 200, 30)).save(path.with_suffix(".png"))
    return Image.new("RGB", (40, 40), (10, 200, 30))


def _cmyk(path: Path) -> Image.Image:
    _rgb().convert("CMYK").save(path.with_suffix(".jpg"), quality=95)
    return Image.open(path.with_suffix(".jpg")).convert("RGB")


def _palette(path: Path) -> Image.Image:
    _rgb().quantize(64).save(path.with_suffix(".png"))
    return _rgb().quantize(64).convert("RGB")


def _sixteen_bit(path: Path) -> Image.Image:
    grey = _rgb().convert("L")
    wide = np.asarray(grey).astype(np.uint16) * 257  # 255 becomes 65,535
    Image.fromarray(wide).save(path.with_suffix(".png"))
    return grey.convert("RGB")


def _animated(path: Path) -> Image.Image:
    first, second = _rgb().quantize(64), Image.new("P", (48, 40), 3)
    first.save(path.with_suffix(".gif"), save_all=True, append_images=[second], duration=50)
    return first.convert("RGB")


def _rotated(path: Path) -> Image.Image:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    _rgb().transpose(Image.Transpose.ROTATE_90).save(path.with_suffix(".png"), exif=exif)
    return _rgb()


def _huge(path: Path) -> Image.Image:
    Image.new("1", (20_000, 20_000)).save(path.with_suffix(".png"))
    return _rgb()


PICTURES = {
    "one-pixel": _one_pixel,
    "cmyk": _cmyk,
    "palette": _palette,
    "16-bit": _sixteen_bit,
    "animated": _animated,
    "exif-rotated": _rotated,
    "huge": _huge,
}


@pytest.fixture(scope="module")
def odd_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every text with a plain picture; every picture, and a PNG of what it should look like, with a text."""
    root = tmp_path_factory.mktemp("odd")
    files = root / "data"
    files.mkdir(parents=True)
    for name, content in TEXTS.items():
        (files / f"{name}.txt").write_bytes(content)
        _rgb().save(files / f"{name}.png")
    for name, write in PICTURES.items():
        write(files / name).save(files / f"{name}-twin.png")
        for guid in (name, f"{name}-twin"):
            (files / f"{guid}.txt").write_text("the cat", encoding="utf-8")
    names = [*TEXTS, *PICTURES, *(f"{name}-twin" for name in PICTURES)]
    write_list(root / "train.txt", [(name, "ab"[i % 2]) for i, name in enumerate(names)])
    return root


@pytest.fixture(scope="module")
def odd(odd_set: Path, tmp_path_factory: pytest.TempPathFactory) -> PassReport:
    """A pass over texts and pictures."""
    return _pass(odd_set, make_tiny_clip(tmp_path_factory.mktemp("clip") / "tiny-clip"))


def _pass(data: Path, weights: Path, **options: Any) -> PassReport:
    settings = PassOptions(out=weights.parent / "out", max_bad=0.2, **options)
    return run_pass(read_data_set(data), open_backbone(str(weights)), settings)


def test_odd_inputs_are_named_and_the_pass_goes_on(odd: PassReport) -> None:
    """Texts without words or with NUL and a picture of 400 megapixels have a status; all others a vector."""
    assert odd.not_ok == {**STATUSES, "huge": "image_too_large"}
    with FeatureStore.open(odd.path) as store:
        for modality, faulty in (("text", set(STATUSES)), ("image", {"huge"})):
            valid = np.asarray(store.select(modality).valid).astype(bool)
            assert {guid for guid, ok in zip(store.ids, valid, strict=True) if not ok} == faulty
            assert np.asarray(store.select(modality))[valid].any(axis=1).all()


def test_odd_texts_keep_what_fits(odd: PassReport) -> None:
    """Of 100,000 words the beginning is read, and the store says how much was not."""
    assert odd.truncated["text"]["texts_cut"] == 1
    assert odd.truncated["text"]["tokens_cut"] > 99_000


@pytest.mark.parametrize("name", [name for name in PICTURES if name != "huge"])
def test_odd_picture_has_the_vector_of_its_plain_twin(odd: PassReport, name: str) -> None:
    """Whatever a file does to its pixels, the network sees what a person sees."""
    with FeatureStore.open(odd.path) as store:
        x = np.asarray(store.select("image"))
        row, twin = store.ids.index(name), store.ids.index(f"{name}-twin")
    np.testing.assert_allclose(x[row], x[twin], rtol=0, atol=1e-5)
    assert not np.allclose(x[row], x[store.ids.index("huge-twin" if name == "one-pixel" else "one-pixel")])


@pytest.mark.parametrize("make", [make_tiny_flava, make_tiny_blip, make_tiny_qwen])
def test_odd_pairs_are_named_and_the_pass_goes_on(
    make: Callable[[Path], Path], odd_set: Path, tmp_path: Path
) -> None:
    """Where one network reads both, a pair with a faulty half has its status; all others have a vector."""
    report = _pass(odd_set, make(tmp_path / "tiny"), modalities=("joint",))
    assert report.not_ok == {**STATUSES, "huge": "image_too_large"}
    with FeatureStore.open(report.path) as store:
        x, faulty = np.asarray(store.select("joint")), [guid in report.not_ok for guid in store.ids]
        twins = [
            (store.ids.index(name), store.ids.index(f"{name}-twin")) for name in ("cmyk", "exif-rotated")
        ]
    assert x.any(axis=1).tolist() == [not fault for fault in faulty]
    for row, twin in twins:
        np.testing.assert_allclose(x[row], x[twin], rtol=0, atol=1e-5)


def test_odd_inputs_have_views(odd_set: Path, odd: PassReport, tmp_path: Path) -> None:
    """Strongly augmented views of a pixel, of emoji alone and of 100,000 words are vectors too."""
    report = _pass(odd_set, make_tiny_clip(tmp_path / "tiny-clip"), views=2, augment="strong")
    assert report.not_ok == odd.not_ok
    with FeatureStore.open(report.path) as store, FeatureStore.open(odd.path) as plain:
        for modality, faulty in (("text", set(STATUSES)), ("image", {"huge"})):
            space = store.select(modality)
            np.testing.assert_array_equal(np.asarray(space), np.asarray(plain.select(modality)))
            views = np.asarray(space.views)
            assert views.shape[:2] == (2, len(store))
            assert views.any(axis=2).all(axis=0).tolist() == [guid not in faulty for guid in store.ids]
