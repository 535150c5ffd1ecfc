"""Shares, their intervals and their differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, fisher_exact, kstest

from tuning.proportions import share_difference, wilson_interval


def test_wilson_interval_equals_scipy() -> None:
    """Every count of several sizes, none and all of them included."""
    for n in (1, 7, 40, 1000):
        hits = np.unique(np.linspace(0, n, 21).round().astype(int))
        low, high = wilson_interval(hits, np.full(len(hits), n))
        for k, a, b in zip(hits, low, high, strict=True):
            expected = binomtest(int(k), n).proportion_ci(method="wilson")
            assert (a, b) == (pytest.approx(expected.low, abs=1e-12), pytest.approx(expected.high, abs=1e-12))


def test_share_difference_interval_equals_the_published_one() -> None:
    """Newcombe (1998), table II, method 10: 56/70 - 48/80, 9/10 - 3/10, 10/10 - 0/20."""
    found = share_difference([56, 9, 10], [70, 10, 10], [48, 3, 0], [80, 10, 20])
    np.testing.assert_allclose(found.difference, [0.2, 0.6, 1.0])
    np.testing.assert_allclose(found.low, [0.0524, 0.1705, 0.6791], atol=5e-5)
    np.testing.assert_allclose(found.high, [0.3339, 0.8090, 1.0], atol=5e-5)


def test_share_difference_p_value_is_between_half_of_fishers_and_all_of_it() -> None:
    """Counting half of what was seen makes the exact test less cautious, never more."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        n, m = rng.integers(10, 200, 2)
        k, j = rng.binomial(n, 0.3), rng.binomial(m, 0.3)
        found = share_difference([k], [n], [j], [m]).p_value[0]
        one_sided = min(
            fisher_exact([[k, n - k], [j, m - j]], alternative=side).pvalue for side in ("less", "greater")
        )
        assert one_sided * 0.99 <= found <= min(1.0, 2 * one_sided)


def test_share_difference_p_values_are_uniform_under_the_null() -> None:
    """400 draws in which the two shares are equal."""
    rng = np.random.default_rng(1)
    hits, others = rng.binomial(1500, 0.3, 400), rng.binomial(2500, 0.3, 400)
    p = share_difference(hits, np.full(400, 1500), others, np.full(400, 2500)).p_value
    assert kstest(p, "uniform").pvalue > 0.05
    assert 0.02 <= np.mean(p < 0.05) <= 0.08


def test_shares_refuse_impossible_counts() -> None:
    """No rows, or more hits than rows."""
    for hits, n in (([0], [0]), ([3], [2]), ([-1], [2])):
        with pytest.raises(ValueError, match="allowed are counts of at least 0"):
            wilson_interval(hits, n)
