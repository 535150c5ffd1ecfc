"""Odd inputs: a whole pass over every kind of picture and text that breaks naive extractors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cache import FeatureStore
from extract import PassOptions, PassReport, open_backbone, read_data_set, run_pass
from tests.kit.data_sets import write_list
from tests.kit.tiny_checkpoints import make_tiny_clip

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
def odd(tmp_path_factory: pytest.TempPathFactory) -> PassReport:
    """A pass over every text, and over every picture beside a plain PNG of what it should look like."""
    root = tmp_path_factory.mktemp("odd")
    files = root / "set" / "data"
    files.mkdir(parents=True)
    for name, content in TEXTS.items():
        (files / f"{name}.txt").write_bytes(content)
        _rgb().save(files / f"{name}.png")
    for name, write in PICTURES.items():
        write(files / name).save(files / f"{name}-twin.png")
        for guid in (name, f"{name}-twin"):
            (files / f"{guid}.txt").write_text("the cat", encoding="utf-8")
    names = [*TEXTS, *PICTURES, *(f"{name}-twin" for name in PICTURES)]
    write_list(root / "set" / "train.txt", [(name, "ab"[i % 2]) for i, name in enumerate(names)])
    backbone = open_backbone(str(make_tiny_clip(root / "tiny-clip")))
    return run_pass(read_data_set(root / "set"), backbone, PassOptions(out=root / "out", max_bad=0.2))


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
