"""RidgeHead and LinearSVMHead against scikit-learn and plain, slow implementations."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.class_weight import compute_sample_weight

from heads import LinearSVMHead, RidgeHead, fit_with_views, make_pipeline
from heads.score_scaling import fit_score_factor


def _scores(head, X: np.ndarray) -> np.ndarray:
    return X.astype(np.float64) @ head.coef_.T + head.intercept_


@pytest.fixture(scope="module")
def wide() -> tuple[np.ndarray, np.ndarray]:
    """60 rows of 90 columns, a tenth of which know the class."""
    random = np.random.default_rng(3)
    y = np.arange(60) % 3
    X = random.normal(size=(60, 90))
    X[:, :9] += y[:, None] - 1.0
    return X, y


# --- ridge -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.1, 10.0, 1e4])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("data", ["hard", "wide"])
def test_ridge_scores_equal_scikit_learn(alpha, class_weight, data, request):
    """Scores are those of RidgeClassifier on standardised columns, with more rows than columns or fewer."""
    X, y = request.getfixturevalue(data)
    X = X.astype(np.float64)
    ours = RidgeHead(alpha, class_weight=class_weight).fit(X, y)
    Z = StandardScaler().fit_transform(X)
    theirs = RidgeClassifier(alpha=alpha, class_weight=class_weight, solver="cholesky").fit(Z, y)
    assert_allclose(_scores(ours, X), theirs.decision_function(Z), atol=1e-8)
    assert_array_equal(ours.predict(X), theirs.predict(Z))


@pytest.mark.parametrize("alpha", [1.0, 100.0])
@pytest.mark.parametrize("data", ["hard", "wide"])
def test_ridge_factor_comes_from_rows_that_were_left_out(alpha, data, request):
    """The closed form equals fitting again without each row, on columns as standardised with it."""
    X, y = request.getfixturevalue(data)
    X, y = X[::3].astype(np.float64), y[::3] if data == "hard" else np.arange(20) % 3
    Z = StandardScaler().fit_transform(X)
    scores = np.empty((len(y), 3))
    for row in range(len(y)):
        rest = np.arange(len(y)) != row
        plain = RidgeClassifier(alpha=alpha, solver="cholesky").fit(Z[rest], y[rest])
        scores[row] = plain.decision_function(Z[row : row + 1])
    expected = fit_score_factor(scores, y, np.ones(len(y)))
    assert RidgeHead(alpha, class_weight=None).fit(X, y).factor_ == pytest.approx(expected, rel=1e-3)


def test_ridge_repeated_rows_equal_weights(hard):
    """A row of weight 3 is the same as three rows, in the coefficients and in the factor."""
    X, y = hard
    X = X.astype(np.float64)
    weight = np.random.default_rng(0).integers(1, 4, len(y))
    weighted = RidgeHead().fit(X, y, sample_weight=weight)
    repeated = RidgeHead().fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    assert_allclose(weighted.coef_, repeated.coef_, atol=1e-9)
    assert weighted.factor_ == pytest.approx(repeated.factor_, rel=1e-4)


# --- support-vector machine ------------------------------------------------------------------------


@pytest.mark.parametrize("C", [1e-3, 1e-2, 1.0])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_svm_scores_equal_scikit_learn(C, class_weight, hard):
    """Scores are those of LinearSVC on standardised columns, whose intercept is (nearly) not penalised."""
    X, y = hard
    X = X.astype(np.float64)
    ours = LinearSVMHead(C, class_weight=class_weight, tol=1e-8, max_iter=5000).fit(X, y)
    Z = StandardScaler().fit_transform(X)
    theirs = LinearSVC(C=C, dual=False, intercept_scaling=300, tol=1e-9, max_iter=20000)
    # Row weights, because LinearSVC's class weights do not weigh the rows of "the rest".
    theirs.fit(Z, y, sample_weight=compute_sample_weight(class_weight, y))
    assert_allclose(_scores(ours, X), theirs.decision_function(Z), atol=2e-3)


def test_svm_float32_close_to_float64(hard):
    """Work in float32 changes probabilities by less than anyone can see."""
    X, y = hard
    exact = LinearSVMHead(tol=1e-8).fit(X.astype(np.float64), y).predict_proba(X)
    assert_allclose(LinearSVMHead().fit(X, y).predict_proba(X), exact, atol=2e-3)


def test_svm_repeated_rows_equal_weights(hard):
    """A row of weight 3 is the same as three rows for the coefficients."""
    X, y = hard
    X = X.astype(np.float64)
    weight = np.random.default_rng(0).integers(1, 4, len(y))
    weighted = LinearSVMHead(tol=1e-8).fit(X, y, sample_weight=weight)
    repeated = LinearSVMHead(tol=1e-8).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    assert_allclose(weighted.coef_, repeated.coef_, atol=1e-5)


def test_svm_seed_moves_the_calibration_only(hard):
    """The inner folds are drawn from the seed; the coefficients have none."""
    X, y = hard
    first, second = (LinearSVMHead(random_state=seed).fit(X, y) for seed in (0, 1))
    assert_array_equal(first.coef_, second.coef_)
    assert first.factor_ != second.factor_


def test_svm_warns_when_stopped_early(hard):
    """Running out of iterations is a warning that says what to change."""
    X, y = hard
    with pytest.warns(ConvergenceWarning, match=r"LinearSVMHead stopped at max_iter=1 .*use a smaller C"):
        head = LinearSVMHead(C=10.0, max_iter=1, tol=1e-8).fit(X, y)
    assert head.n_iter_ == 1


@pytest.mark.parametrize("n_rare", [1, 2])
def test_svm_takes_classes_smaller_than_its_inner_folds(n_rare, hard):
    """A class of one or two rows is trained and calibrated, though inner folds lack it."""
    X, y = hard
    kept = np.sort(np.concatenate([np.flatnonzero(y != 1), np.flatnonzero(y == 1)[:n_rare]]))
    head = LinearSVMHead().fit(X[kept], y[kept])
    assert np.isfinite(head.predict_proba(X)).all()
    assert head.classes_.tolist() == [0, 1, 2]


def test_svm_keeps_views_with_their_row(hard):
    """Exact copies as views do not make the probabilities surer, as copies without an origin do."""
    X, y = hard
    settings = {"C": 1.0, "max_iter": 5000}
    plain = LinearSVMHead(**settings).fit(X, y)
    # A third of C for three copies of each row is the same SVM.
    pipeline = make_pipeline("svm", parameters={**settings, "C": 1.0 / 3})
    with_views = fit_with_views(pipeline, X, y, np.stack([X, X]), rows=np.arange(300))["head"]
    assert with_views.factor_ == pytest.approx(plain.factor_, rel=0.05)
    noise = np.random.default_rng(0).normal(size=(90, 80)).astype(np.float32)
    labels = np.arange(90) % 3
    copies = LinearSVMHead().fit(np.tile(noise, (3, 1)), np.tile(labels, 3))
    origins = LinearSVMHead().fit(
        np.tile(noise, (3, 1)), np.tile(labels, 3), sample_origin=np.tile(np.arange(90), 3)
    )
    assert copies.factor_ > 5 * origins.factor_


# --- both ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", [RidgeHead(alpha=30.0, class_weight=None), LinearSVMHead(class_weight=None)])
def test_probabilities_are_calibrated_on_new_rows(head):
    """The log-loss on new rows is about that of a calibrated LinearSVC; 0.9 is right nine times of ten."""
    random = np.random.default_rng(0)
    y = random.choice(3, size=3000, p=[0.6, 0.1, 0.3])
    X = (random.normal(size=(3000, 40)) + 1.2 * np.eye(3, 40)[y]).astype(np.float32)
    found = head.fit(X[:600], y[:600]).predict_proba(X[600:])
    Z = StandardScaler().fit(X[:600]).transform(X)
    theirs = CalibratedClassifierCV(LinearSVC(C=0.001), ensemble=False).fit(Z[:600], y[:600])
    assert log_loss(y[600:], found) < log_loss(y[600:], theirs.predict_proba(Z[600:])) + 0.05
    confidence, right = found.max(axis=1), found.argmax(axis=1) == y[600:]
    assert abs(confidence.mean() - right.mean()) < 0.05
