"""Augmented views of several stores, joined into extra training rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cache import FeatureSpace
from pipelines.errors import UsageError


def n_views_of(space: FeatureSpace) -> int:
    """Return how many views a space holds."""
    return 0 if space.views is None else len(space.views)


def common_views(stored: Mapping[str, int]) -> int:
    """Return how many views every store has that has any."""
    return min((count for count in stored.values() if count), default=0)


def views_to_read(stored: Mapping[str, int], use_views: int | None) -> int:
    """Return how many views of each row are used.

    Parameters
    ----------
    stored : mapping of str to int
        Space -> number of views it holds.
    use_views : int or None
        How many were asked for; None means all that every store with views has.

    Raises
    ------
    UsageError
        If there are fewer than were asked for.
    """
    available = common_views(stored)
    if use_views is None:
        return available
    if use_views > available:
        listed = ", ".join(f"'{name}' {count}" for name, count in stored.items())
        raise UsageError(
            f"--use-views {use_views} was asked for, but there are {available} views of each row (stored: "
            f"{listed}). Extract with --views {use_views}, or pass a smaller number, all or none."
        )
    return use_views


def view_notes(stored: Mapping[str, int], n_views: int) -> list[str]:
    """Say what is trained on beside the clean rows."""
    if not n_views:
        return []
    notes = [f"{n_views} augmented views of each row join the training rows; they are never scored"]
    if len({count for count in stored.values() if count}) > 1:
        listed = ", ".join(f"'{name}' {count}" for name, count in stored.items())
        notes.append(f"the stores have different numbers of views ({listed}); the first {n_views} are used")
    without = ", ".join(f"'{name}'" for name, count in stored.items() if not count)
    if without:
        notes.append(f"no views are stored of {without}: the clean vectors stand in every view")
    return notes


def read_views(space: FeatureSpace, rows: np.ndarray, clean: np.ndarray, n_views: int) -> np.ndarray:
    """Return the views of one block, float32 of shape (n_views, n, d), with NaN where `clean` has NaN."""
    out = np.broadcast_to(clean, (n_views, *clean.shape))
    if not n_views or space.views is None:
        return out
    out = out.copy()
    valid = ~np.isnan(clean[:, 0])
    for view in range(n_views):
        out[view, valid] = space.views[view][rows[valid]]
    return out
