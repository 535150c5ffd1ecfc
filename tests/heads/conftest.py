"""Small data sets with the shape of the real ones: three classes at 6 : 1 : 3."""

from __future__ import annotations

import os

# Before torch is loaded: beside another busy process, OpenMP threads that spin make tiny fits 15 times
# slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pytest

from tests.kit.threads import one_torch_thread  # noqa: F401 - a fixture of this folder


def _rows(n_rows: int, n_features: int, *, shift: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows whose class means lie `shift` apart in the first columns."""
    random = np.random.default_rng(seed)
    y = np.repeat([0, 1, 2], [round(n_rows * share) for share in (0.6, 0.1, 0.3)])
    random.shuffle(y)
    X = random.normal(size=(n_rows, n_features))
    X[np.arange(n_rows), y] += shift
    scale = random.uniform(0.5, 5.0, n_features)
    return (X * scale + random.normal(size=n_features)).astype(np.float32), y


@pytest.fixture(scope="session")
def easy() -> tuple[np.ndarray, np.ndarray]:
    """600 rows of 40 columns whose classes are well apart. Not to be changed in place."""
    return _rows(600, 40, shift=4.0, seed=0)


@pytest.fixture(scope="session")
def hard() -> tuple[np.ndarray, np.ndarray]:
    """300 rows of 12 columns whose classes overlap. Not to be changed in place."""
    return _rows(300, 12, shift=1.0, seed=1)
