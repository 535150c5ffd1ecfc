"""Fits: every fold of every row, on as many threads as there are cores."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from heads import fit_with_views, make_pipeline
from pipelines.ablation.feature_sets import FeatureSets, modality_of
from pipelines.ablation.fitted_rows import Fitted, RowMemory
from pipelines.ablation.grid import Candidate
from pipelines.class_parameters import with_class_codes
from pipelines.matrices import Matrix
from tuning import Configuration, Fold, fold_seed

# More threads than this hold more copies of the training rows than they are worth.
_MOST_THREADS = 8


@dataclass(frozen=True, eq=False)
class FoldFit:
    """One fit and what it says of held-out rows.

    Attributes
    ----------
    probabilities : ndarray of shape (n_held_out, n_classes), float32
    n_parameters : int
    seconds : float
    """

    probabilities: np.ndarray
    n_parameters: int
    seconds: float


@dataclass(frozen=True, eq=False)
class FitData:
    """Rows to fit and predict on.

    Attributes
    ----------
    X : ndarray of shape (n_rows, n_features), float32
    y : ndarray of shape (n_rows,), integer
    blocks : mapping of str to int
    class_names : tuple of str
    views : ndarray of shape (n_views, n_rows, n_features), float32, or None
    """

    X: np.ndarray
    y: np.ndarray
    blocks: Mapping[str, int]
    class_names: tuple[str, ...]
    views: np.ndarray | None = None


def fit_rows(
    rows: Sequence[Candidate],
    sets: FeatureSets,
    folds: Sequence[Fold],
    *,
    seed: int,
    memory: RowMemory,
    on_row: Callable[[Candidate, Fitted], None],
) -> dict[str, Fitted]:
    """Cross-validate every row on the same folds and seeds.

    Parameters
    ----------
    rows : sequence of Candidate
    sets : FeatureSets
    folds : sequence of (train, valid)
        Positions among the training rows.
    seed : int
        Each fold has its own seed made from it, the same for all rows.
    memory : RowMemory
        Rows that it knows are not computed again; finished rows are put there.
    on_row : callable
        Called with each row when its last fold is done.

    Returns
    -------
    dict of str to Fitted
        By `Candidate.key`.

    Notes
    -----
    One fit per core, each on one thread: faster than one fit on all cores, whose products are small, and the
    result does not depend on how many cores a machine has.
    """
    found: dict[str, Fitted] = {}
    missing = []
    for row in {row.key: row for row in rows}.values():
        known = memory.get(row.key)
        if known is None:
            missing.append(row)
        else:
            found[row.key] = known
            on_row(row, known)
    with fit_pool({row.configuration.head for row in missing}) as pool:
        futures = {
            pool.submit(_fit_fold, row, sets, folds, fold, seed): (row, fold)
            for row in missing
            for fold in range(len(folds))
        }
        parts: dict[str, dict[int, FoldFit]] = {row.key: {} for row in missing}
        for row, fold, part in _finished(futures):
            parts[row.key][fold] = part
            if len(parts[row.key]) == len(folds):
                found[row.key] = _joined(parts.pop(row.key), folds)
                memory.put(row.key, found[row.key])
                on_row(row, found[row.key])
    return found


def n_threads() -> int:
    """Return how many fits run at a time: one per core this process may use."""
    return max(1, min(len(os.sched_getaffinity(0)), _MOST_THREADS))


def _finished(
    futures: dict[Future[FoldFit], tuple[Candidate, int]],
) -> Iterator[tuple[Candidate, int, FoldFit]]:
    for future in as_completed(futures):
        row, fold = futures[future]
        yield row, fold, future.result()


@contextmanager
def fit_pool(heads: Collection[str]) -> Iterator[ThreadPoolExecutor]:
    """Hold a pool of one-thread fits of some heads; after an error what is still waiting is cancelled."""
    if "mlp" in heads:
        import torch  # noqa: F401 - loaded before its threads are counted below
    with _one_thread_per_fit(), ThreadPoolExecutor(n_threads(), initializer=_one_torch_thread) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def _one_thread_per_fit() -> Iterator[None]:
    """Hold the matrix libraries to one thread each while many fits run."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else None
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        if torch and before is not None:
            torch.set_num_threads(before)


