"""Matrices: turn stores into one array X with named blocks, labels, groups and folds' material."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cache import FeatureStore, SpaceError, Split, align
from heads import select_rows
from pipelines.duplicates import RelatedRows, compared_blocks, find_related_rows, related_notes
from pipelines.errors import UsageError, users_words
from pipelines.joined_blocks import SpaceRef, join_blocks, named_blocks, read_compared, stored_blocks
from pipelines.matrix_memory import TRAINING, refuse_too_big
from pipelines.named_stores import open_store, split_spec
from pipelines.picture_files import folders_around
from pipelines.stored_rows import StoredRows
from pipelines.term_counts import is_term_space
from pipelines.view_stacks import common_views, n_views_of, view_notes, views_to_read

_RawColumns = tuple[tuple[str, ...] | None, tuple[str, ...] | None, list[bytes | None] | None]


@dataclass(frozen=True)
class Matrix:
    """Features of all rows of the aligned stores.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features), float32
        Blocks side by side. A row whose embedding is missing holds NaN in that whole block. Where
        `read_matrix` was allowed to leave rows on disk, this may be a `StoredRows`, which slices like one.
    blocks : dict of str to int
        Block name -> width, in column order.
    ids : tuple of str
    labels : ndarray of shape (n_samples,), int32
        Codes into `class_names`; -1 for unlabelled rows.
    class_names : tuple of str
    splits : ndarray of shape (n_samples,), uint8
    groups : ndarray of shape (n_samples,), int32
        Rows that share a group number, a text or a picture, and near duplicates of those, have the same
        number.
    texts : tuple of str or None
    images : tuple of str or None
        Image paths, relative to the data set.
    spaces : tuple of SpaceRef
    views : ndarray of shape (n_views, n_samples, n_features), float32, or None
        Augmented renderings of every row, columns as in X: extra training rows, and nothing else. A block
        whose store has none repeats its clean columns; a missing embedding is NaN as in X.
    stored_views : int
        Views of each row that could be read; `views` may hold fewer, because fewer were asked for.
    notes : tuple of str
        Rows that only some stores hold, and the like.
    terms : mapping of str to tuple of str
        Block of term counts -> the term of each of its columns.
    related : RelatedRows or None
        Why rows share a group.
    """

    X: np.ndarray
    blocks: dict[str, int]
    ids: tuple[str, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    splits: np.ndarray
    groups: np.ndarray
    texts: tuple[str, ...] | None
    images: tuple[str, ...] | None
    spaces: tuple[SpaceRef, ...]
    views: np.ndarray | None = None
    stored_views: int = 0
    notes: tuple[str, ...] = field(default=())
    terms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    related: RelatedRows | None = None

    @property
    def training(self) -> np.ndarray:
        """Positions of labelled rows that are not in the test split."""
        return np.flatnonzero((self.labels >= 0) & (self.splits != Split.TEST))

    @property
    def test(self) -> np.ndarray:
        """Positions of labelled rows of the test split: scored once, never fitted on."""
        return np.flatnonzero((self.labels >= 0) & (self.splits == Split.TEST))

    @property
    def unlabelled(self) -> np.ndarray:
        """Positions of rows without a label."""
        return np.flatnonzero(self.labels < 0)

    @property
    def training_views(self) -> np.ndarray | None:
        """Views of the training rows, of shape (n_views, n_training, n_features); None without views."""
        return None if self.views is None else self.views[:, self.training]

    @property
    def is_on_disk(self) -> bool:
        """Whether X is read from open stores piece by piece."""
        return isinstance(self.X, StoredRows)

    def rows(self, numbers: np.ndarray) -> np.ndarray:
        """Return some rows of X, by ascending number: a copy, or rows that stay on disk where X does."""
        return select_rows(self.X, numbers)

    def put_in_order(self) -> None:
        """Prepare rows on disk to be read piece by piece, see `StoredRows.put_in_order`."""
        if isinstance(self.X, StoredRows):
            self.X.put_in_order()

    def in_memory(self, why: str = "") -> Matrix:
        """Return the matrix with all of X in memory, to train on.

        Raises
        ------
        RunError
            If it does not fit with the copies that training makes; `why` is the sentence that says why it has
            to be there.
        """
        n_views = 0 if self.views is None else len(self.views)
        refuse_too_big((len(self.ids), self.X.shape[1]), copies=TRAINING, n_views=n_views, why=why)
        if not self.is_on_disk:
            return self
        return replace(self, X=np.asarray(self.X, dtype=np.float32))

    def columns(self, blocks: Sequence[str]) -> np.ndarray:
        """Return X with only the named blocks."""
        return self._joined(self.X, blocks)

    def view_columns(self, blocks: Sequence[str]) -> np.ndarray | None:
        """Return the views with only the named blocks; None without views."""
        return None if self.views is None else self._joined(self.views, blocks)

    def _joined(self, values: np.ndarray, blocks: Sequence[str]) -> np.ndarray:
        starts = dict(zip(self.blocks, np.cumsum([0, *self.blocks.values()]), strict=False))
        return np.concatenate([values[..., starts[b] : starts[b] + self.blocks[b]] for b in blocks], axis=-1)


def read_matrix(
    specs: Sequence[str],
    *,
    use_views: int | None = None,
    duplicates: str = "near",
    stay_open: ExitStack | None = None,
) -> Matrix:
    """Open, verify, align and join stores.

    Parameters
    ----------
    specs : sequence of str
        ``FILE[:SPACE]``; without SPACE the store's only space of each modality. ``text.terms`` and
        ``text.chars`` are counts of terms in the store's texts, see ``term_counts``.
    use_views : int or None
        How many of the stored views to read, the first ones; None reads all.
    duplicates : {"near", "exact", "none"}
        Which rows share a group beside those of declared groups; see ``duplicates.find_related_rows``.
    stay_open : ExitStack or None
        Leave rows that are too big for memory (``heads.large_rows.is_large``) on disk; the stores stay open
        until this is closed. None reads everything.

    Raises
    ------
    StoreError
        If a store cannot be trusted or the stores disagree.
    UsageError
        If a space is named twice, or is ambiguous, or there are fewer views than `use_views`.
    RunError
        If terms are to be counted and there are no texts, or too many terms, or the rows do not fit in
        memory.
    """
    with ExitStack() as stack:
        opened, wanted = _open(specs, stack)
        matrix = _join(opened, wanted, use_views, duplicates, stay_open)
        if stay_open is not None and matrix.is_on_disk:
            stay_open.enter_context(stack.pop_all())
        return matrix


def read_relations(specs: Sequence[str], *, duplicates: str) -> tuple[tuple[str, ...], RelatedRows]:
    """Find which rows of stores are related, as `read_matrix` does, without what only a head needs.

    Parameters
    ----------
    specs : sequence of str
    duplicates : {"near", "exact", "none"}
        As for `read_matrix`.

    Returns
    -------
    ids : tuple of str
    related : RelatedRows

    Raises
    ------
    StoreError, UsageError, RunError
        As `read_matrix` does.
    """
    with ExitStack() as stack:
        opened, wanted = _open(specs, stack)
        aligned = align(list(opened.values()))
        stored = stored_blocks(opened, named_blocks(wanted), aligned)

        def vectors(names: Sequence[str]) -> dict[str, np.ndarray]:
            return read_compared({name: stored[name] for name in names})

        related = _related(opened, aligned, _raw_columns(aligned), duplicates, stored, vectors)
        return tuple(aligned.ids), related


def _open(specs: Sequence[str], stack: ExitStack) -> tuple[dict[str, FeatureStore], list[tuple[str, str]]]:
    """Open the stores until `stack` is closed; return path -> store, and (path, space) of every block."""
    opened: dict[str, FeatureStore] = {}
    wanted: list[tuple[str, str]] = []
    for spec in specs:
        path, space = split_spec(spec)
        key = str(path)
        if key not in opened:
            opened[key] = stack.enter_context(open_store(path))
        wanted += [(key, name) for name in _spaces(opened[key], space, key)]
    _refuse_repeats(wanted)
    return opened, wanted


def _spaces(store: FeatureStore, asked: str | None, path: str) -> list[str]:
    if asked is not None:
        with users_words(SpaceError):
            return [asked if is_term_space(asked) else store.select(asked).name]
    modalities = list(dict.fromkeys(name.split(".")[0] for name in store.spaces))
    try:
        return [store.select(modality).name for modality in modalities]
    except SpaceError as error:
        raise UsageError(f"{error} Name one with --features {path}:SPACE.") from error


def _refuse_repeats(wanted: Sequence[tuple[str, str]]) -> None:
    for pair in wanted:
        if wanted.count(pair) > 1:
            raise UsageError(f"Space '{pair[1]}' of '{pair[0]}' is named twice in --features.")


def _join(
    opened: dict[str, FeatureStore],
    wanted: Sequence[tuple[str, str]],
    use_views: int | None,
    duplicates: str,
    stay_open: ExitStack | None,
) -> Matrix:
    aligned = align(list(opened.values()))
    stored = {
        f"{path}:{space}": 0 if is_term_space(space) else n_views_of(opened[path].select(space))
        for path, space in wanted
    }
    n_views = views_to_read(stored, use_views)
    joined = join_blocks(opened, wanted, aligned, n_views=n_views, stay_open=stay_open)
    raw = texts, images, _ = _raw_columns(aligned)
    related = _related(opened, aligned, raw, duplicates, joined.widths, joined.vectors)
    return Matrix(
        X=joined.X,
        blocks=joined.widths,
        ids=tuple(aligned.ids),
        labels=np.asarray(aligned.labels),
        class_names=tuple(aligned.class_names),
        splits=np.asarray(aligned.splits),
        groups=related.groups,
        texts=texts,
        images=images,
        spaces=joined.spaces,
        views=joined.views,
        stored_views=common_views(stored),
        notes=(
            *(
                f"{count:,} rows of '{path}' are not in every store and are left out"
                for path, count in aligned.dropped.items()
                if count
            ),
            *view_notes(stored, n_views),
            *joined.notes,
            *related_notes(related, np.asarray(aligned.labels)),
        ),
        related=related,
        terms=joined.terms,
    )


def _related(
    opened: Mapping[str, FeatureStore],
    aligned: Any,
    raw: _RawColumns,
    duplicates: str,
    blocks: Iterable[str],
    vectors: Callable[[Sequence[str]], Mapping[str, np.ndarray]],
) -> RelatedRows:
    """Find related rows of aligned stores; `vectors` reads some of the blocks."""
    texts, images, image_hashes = raw
    compared = compared_blocks(duplicates, blocks, len(aligned), texts=texts, images=images)
    return find_related_rows(
        duplicates,
        np.asarray(aligned.groups),
        texts=texts,
        image_hashes=image_hashes,
        images=images,
        blocks=vectors(compared),
        folders=folders_around(map(Path, opened)),
        labels=np.asarray(aligned.labels),
    )


def _raw_columns(aligned: Any) -> _RawColumns:
    """Return texts, image paths and image hashes in aligned order, from the first store that has each."""
    texts = images = hashes = None
    for store, rows in zip(aligned.stores, aligned.rows, strict=True):
        if texts is None and store.texts is not None:
            texts = tuple(store.texts[row] for row in rows)
        if images is None and store.image_paths is not None:
            images = tuple(store.image_paths[row] for row in rows)
        if hashes is None and store.image_sha256 is not None:
            hashes = [h.tobytes() if h.any() else None for h in np.asarray(store.image_sha256)[rows]]
    return texts, images, hashes
