"""The corrected estimate against rows that no search has seen; benchmarks/corrected_estimate.py in short."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

import heads
from benchmarks.corrected_estimate import (
    CHANCE,
    Classifier,
    draw_classifiers,
    draw_search,
    fit_predict,
    make_rows,
)


def holds(one):
    """Whether the interval of a draw holds the true score."""
    return one.ci95[0] <= one.true <= one.ci95[1]


def test_corrected_estimate_is_honest_where_the_raw_best_is_not():
    """Over 16 searches the raw best flatters, the corrected mean is near the truth, which intervals hold."""
    draws = [
        draw_classifiers(
            seed, make_rows(seed, 600, 64, signal=0.7, n_test=5000), n_classifiers=60, n_bootstrap=200
        )
        for seed in range(16)
    ]
    true = np.array([one.true for one in draws])
    assert np.mean([one.raw for one in draws] - true) > 0.02
    assert abs(np.mean([one.corrected for one in draws] - true)) < 0.015
    assert sum(map(holds, draws)) >= 14


def test_corrected_estimate_of_permuted_labels_is_chance_in_20_of_20_draws():
    """With labels that mean nothing every interval holds the score of untouched rows; the mean is near."""
    draws = [
        draw_classifiers(
            seed,
            make_rows(seed, 400, 32, signal=1.5, n_test=5000, permuted=True),
            n_classifiers=40,
            n_bootstrap=200,
        )
        for seed in range(20)
    ]
    assert [holds(one) for one in draws] == [True] * 20
    assert max(one.true for one in draws) < 0.36  # a fair guess gives about 1/3
    assert abs(np.mean([one.corrected - one.true for one in draws])) < 0.015
    assert np.mean([one.raw - one.true for one in draws]) > 0.02


def check_permuted(resampler, seeds, *, n_rows, n_trials, n_repeats=0):
    """Search on labels that mean nothing, every configuration resampling: chance in every draw."""
    for seed in seeds:
        rows = make_rows(seed, n_rows, 8, signal=1.5, n_test=4000, permuted=True)
        one = draw_search(
            seed,
            rows,
            names=("ridge", "mlp"),
            n_trials=n_trials,
            resampler=resampler,
            n_repeats=n_repeats,
            n_bootstrap=300,
        )
        assert one.ci95[0] <= CHANCE, (resampler, seed, one)
        assert one.true < CHANCE + 0.02


@pytest.mark.parametrize("resampler", heads.RESAMPLERS)
def test_search_on_permuted_labels_finds_chance_with_every_resampler(resampler):
    """Through the real search, resampling lends labels without meaning no score above a blind guess."""
    check_permuted(resampler, [0], n_rows=200, n_trials=4)


def test_search_on_permuted_labels_finds_chance_where_other_splits_decide():
    """Nor does a choice among finalists, made on other splits of the same rows."""
    check_permuted("none", [0, 1], n_rows=200, n_trials=6, n_repeats=2)


@pytest.mark.nightly
@pytest.mark.parametrize("n_repeats", [0, 3])
@pytest.mark.parametrize("resampler", heads.RESAMPLERS)
def test_search_on_permuted_labels_finds_chance_in_20_of_20_draws(resampler, n_repeats):
    """Twenty draws of every resampler, and larger searches."""
    check_permuted(resampler, range(20), n_rows=300, n_trials=12, n_repeats=n_repeats)


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
