"""Logistic regression over all penalties, class weights and folds in one solve."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from heads.class_weights import row_weights
from heads.columns import softmax
from heads.softmax_regression import row_space
from tuning.cores import Cores
from tuning.fold_rows import FoldRows
from tuning.reductions import Reductions
from tuning.softmax_batch import fit_softmax_batch

Weighting = str | float | None
Floats = NDArray[np.float32]

_MOST_PASSES = 300  # over the rows, as of ``LogisticHead``


def logistic_path(
    reductions: Reductions,
    *,
    Cs: Sequence[float],
    class_weights: Sequence[Weighting],
    n_classes: int,
    tol: float = 1e-4,
    cores: Cores | None = None,
) -> dict[tuple[Weighting, float], Floats]:
    """Cross-validate ``heads.LogisticHead`` for every C and class weight at once.

    Parameters
    ----------
    reductions : Reductions
        Rows and folds.
    Cs : sequence of float
        Positive and finite, as for ``LogisticHead``.
    class_weights : sequence of None, "balanced", "effective" or float in [0, 1]
        See ``heads.class_weights.row_weights``.
    n_classes : int
    tol : float
        Largest entry of the gradient of the weighted mean loss at which a fit stops.
    cores : Cores or None
        For the folds; None takes all cores.

    Returns
    -------
    dict of (class_weight, C) to ndarray of shape (n_samples, n_classes), float32
        Out-of-fold probabilities. A class that a training fold lacks has probability 0 there; so does
        everything in a row that no fold validates.

    Raises
    ------
    ValueError
        If a C or a class weight is out of range, there is none of them, a class code is not below
        `n_classes`, or a training fold has one class only.

    Notes
    -----
    Folds are solved side by side on one core each, all fits of a fold as one batch (see
    ``tuning.softmax_batch``). `tol` is ``LogisticHead``'s and means the same, and 300 passes over the rows
    are its default. Both stop short of the minimum where C is so large that the loss is flat, each at a point
    of its own; with a smaller `tol` on both sides the probabilities are equal.

    Memory: about 12 x n_train x fits + 50 x n_features x n_classes x fits bytes per fold at work, beside the
    rows of the fold.
    """
    members = [(weighting, float(C)) for weighting in class_weights for C in Cs]
    _check(reductions, members, n_classes)
    oof = {member: np.zeros((len(reductions.codes), n_classes), dtype=np.float32) for member in members}
    cores = Cores() if cores is None else cores

    def solve(fold: int) -> None:
        rows = reductions.rows(fold, None)
        found = _solve_fold(rows, members, tol=tol, on_pass=cores.check)
        valid = reductions.folds[fold][1]
        for member, probabilities in zip(members, found, strict=True):
            oof[member][np.ix_(valid, np.unique(rows.train_codes))] = probabilities

    # The limit is that of the whole process, so it is set here, around all threads. More BLAS threads would
    # gain little on products this narrow, and beside another busy program they took ten times as long.
    with threadpool_limits(limits=1, user_api="blas"):
        cores.run(solve, range(reductions.n_folds))
    return oof


def _check(reductions: Reductions, members: Sequence[tuple[Weighting, float]], n_classes: int) -> None:
    """Refuse values that no fit can have; all of them are named."""
    faults = [] if members else ["there is no C or no class weight"]
    wrong = sorted({C for _, C in members if not (np.isfinite(C) and C > 0)})
    faults += [f"C={C!r} (allowed: finite and above 0)" for C in wrong]
    highest = int(reductions.codes.max())
    if highest >= n_classes:
        faults.append(f"class code {highest} (allowed: 0 to {n_classes - 1})")
    faults += [
        f"fold {fold} trains on one class only"
        for fold, (train, _) in enumerate(reductions.folds)
        if len(np.unique(reductions.codes[train])) < 2
    ]
    if faults:
        raise ValueError(f"The logistic path cannot be solved, {len(faults)} fault(s): {'; '.join(faults)}.")


def _solve_fold(
    rows: FoldRows,
    members: Sequence[tuple[Weighting, float]],
    *,
    tol: float,
    on_pass: Callable[[], None],
) -> list[Floats]:
    """Return the probabilities of the validation rows by every member."""
    classes, codes = np.unique(rows.train_codes, return_inverse=True)
    X, valid = rows.train, rows.valid
    if len(X) < X.shape[1]:  # the minimum is a combination of the rows
        basis = row_space(X)
        X, valid = X @ basis, valid @ basis
    shares, penalties = _weighed(codes, len(classes), members)
    fitted = fit_softmax_batch(
        X,
        codes.astype(np.int64),
        shares,
        penalties,
        tol=tol,
        max_iter=_MOST_PASSES,
        on_pass=on_pass,
    )
    return [
        softmax(valid @ matrix + bias) for matrix, bias in zip(fitted.matrices, fitted.biases, strict=True)
    ]


def _weighed(
    codes: NDArray[np.intp], n_classes: int, members: Sequence[tuple[Weighting, float]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weight of a row of each class, and the penalty, per unit of weight."""
    first = np.array([np.argmax(codes == code) for code in range(n_classes)])
    shares, penalties = [], []
    for weighting, C in members:
        weights = row_weights(
            codes, range(n_classes), class_weight=weighting, sample_weight=np.ones(len(codes))
        )
        shares.append(weights[first] / weights.sum())
        penalties.append(1.0 / (C * weights.sum()))
    return np.array(shares), np.array(penalties)
