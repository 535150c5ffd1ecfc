"""What a p-value is worth when a table holds many of them."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjust p-values so that any of them is at most alpha by luck with probability alpha or less.

    Parameters
    ----------
    p_values : array-like of shape (n_tests,), float
        In [0, 1]; how the tests depend on each other does not matter.

    Returns
    -------
    ndarray of shape (n_tests,), float64
        Adjusted values in the order given, each at least the value itself and at most 1.

    Raises
    ------
    ValueError
        When a value is not in [0, 1], or the array has more than one axis.

    References
    ----------
    Holm (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics
    6, 65-70.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(
            f"'p_values' is {values.tolist()!r:.200}, allowed is a list of numbers from 0 to 1. Pass one "
            "p-value per test."
        )
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted
