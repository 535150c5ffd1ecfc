"""Texts that are nearly the same: compared by their words, however these are written."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from tuning import groups_of_pairs, similar_sets

LEAST_JACCARD = 0.7
"""Two texts with at least this much of their words in common are near duplicates ..."""

FEWEST_WORDS = 6
"""... if the longer one has so many different words; shorter ones must be the same words in a row."""

_LINKS = re.compile(r"(?:https?://|www\.)\S+|[@＠]\w+", re.IGNORECASE)
# A run of Chinese or Japanese is one word to \w: its pairs of neighbouring characters are compared instead.
_RUNS = re.compile(
    r"([\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+)|([^\W_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+)"
)


def words_of(text: str) -> tuple[str, ...]:
    """Return the words of a text that count when it is compared: no case, punctuation, links or mentions."""
    words: list[str] = []
    for characters, word in _RUNS.findall(_LINKS.sub(" ", text).casefold()):
        if word:
            words.append(word)
        else:
            words += [characters[k : k + 2] for k in range(max(1, len(characters) - 1))]
    return tuple(words)


def near_text_key(texts: Sequence[str]) -> list[int | None]:
    """Return a key by which texts that are nearly the same agree; None for texts that are like no other."""
    words = [words_of(text) for text in texts]
    first: dict[tuple[str, ...], int] = {}
    same = [(first.setdefault(these, row), row) for row, these in enumerate(words) if these]
    alike = similar_sets([frozenset(these) for these in words], LEAST_JACCARD, fewest=FEWEST_WORDS)
    equal = np.array([pair for pair in same if pair[0] != pair[1]], dtype=np.int64).reshape(-1, 2)
    return groups_of_pairs(np.concatenate([alike, equal]), len(texts))
