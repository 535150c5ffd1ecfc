"""A view depends on the content, the recipe and its number alone, keeps the label, and is always usable."""

from __future__ import annotations

import hashlib
import json
import random
import string
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from extract.augmentations import images, texts
from extract.augmentations.draws import Draws
from extract.views import AUGMENTATIONS, describe, image_view, text_view
from tests.kit.emoji_images import draw_emoji

SEED = hashlib.sha256(b"one input").digest()
TWEET = "I Really loved this little movie and would gladly see it again with you"
PINNED_NUMBERS = [857, 188, 956, 94, 491]
PINNED_ORDER = [2, 4, 1, 5, 0, 3]
PINNED_TEXTS = {
    "light": "I loved this little movie and would gladly see it again with you",
    "strong": "I Really this little movie would gladly see it again with",
}


@pytest.fixture
def picture() -> Image.Image:
    """A colour picture without symmetry."""
    return draw_emoji("👎", 160)


def _bits(image: Image.Image) -> tuple[str, tuple[int, int], bytes]:
    return image.mode, image.size, image.tobytes()


def _both_views(picture: Image.Image, augment: str, view: int) -> tuple[object, str]:
    arguments = {"augment": augment, "seed": SEED, "view": view}
    return _bits(image_view(picture, **arguments)), text_view(TWEET, **arguments)


# --- the same arguments, the same bits ---------------------------------------------------------------


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_views_depend_on_no_global_generator_thread_or_order(augment, picture):
    """Views made in four threads, backwards, under other global seeds equal those made alone, bit for bit."""
    numbers = list(range(1, 9))
    alone = [_both_views(picture, augment, view) for view in numbers]
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - a user's script may have done so
    random.seed(5)
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda view: _both_views(picture, augment, view), reversed(numbers)))
    assert again[::-1] == alone


