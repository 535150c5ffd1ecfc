"""Where the rows of ``train`` lie while a head learns: on disk if it reads by chunks, else in memory."""

from __future__ import annotations

import time
from collections.abc import Callable

from pipelines.console import duration, size, tell
from pipelines.matrices import Matrix
from pipelines.matrix_memory import TRAINING, refuse_too_big
from tuning import Configuration


def placed_rows(matrix: Matrix, configuration: Configuration) -> Matrix:
    """Read rows that lie on disk into memory where a configuration needs all of them at once, and say so.

    Parameters
    ----------
    matrix : Matrix
        Whose rows are on disk.
    configuration : Configuration

    Returns
    -------
    Matrix
        `matrix` itself where the configuration reads by chunks.

    Raises
    ------
    RunError
        If they have to be in memory, and do not fit.
    """
    from heads import make_pipeline, trains_by_chunks  # scikit-learn: not for a list of presets

    n_rows, n_features = matrix.X.shape
    shown = f"{n_rows:,} x {n_features:,} values ({size(4 * n_rows * n_features)} as float32)"
    pipeline = make_pipeline(
        configuration.head,
        blocks=matrix.blocks,
        resampler=configuration.resampler,
        parameters=configuration.parameters,
    )
    if trains_by_chunks(pipeline, n_features):
        tell(f"note: {shown} stay in the stores and are read by chunks")
        return matrix
    wants = f"Head '{configuration.head}', as it is set here, needs all rows at once."
    refuse_too_big((n_rows, n_features), copies=TRAINING, why=wants)  # before it is said that they are read
    tell(f"note: {shown} are read into memory: {wants[0].lower()}{wants[1:-1]}")
    return matrix.in_memory(wants)


def fold_teller(n_folds: int) -> Callable[[int], None]:
    """Return a function that says which fold begins, and how long those before it took."""
    began = time.monotonic()

    def say_fold(fold: int) -> None:
        taken = f" ({duration(time.monotonic() - began)} so far)" if fold else ""
        tell(f"fold {fold + 1} of {n_folds}{taken}")

    return say_fold
