"""Shares and their differences: intervals and a test for counts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Z95 = 1.959963984540054  # 97.5 percentile of the normal distribution


class ShareDifference(NamedTuple):
    """One share less another, with its 95 % interval and a two-sided p-value; arrays of one shape."""

    difference: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    p_value: NDArray[np.float64]


def wilson_interval(hits: ArrayLike, n: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the 95 % interval of a share.

    Parameters
    ----------
    hits, n : array-like of integers, of one shape
        ``0 <= hits <= n`` and ``n >= 1``.

    Returns
    -------
    (low, high) : ndarrays of float64, within [0, 1]

    Raises
    ------
    ValueError
        If a count is not possible.

    References
    ----------
    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    """
    k, m = _checked(hits, n)
    share = k / m
    centre = (share + _Z95**2 / (2 * m)) / (1 + _Z95**2 / m)
    half = _Z95 / (1 + _Z95**2 / m) * np.sqrt(share * (1 - share) / m + _Z95**2 / (4 * m**2))
    low = np.where(k == 0, 0.0, np.maximum(centre - half, 0.0))
    high = np.where(k == m, 1.0, np.minimum(centre + half, 1.0))
    return low, high


def share_difference(
    hits: ArrayLike, n: ArrayLike, other_hits: ArrayLike, other_n: ArrayLike
) -> ShareDifference:
    """Compare shares of separate rows, such as the error rate of a slice and that of all other rows.

    Parameters
    ----------
    hits, n, other_hits, other_n : array-like of integers, of one shape

    Returns
    -------
    ShareDifference
        The interval is Newcombe's hybrid of two Wilson intervals; the p-value is Fisher's exact test with
        half the probability of what was seen ("mid-p"), because the plain test is too cautious.

    Raises
    ------
    ValueError
        If a count is not possible.

    References
    ----------
    R. G. Newcombe, "Interval estimation for the difference between independent proportions: comparison of
    eleven methods", Statistics in Medicine 17 (1998), method 10. H. O. Lancaster, "Significance tests in
    discrete distributions", JASA 56 (1961), for the mid-p value.
    """
    from scipy.stats import hypergeom

    (k, m), (other_k, other_m) = _checked(hits, n), _checked(other_hits, other_n)
    share, other = k / m, other_k / other_m
    (low, high), (other_low, other_high) = wilson_interval(k, m), wilson_interval(other_k, other_m)
    difference = share - other
    lower = difference - np.hypot(share - low, other_high - other)
    upper = difference + np.hypot(high - share, other - other_low)
    seen = hypergeom(m + other_m, k + other_k, m)
    half = seen.pmf(k) / 2
    p_value = np.minimum(1.0, 2 * np.minimum(seen.cdf(k) - half, seen.sf(k) + half))
    return ShareDifference(difference, lower, upper, p_value)


def _checked(hits: ArrayLike, n: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    k, m = np.asarray(hits, dtype=np.int64), np.asarray(n, dtype=np.int64)
    if k.shape != m.shape or (m < 1).any() or (k < 0).any() or (k > m).any():
        raise ValueError(
            f"'hits' is {k.tolist()!r:.100} of {m.tolist()!r:.100}; allowed are counts of at least 0 and at "
            "most n, with n of at least 1. Leave empty slices out."
        )
    return k, m
