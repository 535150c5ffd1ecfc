"""Decoding and cleaning of texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.texts import TextEncodingError, clean_text, decode_text, recipe_version

MIXED = [
    ("I don’t know", "cp1252"),
    ("Café", "cp1252"),
    ("año nuevo", "cp1252"),
    ("très bien élève", "cp1252"),
    ("don’t stop – café “yes”", "cp1252"),
    ("今天天气很好，心情不错", "gb18030"),
    ("好", "gb18030"),
    ("RT @a: 太棒了 so happy", "gb18030"),
    ("微博：转发 love this！", "gb18030"),
]


@pytest.mark.parametrize(("text", "encoding"), MIXED)
def test_decode_text_finds_the_encoding_of_short_posts(text: str, encoding: str) -> None:
    """A few words are enough to tell French from Chinese."""
    assert decode_text(text.encode(encoding)) == (text, encoding)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_decode_text_lets_the_byte_order_mark_win(encoding: str) -> None:
    """A byte-order mark decides, and is not part of the text."""
    assert decode_text("café 好".encode(encoding)) == ("café 好", encoding)


@given(st.text(alphabet=st.characters(exclude_characters="\0\ufeff", exclude_categories=("Cs",))))
def test_decode_text_gives_utf8_back(text: str) -> None:
    """Whatever is valid UTF-8 is read as UTF-8."""
    data = text.encode("utf-8")
    if not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        assert decode_text(data) == (text, "utf-8")


def test_decode_text_refuses_utf16_without_mark() -> None:
    """Text with NUL characters is not taken for UTF-8."""
    with pytest.raises(TextEncodingError, match="NUL"):
        decode_text("hello".encode("utf-16-le"))


def test_decode_text_never_guesses_outside_the_list() -> None:
    """Bytes that no configured encoding decodes are refused, and the message says how to add one."""
    with pytest.raises(TextEncodingError, match="--encodings"):
        decode_text("日本".encode("shift_jis"), encodings=("utf-8", "ascii"))


def test_decode_text_names_an_unknown_encoding() -> None:
    """A misspelt encoding is an error, not ignored."""
    with pytest.raises(ValueError, match="'utf-ate' is not known"):
        decode_text(b"\xff\xfa", encodings=("utf-ate",))


@pytest.mark.parametrize(
    ("recipe", "text", "cleaned"),
    [
        ("none", "  RT @you #x http://a.b  ", "  RT @you #x http://a.b  "),
        ("basic", "RT @you: #happy  day\nhttp://a.b/c?d www.e.f", "RT : happy day"),
        ("basic", "mail me@home.org #", "mail me@home.org #"),
        ("sentiment", "sooooo good!!!!!! 😂", "sooo good!!! face with tears of joy"),
        ("sentiment", 'really?? "yes" ...', 'really?? "yes" ...'),
        ("sentiment", "❤️ @you", "heavy black heart"),
        ("sentiment", " http://a.b ", "[EMPTY]"),
    ],
)
def test_clean_text_follows_the_recipe(recipe: str, text: str, cleaned: str) -> None:
    """Each recipe keeps and drops what its description says."""
    assert clean_text(text, recipe) == cleaned


@given(st.text())
def test_clean_text_is_idempotent_for_basic(text: str) -> None:
    """Cleaning a cleaned text changes nothing more than a second pass would: white space stays folded."""
    once = clean_text(text, "basic")
    assert once == once.strip()
    assert "  " not in once


def test_clean_text_names_the_recipes() -> None:
    """An unknown recipe is refused with the known ones."""
    with pytest.raises(ValueError, match="allowed are none, basic, sentiment"):
        clean_text("x", "thorough")
    assert recipe_version("basic") == 1
