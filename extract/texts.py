"""Texts: bytes to characters without guessing silently, and the named cleaning recipes."""

from __future__ import annotations

import codecs
import re
import stat
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

DEFAULT_ENCODINGS = ("utf-8", "gb18030", "cp1252")
EMPTY_MARK = "[EMPTY]"

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


#: Largest manifest and largest text file that are read, in bytes.
MAX_MANIFEST_BYTES = 1 << 30
MAX_TEXT_BYTES = 64 << 20
_BLOCK_BYTES = 1 << 20


def read_regular_file(path: Path, max_bytes: int, *, advice: str = "Split it.") -> bytes:
    """Return the bytes of a regular file, looking at its kind and size before opening it.

    Parameters
    ----------
    path : Path
    max_bytes : int
        Largest file that is read.
    advice : str
        What to do about a larger one, for the message.

    Raises
    ------
    OSError
        If there is no such file, it is a pipe, device or folder, or it is larger.
    """
    refuse_other_file(path, max_bytes, advice=advice)
    return path.read_bytes()


def refuse_other_file(path: Path, max_bytes: int, *, advice: str = "Split it.") -> None:
    """Refuse what `read_regular_file` refuses, without reading."""
    info = path.stat()  # before opening: a FIFO would block for ever
    if not stat.S_ISREG(info.st_mode):
        raise OSError(f"'{path}' is not a regular file, so it is not opened.")
    if info.st_size > max_bytes:
        raise OSError(f"'{path}' has {info.st_size:,} bytes; at most {max_bytes:,} are read. {advice}")


def is_plain_utf8(path: Path) -> bool:
    """Whether the bytes of a file are UTF-8 without NUL, with something but white space in them.

    Read a block at a time; a byte-order mark of UTF-8 is allowed.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    says_something = False
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                decoder.decode(block)
                says_something = says_something or bool(block.strip())
                if b"\0" in block:
                    return False
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return says_something


class TextEncodingError(ValueError):
    """The bytes are in none of the allowed encodings."""


def decode_text(data: bytes, encodings: Sequence[str] = DEFAULT_ENCODINGS) -> tuple[str, str]:
    """Decode `data` strictly: a byte-order mark wins, then UTF-8, then the best of `encodings`.

    Where several of the configured encodings decode the bytes, charset-normalizer ranks them by how messy
    the result looks; it cannot rank a few words, so ties go to the encoding that does not eat ASCII
    letters as the second half of a character (``tr\\xe8s`` is French, not ``tr`` + a rare hanzi), then to
    the order of `encodings`. Nothing is ever decoded with ``errors="replace"`` or ``"ignore"``.

    Returns
    -------
    text : str
    encoding : str
        Name of the encoding that was used.

    Raises
    ------
    TextEncodingError
        If no allowed encoding decodes the bytes, or they decode to text with NUL characters (UTF-16
        without a byte-order mark looks so).
    """
    marked = next((name for mark, name in _BOMS if data.startswith(mark)), None)
    text, name = (_strict(data, marked), marked) if marked else _unmarked(data, encodings)
    if "\0" in text:
        raise TextEncodingError(
            "the text holds NUL characters; it looks like UTF-16 without a byte-order mark"
        )
    return text, name


def _unmarked(data: bytes, encodings: Sequence[str]) -> tuple[str, str]:
    """Decode bytes without a byte-order mark; returns the text and its encoding."""
    candidates = []
    for name in dict.fromkeys(("utf-8", *(normal_encoding(e) for e in encodings))):
        try:
            candidates.append((data.decode(name), name))
        except UnicodeDecodeError:
            continue
        if name == "utf-8":  # strict UTF-8 that decodes is UTF-8: chance agreement is negligible
            break
    if not candidates:
        raise TextEncodingError(
            f"the bytes are not valid in any of {', '.join(encodings)}; add the right one with --encodings"
        )
    return candidates[0] if len(candidates) == 1 else _least_messy(data, candidates)


def _strict(data: bytes, name: str) -> str:
    try:
        return data.decode(name)
    except UnicodeDecodeError as error:
        raise TextEncodingError(f"the byte-order mark says {name}, but byte {error.start} is not") from error


def normal_encoding(name: str) -> str:
    """Return Python's own name of an encoding.

    Raises
    ------
    ValueError
        If there is no such encoding.
    """
    try:
        found = codecs.lookup(name.strip())
        "".encode(found.name)  # refuses codecs such as hex, which turn bytes into bytes
        return found.name
    except LookupError as error:
        raise ValueError(
            f"encoding {name!r} is not known; use names such as utf-8, gb18030, cp1252, latin-1"
        ) from error


def _least_messy(data: bytes, candidates: list[tuple[str, str]]) -> tuple[str, str]:
    from charset_normalizer import from_bytes

    names = [name for _, name in candidates]
    ranked = from_bytes(data, cp_isolation=names, enable_fallback=False)
    chaos = {normal_encoding(match.encoding): match.chaos for match in ranked}

    def messiness(candidate: tuple[str, str]) -> tuple[float, int]:
        text, name = candidate
        return round(chaos.get(name, 1.0), 1), _swallowed_letters(text, name)

    return min(candidates, key=messiness)


def _swallowed_letters(text: str, encoding: str) -> int:
    """Count characters of more than one byte whose last byte is an ASCII letter or sign."""
    count = 0
    for character in text:
        if character.isascii():
            continue
        encoded = character.encode(encoding)
        count += len(encoded) > 1 and encoded[-1] < 0x80
    return count


# --- cleaning ---------------------------------------------------------------------------------------

_URL = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
_MENTION = re.compile(r"(?<!\w)@\w+")
_HASH = re.compile(r"#(?=\w)")
_SPACE = re.compile(r"\s+")
_FOLD = re.compile(r"(\w)\1{3,}")
_SIGNS = re.compile(r"([!?.])\1{3,}")


def _clean_none(text: str) -> str:
    return text


def _clean_basic(text: str) -> str:
    """Drop URLs and @mentions, keep ``#word`` as the word, and collapse white space."""
    text = _URL.sub(" ", text)
    text = _MENTION.sub(" ", text)
    text = _HASH.sub("", text)
    return _SPACE.sub(" ", text).strip()