def test_views_leave_global_generators_alone(picture):
    """Making views does not move the generators of torch, NumPy or Python."""
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    _both_views(picture, "strong", 1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert str(np.random.get_state()) == str(before[1])  # noqa: NPY002
    assert random.getstate() == before[2]


def test_views_differ_by_number_content_and_recipe(picture):
    """Another number, another content hash or another recipe draws anew."""
    other = hashlib.sha256(b"another input").digest()
    made = [
        image_view(picture, augment=augment, seed=seed, view=view).tobytes()
        for augment in AUGMENTATIONS
        for seed in (SEED, other)
        for view in (1, 2)
    ]
    assert len(set(made)) == len(made)
    assert len({text_view(TWEET, augment="strong", seed=SEED, view=view) for view in range(1, 9)}) >= 6


def test_views_leave_the_input_unchanged(picture):
    """The clean picture is embedded after its views: they must not write on it."""
    before = picture.tobytes()
    for view in range(1, 9):
        image_view(picture, augment="strong", seed=SEED, view=view)
    assert picture.tobytes() == before


def test_draws_are_pinned():
    """The numbers behind a view are these for ever; stored views would otherwise lose their provenance."""
    draws = Draws("recipe", b"seed", 1)
    assert [draws.below(1000) for _ in range(5)] == PINNED_NUMBERS
    assert draws.order(6) == PINNED_ORDER
    assert Draws("recipe", b"seed", 2).below(1000) != PINNED_NUMBERS[0]


def test_text_views_are_pinned():
    """Changing how a text is edited needs another VERSION: these are the views of version 1."""
    assert texts.VERSION == 1
    found = {augment: text_view(TWEET, augment=augment, seed=SEED, view=1) for augment in AUGMENTATIONS}
    assert found == PINNED_TEXTS


@pytest.mark.parametrize("view", [0, -1])
def test_views_count_from_one(view):
    """View 0 is the clean input and cannot be drawn."""
    with pytest.raises(ValueError, match=rf"View {view} was asked for; augmented views count from 1"):
        text_view("some words", augment="light", seed=SEED, view=view)


def test_views_refuse_what_they_do_not_know(picture):
    """Unknown augmentations and modalities, an empty seed and other image modes are named."""
    with pytest.raises(ValueError, match="Augmentation 'heavy' is not known; allowed are light, strong"):
        text_view("a b", augment="heavy", seed=SEED, view=1)
    with pytest.raises(ValueError, match="Modality 'audio' is not known"):
        describe("light", "audio")
    with pytest.raises(ValueError, match="The seed of a view is empty"):
        text_view("a b", augment="light", seed=b"", view=1)
    with pytest.raises(ValueError, match="made of an RGB picture, but this one is 'L'"):
        image_view(picture.convert("L"), augment="light", seed=SEED, view=1)


# --- what is recorded --------------------------------------------------------------------------------


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_description_names_every_parameter(augment):
    """Each field of a recipe is in the description, which is plain JSON; joint has both parts."""
    for modality, module in (("image", images), ("text", texts)):
        described = describe(augment, modality)
        assert json.loads(json.dumps(described)) == described
        assert set(vars(module.RECIPES[augment])) < set(described)
        assert described["recipe"] == augment
        assert described["version"] == module.VERSION
        assert describe(augment, "joint")[modality] == described
    assert describe("light", "image") != describe("strong", "image")
    assert describe("light", "text") != describe("strong", "text")


# --- pictures ----------------------------------------------------------------------------------------

SIZES = [(1, 1), (1, 2), (3, 1), (2, 900), (4000, 3), (31, 47), (640, 200)]


@pytest.mark.parametrize("augment", AUGMENTATIONS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_image_view_of_any_size_is_usable(augment, size):
    """Pictures of one pixel, strips and odd sizes give RGB pictures of at least one pixel."""
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    for view in range(1, 13):
        made = image_view(Image.fromarray(noise), augment=augment, seed=SEED, view=view)
        assert made.mode == "RGB"
        assert min(made.size) >= 1
        assert max(made.size) <= 2048


@pytest.mark.parametrize("size", [(60, 60), (200, 40), (30, 400), (1, 1), (1, 700)], ids=str)
def test_image_turn_shows_no_border(size):
    """Whatever is drawn, no pixel from outside the mirrored picture comes in: white stays white."""
    white = Image.new("RGB", size, "white")
    wild = images.ImageRecipe(degrees=15, shift=0.2, zoom=0.3, shear=15)
    for view in range(1, 60):
        turned = images._turn(white, wild, Draws("turn", SEED, view))
        assert turned.size == size
        assert turned.getextrema() == ((255, 255),) * 3


def test_image_turn_keeps_the_middle():
    """The picture is turned about its own centre: a dot in the middle stays there."""
    dotted = Image.new("RGB", (101, 101), "white")
    dotted.paste((0, 0, 0), (48, 48, 53, 53))
    for view in range(1, 20):
        turned = images._turn(dotted, images.RECIPES["light"], Draws("turn", SEED, view))
        dark = np.argwhere(np.asarray(turned)[:, :, 0] < 128)
        assert np.abs(dark.mean(axis=0) - 50).max() <= 1


def test_image_views_of_large_pictures_are_shrunk_first():
    """A picture of 12 megapixels is worked on at 512 pixels, in its own shape."""
    large = Image.new("RGB", (4000, 3000), (10, 200, 90))
    made = image_view(large, augment="light", seed=SEED, view=1)
    assert 0.83 * 512 <= min(made.size) <= 512
    assert made.width / made.height == pytest.approx(4 / 3, rel=0.01)


def test_image_light_keeps_more_than_strong(picture):
    """On average a strong view is farther from the picture than a light one, and neither is the picture."""

    def distance(augment: str) -> float:
        views = [image_view(picture, augment=augment, seed=SEED, view=v) for v in range(1, 41)]
        clean = np.asarray(picture, dtype=float)
        return float(np.mean([np.abs(np.asarray(v.resize(picture.size)) - clean).mean() for v in views]))

    assert 5 < distance("light") < distance("strong") < 90


def test_image_views_mirror_half_of_the_time():
    """Left and right change places in about half of the views."""
    halves = Image.new("RGB", (64, 64), "black")
    halves.paste((255, 255, 255), (0, 0, 32, 64))
    mirrored = 0
    for view in range(1, 201):
        pixels = np.asarray(image_view(halves, augment="light", seed=SEED, view=view), dtype=float)
        middle = pixels.shape[1] // 2
        mirrored += pixels[:, :middle].mean() < pixels[:, middle:].mean()
    assert 75 <= mirrored <= 125  # 3.5 standard deviations


# --- texts -------------------------------------------------------------------------------------------


def _words(text: str) -> list[str]:
    return text.split()


@pytest.mark.parametrize(("augment", "low", "high"), [("light", 0.06, 0.15), ("strong", 0.16, 0.26)])
def test_text_view_touches_its_share_of_the_words(augment, low, high):
    """About a tenth (light) or a fifth (strong) of the words of a long text are moved, deleted or folded."""
    distinct = ["".join(random.Random(i).choices(string.ascii_lowercase, k=9)) for i in range(400)]
    text = " ".join(word.title() if i % 2 else word for i, word in enumerate(distinct))
    made = _words(text_view(text, augment=augment, seed=SEED, view=1))
    clean = _words(text)
    deleted = len(clean) - len(made)
    folded = len(set(made) - set(clean))
    survivors = {word.casefold() for word in made}
    kept_order = [word.casefold() for word in clean if word.casefold() in survivors]
    moved = sum(a != b.casefold() for a, b in zip(kept_order, made, strict=True))
    assert low <= (deleted + folded + moved) / len(clean) <= high
    assert min(deleted, folded, moved) > 0


@settings(max_examples=150, deadline=None)
@given(text=st.text(min_size=1, max_size=80), augment=st.sampled_from(AUGMENTATIONS), view=st.integers(1, 50))
def test_text_view_of_any_text_is_usable(text, augment, view):
    """A view of a text that says something is not blank, and holds only its characters, folded or not."""
    made = text_view(text, augment=augment, seed=SEED, view=view)
    assert bool(made.strip()) == bool(text.strip())
    assert set(made) <= set(text) | set(text.casefold())


def test_text_view_does_not_delete_from_short_texts():
    """One word of three may be the label, so nothing is deleted before there are four words."""
    for view in range(1, 60):
        made = text_view("what a mess", augment="strong", seed=SEED, view=view)
        assert sorted(_words(made)) == ["a", "mess", "what"]


@pytest.mark.parametrize("text", ["good", "一", "😂", "👍🏽", "[EMPTY]", "", "   ", "!!!", "not good"])
def test_text_view_without_an_edit_is_the_text(text):
    """Where there is nothing to swap, delete or fold, the text comes back."""
    assert {text_view(text, augment="strong", seed=SEED, view=view) for view in range(1, 9)} == {text}


def test_text_view_folds_case_and_elongation():
    """A single loud word is folded to two of each letter; digits are not letters."""
    made = {text_view("SOOOOO", augment="light", seed=SEED, view=view) for view in range(1, 5)}
    assert made == {"soo"}
    assert text_view("10000", augment="light", seed=SEED, view=1) == "10000"


def test_text_view_never_moves_or_deletes_negations():
    """Every "not", "n't" and 不 stands before the words it stood before or is joined by them, never gone."""
    text = "the service was not good and I do n't know why they never answer us"
    for view in range(1, 200):
        made = _words(text_view(text, augment="strong", seed=SEED, view=view))
        assert {"not", "never"} <= set(made)
        assert "不" in text_view("我真的不喜欢这部电影因为太长", augment="strong", seed=SEED, view=view)


def test_text_view_never_deletes_emoji():
    """Emoji, sequences of several characters and emoticons carry the label; none is lost or cut."""
    family = "👨‍👩‍👧"
    text = f"what a day at the lake with {family} and :-) 🏳️‍🌈 ❤️"
    for view in range(1, 200):
        made = _words(text_view(text, augment="strong", seed=SEED, view=view))
        assert {family, ":-)", "🏳️‍🌈", "❤️"} <= set(made)


def test_text_view_edits_chinese_by_character():
    """A text without spaces is edited too: at most a fifth of its characters, and never in its signs."""
    text = "今天天气很好我们一起去公园散步吧，晚上再去看电影！"
    made = {text_view(text, augment="strong", seed=SEED, view=view) for view in range(1, 40)}
    assert len(made) > 20
    for view in made:
        assert len(text) - 3 <= len(view) <= len(text)
        assert (view.count("，"), view[-1]) == (1, "！")
        assert set(view) <= set(text)


def test_text_view_of_a_long_text_takes_linear_time():
    """A text of 50,000 words is edited within seconds, not in the square of its length."""
    text = " ".join(f"word{i}" for i in range(50_000))
    made = _words(text_view(text, augment="strong", seed=SEED, view=1))
    assert 40_000 < len(made) < 50_000
