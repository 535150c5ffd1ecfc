"""The corrected estimate against rows that no search has seen; benchmarks/corrected_estimate.py in short."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from benchmarks.corrected_estimate import Classifier, draw, fit_predict


def test_corrected_estimate_is_honest_where_the_raw_best_is_not():
    """Over ten searches the raw best flatters, the corrected mean is near the truth, which intervals hold."""
    draws = [
        draw(seed, 600, 64, signal=0.7, n_classifiers=80, n_test=5000, n_bootstrap=200) for seed in range(10)
    ]
    true = np.array([one.true for one in draws])
    assert np.mean([one.raw for one in draws] - true) > 0.02
    assert abs(np.mean([one.corrected for one in draws] - true)) < 0.015
    assert sum(one.ci95[0] <= one.true <= one.ci95[1] for one in draws) >= 8


def test_corrected_estimate_of_permuted_labels_is_chance_in_20_of_20_draws():
    """With labels that mean nothing every interval holds the score of untouched rows; the mean is near."""
    draws = [
        draw(
            seed,
            400,
            32,
            signal=1.5,
            n_classifiers=40,
            n_test=5000,
            n_bootstrap=200,
            permuted=True,
        )
        for seed in range(20)
    ]
    assert [one.ci95[0] <= one.true <= one.ci95[1] for one in draws] == [True] * 20
    assert max(one.true for one in draws) < 0.36  # a fair guess gives about 1/3
    assert abs(np.mean([one.corrected - one.true for one in draws])) < 0.015
    assert np.mean([one.raw - one.true for one in draws]) > 0.02


@pytest.mark.parametrize("balance", [0.5, 1.0])
def test_benchmark_classifier_is_weighted_ridge(balance):
    """What the benchmark searches over is scikit-learn's ridge regression of class indicators."""
    rng = np.random.default_rng(0)
    y = rng.permutation(np.repeat([0, 1, 2], [60, 10, 30]))
    X, new = rng.normal(size=(100, 8)) + y[:, None], rng.normal(size=(50, 8)) + 1
    columns = np.array([0, 2, 5])
    weights = np.bincount(y)[y] ** -balance
    model = Ridge(alpha=7.0).fit(X[:, columns], np.eye(3)[y], sample_weight=weights / weights.mean())
    expected = model.predict(new[:, columns]).argmax(axis=1)
    assert fit_predict([Classifier(columns, 7.0, balance)], X, y, new)[0].tolist() == expected.tolist()
