"""LogisticHead against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from heads import LogisticHead


@pytest.mark.parametrize("C", [1e-3, 1e-2, 1.0, 100.0])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_logistic_equals_scikit_learn(C, class_weight, hard):
    """In float64 and to a tight tolerance the solution is that of scikit-learn on standardised columns."""
    X, y = hard
    X = X.astype(np.float64)
    ours = LogisticHead(C=C, class_weight=class_weight, tol=1e-9, max_iter=2000).fit(X, y)
    scaler = StandardScaler().fit(X)
    theirs = LogisticRegression(C=C, class_weight=class_weight, tol=1e-9, max_iter=10_000)
    theirs.fit(scaler.transform(X), y)
    assert_allclose(ours.predict_proba(X), theirs.predict_proba(scaler.transform(X)), atol=1e-5)


def test_logistic_float32_close_to_float64(hard):
    """Work in float32 changes probabilities by less than anyone can see."""
    X, y = hard
    exact = LogisticHead(tol=1e-7).fit(X.astype(np.float64), y).predict_proba(X)
    assert_allclose(LogisticHead().fit(X, y).predict_proba(X), exact, atol=2e-3)


def test_logistic_more_columns_than_rows():
    """With more columns than rows, and repeated columns, the penalty still picks one solution."""
    random = np.random.default_rng(0)
    X = random.normal(size=(40, 60)).astype(np.float32)
    y = np.arange(40) % 2
    X[y == 1, :5] += 2
    X = np.hstack([X, X])
    head = LogisticHead().fit(X, y)
    assert (head.predict(X) == y).mean() > 0.95
    assert_allclose(head.coef_[:, :60], head.coef_[:, 60:], atol=1e-4)


def test_logistic_repeated_rows_equal_weights(hard):
    """A row of weight 3 is the same as three rows."""
    X, y = hard
    weight = np.random.default_rng(0).integers(1, 4, len(y))
    weighted = LogisticHead().fit(X.astype(np.float64), y, sample_weight=weight)
    repeated = LogisticHead().fit(np.repeat(X.astype(np.float64), weight, axis=0), np.repeat(y, weight))
    assert_allclose(weighted.coef_, repeated.coef_, atol=1e-9)


def test_logistic_rows_do_not_influence_each_other(hard):
    """A row's probabilities are the same alone and among others, up to float64 rounding."""
    X, y = hard
    head = LogisticHead().fit(X, y)
    alone = np.vstack([head.predict_proba(X[i : i + 1]) for i in range(20)])
    assert_allclose(alone, head.predict_proba(X)[:20], rtol=1e-12)


def test_logistic_warns_when_stopped_early(hard):
    """Running out of iterations is a warning that says what to change."""
    X, y = hard
    with pytest.warns(ConvergenceWarning, match=r"stopped at max_iter=1 .*use a smaller C"):
        head = LogisticHead(C=10.0, max_iter=1, tol=1e-8).fit(X, y)
    assert head.n_iter_ == 1


def test_logistic_ignores_random_state(hard):
    """The solution is unique: the seed changes nothing."""
    X, y = hard
    assert_array_equal(
        LogisticHead(random_state=0).fit(X, y).coef_, LogisticHead(random_state=1).fit(X, y).coef_
    )


@pytest.mark.parametrize("l1_ratio", [0.3, 1.0])
@pytest.mark.parametrize("classes", [2, 3])
def test_elastic_net_reaches_the_minimum(l1_ratio, classes, hard):
    """No nearby coefficients have a smaller penalised loss, and rows of coefficients balance each other."""
    X, y = hard
    X, y = X[y < classes].astype(np.float64), y[y < classes]
    scaled = StandardScaler().fit_transform(X)
    head = LogisticHead(C=0.05, l1_ratio=l1_ratio, class_weight=None, tol=1e-9, max_iter=5000)
    head.fit(scaled, y)

    def loss(coefficients, intercept):
        logits = scaled @ coefficients.T + intercept
        fit = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(y)), y]
        squares, sizes = (coefficients**2).sum(), np.abs(coefficients).sum()
        return 0.05 * fit.sum() + (1 - l1_ratio) / 2 * squares + l1_ratio * sizes

    best = loss(head.coef_, head.intercept_)
    random = np.random.default_rng(0)
    for size in (1e-3, 1e-2, 0.1):
        for _ in range(20):
            other = head.coef_ + size * random.normal(size=head.coef_.shape)
            assert loss(other, head.intercept_ + size * random.normal(size=classes)) > best
            assert loss(np.where(head.coef_ == 0, other, head.coef_), head.intercept_) >= best
    for entry in np.ndindex(head.coef_.shape):
        without = head.coef_.copy()
        without[entry] = 0
        assert loss(without, head.intercept_) >= best


def test_elastic_net_equals_scikit_learn_and_drops_columns(hard):
    """The solution is that of scikit-learn's SAGA on standardised columns; noise gets no coefficient."""
    X, y = hard
    X = X.astype(np.float64)
    options = {"C": 0.05, "l1_ratio": 0.8, "tol": 1e-8, "max_iter": 5000}
    ours = LogisticHead(class_weight="balanced", **options).fit(X, y)
    scaled = StandardScaler().fit_transform(X)
    theirs = LogisticRegression(solver="saga", class_weight="balanced", random_state=3, **options)
    theirs.fit(scaled, y)
    assert_allclose(ours.predict_proba(X), theirs.predict_proba(scaled), atol=1e-4)
    assert_array_equal(ours.coef_ == 0, theirs.coef_ == 0)
    assert 0.2 < (ours.coef_ == 0).mean() < 1


def test_elastic_net_without_l1_is_the_usual_head(hard):
    """A share of nearly nothing gives nearly the coefficients of the L2 solver, for two classes as well."""
    X, y = hard
    for labels in (y, (y == 0).astype(int)):
        usual = LogisticHead(C=0.1, tol=1e-8, max_iter=2000).fit(X.astype(np.float64), labels)
        nearly = LogisticHead(C=0.1, l1_ratio=1e-6, tol=1e-9, max_iter=20_000).fit(
            X.astype(np.float64), labels
        )
        assert_allclose(nearly.coef_, usual.coef_, atol=1e-4)


def test_elastic_net_warns_when_stopped_early(hard):
    """Running out of passes is a warning that says what to change."""
    X, y = hard
    with pytest.warns(ConvergenceWarning, match=r"stopped at max_iter=1 passes .*use a smaller C"):
        LogisticHead(C=10.0, l1_ratio=0.5, max_iter=1, tol=1e-8).fit(X, y)


def test_elastic_net_share_out_of_range_is_refused(hard):
    """The share of the L1 penalty lies between 0 and 1."""
    with pytest.raises(ValueError, match=r"l1_ratio=1.5 \(allowed: a number in \[0, 1\]\)"):
        LogisticHead(l1_ratio=1.5).fit(*hard)


def test_elastic_net_that_drops_every_column_gives_the_shares_of_the_classes(hard):
    """With a penalty that leaves no coefficient the answer is the same for all rows: the weighted shares."""
    X, y = hard
    head = LogisticHead(C=1e-5, l1_ratio=1.0, class_weight=None).fit(X, y)
    assert (head.coef_ == 0).all()
    assert_allclose(head.predict_proba(X[:3]), np.tile(np.bincount(y) / len(y), (3, 1)), atol=1e-6)
