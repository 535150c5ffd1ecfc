"""CentroidHead and NeighboursHead against plain, slow implementations."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import log_loss
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler, normalize

from heads import CentroidHead, NeighboursHead
from heads.score_scaling import fit_score_factor

BLOCKS = {"text": 5, "image": 7}


def _unit(X: np.ndarray) -> np.ndarray:
    return normalize(StandardScaler().fit_transform(X.astype(np.float64)))


def test_centroid_predicts_the_nearest_mean(hard):
    """With balanced classes this is the class mean of the largest cosine, of standardised unit rows."""
    X, y = hard
    means = np.stack([_unit(X)[y == code].mean(axis=0) for code in range(3)])
    nearest = cosine_similarity(_unit(X), means).argmax(axis=1)
    assert_array_equal(CentroidHead().fit(X, y).predict(X), nearest)


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_centroid_factor_comes_from_rows_that_were_left_out(weight, hard):
    """The closed form equals computing each class mean again without the row; weights count as copies."""
    X, y = hard
    Z = _unit(X)
    scores = np.empty((300, 3))
    for row in range(300):
        for code in range(3):
            own = (y == code) * weight - (np.arange(300) == row) * (y[row] == code)
            mean = own @ Z
            scores[row, code] = Z[row] @ mean / np.linalg.norm(mean)
    shares = np.bincount(y) / 300
    expected = fit_score_factor(scores, y, np.ones(300), np.log(shares))
    head = CentroidHead(class_weight=None).fit(X.astype(np.float64), y, sample_weight=np.full(300, weight))
    assert head.factor_ == pytest.approx(expected, rel=1e-3)
    assert_allclose(np.exp(head.log_priors_), shares)


def test_factor_is_the_best_and_has_bounds():
    """No other factor has a smaller loss; separable scores give a finite one, useless scores none at all."""
    random = np.random.default_rng(0)
    codes = random.integers(0, 3, 500)
    scores = 5 * (np.eye(3)[codes] + random.normal(size=(500, 3)))
    factor = fit_score_factor(scores, codes, np.ones(500))

    def loss(a: float) -> float:
        logits = np.exp(a * scores)
        return log_loss(codes, logits / logits.sum(axis=1, keepdims=True))

    assert loss(factor) < min(loss(factor * 0.99), loss(factor * 1.01))
    sure = fit_score_factor(np.eye(3)[codes], codes, np.ones(500))
    assert 20 < sure < 1000
    assert fit_score_factor(np.ones((500, 3)), codes, np.ones(500)) == 1.0


@pytest.mark.parametrize("k", [1, 7, 25, 400])
def test_neighbours_equal_scikit_learn(k, hard):
    """Without weights, temperature and smoothing the votes are those of scikit-learn's cosine neighbours."""
    X, y = hard
    X, new = X.astype(np.float64), X[:50].astype(np.float64) + 0.1
    scaler = StandardScaler().fit(X)
    theirs = KNeighborsClassifier(min(k, 300), metric="cosine").fit(scaler.transform(X), y)
    ours = NeighboursHead(k, None, smoothing=0, class_weight=None).fit(X, y)
    assert_allclose(ours.predict_proba(new), theirs.predict_proba(scaler.transform(new)), atol=1e-12)


def test_neighbours_votes_by_hand(hard):
    """Votes fall off with the cosine, count by class, and are smoothed towards the weighted shares."""
    X, y = hard
    head = NeighboursHead(10, 0.1, smoothing=2.0, class_weight={1: 4.0}).fit(X, y)
    votes = np.where(y == 1, 4.0, 1.0) / np.where(y == 1, 4.0, 1.0).mean()
    Z = _unit(X)
    for row in range(20):
        cosines = Z @ Z[row]
        nearest = np.argsort(-cosines)[:10]
        share = np.exp((cosines[nearest] - 1) / 0.1)
        share *= 10 / share.sum()
        total = np.bincount(y[nearest], weights=share * votes[nearest], minlength=3)
        total += 2.0 * np.bincount(y, weights=votes) / 300
        assert_allclose(head.predict_proba(X[row : row + 1])[0], total / total.sum(), atol=1e-5)


def test_neighbours_ties_share_the_last_place():
    """Rows equally near as the last neighbour share its vote, in whatever order they come."""
    X = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [-1.0, -1.0]])
    y = np.array([0, 1, 0, 1])
    settings = {"temperature": None, "smoothing": 0, "class_weight": None}
    for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
        head = NeighboursHead(1, **settings).fit(X[order], y[order])
        assert_allclose(head.predict_proba([[0.0, 1.0]]), [[0.5, 0.5]])


@pytest.mark.parametrize("head", [CentroidHead(blocks=BLOCKS), NeighboursHead(blocks=BLOCKS)])
def test_blocks_count_alike(head, hard):
    """Ten copies of the columns of one block change nothing: a block counts once, however wide it is."""
    X, y = hard
    wide = np.hstack([X[:, :5], np.tile(X[:, 5:], 10)])
    expected = head.fit(X, y).predict_proba(X)
    found = type(head)(blocks={"text": 5, "image": 70}).fit(wide, y).predict_proba(wide)
    assert_allclose(found, expected, atol=1e-5)
    one_block = type(head)().fit(wide, y).predict_proba(wide)
    assert np.abs(one_block - expected).max() > 0.05


@pytest.mark.parametrize("head", [CentroidHead(blocks=BLOCKS), NeighboursHead(5, blocks=BLOCKS)])
def test_row_of_column_means_is_no_direction(head, hard):
    """A block that was filled in with the means of the training rows does not look like anything."""
    X, y = hard
    head.fit(X, y)
    filled = X[:2].copy()
    filled[0, :5] = X[:, :5].mean(axis=0, dtype=np.float64)
    filled[1, :5] = np.nextafter(filled[0, :5], np.float32(100))  # the same up to rounding
    filled[1, 5:] = filled[0, 5:]
    assert_allclose(*head.predict_proba(filled), atol=1e-4)


def test_neighbours_without_any_vote_answer_with_the_shares(hard):
    """When every neighbour has weight 0 the other classes still share the probability."""
    X, y = hard
    head = NeighboursHead(1, smoothing=0, class_weight={0: 0.0}).fit(X, y)
    assert_allclose(head.predict_proba(X[y == 0]), np.tile([0, 0.25, 0.75], (180, 1)), atol=1e-6)
