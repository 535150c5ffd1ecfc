"""Related rows: declared groups, equal texts and pictures, near duplicates: groups that share a fold."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from extract.texts import EMPTY_MARK
from pipelines.near_texts import near_text_key
from pipelines.picture_marks import same_picture_pairs
from tuning import connected_groups, groups_of_pairs, near_pairs

RULES = ("near", "exact", "none")
"""What ``--duplicates`` takes."""

FEW_ALIKE, SHARE_ALIKE = 10, 0.05
"""Larger groups, and of this share of all rows, are of one kind (a form letter, drawings in one style),
not copies of one thing: near duplicates do not hold them together."""

LISTED_BY_AUDIT = "; embedonce audit lists them"
"""End of a note that ``audit`` itself leaves out."""

_MOST_ROWS = 100_000  # compared with each other: 45 s of processor time; twice as many take four times that
_GROUPS_PER_CLASS = 10  # that near duplicates must leave, so that folds hold every class


@dataclass(frozen=True, eq=False)
class RelatedRows:
    """Groups of rows that must not be torn apart, and why.

    Attributes
    ----------
    rule : {"near", "exact", "none"}
    groups : ndarray of shape (n_samples,), int32
        Numbered from 0 in row order; a row that stands alone has its own.
    keys : dict of str to list of (hashable or None)
        Kind of relation -> one key per row; rows of one kind with equal keys are related, None is with
        nobody, as are near duplicates of a crowd. Kinds are ``"group"``, ``"text"``, ``"picture"``,
        ``"near text"``, ``"near picture"`` and ``"near vector"``.
    n_near : int
        Rows in groups that only near duplicates hold together.
    n_near_groups : int
    n_crowded : int
        Rows that are like so many others that they count as of one kind, not as duplicates.
    notes : tuple of str
        Where near duplicates could not be looked for, and the like.
    """

    rule: str
    groups: np.ndarray
    keys: Mapping[str, Sequence[Hashable | None]]
    n_near: int = 0
    n_near_groups: int = 0
    n_crowded: int = 0
    notes: tuple[str, ...] = field(default=())

    def groups_under(self, rule: str) -> np.ndarray:
        """Return the groups of this rule, or those that a stricter one would have made."""
        if rule == self.rule:
            return self.groups
        wanted = ("group",) if rule == "none" else ("group", "text", "picture")
        return connected_groups(
            *(key for name, key in self.keys.items() if name in wanted), n=len(self.groups)
        )

    @property
    def digest(self) -> str:
        """Hash of the groups, for the settings of a run: near duplicates change which rows share a fold."""
        return hashlib.sha256(np.ascontiguousarray(self.groups, dtype="<i4").tobytes()).hexdigest()[:16]


def compared_blocks(
    rule: str,
    names: Iterable[str],
    n_rows: int,
    *,
    texts: Sequence[str] | None,
    images: Sequence[str] | None,
) -> list[str]:
    """Return which blocks `find_related_rows` looks into, so that the others need not be read.

    Parameters
    ----------
    rule : {"near", "exact", "none"}
    names : iterable of str
        Blocks, ``modality.readout``.
    n_rows : int
    texts, images : sequence of str or None
        As for `find_related_rows`. Rows with texts are compared by these, and a vector of text and picture
        together only helps to compare picture files.

    Returns
    -------
    list of str
        In the order of `names`.
    """
    if rule != "near" or n_rows > _MOST_ROWS:
        return []
    pictures = {"image", "joint"} if images is not None and any(images) else {"image"}
    compared = pictures | ({"text"} if texts is None else set())
    return [name for name in names if _modality(name) in compared]


def find_related_rows(
    rule: str,
    declared: np.ndarray,
    *,
    texts: Sequence[str] | None,
    image_hashes: Sequence[bytes | None] | None,
    images: Sequence[str] | None,
    blocks: Mapping[str, np.ndarray],
    folders: Sequence[Path],
    labels: np.ndarray | None = None,
    all_pictures: bool = False,
) -> RelatedRows:
    """Find the rows that a split must keep together.

    Parameters
    ----------
    rule : {"near", "exact", "none"}
        ``none`` leaves the declared groups alone; ``exact`` adds equal texts and equal picture files;
        ``near`` adds near duplicates of either.
    declared : ndarray of shape (n_samples,), int
        Groups of the stores; -1 = none.
    texts : sequence of str or None
        Cleaned texts. An empty one, or the mark of one, is no sign of a duplicate.
    image_hashes : sequence of (bytes or None) or None
        SHA-256 of the picture files.
    images : sequence of str or None
        Picture files relative to the data set; "" = none.
    blocks : mapping of str to ndarray of shape (n_samples, d), float32
        ``modality.readout`` -> vectors, NaN where there is none.
    folders : sequence of Path
        Where the data set may lie.
    labels : ndarray of shape (n_samples,), int, or None
        Class codes; -1 = none. Near duplicates are left alone where they would leave a class too few groups
        to be cross-validated.
    all_pictures : bool
        Compare pictures even when `blocks` has no vectors of them, which means reading all of them.

    Returns
    -------
    RelatedRows
    """
    n = len(declared)
    keys: dict[str, Sequence[Hashable | None]] = {"group": [int(g) if g >= 0 else None for g in declared]}
    if rule == "none":
        return RelatedRows(rule, connected_groups(*keys.values(), n=n), keys)
    if texts is not None:
        texts = ["" if text == EMPTY_MARK else text for text in texts]
        keys["text"] = [text or None for text in texts]
    if image_hashes is not None:
        keys["picture"] = list(image_hashes)
    exact = connected_groups(*keys.values(), n=n)
    if rule == "exact":
        return RelatedRows(rule, exact, keys)
    if n > _MOST_ROWS:
        note = (
            f"near duplicates are looked for among up to {_MOST_ROWS:,} rows; of these {n:,} only exact "
            "copies stay in one fold"
        )
        return RelatedRows(rule, exact, keys, notes=(note,))
    near, notes = _near_keys(texts, images, image_hashes, blocks, folders, all_pictures)
    crowded = _crowded(connected_groups(*keys.values(), *near.values(), n=n), exact)
    for kind, key in near.items():
        keys[kind] = [None if crowd else value for value, crowd in zip(key, crowded, strict=True)]
    groups = connected_groups(*keys.values(), n=n)
    if labels is not None and _too_few_groups(groups, exact, labels):
        groups = exact
        notes.append(
            "near duplicates would leave a class fewer groups than folds need, so only exact copies stay in "
            "one fold"
        )
    parts = np.bincount(np.unique(np.stack([groups, exact]), axis=1)[0])  # exact groups in each
    sizes = np.bincount(groups)
    n_near, n_near_groups = int(sizes[parts > 1].sum()), int((parts > 1).sum())
    return RelatedRows(rule, groups, keys, n_near, n_near_groups, int(crowded.sum()), tuple(notes))


def _crowded(groups: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Return which rows are in a crowd of near duplicates: of one kind, not copies of one thing."""
    most = max(FEW_ALIKE, int(SHARE_ALIKE * len(groups)))
    crowded = np.zeros(len(groups), dtype=bool)
    for number in np.flatnonzero(np.bincount(groups) > most):
        rows = np.flatnonzero(groups == number)
        crowded[rows] = len(np.unique(exact[rows])) > 1
    return crowded


