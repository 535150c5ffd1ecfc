"""What must hold of a matrix before heads are cross-validated on it, what is odd about it, and its folds."""

from __future__ import annotations

import numpy as np

from cache import Split
from pipelines.errors import RunError
from pipelines.matrices import Matrix
from tuning import make_folds


def split_notes(matrix: Matrix) -> list[str]:
    """Say how the manifest's splits are used, where that could surprise."""
    notes = []
    validation = int(((matrix.splits == Split.VAL) & (matrix.labels >= 0)).sum())
    if validation:
        notes.append(
            f"{validation:,} labelled rows of split 'val' are cross-validated and trained on like the "
            "others; only split 'test' is held out"
        )
    shared = int(np.isin(matrix.groups[matrix.test], matrix.groups[matrix.training]).sum())
    if shared:
        notes.append(
            f"{shared:,} of {len(matrix.test):,} test rows share a text, a picture or a group with training "
            "rows: their score is too good"
        )
    return notes


def check_trainable(matrix: Matrix, n_folds: int) -> None:
    """Refuse a data set on which no head can be cross-validated.

    Raises
    ------
    RunError
        With the class counts.
    """
    labels = matrix.labels[matrix.training]
    counts = {name: int((labels == code).sum()) for code, name in enumerate(matrix.class_names)}
    present = {name: count for name, count in counts.items() if count}
    shown = ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"
    if len(present) < 2:
        raise RunError(
            f"The data set has labelled rows of {len(present)} class(es) ({shown}); at least 2 are needed "
            "to train."
        )
    few = {name: count for name, count in counts.items() if count < n_folds}
    if few:
        names = ", ".join(f"'{name}' has {count}" for name, count in few.items())
        raise RunError(
            f"Every class needs at least {n_folds} labelled rows for {n_folds} folds, but {names}. "
            "Lower --folds or label more."
        )


def matrix_folds(matrix: Matrix, n_folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return folds over the training rows of a matrix; rows of one group stay together."""
    rows = matrix.training
    return make_folds(matrix.labels[rows], n_folds=n_folds, groups=matrix.groups[rows], random_state=seed)