def _clean_sentiment(text: str) -> str:
    """Clean as ``basic``, keep ! ? ... and quotes, emoji to words, fold ``sooooo`` to ``sooo``.

    An empty result becomes ``[EMPTY]``, as in the report that this recipe comes from.
    """
    text = "".join(_emoji_to_words(character) for character in text)
    text = _SIGNS.sub(r"\1\1\1", _FOLD.sub(r"\1\1\1", _clean_basic(text)))
    return text or EMPTY_MARK


def _emoji_to_words(character: str) -> str:
    if character in "\u200d\ufe0e\ufe0f":  # joiner and variation selectors carry no word
        return ""
    if unicodedata.category(character) != "So":
        return character
    name = unicodedata.name(character, "")
    return f" {name.lower()} " if name else character


_RECIPES: dict[str, tuple[int, Callable[[str], str]]] = {
    "none": (1, _clean_none),
    "basic": (1, _clean_basic),
    "sentiment": (1, _clean_sentiment),
}
RECIPES = tuple(_RECIPES)


def clean_text(text: str, recipe: str) -> str:
    """Apply a named cleaning recipe.

    Parameters
    ----------
    text : str
    recipe : {"none", "basic", "sentiment"}

    Raises
    ------
    ValueError
        If the recipe is unknown.
    """
    return _recipe(recipe)[1](text)


def recipe_version(recipe: str) -> int:
    """Return the version number of a recipe; it enters the fingerprint, so a change makes a new space."""
    return _recipe(recipe)[0]


def _recipe(name: str) -> tuple[int, Callable[[str], str]]:
    if name not in _RECIPES:
        raise ValueError(f"cleaning recipe {name!r} is not known; allowed are {', '.join(_RECIPES)}")
    return _RECIPES[name]
