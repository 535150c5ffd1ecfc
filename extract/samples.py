"""The sample: one text+image pair with a stable id, and what its id, label and split may be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

TEXT = "text"
IMAGE = "image"
JOINT = "joint"
"""A text and an image seen together by one network."""

#: Tags that mean "no label" in a manifest (the course data set writes ``null``).
UNLABELLED = frozenset({"", "null"})

SPLITS = ("train", "val", "test")
_SPLIT_NAMES = {
    "training": "train",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    **{name: name for name in ("", *SPLITS)},
}

_FLOAT_LIKE = re.compile(r"^(\d+)\.0+$")
_MAX_ID_BYTES = 1024


class DataError(ValueError):
    """The data set cannot be read as it stands; the text names every fault found and what to do."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One row of the manifest.

    Attributes
    ----------
    id : str
        The guid, repaired (``"123.0"`` and ``" 123"`` are ``"123"``).
    text : str or None
        The text itself, when the manifest holds it.
    text_path, image_path : Path or None
        Files of the sample. They may be missing on disk: that is a status, not an error.
    image_name : str
        The image path as the manifest spells it, relative to the data set, for reports. Empty: none.
    label : str or None
        Class name; None for an unlabelled sample.
    split : str
        ``""``, ``"train"``, ``"val"`` or ``"test"``.
    group : str or None
        Samples of one group never straddle folds.
    """

    id: str
    text: str | None = None
    text_path: Path | None = None
    image_path: Path | None = None
    image_name: str = ""
    label: str | None = None
    split: str = ""
    group: str | None = None


def repair_id(raw: str) -> str:
    """Return the id that `raw` means: stripped, and without the ``.0`` that spreadsheets add.

    Raises
    ------
    DataError
        If the id is empty, longer than 1,024 bytes of UTF-8, or holds control characters.
    """
    text = raw.strip()
    match = _FLOAT_LIKE.match(text)
    if match:
        text = match.group(1)
    try:
        n_bytes = len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise DataError(f"id {raw!r} is not valid Unicode ({error.reason})") from error
    if not text:
        raise DataError("an empty id")
    if n_bytes > _MAX_ID_BYTES:
        raise DataError(
            f"an id of {n_bytes:,} bytes ({text[:20]!r}...); at most {_MAX_ID_BYTES:,} are allowed"
        )
    if any(ord(character) < 32 or 127 <= ord(character) < 160 for character in text):
        raise DataError(f"id {raw!r} holds control characters")
    return text


def repair_label(raw: str | None) -> str | None:
    """Return the class name that `raw` means, None for the spellings of "no label"."""
    if raw is None:
        return None
    text = raw.strip()
    return None if text.lower() in UNLABELLED else text


def repair_split(raw: str) -> str:
    """Return the split that `raw` means: ``""``, ``"train"``, ``"val"`` or ``"test"``.

    Raises
    ------
    DataError
        If it means none of them.
    """
    name = raw.strip().lower()
    if name not in _SPLIT_NAMES:
        raise DataError(f"split {raw!r} is not one of {', '.join(SPLITS)} or empty")
    return _SPLIT_NAMES[name]


def note_repairs(repaired: list[tuple[str, str]], notes: dict[str, str]) -> None:
    """Add the line about repaired ids to `notes`, if there were any."""
    if repaired:
        shown = ", ".join(f"{old!r} -> {new!r}" for old, new in repaired[:5])
        notes["repaired ids"] = f"{len(repaired)}: {shown}" + (", ..." if len(repaired) > 5 else "")
