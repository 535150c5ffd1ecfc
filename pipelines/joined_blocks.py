"""Blocks side by side: spaces of aligned stores as the columns of one matrix, in memory or on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from cache import Aligned, FeatureStore
from heads.large_rows import is_large
from pipelines.errors import UsageError
from pipelines.matrix_memory import READING, refuse_too_big
from pipelines.reordered_rows import in_sample_order
from pipelines.stored_rows import Block, StoredBlock, StoredRows, stored_block
from pipelines.term_counts import (
    TERMS_BACKBONE,
    TermCounts,
    build_term_counts,
    is_term_space,
    terms_fingerprint,
)
from pipelines.view_stacks import read_views


@dataclass(frozen=True)
class SpaceRef:
    """Where one block comes from.

    Attributes
    ----------
    path : str
        The store's file, as given.
    space : str
        E.g. ``"text.pooled"``.
    block : str
        Name of the block in X.
    width : int
    backbone : str
    space_fingerprint, store_fingerprint : str
    clean, precision : str
        Settings that predicting from raw inputs needs again.
    """

    path: str
    space: str
    block: str
    width: int
    backbone: str
    space_fingerprint: str
    store_fingerprint: str
    clean: str
    precision: str


@dataclass(frozen=True, eq=False)
class JoinedBlocks:
    """Columns of a matrix.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features), float32
        Or a `StoredRows`, which slices like one; a row whose embedding is missing is NaN in the whole block.
    spaces : tuple of SpaceRef
        In the order of the columns.
    views : ndarray of shape (n_views, n_samples, n_features), float32, or None
    terms : mapping of str to tuple of str
        Block of term counts -> the term of each of its columns.
    notes : tuple of str
    """

    X: np.ndarray
    spaces: tuple[SpaceRef, ...]
    views: np.ndarray | None = None
    terms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def widths(self) -> dict[str, int]:
        """Block name -> width, in column order."""
        return {space.block: space.width for space in self.spaces}

    def vectors(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Return block -> ndarray of shape (n_samples, width), float32, of some blocks.

        Raises
        ------
        RunError
            If they are on disk and too big to be read.
        """
        if isinstance(self.X, StoredRows):
            on_disk = dict(zip(self.widths, self.X.blocks, strict=True))
            return read_compared({name: on_disk[name] for name in names})
        ends = np.cumsum(list(self.widths.values()))
        columns = dict(zip(self.widths, np.split(self.X, ends[:-1], axis=1), strict=True))
        return {name: columns[name] for name in names}


def read_compared(blocks: Mapping[str, Block]) -> dict[str, np.ndarray]:
    """Read blocks in which near duplicates are looked for.

    Returns
    -------
    dict
        Block -> ndarray of shape (n_samples, width), float32; NaN where there is no vector.

    Raises
    ------
    RunError
        If they do not fit in memory.
    """
    if not blocks:
        return {}
    shape = len(next(iter(blocks.values())).valid), sum(block.width for block in blocks.values())
    named = ", ".join(map(repr, blocks))
    why = f"Near duplicates are looked for in the vectors of {named}; --duplicates exact does without."
    refuse_too_big(shape, copies=READING, why=why)
    return {name: block.read(slice(None)).astype(np.float32, copy=False) for name, block in blocks.items()}


