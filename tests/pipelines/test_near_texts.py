"""Texts are near duplicates by their words, not by how these are written."""

from __future__ import annotations

import pytest

from pipelines.near_texts import near_text_key, words_of

TEXT = "the quick brown fox jumps over a lazy dog near the old river bank"


@pytest.mark.parametrize(
    "other",
    [
        TEXT.upper(),
        "The quick, brown fox; jumps over a lazy dog - near the old river bank!!!",
        TEXT + " https://t.example/a1B2",
        "@someone " + TEXT,
        TEXT.replace("lazy", "sleepy"),
        TEXT + " today",
        TEXT.replace("quick ", ""),
    ],
)
def test_texts_with_small_changes_are_near_duplicates(other: str) -> None:
    """Case, punctuation, links, mentions and one word do not make another text."""
    keys = near_text_key([TEXT, "something else entirely that has nothing in common with it", other])
    assert keys[0] == keys[2] is not None
    assert keys[1] is None


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("woman: red hair", "woman: bald"),
        ("thumbs up sign", "thumbs down sign"),
        ("dog bites man", "man bites dog"),
        ("I love this red dress", "I hate this red dress"),
        ("https://t.example/a", "https://t.example/b"),
        ("", ""),
        ("!!!", "..."),
        ("今天天气很好我们去公园散步", "今天股票大跌我们都很难过"),
    ],
)
def test_texts_that_say_something_else_are_not(text: str, other: str) -> None:
    """Short texts that differ in a word, or have no words at all, stand alone."""
    assert near_text_key([text, other]) == [None, None]


def test_chinese_texts_are_compared_by_pairs_of_characters() -> None:
    """A run of characters is not one word: one changed character leaves a near duplicate."""
    text = "今天天气很好我们一起去公园散步然后回家吃饭"
    keys = near_text_key([text, text.replace("步", "心"), "昨天下了一整天的雨所以大家都待在家里"])
    assert keys[0] == keys[1] is not None
    assert keys[2] is None
    assert words_of("好 abc_d") == ("好", "abc", "d")
