"""The logistic path against LogisticHead and scikit-learn."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression

import heads
from heads.class_weights import row_weights
from tuning.cores import Cores, StoppedError
from tuning.folds import make_folds
from tuning.logistic_path import logistic_path
from tuning.reductions import Reductions
from tuning.softmax_batch import fit_softmax_batch

BLOCKS = {"text": 14, "image": 10}
CS = [1e-5, 1e-3, 1e-1, 1.0, 10.0]
WEIGHTS = [None, 0.5, "balanced", "effective"]


def _rows(n: int, d: int, *, signal: float = 0.7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Correlated columns, three classes at 6 : 1 : 3 that overlap."""
    random = np.random.default_rng(seed)
    y = random.permutation(np.repeat([0, 1, 2], [round(n * share) for share in (0.6, 0.1, 0.3)]))
    hidden = random.normal(size=(n, 8))
    hidden[np.arange(n), y] += signal
    X = hidden @ random.normal(size=(8, d)) + random.normal(size=(n, d)) + random.normal(size=d)
    return X.astype(np.float32), y


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray, list]:
    """300 rows of two blocks, some of them invalid, and three folds. Not to be changed in place."""
    X, y = _rows(300, 24)
    X[::9, 14:] = np.nan
    return X, y, make_folds(y, n_folds=3)


def _by_the_head(X, y, folds, *, views=None, blocks=BLOCKS, **parameters) -> np.ndarray:
    """Out-of-fold probabilities of plain pipelines, one fit after another."""
    oof = np.zeros((len(y), 3))
    for train, valid in folds:
        pipeline = heads.make_pipeline("logreg", blocks=blocks, parameters=parameters)
        heads.fit_with_views(pipeline, X, y, views, rows=train)
        oof[np.ix_(valid, pipeline.classes_)] = pipeline.predict_proba(X[valid])
    return oof


@pytest.mark.parametrize("n_views", [0, 2])
def test_path_equals_logistic_head(n_views, data):
    """Every C and class weight gives the probabilities of LogisticHead, fold by fold, to 1e-3."""
    X, y, folds = data
    views = X + np.random.default_rng(2).normal(scale=0.3, size=(n_views, *X.shape)).astype(np.float32)
    reductions = Reductions(X, y, folds, blocks=BLOCKS, views=views)
    oof = logistic_path(reductions, Cs=CS, class_weights=WEIGHTS, n_classes=3, tol=1e-6)
    assert list(oof) == [(weight, C) for weight in WEIGHTS for C in CS]
    for (weight, C), found in oof.items():
        settings = {"C": C, "class_weight": weight, "tol": 1e-6, "max_iter": 1000}
        assert_allclose(found, _by_the_head(X, y, folds, views=views, **settings), atol=1e-3)
        assert found.dtype == np.float32


def test_path_stops_where_logistic_head_does(data):
    """With the tolerance that both have by default, they differ by less than the tolerance leaves open."""
    X, y, folds = data
    oof = logistic_path(Reductions(X, y, folds, blocks=BLOCKS), Cs=CS[:3], class_weights=WEIGHTS, n_classes=3)
    for (weight, C), found in oof.items():
        assert_allclose(found, _by_the_head(X, y, folds, C=C, class_weight=weight), atol=5e-3)


def test_path_equals_head_with_more_columns_than_rows():
    """With fewer training rows than columns the solve in the space of the rows gives the same."""
    X, y = _rows(60, 90)
    folds = make_folds(y, n_folds=3)
    oof = logistic_path(
        Reductions(X, y, folds), Cs=[1e-3, 0.1], class_weights=["balanced"], n_classes=3, tol=1e-6
    )
    for (_, C), found in oof.items():
        assert_allclose(found, _by_the_head(X, y, folds, blocks=None, C=C, tol=1e-6), atol=1e-3)


