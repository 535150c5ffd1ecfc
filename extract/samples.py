"""The sample: one text+image pair with a stable id, and the data set as a list of them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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

    def __post_init__(self) -> None:
        # A million rows have a handful of labels; each would otherwise keep a string of its own.
        for name in ("label", "split"):
            value = getattr(self, name)
            object.__setattr__(self, name, value if value is None else sys.intern(value))


@dataclass(frozen=True)
class DataSet:
    """Samples in manifest order, with what was noticed while reading them.

    Attributes
    ----------
    root : Path
        Folder that image names are relative to.
    layout : str
        ``"guid"``, ``"table"``, ``"mvsa"`` or ``"image-folder"``.
    samples : tuple of Sample
    modalities : tuple of str
        ``"text"`` and/or ``"image"``: what the data set has.
    notes : Mapping of str to str
        Oddities, one line each (ids repaired, files ignored, repeated rows), for the summary.
    """

    root: Path
    layout: str
    samples: tuple[Sample, ...]
    modalities: tuple[str, ...]
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in alphabetical order; label code i is the i-th."""
        return tuple(sorted({s.label for s in self.samples if s.label is not None}))

    def head(self, n_samples: int | None) -> DataSet:
        """Return the first `n_samples` samples (all of them for None)."""
        if n_samples is None or n_samples >= len(self.samples):
            return self
        return DataSet(self.root, self.layout, self.samples[:n_samples], self.modalities, self.notes)


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


def merge_repeats(
    rows: Iterable[tuple[str | int, Sample]], notes: dict[str, str], *, place: str = "{}"
) -> tuple[Sample, ...]:
    """Keep one sample per id, in order of first appearance.

    Parameters
    ----------
    rows : iterable of (str or int, Sample)
        Where each sample stands, and the sample.
    notes : dict
        Gets a line when rows were merged.
    place : str
        Format of a place in messages, such as ``"row {}"``.

    Raises
    ------
    DataError
        If one id is listed with different contents: choosing one quietly would hide a leak.
    """
    # Lists and positions: a million rows would otherwise keep a tuple and a text of their place each.
    kept: list[Sample] = []
    places: list[str | int] = []
    first: dict[str, int] = {}
    conflicts: list[str] = []
    repeats: list[str] = []
    for where, sample in rows:
        known = first.setdefault(sample.id, len(kept))
        if known == len(kept):
            kept.append(sample)
            places.append(where)
        elif kept[known] == sample:
            repeats.append(sample.id)
        else:
            conflicts.append(f"'{sample.id}' ({place.format(places[known])} and {place.format(where)})")
    if conflicts:
        raise DataError(
            f"{len(conflicts)} id(s) are listed more than once with different contents: "
            + ", ".join(conflicts[:5])
            + ". Every id may have one row; remove or rename the others."
        )
    if repeats:
        notes["repeated rows"] = f"{len(repeats)} identical, counted once: {_some(repeats)}"
    return tuple(kept)


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown + (", ..." if len(names) > 5 else "")


def note_repairs(repaired: list[tuple[str, str]], notes: dict[str, str]) -> None:
    """Add the line about repaired ids to `notes`, if there were any."""
    if repaired:
        shown = ", ".join(f"{old!r} -> {new!r}" for old, new in repaired[:5])
        notes["repaired ids"] = f"{len(repaired)}: {shown}" + (", ..." if len(repaired) > 5 else "")
