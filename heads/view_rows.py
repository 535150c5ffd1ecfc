"""Augmented views as extra training rows: stacking them, and keeping a row and its views together."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heads.early_stopping import inner_split
from heads.selected_rows import select_rows


class Views(Protocol):
    """Views of the rows of X, shape (n_views, n_samples, n_features): an ndarray, or a stack on disk."""

    def __len__(self) -> int:
        """Return the number of views."""
        ...

    def __getitem__(self, view: int, /) -> Any:
        """Return one view: a matrix that slices by rows."""
        ...


class _Fits(Protocol):
    """What is needed of an imblearn or scikit-learn pipeline."""

    named_steps: Any

    def fit(self, X: Any, y: Any, **parameters: Any) -> Any: ...


_Pipeline = TypeVar("_Pipeline", bound=_Fits)


def fit_with_views(
    pipeline: _Pipeline,
    X: Any,
    y: ArrayLike,
    views: Views | None,
    *,
    rows: NDArray[np.intp],
    viewed: NDArray[np.intp] | None = None,
) -> _Pipeline:
    """Fit a pipeline on some rows and on every view of those rows.

    Parameters
    ----------
    pipeline : Pipeline
        From ``heads.make_pipeline``.
    X : array-like of shape (n_samples, n_features), float32
        Anything that slices by row numbers.
    y : array-like of shape (n_samples,)
    views : Views of shape (n_views, n_samples, n_features), or None
        A view of a row has the row's label. With None or no view this is ``pipeline.fit(X[rows], y[rows])``,
        where X may be a matrix on disk that is too big for memory (`select_rows`).
    rows : ndarray of shape (n_rows,), integer
        Rows to train on; no view of any other row is read.
    viewed : ndarray of shape (n_viewed,), integer, or None
        Which of `rows` bring their views; None is all of them.

    Returns
    -------
    pipeline

    Raises
    ------
    ValueError
        If `views` have another number of rows or columns than X, or a row of `viewed` is not trained on.

    Notes
    -----
    With all rows viewed, every row is repeated equally often, so class shares, and with them balanced weights
    and resampling, stay what they were.

    Views are stacked under the rows instead of being an argument of ``fit`` of their own, because every step
    of a pipeline (imputing, resampling, a scikit-learn transformer) then treats them as what they are: rows.
    Only a head that holds rows back inside its fit has to know which rows belong together, and scikit-learn's
    way to say something about each row is a fit parameter, as with ``sample_weight``. A resampling step in
    front of the head makes rows without an origin; the heads behind such a step hold nothing back.
    """
    labels = np.asarray(y)[rows]
    if views is None or not len(views):
        return _fitted(pipeline, select_rows(X, rows), labels, {})
    check_views(X, views)
    bringing = np.arange(len(rows)) if viewed is None else _places(viewed, rows)
    parts = [X[rows], *(views[k][rows[bringing]] for k in range(len(views)))]
    stacked = np.concatenate([np.asarray(part) for part in parts])
    origin = np.concatenate([np.arange(len(rows)), np.tile(bringing, len(views))])
    # Terms are counted and weighed before rows are made; the head comes after that.
    told = [] if "resample" in pipeline.named_steps else ["head"]
    told += ["terms"] if "terms" in pipeline.named_steps else []
    said = {f"{step}__sample_origin": origin for step in told}
    return _fitted(pipeline, stacked, labels[origin], said)


def _places(viewed: NDArray[np.intp], rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return where each viewed row stands among the rows."""
    strangers = np.setdiff1d(viewed, rows)
    if len(strangers):
        raise ValueError(
            f"Row {strangers[0]} brings views, but is not trained on ({len(strangers)} such rows). A view "
            "joins the training rows with its row or not at all; leave such rows out of 'viewed'."
        )
    order = np.argsort(rows, kind="stable")
    places: NDArray[np.intp] = order[np.searchsorted(rows, viewed, sorter=order)]
    return places


def _fitted(pipeline: _Pipeline, X: NDArray[Any], y: NDArray[Any], said: dict[str, Any]) -> _Pipeline:
    pipeline.fit(X, y, **said)
    return pipeline


def check_views(X: Any, views: Views) -> None:
    """Refuse views that are not of the rows of X.

    Raises
    ------
    ValueError
        If a view has another shape than X.
    """
    for k in range(len(views)):
        shape = tuple(views[k].shape)
        if shape != tuple(X.shape):
            raise ValueError(
                f"View {k + 1} has shape {shape}, but X has {tuple(X.shape)}. Each view must hold the rows "
                "and columns of X, in the same order."
            )


def check_origin(origin: ArrayLike | None, codes: NDArray[np.intp]) -> NDArray[np.intp] | None:
    """Check the fit parameter ``sample_origin``.

    Parameters
    ----------
    origin : array-like of shape (n_samples,), integer, or None
        For each row the number of the row it is a view of; its own number for a row that is no view.
    codes : ndarray of shape (n_samples,), integer
        Class of each row.

    Raises
    ------
    ValueError
        If a number is no row, the origin of a view is itself a view, or the two have different labels.
    """
    if origin is None:
        return None
    found = np.asarray(origin)
    n = len(codes)
    if found.shape != (n,) or found.dtype.kind not in "iu":
        raise ValueError(
            f"sample_origin has shape {found.shape} and type {found.dtype}; it must hold one integer for "
            f"each of the {n} rows."
        )
    _refuse((found < 0) | (found >= n), found, f"is not a row from 0 to {n - 1}")
    rows = found.astype(np.intp)
    _refuse(rows[rows] != rows, rows, "is itself a view of another row")
    _refuse(codes[rows] != codes, rows, "has another label")
    return rows


def _refuse(wrong: NDArray[np.bool_], rows: NDArray[Any], fault: str) -> None:
    """Name the first row whose origin is wrong."""
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(
            f"sample_origin says that row {first} is a view of row {rows[first]}, which {fault}. Give a view "
            "the number of its clean row, and any other row its own number."
        )


def inner_split_of(
    codes: NDArray[np.intp],
    origins: NDArray[np.intp] | None,
    fraction: float,
    random: np.random.RandomState,
) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
    """Hold out a share of the clean rows, and leave their views out of both parts.

    A view of a held-out row must not be learnt from (it is nearly that row), and must not be stopped on
    either (predictions are made on clean inputs).

    Parameters
    ----------
    codes : ndarray of shape (n_samples,), integer
    origins : ndarray of shape (n_samples,), integer, or None
        From `check_origin`; None means that no row is a view.
    fraction, random
        As for ``inner_split``, which draws among the clean rows: the same rows as without views.

    Returns
    -------
    (kept, held_out) : two sorted ndarrays of row numbers, or None
        As for ``inner_split``.
    """
    if origins is None:
        return inner_split(codes, fraction, random)
    clean = np.flatnonzero(origins == np.arange(len(origins)))
    split = inner_split(codes[clean], fraction, random)
    if split is None:
        return None
    held_out = clean[split[1]]
    is_held_out = np.zeros(len(codes), dtype=bool)
    is_held_out[held_out] = True
    return np.flatnonzero(~is_held_out[origins]), held_out
