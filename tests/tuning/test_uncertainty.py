"""Intervals and tests equal independent computations."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from tuning import (
    SCORES,
    confusion,
    cv_summary,
    make_folds,
    mcnemar,
    paired_difference,
    score,
)


def macro(y, pred):
    """Macro-F1 of three classes from scikit-learn."""
    return f1_score(y, pred, average="macro", labels=range(3), zero_division=0)


def one_hot(pred):
    """Probabilities that make ``pred`` the most probable class."""
    return np.eye(3)[pred]


@pytest.fixture
def scored():
    """Labels of 300 rows and two predictions, the first one better."""
    rng = np.random.default_rng(2)
    y = np.repeat([0, 1, 2], [180, 30, 90])
    a = np.where(rng.random(300) < 0.75, y, rng.integers(0, 3, 300))
    b = np.where(rng.random(300) < 0.60, y, rng.integers(0, 3, 300))
    return y, a, b


def test_cv_summary_means_are_the_means_over_folds(scored):
    """Each mean is the plain mean of the per-fold scores."""
    y, a, _ = scored
    folds = make_folds(y)
    summary = cv_summary(one_hot(a), y, folds, n_classes=3)
    assert set(summary) == set(SCORES)
    assert summary["macro_f1"]["mean"] == pytest.approx(np.mean([macro(y[v], a[v]) for _, v in folds]))
    assert summary["accuracy"]["mean"] == pytest.approx(np.mean([(y[v] == a[v]).mean() for _, v in folds]))


def test_cv_summary_interval_equals_a_row_bootstrap(scored):
    """Drawing cell counts gives the interval that drawing rows within fold and class gives."""
    y, a, _ = scored
    folds = make_folds(y)
    found = cv_summary(one_hot(a), y, folds, n_classes=3, n_bootstrap=20_000)["macro_f1"]["ci95"]
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(600):
        per_fold = []
        for _, valid in folds:
            rows = np.concatenate(
                [rng.choice(cell, len(cell)) for cell in (valid[y[valid] == code] for code in range(3))]
            )
            per_fold.append(score(confusion(y[rows], a[rows], 3), "macro_f1"))
        draws.append(np.mean(per_fold))
    assert found == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=0.01)


def test_paired_difference_equals_a_row_bootstrap(scored):
    """Difference, interval and p-value agree with drawing paired rows within each class."""
    y, a, b = scored
    found = paired_difference(one_hot(a), one_hot(b), y, n_classes=3, n_bootstrap=20_000)
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(2000):
        rows = np.concatenate([rng.choice(np.flatnonzero(y == c), (y == c).sum()) for c in range(3)])
        counts = confusion(y[rows], np.stack([a[rows], b[rows]]), 3)
        first, second = score(counts, "macro_f1")
        draws.append(first - second)
    assert found["difference"] == pytest.approx(macro(y, a) - macro(y, b))
    assert found["ci95"] == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=0.01)
    slow_p = 2 * min(np.mean(np.array(draws) <= 0), np.mean(np.array(draws) >= 0))
    assert found["p_value"] == pytest.approx(slow_p, abs=0.01)


def test_paired_difference_is_antisymmetric_in_sign_and_sees_equals(scored):
    """Swapping A and B turns the sign; A against itself differs by 0 with p = 1."""
    y, a, b = scored
    forth = paired_difference(one_hot(a), one_hot(b), y, n_classes=3)
    back = paired_difference(one_hot(b), one_hot(a), y, n_classes=3)
    assert forth["difference"] == -back["difference"] > 0
    itself = paired_difference(one_hot(a), one_hot(a), y, n_classes=3)
    assert itself == {"difference": 0.0, "ci95": [0.0, 0.0], "p_value": 1.0}


def test_paired_difference_p_value_is_never_zero():
    """A difference that every draw confirms has p = 2 / (n_bootstrap + 1)."""
    y = np.repeat([0, 1, 2], 20)
    found = paired_difference(one_hot(y), one_hot((y + 1) % 3), y, n_classes=3, n_bootstrap=199)
    assert found["p_value"] == pytest.approx(2 / 200)


def test_paired_difference_rejects_true_equality_as_often_as_it_says():
    """Between two equally good predictions p falls below 0.05 in about 5 % of data sets."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [120, 60, 60])
    p_values = []
    for _ in range(300):
        a, b = (np.where(rng.random(240) < 0.6, y, rng.integers(0, 3, 240)) for _ in range(2))
        p_values.append(paired_difference(one_hot(a), one_hot(b), y, n_classes=3, n_bootstrap=300)["p_value"])
    # 15 of 300 are expected; 3 standard deviations of the binomial are 11.
    assert 4 <= sum(p < 0.05 for p in p_values) <= 26


@pytest.mark.parametrize(("only_a", "only_b"), [(12, 3), (3, 12), (1, 0), (7, 7), (900, 1000)])
def test_mcnemar_equals_the_binomial_test(only_a, only_b):
    """The p-value is scipy's exact test over the rows where one of the two is right."""
    y = np.zeros(only_a + only_b + 25, int)
    a, b = y.copy(), y.copy()
    b[:only_a], a[only_a : only_a + only_b] = 1, 1
    a[-5:], b[-5:] = 1, 2  # both wrong
    assert mcnemar(a, b, y) == pytest.approx(binomtest(only_a, only_a + only_b).pvalue, rel=1e-9)


def test_mcnemar_of_equals_is_one(scored):
    """Predictions that are right on the same rows do not differ."""
    y, a, _ = scored
    assert mcnemar(a, a, y) == 1.0


def test_uncertainty_refuses_tables_of_other_rows(scored):
    """Shapes that disagree, and values that are not finite, are named."""
    y, a, _ = scored
    folds, table = make_folds(y), one_hot(a)
    with pytest.raises(ValueError, match=r"'oof' has shape \(299, 3\), allowed is \(300, 3\)"):
        cv_summary(table[1:], y, folds, n_classes=3)
    with pytest.raises(ValueError, match=r"'oof_b' has shape \(300, 2\)"):
        paired_difference(table, table[:, :2], y, n_classes=3)
    table[7, 1] = np.nan
    with pytest.raises(ValueError, match=r"'oof' is not finite in row 7 \(1 such rows\)"):
        cv_summary(table, y, folds, n_classes=3)
    with pytest.raises(ValueError, match=r"have shapes .* allowed is"):
        mcnemar(a, a[1:], y)


def test_paired_difference_over_folds_is_the_difference_of_the_means():
    """With folds, the difference is that of the two `cv_summary` means, so it cannot contradict a search."""
    rng = np.random.default_rng(5)
    y = rng.permutation(np.repeat([0, 1, 2], [40, 12, 20]))
    a, b = (np.where(rng.random(72) < share, y, rng.integers(0, 3, 72)) for share in (0.6, 0.5))
    rows = rng.permutation(72)
    folds = [(np.setdiff1d(rows, part), part) for part in np.array_split(rows, 4)]
    found = paired_difference(one_hot(a), one_hot(b), y, n_classes=3, folds=folds)
    means = [cv_summary(one_hot(p), y, folds, n_classes=3)["macro_f1"]["mean"] for p in (a, b)]
    assert found["difference"] == pytest.approx(means[0] - means[1])
    assert found["ci95"][0] < found["difference"] < found["ci95"][1]