def _one_torch_thread() -> None:
    """Hold torch to one thread in this thread, if it is loaded: its setting is per thread."""
    torch = sys.modules.get("torch")
    if torch:
        torch.set_num_threads(1)


def _fit_fold(row: Candidate, sets: FeatureSets, folds: Sequence[Fold], fold: int, seed: int) -> FoldFit:
    began = time.perf_counter()
    matrix = sets.matrices[row.feature_set]
    train, valid = (matrix.training[part] for part in folds[fold])
    X, views = matrix.columns(row.blocks), None
    if row.n_views:
        stored = matrix.view_columns(row.blocks)
        views = None if stored is None else stored[: row.n_views]
    if row.shuffle is not None:
        generator = np.random.default_rng([seed, row.shuffle.seed, fold])
        for part in (train, valid):
            _exchange_partners(X, row, matrix, part, generator)
    blocks = {block: matrix.blocks[block] for block in row.blocks}
    data = FitData(X, matrix.labels, blocks, matrix.class_names, views)
    fitted = fit_and_predict(row.configuration, data, train, valid, seed=fold_seed(seed, fold))
    return replace(fitted, seconds=time.perf_counter() - began)


def fit_and_predict(
    configuration: Configuration,
    data: FitData,
    train: np.ndarray,
    held_out: np.ndarray,
    *,
    seed: int,
    viewed: np.ndarray | None = None,
) -> FoldFit:
    """Fit a configuration on some rows, and on views of them, and predict others.

    Parameters
    ----------
    configuration : Configuration
        Classes are named by name.
    data : FitData
    train, held_out : ndarray of integer
        Row numbers.
    seed : int
    viewed : ndarray of integer, or None
        Which of the training rows bring their views; None is all.

    Returns
    -------
    FoldFit
    """
    began = time.perf_counter()
    configuration = with_class_codes(configuration, data.class_names)
    parameters = dict(configuration.parameters)
    if configuration.head == "lightgbm":
        parameters["n_jobs"] = 1
    pipeline = make_pipeline(
        configuration.head,
        blocks=data.blocks,
        resampler=configuration.resampler,
        parameters=parameters,
        random_state=seed,
    )
    fit_with_views(pipeline, data.X, data.y, data.views, rows=train, viewed=viewed)
    probabilities = np.zeros((len(held_out), len(data.class_names)), dtype=np.float32)
    probabilities[:, pipeline.classes_] = pipeline.predict_proba(data.X[held_out])
    n_parameters = int(pipeline.named_steps["head"].n_parameters)
    return FoldFit(probabilities, n_parameters, time.perf_counter() - began)


def _exchange_partners(
    X: np.ndarray, row: Candidate, matrix: Matrix, part: np.ndarray, generator: np.random.Generator
) -> None:
    """Deal out the blocks that are not text anew among the rows of one part of a fold."""
    assert row.shuffle is not None
    kinds = matrix.labels[part] if row.shuffle.within_class else np.zeros(len(part), dtype=np.int64)
    givers = part.copy()
    for kind in np.unique(kinds):
        givers[kinds == kind] = generator.permutation(part[kinds == kind])
    start = 0
    for block in row.blocks:
        stop = start + matrix.blocks[block]
        if modality_of(block) != "text":
            X[part, start:stop] = X[givers, start:stop]
        start = stop


def _joined(parts: dict[int, FoldFit], folds: Sequence[Fold]) -> Fitted:
    n_classes = parts[0].probabilities.shape[1]
    oof = np.zeros((sum(len(valid) for _, valid in folds), n_classes), dtype=np.float32)
    for fold, (_, valid) in enumerate(folds):
        oof[valid] = parts[fold].probabilities
    numbers = [part.n_parameters for part in parts.values()]
    return Fitted(oof, round(float(np.mean(numbers))), sum(part.seconds for part in parts.values()))
