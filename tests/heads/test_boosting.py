"""LightGBMHead and its PCA per block."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.decomposition import PCA

from heads import LightGBMHead
from heads.projection import block_directions


@pytest.mark.parametrize("shape", [(200, 30), (20, 30), (30, 30)])
def test_directions_equal_scikit_learn(shape):
    """Directions of one block are those of an exact PCA, tall or wide."""
    X = np.random.default_rng(0).normal(size=shape) * np.linspace(1, 3, shape[1])
    X -= X.mean(axis=0)
    ours = block_directions(X, [slice(0, shape[1])], 5)
    theirs = PCA(5, svd_solver="full").fit(X).components_.T
    assert_allclose(np.abs(np.sum(ours * theirs, axis=0)), 1.0, atol=1e-8)
    assert (np.take_along_axis(ours, np.abs(ours).argmax(axis=0)[None], axis=0) > 0).all()


def test_directions_stay_within_their_block(hard):
    """Each block gets directions of its own, capped by its width and by the rows."""
    X = hard[0] - hard[0].mean(axis=0)
    directions = block_directions(X, [slice(0, 4), slice(4, 12)], 6)
    assert directions.shape == (12, 4 + 6)
    assert (directions[:4, 4:] == 0).all()
    assert (directions[4:, :4] == 0).all()
    assert_allclose(directions.T @ directions, np.eye(10), atol=1e-5)
    assert block_directions(X[:3], [slice(0, 12)], 64).shape[1] <= 3


def test_directions_of_a_constant_block():
    """A block without any variance still gives one column."""
    assert block_directions(np.zeros((5, 4)), [slice(0, 4)], 3).shape == (4, 1)


@pytest.mark.parametrize("pca", [None, 2, 64])
def test_lightgbm_pca_caps_its_columns(pca, hard):
    """Trees see `pca` columns per block, or the raw columns."""
    X, y = hard
    head = LightGBMHead(pca=pca, n_estimators=10, blocks={"text": 5, "image": 7}).fit(X, y)
    assert head.booster_.num_feature() == {None: 12, 2: 4, 64: 12}[pca]
    assert (head.predict(X) == y).mean() > 0.6


def test_lightgbm_equals_the_library(hard):
    """Without PCA this is LightGBM with the stated settings, and nothing else."""
    X, y = hard
    head = LightGBMHead(pca=None, n_estimators=15, class_weight=None, feature_fraction=1.0).fit(X, y)
    plain = lightgbm.LGBMClassifier(
        n_estimators=15, num_leaves=7, reg_lambda=1.0, max_bin=63, force_col_wise=True, deterministic=True,
        n_jobs=2, verbosity=-1, objective="multiclass",
    ).fit(X, y)  # fmt: skip
    assert_allclose(head.predict_proba(X), plain.predict_proba(X), atol=1e-12)


def test_lightgbm_counts_its_parameters(hard):
    """Leaf values, split thresholds and directions are counted."""
    X, y = hard
    head = LightGBMHead(pca=None, n_estimators=4).fit(X, y)
    leaves = head.booster_.trees_to_dataframe().left_child.isna().sum()
    assert head.n_parameters == 2 * leaves - 3 * 4
    with_pca = LightGBMHead(pca=3, n_estimators=4).fit(X, y)
    assert with_pca.n_parameters > 3 * 12


def test_lightgbm_prints_nothing(hard, capfd):
    """Training and predicting are silent."""
    LightGBMHead(n_estimators=3).fit(hard[0][:15], hard[1][:15]).predict(hard[0])
    assert capfd.readouterr() == ("", "")


def test_lightgbm_number_of_threads_changes_nothing(hard):
    """One thread and two give the same model."""
    X, y = hard
    one = LightGBMHead(n_jobs=1, n_estimators=20).fit(X, y).predict_proba(X)
    assert_array_equal(LightGBMHead(n_jobs=2, n_estimators=20).fit(X, y).predict_proba(X), one)