def named_blocks(wanted: Sequence[tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """Give every (path, space) a name: the space alone where that is enough, else ``space@store``.

    Stores of one name in several folders are told apart by these: ``space@folder/store``.

    Raises
    ------
    UsageError
        If two paths, however they are spelled, name one place.
    """
    spaces = [space for _, space in wanted]
    parts = [Path(path.removesuffix(".h5")).absolute().parts for path, _ in wanted]
    for n_parts in range(1, max(map(len, parts), default=1) + 1):
        stores = ["/".join(path[-n_parts:]) for path in parts]
        named = {
            space if spaces.count(space) == 1 else f"{space}@{store}": (path, space)
            for (path, space), store in zip(wanted, stores, strict=True)
        }
        if len(named) == len(wanted):
            return named
    paths = ", ".join(repr(path) for path, _ in wanted)
    raise UsageError(f"Among the stores {paths} one is named twice. Name each space of a store once.")


def stored_blocks(
    opened: Mapping[str, FeatureStore], named: Mapping[str, tuple[str, str]], aligned: Aligned
) -> dict[str, StoredBlock]:
    """Return the blocks that are spaces of stores, by name; term counts are none.

    Parameters
    ----------
    opened : mapping of str to FeatureStore
        Path -> store, in the order of `aligned`.
    named : mapping of str to (path, space)
        From `named_blocks`.
    aligned : Aligned
    """
    paths = list(opened)
    return {
        block: stored_block(opened[path], space, aligned.rows[paths.index(path)])
        for block, (path, space) in named.items()
        if not is_term_space(space)
    }


def join_blocks(
    opened: Mapping[str, FeatureStore],
    wanted: Sequence[tuple[str, str]],
    aligned: Aligned,
    *,
    n_views: int,
    stay_open: ExitStack | None,
) -> JoinedBlocks:
    """Put spaces side by side.

    Parameters
    ----------
    opened : mapping of str to FeatureStore
        Path -> store, in the order of `aligned`.
    wanted : sequence of (path, space)
    aligned : Aligned
    n_views : int
        Views of each row that are read.
    stay_open : ExitStack or None
        Leave rows on disk that are too big for memory; the stores then stay open, and so does what is made to
        read rows in order, until this is closed. Term counts and rows with views are always read, and with
        None everything is.

    Raises
    ------
    RunError
        If the rows do not fit in memory, or terms cannot be counted.
    """
    named = named_blocks(wanted)
    stored = stored_blocks(opened, named, aligned)
    if stay_open is not None and len(stored) == len(named) and not n_views:
        X = StoredRows([in_sample_order(part, stay_open) for part in stored.values()])
        if is_large(X):
            spaces = tuple(
                _reference(opened[path], stored[block], path, block) for block, (path, _) in named.items()
            )
            return JoinedBlocks(cast("np.ndarray", X), spaces)
    width = sum(part.width for part in stored.values())
    refuse_too_big((len(aligned), width), copies=READING, n_views=n_views)
    return _read_blocks(opened, named, stored, aligned, n_views)


def _read_blocks(
    opened: Mapping[str, FeatureStore],
    wanted: Mapping[str, tuple[str, str]],
    stored: Mapping[str, StoredBlock],
    aligned: Aligned,
    n_views: int,
) -> JoinedBlocks:
    """Read all blocks and their views into memory."""
    paths, columns, spaces, stacks = list(opened), [], [], []
    counted: dict[str, TermCounts] = {}
    for block, (path, space) in wanted.items():
        store, rows = opened[path], aligned.rows[paths.index(path)]
        if block in stored:
            x = stored[block].vectors()
            stacks.append(read_views(stored[block].space, rows, x, n_views))
            spaces.append(_reference(store, stored[block], path, block))
        else:
            counted[block] = build_term_counts(texts_of(store, rows), space, path)
            x = counted[block].counts
            stacks.append(np.broadcast_to(x, (n_views, *x.shape)))
            spaces.append(_terms_reference(store, path, space, block, counted[block].terms))
        columns.append(x)
    return JoinedBlocks(
        X=columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1),
        spaces=tuple(spaces),
        views=np.concatenate(stacks, axis=2) if n_views else None,
        terms={block: found.terms for block, found in counted.items()},
        notes=tuple(found.note for found in counted.values() if found.note),
    )


def texts_of(store: FeatureStore, rows: Sequence[int] | np.ndarray) -> list[str] | None:
    """Return the cleaned texts of some rows of a store; None if it has none."""
    return None if store.texts is None else [store.texts[row] for row in rows]


def clean_recipe(store: FeatureStore) -> str:
    """Return the name of the recipe that a store's texts were cleaned by; "" for an imported store."""
    return str(dict(store.meta).get("clean", {}).get("recipe", ""))


def _reference(store: FeatureStore, part: StoredBlock, path: str, block: str) -> SpaceRef:
    meta: dict[str, Any] = dict(store.meta)
    return SpaceRef(
        path=path,
        space=part.space.name,
        block=block,
        width=part.width,
        backbone=meta["identity"].get("backbone", ""),
        space_fingerprint=part.space.fingerprint,
        store_fingerprint=store.fingerprint,
        clean=clean_recipe(store),
        precision=meta.get("precision", ""),
    )


def _terms_reference(
    store: FeatureStore, path: str, space: str, block: str, terms: Sequence[str]
) -> SpaceRef:
    clean = clean_recipe(store)
    return SpaceRef(
        path=path,
        space=space,
        block=block,
        width=len(terms),
        backbone=TERMS_BACKBONE,
        space_fingerprint=terms_fingerprint(space, clean, terms),
        store_fingerprint=store.fingerprint,
        clean=clean,
        precision="",
    )
