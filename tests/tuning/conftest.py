"""Small labelled matrices with the class shares of the typical data set (6 : 1 : 3)."""

import os
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

# OpenMP reads this when it is loaded. Its threads otherwise wait by spinning: while other programs kept the
# cores busy, a LightGBM evaluation of 0.08 s was measured to take 2 to 16 s.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

Data = tuple[NDArray[np.float32], NDArray[np.int64]]


def _make_data(n: int, *, d: int = 12, signal: float = 1.0, seed: int = 0) -> Data:
    """Rows of noise in which two columns carry the class; ``signal=0`` leaves noise only."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % 10)
    y = np.select([y < 6, y < 7], [0, 1], 2)
    X = rng.normal(size=(n, d)).astype(np.float32)
    X[:, 0] += (signal * y).astype(np.float32)
    X[:, 1] += (signal * (y == 1)).astype(np.float32)
    return X, y


@pytest.fixture(autouse=True, scope="module")
def _one_blas_thread() -> Iterator[None]:
    """The matrices are tiny: a second thread only waits, and on busy cores it waits eight times as long."""
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture
def make_data() -> Callable[..., Data]:
    """The maker of labelled matrices: ``make_data(n, d=12, signal=1.0, seed=0)``."""
    return _make_data


@pytest.fixture
def labelled() -> Data:
    """A matrix of 150 rows with a clear signal, and its class codes."""
    return _make_data(150)
