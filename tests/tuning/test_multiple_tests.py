"""Corrections for many tests, and the comparison with several others at once."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tuning import make_folds, paired_difference
from tuning.mean_differences import mean_paired_difference
from tuning.multiple_tests import holm


def test_holm_equals_its_definition() -> None:
    """From the smallest up, a value is multiplied by how many are left, and never falls below the last."""
    generator = np.random.default_rng(0)
    for _ in range(50):
        p = generator.random(generator.integers(1, 12)).round(2)
        ranked = sorted(range(len(p)), key=lambda i: p[i])
        running, expected = 0.0, np.empty(len(p))
        for rank, i in enumerate(ranked):
            running = max(running, (len(p) - rank) * p[i])
            expected[i] = min(1.0, running)
        np.testing.assert_allclose(holm(p), expected)


def test_holm_refuses_what_is_no_p_value() -> None:
    """A value outside [0, 1] is named."""
    with pytest.raises(ValueError, match=r"numbers from 0 to 1"):
        holm([0.1, 1.2])


def _null_pair(seed: int, n: int = 500) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two predictions of one quality that share part of their noise."""
    generator = np.random.default_rng(seed)
    y = np.repeat([0, 1, 2], [6 * n // 10, n // 10, 3 * n // 10])
    shared = generator.normal(size=(len(y), 3)) + np.eye(3)[y] * 1.2
    a, b = (shared + 0.7 * generator.normal(size=shared.shape) for _ in range(2))
    return y, a, b


def test_paired_p_values_are_uniform_under_the_null() -> None:
    """Over 200 draws in which nothing differs, the p-values of the table are uniform."""
    values = []
    for seed in range(200):
        y, a, b = _null_pair(seed)
        folds = make_folds(y, n_folds=5, random_state=seed)
        compared = paired_difference(a, b, y, n_classes=3, folds=folds, n_bootstrap=999, random_state=seed)
        values.append(compared["p_value"])
    assert stats.kstest(values, "uniform").pvalue > 0.001


def test_mean_difference_to_one_other_is_the_paired_difference() -> None:
    """With one other, difference, interval and p-value are those of `paired_difference`."""
    y, a, b = _null_pair(1)
    b = b - 0.25 * np.eye(3)[y]  # a little worse
    folds = make_folds(y, n_folds=5)
    codes = [table.argmax(axis=1) for table in (a, b)]
    one = mean_paired_difference(codes[0], [codes[1]], y, folds, n_classes=3, n_bootstrap=3999)
    pair = paired_difference(a, b, y, n_classes=3, folds=folds, n_bootstrap=3999)
    assert one["difference"] == pytest.approx(pair["difference"], abs=1e-12)
    np.testing.assert_allclose(one["ci95"], pair["ci95"], atol=0.006)
    assert one["p_value"] == pytest.approx(pair["p_value"], abs=0.03)


def test_mean_difference_is_to_the_mean_of_the_others() -> None:
    """The difference to several is the mean of the differences to each, and none are refused."""
    y, a, b = _null_pair(2)
    folds = make_folds(y, n_folds=5)
    first, *others = (table.argmax(axis=1) for table in (a, b, b[::-1], a + b))
    arguments = {"n_classes": 3, "n_bootstrap": 99}
    each = [mean_paired_difference(first, [o], y, folds, **arguments)["difference"] for o in others]
    together = mean_paired_difference(first, others, y, folds, **arguments)["difference"]
    assert together == pytest.approx(np.mean(each), abs=1e-12)
    with pytest.raises(ValueError, match=r"'others' is empty"):
        mean_paired_difference(first, [], y, folds, n_classes=3)
    with pytest.raises(ValueError, match=r"is validated 0 times over the folds"):
        mean_paired_difference(first, others, y, folds[1:], n_classes=3)
