"""Scores of rows whose inputs got worse, by models that were trained without those rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.class_parameters import with_class_codes
from pipelines.console import Progress, tell
from pipelines.errors import UsageError
from pipelines.faulty_vectors import Variant
from pipelines.matrices import Matrix
from tuning import Configuration, Fold, cv_summary, evaluate, paired_difference, score_name


def sample_rows(labels: np.ndarray, n_rows: int, seed: int) -> np.ndarray:
    """Draw rows by class, in proportion.

    Parameters
    ----------
    labels : ndarray of shape (n,), integer
    n_rows : int
        At least the number of classes.
    seed : int

    Returns
    -------
    ndarray of int
        Sorted positions; all of them if there are no more than `n_rows`.
    """
    from sklearn.model_selection import train_test_split

    everything = np.arange(len(labels))
    n_classes = len(np.unique(labels))
    if n_rows < n_classes:
        raise UsageError(f"--rows {n_rows} is too few for {n_classes} classes.")
    if n_rows > len(labels) - n_classes:  # the rest could not hold a row of each class
        return everything
    drawn, _ = train_test_split(everything, train_size=n_rows, stratify=labels, random_state=seed)
    return np.sort(drawn)


def score_variants(
    configuration: Configuration,
    config: Mapping[str, Any],
    matrix: Matrix,
    folds: Sequence[Fold],
    picked: np.ndarray,
    vectors: np.ndarray,
    variants: Sequence[Variant],
    seed: int,
) -> dict[str, Any]:
    """Score the sampled rows, clean and under every variant, out of fold.

    Parameters
    ----------
    configuration, config, matrix, folds, picked, vectors
        See `out_of_fold`.
    variants : sequence of Variant
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        ``rows``, ``metric``, ``clean`` and ``faults``, as in ``robustness.json``.
    """
    oof = out_of_fold(configuration, config, matrix, folds, picked, vectors)
    y = matrix.labels[matrix.training][picked]
    n_classes = len(matrix.class_names)
    metric = score_name(config["metric"])
    whole = [(np.empty(0, dtype=np.int64), np.arange(len(y)))]
    groups = matrix.groups[matrix.training][picked]
    options: dict[str, Any] = {"n_classes": n_classes, "groups": groups, "random_state": seed}

    def estimate(probabilities: np.ndarray) -> dict[str, float]:
        found = cv_summary(probabilities, y, whole, **options)[metric]
        return {"score": found["mean"], "low": found["ci95"][0], "high": found["ci95"][1]}

    faults = []
    for variant, probabilities in zip(variants, oof[1:], strict=True):
        against = paired_difference(probabilities, oof[0], y, metric=metric, **options)
        faults.append(
            {
                "name": variant.fault,
                "severity": variant.severity,
                "level": variant.level,
                **estimate(probabilities),
                "difference": against["difference"],
                "diff_low": against["ci95"][0],
                "diff_high": against["ci95"][1],
                "p_value": against["p_value"],
            }
        )
    return {"rows": len(y), "metric": metric, "clean": estimate(oof[0]), "faults": faults}


def out_of_fold(
    configuration: Configuration,
    config: Mapping[str, Any],
    matrix: Matrix,
    folds: Sequence[Fold],
    picked: np.ndarray,
    vectors: np.ndarray,
) -> np.ndarray:
    """Predict the sampled rows and their variants by models that were trained without them.

    Parameters
    ----------
    configuration : Configuration
    config : mapping
        Of the run.
    matrix : Matrix
    folds : sequence of (train, valid)
        Of the run, over the training rows.
    picked : ndarray of shape (n_picked,), int
        Positions among the training rows.
    vectors : ndarray of shape (n_variants, n_picked, n_features), float32

    Returns
    -------
    ndarray of shape (1 + n_variants, n_picked, n_classes), float32
        The clean rows first.

    Notes
    -----
    The variants of a row are appended as validation rows of the row's own fold, so the fits are those of the
    run's cross-validation, to the bit.
    """
    clean = matrix.X[matrix.training]
    n, n_variants = len(clean), len(vectors)
    X = np.concatenate([clean, vectors.reshape(-1, clean.shape[1])])
    origin = np.concatenate([np.arange(n), np.tile(picked, n_variants)])
    widened = [(train, np.flatnonzero(np.isin(origin, valid))) for train, valid in folds]
    views = matrix.training_views
    if views is not None:
        # Never read: views of validation rows are not. They only give the stack the shape of X.
        blank = np.zeros((len(views), len(X) - n, X.shape[1]), dtype=np.float32)
        views = np.concatenate([views, blank], axis=1)
    tell(f"fitting the winner in {len(widened)} folds")
    progress = Progress("fitting", "folds")
    found = evaluate(
        with_class_codes(configuration, matrix.class_names),
        X,
        matrix.labels[matrix.training][origin],
        widened,
        views=views,
        blocks=matrix.blocks,
        n_classes=len(matrix.class_names),
        metric=config["metric"],
        random_state=config["seed"],
        on_fold=lambda fold: progress.update(fold, len(widened)),
    ).oof
    progress.close()
    stacked = [found[picked], *found[n:].reshape(n_variants, len(picked), -1)]
    return np.stack(stacked)
