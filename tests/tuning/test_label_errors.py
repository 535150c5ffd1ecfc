"""Confident learning on out-of-fold probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from tuning.label_errors import confident_counts, find_label_errors


def _drawn(seed: int, n: int = 300, n_classes: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return probabilities, labels with a tenth flipped, and which are flipped."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, n_classes, n)
    z = rng.normal(size=(n, n_classes))
    z[np.arange(n), true] += 3.0
    flipped = rng.random(n) < 0.1
    labels = np.where(flipped, (true + rng.integers(1, n_classes, n)) % n_classes, true)
    p = np.exp(z)
    return p / p.sum(axis=1, keepdims=True), labels, flipped


def _slow_counts(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Count row by row, as section 3.1 of the paper is written."""
    k = p.shape[1]
    mean = [np.mean([row[j] for row, label in zip(p, y, strict=True) if label == j]) for j in range(k)]
    counts = np.zeros((k, k), dtype=int)
    for row, label in zip(p, y, strict=True):
        fitting = [j for j in range(k) if row[j] >= mean[j]]
        if fitting:
            counts[label, max(fitting, key=lambda j: row[j])] += 1
    return counts


def _slow_suspects(p: np.ndarray, y: np.ndarray) -> set[int]:
    """Prune by noise rate, pair by pair."""
    counts, found = _slow_counts(p, y).astype(float), set()
    for i in range(p.shape[1]):
        for j in range(p.shape[1]):
            if i == j or not counts[i].sum():
                continue
            expected = int(counts[i, j] / counts[i].sum() * (y == i).sum() + 0.5)
            ranked = sorted(np.flatnonzero(y == i), key=lambda row: (p[row, i] - p[row, j], row))
            found |= {int(row) for row in ranked[:expected] if p[row].max() > p[row, i]}
    return found


@pytest.mark.parametrize("seed", range(8))
def test_label_errors_equal_a_row_by_row_version(seed: int) -> None:
    """Counts and suspects are those of a slow version written from the paper."""
    p, y, _ = _drawn(seed, n_classes=2 + seed % 4)
    np.testing.assert_array_equal(confident_counts(p, y), _slow_counts(p, y))
    assert set(np.flatnonzero(find_label_errors(p, y).suspected).tolist()) == _slow_suspects(p, y)


def test_label_error_counts_equal_cleanlab() -> None:
    """The confident joint is what cleanlab 2.9.0 counts (``compute_confident_joint``, not calibrated)."""
    rng = np.random.default_rng(0)
    n, k = 300, 4
    y = rng.integers(0, k, n)
    z = rng.normal(size=(n, k))
    z[np.arange(n), y] += 1.5
    y = np.where(rng.random(n) < 0.1, rng.integers(0, k, n), y)
    p = np.exp(z)
    expected = [[42, 3, 2, 2], [3, 39, 1, 1], [5, 2, 38, 0], [9, 2, 0, 42]]
    assert confident_counts(p / p.sum(axis=1, keepdims=True), y).tolist() == expected


@pytest.mark.parametrize("seed", range(5))
def test_label_error_score_ranks_flipped_labels_first(seed: int) -> None:
    """With a tenth flipped and classes that are told apart, average precision is far above that tenth."""
    p, y, flipped = _drawn(seed, n=1000)
    found = find_label_errors(p, y)
    assert average_precision_score(flipped, found.score) > 0.8
    assert flipped[found.suspected].mean() > 0.6
    assert found.joint.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(found.joint.sum(axis=1), np.bincount(y) / len(y))


def test_label_errors_of_certain_and_right_labels_are_none() -> None:
    """Probabilities of one for every label suspect nothing; for no label, everything."""
    y = np.array([0, 1, 2] * 5)
    right = find_label_errors(np.eye(3)[y], y)
    assert not right.suspected.any()
    assert (right.score == 0).all()
    wrong = find_label_errors(np.eye(3)[(y + 1) % 3], y)
    assert (wrong.score == 1).all()


def test_label_errors_of_probabilities_that_know_nothing_suspect_nobody() -> None:
    """Equal rows reach their own mean, and their label is never beaten."""
    y = np.array([0, 0, 0, 1, 1, 2])
    assert not find_label_errors(np.full((6, 3), 1 / 3), y).suspected.any()


def test_label_errors_do_not_depend_on_the_names_of_classes() -> None:
    """Renumbering the classes renumbers the joint and changes no row."""
    p, y, _ = _drawn(3)
    order = np.array([2, 0, 3, 1])
    found, renamed = find_label_errors(p, y), find_label_errors(p[:, order], np.argsort(order)[y])
    np.testing.assert_array_equal(found.suspected, renamed.suspected)
    np.testing.assert_allclose(found.joint[np.ix_(order, order)], renamed.joint)


def test_label_errors_refuse_what_are_no_probabilities() -> None:
    """Rows that do not sum to one and codes without a column are named."""
    with pytest.raises(ValueError, match="do not sum to 1"):
        find_label_errors(np.full((4, 3), 0.5), [0, 1, 2, 0])
    with pytest.raises(ValueError, match=r"allowed are 0\.\.2"):
        find_label_errors(np.full((4, 3), 1 / 3), [0, 1, 2, 3])
