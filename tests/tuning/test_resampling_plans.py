"""Resampling plans against the resamplers themselves."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import heads
from tuning.folds import make_folds
from tuning.reductions import Reductions
from tuning.resampling_plans import ResamplingPlans, growth


@pytest.fixture(scope="module")
def reductions() -> Reductions:
    """Three folds of 200 rows in which the classes overlap."""
    random = np.random.default_rng(0)
    y = random.permutation(np.repeat([0, 1, 2], [120, 20, 60]))
    X = (random.normal(size=(200, 16)) + y[:, None] * 0.5).astype(np.float32)
    return Reductions(X, y, make_folds(y, n_folds=3), blocks={"text": 10, "image": 6})


@pytest.mark.parametrize("resampler", heads.RESAMPLERS)
@pytest.mark.parametrize(("pca", "whiten"), [(None, False), (4, True)])
def test_plans_equal_the_resampler(pca, whiten, resampler, reductions):
    """First and second time, the rows are bit-equal to what the resampler makes of the same rows."""
    plans = ResamplingPlans()
    for fold in (0, 2):
        rows = reductions.rows(fold, pca, whiten=whiten)
        sampler = heads.make_resampler(resampler, random_state=7)
        X, codes = (rows.train, rows.train_codes)
        if sampler is not None:
            X, codes = sampler.fit_resample(X, codes)[:2]
        for _ in range(2):
            found = plans.apply(rows, resampler, 7)
            assert_array_equal(found[0], X)
            assert_array_equal(found[1], codes)
            assert found[0].dtype == np.float32


def test_plans_search_neighbours_once(reductions, monkeypatch):
    """The second trial of a fold gets the same arrays; another seed, fold or width gets its own."""
    plans = ResamplingPlans()
    rows = reductions.rows(0, 4)
    first = plans.apply(rows, "smote", 7)
    assert plans.apply(rows, "smote", 7)[0] is first[0]
    assert plans.apply(rows, "smote", 8)[0] is not first[0]
    assert plans.apply(reductions.rows(1, 4), "smote", 7)[0] is not first[0]
    assert plans.apply(reductions.rows(0, 3), "smote", 7)[0].shape[1] == 6


def test_plans_let_go_of_old_rows(reductions, monkeypatch):
    """Rows beyond the byte budget are forgotten, oldest first, and made again alike."""
    monkeypatch.setattr("tuning.resampling_plans._KEPT_BYTES", 20_000)
    plans, rows = ResamplingPlans(), reductions.rows(0, 4)
    first = plans.apply(rows, "smote", 0)[0]
    for seed in range(1, 5):
        plans.apply(rows, "smote", seed)
    again = plans.apply(rows, "smote", 0)[0]
    assert again is not first
    assert_array_equal(again, first)


def test_plans_refuse_unknown_names(reductions):
    """An unknown resampler is named, with near matches."""
    with pytest.raises(ValueError, match="unknown resampler 'smot'"):
        ResamplingPlans().apply(reductions.rows(0, 4), "smot", 0)


@pytest.mark.parametrize("resampler", heads.RESAMPLERS)
def test_growth_is_what_the_plans_make(resampler, reductions):
    """As many times as many rows as are made of a fold, never less than 1; None only where rows decide."""
    rows = reductions.rows(1, 4)
    made = len(ResamplingPlans().apply(rows, resampler, 7)[1]) / len(rows.train)
    found = growth(resampler, rows.train_codes)
    if resampler == "smote-enn":
        assert found is None
    else:
        rounded = 10 / len(rows.train) if resampler == "adasyn" else 1e-12
        assert found == pytest.approx(max(1.0, made), abs=rounded)


def test_growth_refuses_unknown_names():
    """As the plans do."""
    with pytest.raises(ValueError, match="unknown resampler 'smot'"):
        growth("smot", np.array([0, 1, 1]))