def _too_few_groups(groups: np.ndarray, exact: np.ndarray, labels: np.ndarray) -> bool:
    """Tell whether near duplicates leave a class fewer groups than folds may need."""
    for code in np.unique(labels[labels >= 0]):
        rows = labels == code
        if len(np.unique(groups[rows])) < min(_GROUPS_PER_CLASS, len(np.unique(exact[rows]))):
            return True
    return False


def _members(groups: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.cumsum(np.bincount(groups))[:-1]) if len(groups) else []


def _near_keys(
    texts: Sequence[str] | None,
    images: Sequence[str] | None,
    image_hashes: Sequence[bytes | None] | None,
    blocks: Mapping[str, np.ndarray],
    folders: Sequence[Path],
    all_pictures: bool,
) -> tuple[dict[str, Sequence[Hashable | None]], list[str]]:
    """Compare texts by their words, pictures by their pixels, and whatever is not at hand by its vectors."""
    keys: dict[str, Sequence[Hashable | None]] = {}
    notes: list[str] = []
    if texts is not None and any(texts):
        keys["near text"] = near_text_key(texts)
    by_vector = {name: X for name, X in blocks.items() if _modality(name) == "text" and texts is None}
    pictured = {name: X for name, X in blocks.items() if _modality(name) != "text"}
    if pictured or all_pictures:
        found = (
            same_picture_pairs(list(pictured.values()), images, image_hashes, folders)
            if images is not None and any(images)
            else None
        )
        if found is not None:
            keys["near picture"] = groups_of_pairs(found, len(images or ()))
        else:
            by_vector |= {name: X for name, X in pictured.items() if _modality(name) == "image"}
            if images is not None and any(images):
                notes.append(
                    "the pictures are not where the stores say, so near duplicates among them are looked for "
                    "by their vectors alone, which misses many; run from the data set's folder"
                )
    for name, X in by_vector.items():
        keys[f"near vector {name}"] = groups_of_pairs(near_pairs(X), len(X))
    return keys, notes


def _modality(block: str) -> str:
    return block.split(".")[0]


def related_notes(related: RelatedRows, labels: np.ndarray) -> list[str]:
    """Say in a line or two what near duplicates did to the groups.

    Parameters
    ----------
    related : RelatedRows
    labels : ndarray of shape (n_samples,), int
        Class codes; -1 = none.
    """
    notes = list(related.notes)
    if related.n_crowded:
        notes.append(
            f"{related.n_crowded:,} of {len(labels):,} rows are like so many others that they count as of "
            "one kind, not as near duplicates; only exact copies among them stay in one fold"
        )
    if not related.n_near:
        return notes
    notes.append(
        f"{related.n_near:,} near duplicates in {related.n_near_groups:,} group(s) stay in one fold "
        "(--duplicates near, exact or none)"
    )
    several = [rows for rows in _members(related.groups) if len(rows) > 1]
    torn = sum(len(np.unique(labels[rows][labels[rows] >= 0])) > 1 for rows in several)
    if torn:
        notes.append(f"{torn:,} group(s) of duplicates hold rows with different labels{LISTED_BY_AUDIT}")
    return notes


def duplicate_settings(found: Sequence[RelatedRows | None]) -> dict[str, str]:
    """Return what ``config.json`` records: the rule if it is not the usual one, and the groups it led to.

    Near duplicates depend on the pictures at hand, so the groups themselves are part of a run's identity;
    data without near duplicates keep the names that their runs have always had.
    """
    related = [one for one in found if one is not None]
    values = {}
    if related and related[0].rule != "near":
        values["duplicates"] = related[0].rule
    if any(one.n_near for one in related):
        digests = " ".join(one.digest for one in related)
        values["related_rows"] = hashlib.sha256(digests.encode()).hexdigest()[:16]
    return values
