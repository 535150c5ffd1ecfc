"""Augmented views of a text: neighbouring words swapped, a word deleted, letters folded."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import asdict, dataclass
from typing import Any

from extract.augmentations.draws import Draws
from extract.texts import EMPTY_MARK

#: Raised when the same arguments would give another text; it enters the fingerprint of stored views.
VERSION = 1

_PIECES = re.compile(r"\s+|\S+")
# Scripts written without spaces in which a character is about a word or a syllable: Han and kana.
_CHARACTER = re.compile(
    "[\u3005\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U000323af]"
)
_ELONGATED = re.compile(r"([^\W\d_])\1{2,}")
_EMOTICON = re.compile(r"[<>]?[:;=xX8][-'^o]?[DdPpOoSs03()\[\]/\\|*]+|<3+")

# Words that turn a sentence round: a text without its "not" may have lost its label.
_NEGATION = re.compile(
    "no|not|never|none|nor|neither|nobody|nothing|nowhere|without|hardly|barely|scarcely|cannot|"
    "(?:ca|do|does|did|wo|ai|is|are|was|were|could|would|should|has|have|had|must|need)nt|"
    "nicht|keine?[nmrs]?|nie|niemals|ohne|ne|pas|jamais|sans|non|mai|nada|nunca|jamás|sin|nem|não|sem|"
    "[不没沒無无未非别別莫勿]"
)


@dataclass(frozen=True)
class TextRecipe:
    """How far a view may be from the text.

    Attributes
    ----------
    words : float
        Share of the words that are edited; one edit at least, where the text offers any.
    characters : float
        The same for characters of scripts without spaces: lower, because each carries more.
    fewest_words, fewest_characters : int
        Nothing is deleted from a text with fewer: one word of three may be the one that has the label.
    """

    words: float
    characters: float
    fewest_words: int = 4
    fewest_characters: int = 8


EDITS = ("swap", "delete", "fold")
RECIPES = {"light": TextRecipe(0.1, 0.05), "strong": TextRecipe(0.2, 0.1)}


@dataclass
class _Unit:
    """A piece of a text: a word, one character of a script without spaces, a sign, or white space."""

    text: str
    is_character: bool = False
    is_touched: bool = False

    @property
    def counts(self) -> bool:
        """Whether it says something: not white space, not signs alone."""
        return any(c.isalnum() for c in self.text) or _has_emoji(self.text)

    @property
    def can_move(self) -> bool:
        return self.counts and not self.is_touched and not _is_negation(self.text)

    @property
    def can_go(self) -> bool:
        return self.can_move and not _has_emoji(self.text)

    @property
    def can_fold(self) -> bool:
        return not self.is_touched and _folded(self.text) != self.text


def describe_texts(augment: str) -> dict[str, Any]:
    """Return every parameter of a recipe as plain JSON values."""
    return {
        "recipe": augment,
        "version": VERSION,
        "edits": list(EDITS),
        "kept": "negations are not moved or deleted, emoji are not deleted",
        "draws": "PCG64 of sha256(recipe, content, view)",
        **asdict(RECIPES[augment]),
    }


def text_view(text: str, *, augment: str, seed: bytes, view: int) -> str:
    """Render one view of a text.

    Parameters
    ----------
    text : str
        Cleaned text.
    augment : {"light", "strong"}
    seed : bytes
        Content hash of the text.
    view : int
        From 1.

    Returns
    -------
    str
        Never empty unless `text` is. A text that offers nothing to edit (one lower-case word, one emoji)
        comes back as it is.

    Raises
    ------
    ValueError
        If the view or the seed is not allowed.

    Notes
    -----
    Words are drawn at random, and one edit that is possible is made at each: swap it with the next word;
    delete it; fold it (case folded, runs of three or more equal letters cut to two). No word is edited
    twice. Negations (of English, Chinese and the larger European languages) are neither moved nor deleted
    and emoji are not deleted, for they decide labels. Han and kana count by character; Korean, and scripts
    such as Thai, by what stands between spaces.

    References
    ----------
    J. Wei and K. Zou, "EDA: Easy Data Augmentation Techniques for Boosting Performance on Text Classification
    Tasks", EMNLP 2019 (random swap and random deletion of a share of the words).
    """
    recipe = RECIPES[augment]
    draws = Draws(f"text-{augment}-{VERSION}", seed, view)
    if not text.strip() or text == EMPTY_MARK:
        return text
    units = _units(text)
    _edit(units, recipe, draws)
    return "".join(unit.text for unit in units).strip()


def text_pieces(text: str) -> list[tuple[str, bool]]:
    """Cut a text into pieces that add up to it; True for words and characters, False for space and signs."""
    return [(unit.text, unit.counts) for unit in _units(text)]


def _units(text: str) -> list[_Unit]:
    """Cut a text into pieces that add up to it."""
    units: list[_Unit] = []
    for match in _PIECES.finditer(text):
        starts_new = True
        for c in match.group():
            is_character = _CHARACTER.match(c) is not None
            if starts_new or is_character or (units[-1].is_character and not _is_mark(c)):
                units.append(_Unit(c, is_character))
            else:
                units[-1].text += c
            starts_new = False
    return units


def _is_mark(c: str) -> bool:
    """Whether `c` belongs to the character before it: an accent, a joiner or a variation selector."""
    return unicodedata.category(c) in ("Mn", "Mc", "Me", "Cf")


def _edit(units: list[_Unit], recipe: TextRecipe, draws: Draws) -> None:
    """Go through the pieces in random order and make one possible edit at each, until enough are touched."""
    characters = sum(unit.is_character and unit.counts for unit in units)
    words = sum(unit.counts for unit in units) - characters
    left = max(1, round(recipe.words * words + recipe.characters * characters))
    spare = {True: characters - recipe.fewest_characters + 1, False: words - recipe.fewest_words + 1}
    for i in draws.order(len(units)):
        for kind in draws.order(len(EDITS)):
            if EDITS[kind] == "swap":
                touched = _swap(units, i)
            elif EDITS[kind] == "fold":
                touched = _fold(units[i])
            else:
                touched = _delete(units, i) if spare[units[i].is_character] > 0 else 0
                spare[units[i].is_character] -= touched
            if touched:
                left -= touched
                break
        if left <= 0:
            return


def _swap(units: list[_Unit], i: int) -> int:
    """Swap a word with the one after the next white space, or a character with the next."""
    j = i + 2 if i + 1 < len(units) and units[i + 1].text.isspace() else i + 1
    if j >= len(units) or units[i].is_character != units[j].is_character:
        return 0
    if units[i].text == units[j].text or not (units[i].can_move and units[j].can_move):
        return 0
    units[i].text, units[j].text = units[j].text, units[i].text
    units[i].is_touched = units[j].is_touched = True
    return 2


def _delete(units: list[_Unit], i: int) -> int:
    """Empty a word and the white space after it, or a character."""
    if not units[i].can_go:
        return 0
    units[i].text, units[i].is_touched = "", True
    if i + 1 < len(units) and units[i + 1].text.isspace():
        units[i + 1].text = ""
    return 1


def _fold(unit: _Unit) -> int:
    """Fold the case of a word and its elongated letters."""
    if not unit.can_fold:
        return 0
    unit.text, unit.is_touched = _folded(unit.text), True
    return 1


def _folded(word: str) -> str:
    return _ELONGATED.sub(r"\1\1", word.casefold())


def _has_emoji(word: str) -> bool:
    """Whether a word holds an emoji (or another pictorial sign), or is an emoticon such as ``:-)``."""
    return any(unicodedata.category(c) == "So" for c in word) or _EMOTICON.fullmatch(word) is not None


def _is_negation(word: str) -> bool:
    letters = "".join(c for c in word.casefold() if c.isalpha())
    return _NEGATION.fullmatch(letters) is not None
