"""What a head would see in each fold: imputed, standardised and reduced rows, made once for all trials."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heads.blocks import block_slices, invalid_blocks
from heads.columns import ColumnScale
from heads.projection import column_spreads
from heads.silent_blocks import screened_rows, silent_blocks
from heads.term_weights import TermWeights, term_slices
from heads.view_rows import check_views
from tuning.column_moments import ColumnMoments, join, measure
from tuning.fold_rows import FoldRows
from tuning.folds import Fold
from tuning.principal import Principal, principal_of_moments, principal_of_rows

_ROWS_AT_ONCE = 4096
_WIDEST = 256  # directions per block that are computed at once; a smaller width takes the leading ones
_Key = tuple[int, int | None, bool, bool]  # fold, pca, whiten, screened
_KEPT_BYTES = 256 * 2**20  # of finished rows, least recently used first to go


@dataclass(frozen=True, eq=False)
class _Projected:
    """Rows of one fold on the widest directions, block by block, before they are evened out."""

    train: list[NDArray[np.float32]]
    valid: list[NDArray[np.float32]]
    variances: list[NDArray[np.float64]]


class Reductions:
    """Leak-free standardising and PCA of every fold, computed once and shared by all trials.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features), float32
        Anything with ``shape`` that slices by row numbers. A block without a valid embedding is NaN.
    y : array-like of shape (n_samples,), integer
        Class codes.
    folds : sequence of (train, valid)
        Row numbers, from `make_folds`.
    blocks : mapping of str to int, or None
        Block name to width, in column order; None is one block.
    views : array-like of shape (n_views, n_samples, n_features), or None
        Augmented views of the rows of X; those of training rows are training rows too.

    Raises
    ------
    ValueError
        If `blocks` do not add up, a view has another shape than X, or, when rows are first asked for, a block
        is partly NaN, a value is infinite, or the training rows of a fold hold no term often enough.

    Notes
    -----
    Where the training rows of a fold are the validation rows of all others, moments are measured once per
    validation part and each fold adds up those of the other parts. This costs one product over all rows,
    whatever the number of folds, and nothing of a validation row enters, not even by rounding (subtracting
    the part of a fold from the total would let it). Imputed rows and views need no other treatment: an
    imputed value lies at the mean, and a view belongs to the part of its row. Other folds are measured one by
    one.

    Blocks of term counts (``heads.term_blocks``) are weighed by the training rows of each fold, as the
    pipeline of a head does it, so their columns differ from fold to fold and every fold is measured by
    itself. Directions come from the smaller Gram matrix then, that of columns or that of rows: a vocabulary
    is often wider than the rows are many.

    Term counts take more: every fold under way (one per core) holds its training rows in float32, twice at
    the peak, and their Gram matrix.

    Memory: 4 bytes x (rows + views) x 256 x blocks x folds for the projected rows, and at most 256 MB of
    finished rows. Eigenproblems run side by side, one core each.

    References
    ----------
    O.-C. G. Engstrøm and M. H. Jensen, "Fast partition-based cross-validation with centering and scaling for
    X'X and X'Y", arXiv:2401.13185 (one Gram matrix for all folds).
    """

    def __init__(
        self,
        X: ArrayLike,
        y: ArrayLike,
        folds: Sequence[Fold],
        *,
        blocks: Mapping[str, int] | None = None,
        views: Any = None,
    ) -> None:
        rows: Any = X if hasattr(X, "shape") else np.asarray(X)
        self._sources: list[Any] = [rows]
        if views is not None and len(views):
            check_views(rows, views)
            self._sources += [views[k] for k in range(len(views))]
        self.folds = [(np.asarray(train), np.asarray(valid)) for train, valid in folds]
        self.codes: NDArray[np.int64] = np.asarray(y).astype(np.int64)
        self._blocks = blocks
        self._slices = block_slices(blocks, int(rows.shape[1]))
        self._terms = list(term_slices(blocks, int(rows.shape[1])).values())
        self._term_weights: dict[int, TermWeights] = {}
        self._widest = 0
        self._scales: list[ColumnScale] | None = None
        self._projected: list[_Projected] = []
        self._silent: dict[int, NDArray[np.bool_]] = {}
        self._finished: OrderedDict[_Key, FoldRows] = OrderedDict()
        self._lock = threading.RLock()

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return len(self.folds)

    def rows(
        self, fold: int, pca: int | None, *, whiten: bool = False, screen_blocks: bool = False
    ) -> FoldRows:
        """Return the rows of a fold, standardised and reduced by its training rows.

        Parameters
        ----------
        fold : int
        pca : int or None
            Principal directions per block; a block gives at most min(n_train, its width), and none at the
            level of rounding. None leaves the standardised columns as they are.
        whiten : bool
            As for ``heads.projection.reduced_map``, which gives the same columns.
        screen_blocks : bool
            As for ``heads.MLPHead``: whether blocks that say nothing about the labels are left out.

        Returns
        -------
        FoldRows

        Raises
        ------
        ValueError
            If `fold` or `pca` is out of range, or the rows cannot be imputed.
        """
        if not 0 <= fold < self.n_folds or (pca is not None and pca < 1):
            raise ValueError(
                f"There are no rows for fold={fold!r} and pca={pca!r}; allowed are folds 0 to "
                f"{self.n_folds - 1}, and a pca of 1 or more or None."
            )
        with self._lock:
            self._measure_for(pca)
            screened = screen_blocks and bool(self._silent_blocks(fold).any())
            key = (fold, pca, whiten and pca is not None, screened)
            found = self._finished.pop(key, None)
            if found is None:
                found = self._made(key)
            self._finished[key] = found
            self._let_go()
        return found

    def _measure_for(self, pca: int | None) -> None:
        """Measure the columns of every fold, with the directions that are asked for; once."""
        if pca is not None and pca > self._widest:
            self._project_all(max(pca, _WIDEST))
        elif self._scales is None:
            self._scales = self._scales_of(self._training_moments(with_gram=False))

    def _made(self, key: _Key) -> FoldRows:
        """Make the rows of a fold; those from which blocks are left out come from the others, if kept."""
        fold, pca, whiten, screened = key
        if screened:
            whole = (fold, pca, whiten, False)
            rows = self._finished[whole] if whole in self._finished else self._made(whole)
            return rows.without(self._silent_blocks(fold))
        return self._standardised(fold) if pca is None else self._reduced(fold, pca, whiten=whiten)

    def _silent_blocks(self, fold: int) -> NDArray[np.bool_]:
        """Tell which blocks say nothing in the clean training rows of a fold."""
        if len(self._slices) < 2:
            return np.zeros(len(self._slices), dtype=bool)
        if fold not in self._silent:
            train, _ = self.folds[fold]
            shown = train[screened_rows(np.arange(len(train)))]
            Z = np.concatenate(list(self._scaled_chunks(fold, shown, self._sources[:1])))
            self._silent[fold] = silent_blocks(Z, self.codes[shown], list(self._slices.values()))
        return self._silent[fold]

    def _let_go(self) -> None:
        """Forget the rows that were not asked for longest."""
        while sum(rows.train.nbytes + rows.valid.nbytes for rows in self._finished.values()) > _KEPT_BYTES:
            self._finished.popitem(last=False)

    def _standardised(self, fold: int) -> FoldRows:
        """Return all columns of a fold."""
        train, valid = self.folds[fold]
        found = [
            np.concatenate(list(self._scaled_chunks(fold, rows, sources)))
            for rows, sources in ((train, self._sources), (valid, self._sources[:1]))
        ]
        widths = [columns.stop - columns.start for columns in self._slices.values()]
        return self._fold_rows(fold, None, False, found[0], found[1], widths)

    def _reduced(self, fold: int, pca: int, *, whiten: bool) -> FoldRows:
        """Return the leading columns of the widest projection, evened out."""
        projected = self._projected[fold]
        spreads = [column_spreads(block[:pca], whiten=whiten) for block in projected.variances]
        train, valid = (
            np.concatenate(
                [Z[:, :pca] / s.astype(np.float32) for Z, s in zip(parts, spreads, strict=True)], 1
            )
            for parts in (projected.train, projected.valid)
        )
        return self._fold_rows(fold, pca, whiten, train, valid, [len(block) for block in spreads])

    def _fold_rows(
        self,
        fold: int,
        pca: int | None,
        whiten: bool,
        train: NDArray[np.float32],
        valid: NDArray[np.float32],
        widths: Sequence[int],
    ) -> FoldRows:
        train_rows, _ = self.folds[fold]
        repeats = len(self._sources)
        train.flags.writeable = False
        valid.flags.writeable = False
        return FoldRows(
            fold=fold,
            pca=pca,
            whiten=whiten,
            screened=False,
            train=train,
            train_codes=np.tile(self.codes[train_rows], repeats),
            origins=np.tile(np.arange(len(train_rows)), repeats) if repeats > 1 else None,
            valid=valid,
            block_widths=tuple(widths),
        )

    def _project_all(self, width: int) -> None:
        """Find the directions of every fold and block, and project the rows of every fold."""
        self._projected = []  # the narrower ones go first
        principal = self._principal_of(width)
        self._projected = [self._project(fold, blocks) for fold, blocks in enumerate(principal)]
        self._widest = width

    def _principal_of(self, width: int) -> list[list[Principal]]:
        """Find the directions of every fold and block; measure the columns as well."""
        slices = list(self._slices.values())
        moments = self._training_moments(with_gram=not self._terms)
        self._scales = self._scales_of(moments)
        if not self._terms:
            return principal_of_moments(moments, self._scales, slices, width)
        # A vocabulary is wide, and its weights are each fold's own: nothing is gained by adding up moments.
        return principal_of_rows(self._scaled_training_rows, self.n_folds, slices, width)

    def _scaled_training_rows(self, fold: int) -> NDArray[np.float32]:
        return np.concatenate(list(self._scaled_chunks(fold, self.folds[fold][0], self._sources)))

    def _scales_of(self, moments: Sequence[ColumnMoments]) -> list[ColumnScale]:
        return [fold.scale(self._terms) for fold in moments]

    def _project(self, fold: int, principal: Sequence[Principal]) -> _Projected:
        """Project the rows of one fold, block by block."""
        directions = [block.directions.astype(np.float32) for block in principal]
        parts = []
        for rows, sources in zip(self.folds[fold], (self._sources, self._sources[:1]), strict=True):
            made = [
                np.empty((len(rows) * len(sources), block.shape[1]), dtype=np.float32) for block in directions
            ]
            start = 0
            for Z in self._scaled_chunks(fold, rows, sources):
                for out, columns, block in zip(made, self._slices.values(), directions, strict=True):
                    np.matmul(Z[:, columns], block, out=out[start : start + len(Z)])
                start += len(Z)
            parts.append(made)
        return _Projected(parts[0], parts[1], [block.variances for block in principal])

    def _training_moments(self, *, with_gram: bool) -> list[ColumnMoments]:
        """Measure the training rows of every fold."""
        if self._terms or not self._train_on_the_rest():
            return [self._measured(i, train, with_gram=with_gram) for i, (train, _) in enumerate(self.folds)]
        parts = [self._measured(i, valid, with_gram=with_gram) for i, (_, valid) in enumerate(self.folds)]
        return [join(parts[:fold] + parts[fold + 1 :]) for fold in range(self.n_folds)]

    def _train_on_the_rest(self) -> bool:
        """Whether every fold trains on exactly what the other folds validate."""
        if self.n_folds < 2:
            return False
        valid = [np.sort(rows) for _, rows in self.folds]
        return all(
            np.array_equal(np.sort(train), np.sort(np.concatenate(valid[:fold] + valid[fold + 1 :])))
            for fold, (train, _) in enumerate(self.folds)
        )

    def _measured(self, fold: int, rows: NDArray[Any], *, with_gram: bool) -> ColumnMoments:
        return measure(self._chunks(fold, rows, self._sources), self._slices, with_gram=with_gram)

    def _chunks(self, fold: int, rows: NDArray[Any], sources: Sequence[Any]) -> Iterator[NDArray[np.float32]]:
        """Read rows as they come, source after source; terms are weighed as the fold weighs them."""
        for source in sources:
            for start in range(0, len(rows), _ROWS_AT_ONCE):
                chunk = np.asarray(source[rows[start : start + _ROWS_AT_ONCE]], dtype=np.float32)
                yield self._weights_of(fold).transform(chunk) if self._terms else chunk

    def _weights_of(self, fold: int) -> TermWeights:
        """Return the weights of terms that the clean training rows of a fold give."""
        if fold not in self._term_weights:
            train = np.asarray(self._sources[0][self.folds[fold][0]], dtype=np.float32)
            self._term_weights[fold] = TermWeights(self._blocks).fit(train)
        return self._term_weights[fold]

    def _scaled_chunks(
        self, fold: int, rows: NDArray[Any], sources: Sequence[Any]
    ) -> Iterator[NDArray[np.float32]]:
        """Read rows, standardised; an imputed value is the mean, which is 0 then."""
        assert self._scales is not None
        for chunk in self._chunks(fold, rows, sources):
            scaled = self._scales[fold].apply(chunk)
            for name, invalid in invalid_blocks(chunk, self._slices).items():
                if invalid.any():
                    scaled[invalid, self._slices[name]] = 0.0
            yield scaled