def _against_scikit_learn(n: int, d: int, Cs: list[float]) -> float:
    """Largest difference of a coefficient, in units of the largest coefficient, over members."""
    X, y = _rows(n, d)
    X = ((X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float32)
    members = [(weight, C) for weight in (None, 0.5, "balanced") for C in Cs]
    weights = [
        row_weights(y, range(3), class_weight=weight, sample_weight=np.ones(n)) for weight, _ in members
    ]
    first = [int(np.argmax(y == code)) for code in range(3)]
    shares = np.array([w[first] / w.sum() for w in weights])
    penalties = np.array([1 / (C * w.sum()) for (_, C), w in zip(members, weights, strict=True)])
    fitted = fit_softmax_batch(X, y, shares, penalties, tol=1e-6, max_iter=2000)
    worst = 0.0
    for position, (_, C) in enumerate(members):
        theirs = LogisticRegression(C=C, tol=1e-8, max_iter=5000)
        theirs.fit(X.astype(np.float64), y, sample_weight=weights[position])
        off = np.abs(fitted.matrices[position] - theirs.coef_.T).max() / np.abs(theirs.coef_).max()
        worst = max(worst, off, np.abs(fitted.biases[position] - theirs.intercept_).max())
    return worst


def test_softmax_batch_equals_scikit_learn_coefficients():
    """Coefficients and intercepts are scikit-learn's to 1e-3 of the largest, on 200 x 20."""
    assert _against_scikit_learn(200, 20, [1e-4, 1e-2, 1.0, 10.0]) < 1e-3


def test_softmax_batch_equals_scikit_learn_coefficients_when_wide():
    """The same on 800 x 300, where columns are strongly correlated, to 2e-3 of the largest."""
    assert _against_scikit_learn(800, 300, [1e-4, 1e-2, 0.1]) < 2e-3


def test_softmax_batch_members_do_not_influence_each_other():
    """A member's coefficients in a batch of eight are those it has alone."""
    X, y = _rows(150, 12)
    X = ((X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float32)
    shares = np.full((8, 3), 1 / 150)
    penalties = np.logspace(-4, 1, 8)
    batch = fit_softmax_batch(X, y, shares, penalties, tol=1e-6, max_iter=500)
    for member in (0, 3, 7):
        one = slice(member, member + 1)
        alone = fit_softmax_batch(X, y, shares[one], penalties[one], tol=1e-6, max_iter=500)
        assert_allclose(batch.matrices[member], alone.matrices[0], atol=2e-3 * np.abs(alone.matrices).max())


def test_softmax_batch_reports_where_it_stopped():
    """Members that run out of passes are given as they are, with the gradient that was left."""
    X, y = _rows(150, 12)
    shares = np.full((2, 3), 1 / 150)
    cut = fit_softmax_batch(X, y, shares, np.array([1.0, 1e-5]), tol=1e-7, max_iter=3)
    whole = fit_softmax_batch(X, y, shares, np.array([1.0, 1e-2]), tol=1e-5, max_iter=500)
    assert cut.n_iter[1] == 3
    assert cut.steepest[1] > 1e-7
    assert (whole.steepest <= 1e-5).all()


def test_path_two_classes(data):
    """Two classes are one contrast, and equal LogisticHead too."""
    X, y, folds = data
    binary = (y > 0).astype(np.int64)
    oof = logistic_path(
        Reductions(X, binary, folds, blocks=BLOCKS), Cs=[0.1], class_weights=[0.5], n_classes=2
    )
    expected = _by_the_head(X, binary, folds, C=0.1, class_weight=0.5)[:, :2]
    assert_allclose(oof[0.5, 0.1], expected, atol=2e-3)


def test_path_class_that_a_fold_lacks(data):
    """A class without a training row has probability 0 in that fold, and the others sum to one."""
    X, y, _ = data
    rare = np.flatnonzero(y == 1)
    rest = np.flatnonzero(y != 1)
    folds = [
        (np.sort(rest[::2]), np.sort(np.concatenate([rest[1::2], rare]))),
        (np.sort(np.concatenate([rest[1::2], rare])), np.sort(rest[::2])),
    ]
    reductions = Reductions(X, y, folds, blocks=BLOCKS)
    oof = logistic_path(reductions, Cs=[0.1], class_weights=[None], n_classes=3)[None, 0.1]
    assert not oof[folds[0][1], 1].any()
    assert oof[folds[1][1], 1].all()
    assert_allclose(oof.sum(axis=1), 1.0, rtol=1e-5)


def test_path_permuted_labels_score_chance():
    """With labels that mean nothing, no C and no class weight scores above chance."""
    X, y = _rows(600, 40)
    wrong = np.random.default_rng(5).permutation(y)
    reductions = Reductions(X, wrong, make_folds(wrong, n_folds=3), blocks={"text": 25, "image": 15})
    oof = logistic_path(reductions, Cs=[1e-3, 0.1, 10.0], class_weights=WEIGHTS, n_classes=3)
    for probabilities in oof.values():
        recalls = [(probabilities.argmax(axis=1)[wrong == code] == code).mean() for code in range(3)]
        assert np.mean(recalls) < 1 / 3 + 0.07  # 0.07 is three standard errors with 60 rows in the rare class


def test_path_is_the_same_twice(data):
    """The same rows give bit-equal probabilities again."""
    X, y, folds = data
    first, second = (
        logistic_path(Reductions(X, y, folds, blocks=BLOCKS), Cs=CS[:3], class_weights=WEIGHTS, n_classes=3)
        for _ in range(2)
    )
    for member, probabilities in first.items():
        assert_array_equal(probabilities, second[member])


def test_path_stops_when_a_fold_is_interrupted(data, monkeypatch):
    """An interruption in one fold reaches the caller, and ends the solves of the others."""
    X, y, folds = data
    numbers, begun, ended = itertools.count(), [], []

    def interrupted(*_, on_pass, **__):
        number = next(numbers)  # one step, so that no two threads have the same
        begun.append(number)
        if number == 0:
            raise KeyboardInterrupt("Ctrl-C")
        while True:  # a solve that goes on until it is told to stop
            try:
                on_pass()
                time.sleep(0.001)
            except StoppedError:
                ended.append(number)
                raise

    monkeypatch.setattr("tuning.logistic_path.fit_softmax_batch", interrupted)
    reductions = Reductions(X, y, folds, blocks=BLOCKS)
    with pytest.raises(KeyboardInterrupt, match="Ctrl-C"):
        logistic_path(reductions, Cs=[0.1], class_weights=[None], n_classes=3, cores=Cores(3))
    assert len(ended) == len(begun) - 1


def test_path_refuses_what_no_fit_can_have(data):
    """Wrong Cs, class codes and one-class folds are named together."""
    X, y, folds = data
    with pytest.raises(ValueError, match=r"3 fault\(s\): C=-1.0 .*C=inf .*class code 2 \(allowed: 0 to 1\)"):
        logistic_path(
            Reductions(X, y, folds, blocks=BLOCKS), Cs=[0.1, -1, np.inf], class_weights=[None], n_classes=2
        )
    with pytest.raises(ValueError, match="no C or no class weight"):
        logistic_path(Reductions(X, y, folds, blocks=BLOCKS), Cs=[], class_weights=[None], n_classes=3)
    with pytest.raises(ValueError, match="fold 0 trains on one class only"):
        logistic_path(Reductions(X, y * 0, folds, blocks=BLOCKS), Cs=[1.0], class_weights=[None], n_classes=3)
    with pytest.raises(ValueError, match="class_weight='even' is not understood"):
        logistic_path(Reductions(X, y, folds, blocks=BLOCKS), Cs=[1.0], class_weights=["even"], n_classes=3)
