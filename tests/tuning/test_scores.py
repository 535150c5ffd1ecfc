"""Scores equal scikit-learn's, for one prediction and for many at once."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.dummy import DummyClassifier

import tuning
from tuning import SCORES, confusion, log_loss, majority_scores, per_class, score, score_name


def by_scikit_learn(y, pred, k):
    """All scores from scikit-learn, which is slow per call and warns about classes that a case lacks."""
    options = {"labels": range(k), "zero_division": 0}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true|A single label")
        balanced = metrics.balanced_accuracy_score(y, pred)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(y, pred, average="macro", **options)
    return {
        "macro_f1": f1,
        "weighted_f1": metrics.f1_score(y, pred, average="weighted", **options),
        "accuracy": metrics.accuracy_score(y, pred),
        "balanced_accuracy": balanced,
        "macro_precision": precision,
        "macro_recall": recall,
    }


@settings(max_examples=40, deadline=None)
@given(k=st.integers(2, 5), n=st.integers(2, 30), seed=st.integers(0, 10_000))
def test_scores_equal_scikit_learn_with_classes_missing(k, n, seed):
    """Small random cases, in which classes often lack rows or predictions."""
    rng = np.random.default_rng(seed)
    y, pred = rng.integers(0, k, n), rng.integers(0, k, (2, n))
    counts = confusion(y, pred, k)
    expected = [by_scikit_learn(y, row, k) for row in pred]
    for name in SCORES:
        wanted = [scores[name] for scores in expected]
        np.testing.assert_allclose(score(counts, name), wanted, atol=1e-12, err_msg=name)


def test_score_functions_are_the_named_scores():
    """Each name in SCORES is also a public function of the confusion counts."""
    counts = confusion([0, 1, 2, 2, 1], [0, 2, 2, 1, 1], 3)
    values = {name: getattr(tuning, name)(counts) for name in SCORES}
    assert values == {name: score(counts, name) for name in SCORES}
    assert len({round(float(value), 6) for value in values.values()}) > 1


def test_confusion_equals_scikit_learn_over_leading_axes():
    """Leading axes of the predictions are kept."""
    rng = np.random.default_rng(0)
    y, pred = rng.integers(0, 4, 50), rng.integers(0, 4, (2, 3, 50))
    counts = confusion(y, pred, 4)
    assert counts.shape == (2, 3, 4, 4)
    for index in np.ndindex(2, 3):
        assert np.array_equal(counts[index], metrics.confusion_matrix(y, pred[index], labels=range(4)))


def test_per_class_equals_scikit_learn():
    """Precision, recall, F1 and support per class, a class without rows or predictions included."""
    y, pred = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 2, 0, 0])
    expected = metrics.precision_recall_fscore_support(y, pred, labels=range(4), zero_division=0)
    found = per_class(y, pred, 4)
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose(found[name], values)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_loss_equals_scikit_learn_with_zero_probabilities(dtype):
    """A true class of probability 0 is clipped as scikit-learn clips it."""
    rng = np.random.default_rng(0)
    table = rng.dirichlet(np.ones(3), 40).astype(dtype)
    table[0] = [1, 0, 0]
    y = rng.integers(0, 3, 40)
    y[0] = 1
    assert log_loss(y, table) == pytest.approx(metrics.log_loss(y, table, labels=range(3)), rel=1e-6)


@pytest.mark.parametrize("name", ["macro-f1", "macro_f1", " Macro-F1 "])
def test_score_name_accepts_both_spellings(name):
    """Kebab and snake case name the same score."""
    assert score_name(name) == "macro_f1"


def test_score_name_shows_near_matches():
    """A misspelt name is answered with what was probably meant."""
    with pytest.raises(ValueError, match=r"Unknown metric 'macro-f', allowed are .*Did you mean 'macro_f1'"):
        score_name("macro-f")


@pytest.mark.parametrize(
    ("y", "pred", "message"),
    [
        ([0, -1], [0, 0], r"'y' holds the class codes \[-1\], allowed are 0\.\.2.*unlabelled"),
        ([0, 1], [0, 7], r"'pred' holds the class codes \[7\]"),
        ([0.0, 1.0], [0, 1], "'y' has dtype float64, allowed are integer class codes"),
        ([0, 1], [0, 1, 1], r"'pred' has shape \(3,\) and 'y' has shape \(2,\)"),
    ],
)
def test_confusion_refuses_what_is_not_a_class_code(y, pred, message):
    """Codes out of range, floats and unequal lengths are named."""
    with pytest.raises(ValueError, match=message):
        confusion(y, pred, 3)


def test_log_loss_refuses_other_rows():
    """Labels and probabilities must be of the same rows."""
    with pytest.raises(ValueError, match=r"'probabilities' has shape \(2, 3\) for 3 labels"):
        log_loss([0, 1, 2], np.full((2, 3), 1 / 3))


def test_majority_scores_equal_the_dummy_classifier():
    """Scores of scikit-learn's most-frequent baseline; without rows there is no most frequent class."""
    y = np.random.default_rng(3).permutation(np.repeat([0, 1, 2], [180, 30, 90]))
    pred = DummyClassifier(strategy="most_frequent").fit(np.zeros((300, 1)), y).predict(np.zeros((300, 1)))
    assert majority_scores(y, 3) == pytest.approx(by_scikit_learn(y, pred, 3))
    assert majority_scores(y, 3)["accuracy"] == pytest.approx(0.6)
    with pytest.raises(ValueError, match="'y' has no rows"):
        majority_scores(np.zeros(0, int), 3)
