"""Fits: every fold of every row, on as many threads as there are cores."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache import write_file
from heads import fit_with_views, make_pipeline
from pipelines.ablation.feature_sets import FeatureSets, Fold, modality_of
from pipelines.ablation.grid import Candidate
from pipelines.class_parameters import with_class_codes
from pipelines.matrices import Matrix
from tuning import fold_seed

# More threads than this hold more copies of the training rows than they are worth.
_MOST_THREADS = 8


@dataclass(frozen=True, eq=False)
class Fitted:
    """A row that has been cross-validated.

    Attributes
    ----------
    oof : ndarray of shape (n_training, n_classes), float32
        Out-of-fold probabilities.
    n_parameters : int
        Numbers that were trained, on average over the folds.
    seconds : float
        Time of all fits and predictions, as if one after the other.
    """

    oof: np.ndarray
    n_parameters: int
    seconds: float

    @property
    def predictions(self) -> np.ndarray:
        """Most probable class code of every row; the lowest wins a tie."""
        codes: np.ndarray = self.oof.argmax(axis=1)
        return codes


@dataclass(frozen=True, eq=False)
class _FoldFit:
    probabilities: np.ndarray
    n_parameters: int
    seconds: float


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
    if any(row.configuration.head == "mlp" for row in missing):
        import torch  # noqa: F401 - loaded before its threads are counted below
    with _one_thread_per_fit(), ThreadPoolExecutor(n_threads(), initializer=_one_torch_thread) as pool:
        futures = {
            pool.submit(_fit_fold, row, sets, folds, fold, seed): (row, fold)
            for row in missing
            for fold in range(len(folds))
        }
        parts: dict[str, dict[int, _FoldFit]] = {row.key: {} for row in missing}
        try:
            for row, fold, part in _finished(futures):
                parts[row.key][fold] = part
                if len(parts[row.key]) == len(folds):
                    found[row.key] = _joined(parts.pop(row.key), folds)
                    memory.put(row.key, found[row.key])
                    on_row(row, found[row.key])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return found


def n_threads() -> int:
    """Return how many fits run at a time: one per core this process may use."""
    return max(1, min(len(os.sched_getaffinity(0)), _MOST_THREADS))


def _finished(
    futures: dict[Future[_FoldFit], tuple[Candidate, int]],
) -> Iterator[tuple[Candidate, int, _FoldFit]]:
    for future in as_completed(futures):
        row, fold = futures[future]
        yield row, fold, future.result()


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


def _fit_fold(row: Candidate, sets: FeatureSets, folds: Sequence[Fold], fold: int, seed: int) -> _FoldFit:
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
    configuration = with_class_codes(row.configuration, matrix.class_names)
    parameters = dict(configuration.parameters)
    if configuration.head == "lightgbm":
        parameters["n_jobs"] = 1
    pipeline = make_pipeline(
        configuration.head,
        blocks={block: matrix.blocks[block] for block in row.blocks},
        resampler=configuration.resampler,
        parameters=parameters,
        random_state=fold_seed(seed, fold),
    )
    fit_with_views(pipeline, X, matrix.labels, views, rows=train)
    probabilities = np.zeros((len(valid), len(matrix.class_names)), dtype=np.float32)
    probabilities[:, pipeline.classes_] = pipeline.predict_proba(X[valid])
    n_parameters = int(pipeline.named_steps["head"].n_parameters)
    return _FoldFit(probabilities, n_parameters, time.perf_counter() - began)


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


def _joined(parts: dict[int, _FoldFit], folds: Sequence[Fold]) -> Fitted:
    n_classes = parts[0].probabilities.shape[1]
    oof = np.zeros((sum(len(valid) for _, valid in folds), n_classes), dtype=np.float32)
    for fold, (_, valid) in enumerate(folds):
        oof[valid] = parts[fold].probabilities
    numbers = [part.n_parameters for part in parts.values()]
    return Fitted(oof, round(float(np.mean(numbers))), sum(part.seconds for part in parts.values()))


class RowMemory:
    """Finished rows on disk, one file each, so that an interrupted table goes on.

    Parameters
    ----------
    folder : Path
        Exists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> Fitted | None:
        """Return a stored row, or None. A file that was cut short or changed does not count."""
        path = self._folder / f"{key}.row"
        if not path.is_file():
            return None
        digest, _, body = path.read_bytes().partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != digest:
            path.unlink()
            return None
        line, _, array = body.partition(b"\n")
        facts = json.loads(line)
        oof = np.load(io.BytesIO(array), allow_pickle=False)
        return Fitted(oof, facts["n_parameters"], facts["seconds"])

    def put(self, key: str, fitted: Fitted) -> None:
        """Store a row durably."""
        facts = {"n_parameters": fitted.n_parameters, "seconds": fitted.seconds}
        buffer = io.BytesIO()
        np.save(buffer, fitted.oof, allow_pickle=False)
        body = json.dumps(facts).encode("utf-8") + b"\n" + buffer.getvalue()
        digest = hashlib.sha256(body).hexdigest().encode()
        write_file(self._folder / f"{key}.row", digest + b"\n" + body)
