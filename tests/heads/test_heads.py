"""Promises that every head keeps."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import f1_score
from sklearn.utils.estimator_checks import check_estimator

import heads

FAST = {
    "mlp": {"hidden": 32, "max_epochs": 8, "learning_rate": 1e-2},
    "logreg": {},
    "lightgbm": {"n_estimators": 20},
    "ridge": {},
    "svm": {},
    "centroid": {},
    "knn": {},
}
NOT_ROWS = "draws mini-batches by row, so a row of weight 2 is not the same as two rows"
NOT_FOLDS = "deals rows to inner folds, so a row of weight 2 is not the same as two rows"
NOT_PLACES = "counts neighbours by row, so a row of weight 2 takes one place and two rows take two"
NOT_BINS = "bins columns and counts rows per leaf by row, so a row of weight 2 is not the same as two rows"
EQUIVALENCE = "check_sample_weight_equivalence_on_dense_data"
PARTLY_NAN = "sets single values to NaN, which a block imputer must refuse"


def _head(name: str):
    return heads.make_pipeline(name, parameters=FAST[name])["head"]


@pytest.mark.parametrize(
    ("estimator", "expected_failures"),
    [
        (heads.LogisticHead(), {}),
        (heads.LogisticHead(C=0.1, l1_ratio=0.5, class_weight=None, tol=1e-8, max_iter=20_000), {}),
        (_head("mlp"), {EQUIVALENCE: NOT_ROWS}),
        (heads.LightGBMHead(n_estimators=20), {EQUIVALENCE: NOT_BINS}),
        (heads.RidgeHead(), {}),
        (heads.LinearSVMHead(), {EQUIVALENCE: NOT_FOLDS}),
        (heads.CentroidHead(), {}),
        (heads.NeighboursHead(), {EQUIVALENCE: NOT_PLACES}),
        (heads.BlockImputer(), {"check_estimators_pickle": PARTLY_NAN}),
    ],
    ids=["logreg", "elastic-net", "mlp", "lightgbm", "ridge", "svm", "centroid", "knn", "imputer"],
)
def test_estimator_passes_scikit_learn_checks(estimator, expected_failures):
    """Every estimator is a well-behaved scikit-learn estimator, but for the named exceptions."""
    results = check_estimator(estimator, expected_failed_checks=expected_failures, on_fail=None, on_skip=None)
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert failed == {}
    assert {result["check_name"] for result in results if result["status"] == "xfail"} == set(
        expected_failures
    )


@pytest.mark.parametrize("name", heads.HEADS)
def test_head_learns_separable_classes(name, easy):
    """A head finds classes that are well apart, in rows it has not seen."""
    X, y = easy
    if name in ("centroid", "knn"):  # they weigh every column alike, so columns of noise cost them
        X = X[:, :10]
    head = _head(name).fit(X[:450], y[:450])
    assert f1_score(y[450:], head.predict(X[450:]), average="macro") > 0.85


@pytest.mark.parametrize("name", heads.HEADS)
@pytest.mark.parametrize("resampler", heads.RESAMPLERS)
def test_head_same_seed_gives_bit_equal_probabilities(name, resampler, hard):
    """Two fits with one seed agree to the last bit, and neither reads nor moves a global generator."""
    X, y = hard
    pipeline = heads.make_pipeline(name, resampler=resampler, parameters=FAST[name], random_state=3)
    first = clone(pipeline).fit(X, y).predict_proba(X)
    np.random.seed(1)  # noqa: NPY002 - the global generator is what must not matter
    torch.manual_seed(1)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    second = clone(pipeline).fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(second, first)
    assert (np.random.get_state()[1] == before[0]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])


@pytest.mark.parametrize("name", ["mlp", "lightgbm"])
def test_head_other_seed_gives_other_probabilities(name, hard):
    """The seed reaches the training."""
    X, y = hard
    head = _head(name)
    first = head.fit(X, y).predict_proba(X)
    second = clone(head).set_params(random_state=1).fit(X, y).predict_proba(X)
    assert np.abs(first - second).max() > 1e-4


@pytest.mark.parametrize("name", heads.HEADS)
def test_head_leaves_torch_threads_alone(name, hard):
    """Training changes no process-wide setting of torch."""
    before = torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype()
    _head(name).fit(*hard)
    assert (torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype()) == before


@pytest.mark.parametrize("name", heads.HEADS)
def test_head_takes_hdf5_dataset(name, hard, tmp_path):
    """An HDF5 dataset gives what the array in memory gives."""
    X, y = hard
    expected = _head(name).fit(X, y).predict_proba(X)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        stored = file.create_dataset("x", data=X)
        np.testing.assert_array_equal(_head(name).fit(stored, y).predict_proba(stored), expected)


@pytest.mark.parametrize("name", heads.HEADS)
def test_head_ignores_column_scale(name, hard):
    """Every head standardises: powers of two as units, and offsets, hardly move a probability."""
    X, y = hard
    units = np.float32(2.0) ** np.arange(-6, 6, dtype=np.float32)
    plain = _head(name).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(_head(name).fit(X * units, y).predict_proba(X * units), plain, atol=1e-3)


@pytest.mark.parametrize("name", heads.HEADS)
def test_head_ignores_column_that_was_constant(name, hard):
    """A column without variance in training moves no prediction, whatever it holds later."""
    X, y = hard
    constant = np.hstack([X, np.full((len(X), 1), 1000.0, dtype=np.float32)])
    rounding = constant.copy()
    rounding[::2, -1] = np.nextafter(np.float32(1000), np.float32(2000))
    for training in (constant, rounding):
        head = _head(name).fit(training, y)
        later = constant.copy()
        later[:, -1] = -5e4
        np.testing.assert_array_equal(head.predict_proba(later), head.predict_proba(constant))


@pytest.mark.parametrize("name", heads.HEADS)
def test_head_zero_weight_equals_absence(name, hard):
    """A row of weight 0 has no influence at all."""
    X, y = hard
    weight = np.ones(len(y))
    weight[::5] = 0
    weighted = _head(name).fit(X, y, sample_weight=weight).predict_proba(X)
    np.testing.assert_array_equal(weighted, _head(name).fit(X[weight > 0], y[weight > 0]).predict_proba(X))


@pytest.mark.parametrize("name", heads.HEADS)
def test_head_class_weight_moves_predictions(name, hard):
    """A heavier class is predicted more often, "balanced" is of the whole set, and a power lies between."""
    X, y = hard
    plain = _head(name).set_params(class_weight=None).fit(X, y)
    heavy = _head(name).set_params(class_weight={1: 30.0}).fit(X, y)
    assert (heavy.predict(X) == 1).sum() > (plain.predict(X) == 1).sum() + 10
    counts = np.bincount(y)
    by_hand = _head(name).set_params(class_weight={c: len(y) / (3 * n) for c, n in enumerate(counts)})
    balanced = _head(name).set_params(class_weight="balanced")
    np.testing.assert_allclose(
        balanced.fit(X, y).predict_proba(X), by_hand.fit(X, y).predict_proba(X), atol=0.03
    )
    half_way = _head(name).set_params(class_weight=0.5).fit(X, y).predict_proba(X).mean(axis=0)[1]
    assert plain.predict_proba(X).mean(axis=0)[1] < half_way < balanced.predict_proba(X).mean(axis=0)[1]


@pytest.mark.parametrize("name", heads.HEADS)
def test_head_binary_string_labels(name, hard):
    """Two classes with string labels give two columns that sum to one, in the order of classes_."""
    X, y = hard
    labels = np.where(y == 0, "yes", "no")
    head = _head(name).fit(X, labels)
    probabilities = head.predict_proba(X)
    assert head.classes_.tolist() == ["no", "yes"]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    assert (head.predict(X) == head.classes_[probabilities.argmax(axis=1)]).all()
    assert (head.predict(X) == labels).mean() > 0.6


@pytest.mark.parametrize("name", heads.HEADS)
def test_head_refuses_use_before_fit(name):
    """Predicting before fit is a NotFittedError."""
    with pytest.raises(NotFittedError, match="not fitted yet"):
        _head(name).predict_proba(np.zeros((2, 3), dtype=np.float32))


@pytest.mark.parametrize("name", heads.HEADS)
def test_head_refuses_faulty_input(name, hard):
    """Bad rows, labels, blocks and weights are named in the message."""
    X, y = hard
    with pytest.raises(ValueError, match=r"\('text': 5, 'image': 8\) add up to 13, but X has 12 columns"):
        _head(name).set_params(blocks={"text": 5, "image": 8}).fit(X, y)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        _head(name).fit(np.where(X > 3, np.nan, X), y)
    with pytest.raises(ValueError, match="found 1 class: every training row is 0"):
        _head(name).fit(X, np.zeros(len(y), dtype=int))
    with pytest.raises(ValueError, match="sample_weight is 0 for every row of class 1"):
        _head(name).fit(X, y, sample_weight=(y != 1).astype(float))
    with pytest.raises(ValueError, match=r"2 fault\(s\): unknown class 7 .*class 0 has weight -1"):
        _head(name).set_params(class_weight={7: 1.0, 0: -1.0}).fit(X, y)
    with pytest.raises(ValueError, match=r"1 fault\(s\): class 2 has weight 'much'"):
        _head(name).set_params(class_weight={2: "much"}).fit(X, y)
    with pytest.raises(ValueError, match="gives every class the weight 0"):
        _head(name).set_params(class_weight={0: 0, 1: 0, 2: 0}).fit(X, y)
    with pytest.raises(ValueError, match="class_weight='even' is not understood; allowed are None"):
        _head(name).set_params(class_weight="even").fit(X, y)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (
            heads.MLPHead(hidden=0, dropout=1.0, fusion="concatt"),
            r"3 wrong parameter.*hidden=0.*dropout=1.0 \(allowed: a number in \[0, 1\)\).*mean 'concat'",
        ),
        (
            heads.MLPHead(hidden=[64, 0], clip_norm=0, taper="yes", schedule="one_cycle", stop_metric="f1"),
            r"5 wrong.*hidden=\[64, 0\] \(allowed: a whole number from 1 to 65536, or a list of.*"
            r"'f1' \(allowed: 'loss', 'macro_f1', 'weighted_f1', 'accuracy'\); schedule='one_cycle' .*"
            r"mean 'one-cycle'\); clip_norm=0 .*or None.*taper='yes' \(allowed: True or False",
        ),
        (heads.LogisticHead(C=0, max_iter=2.5), r"2 wrong parameter.*C=0 .*\(0, inf\).*max_iter=2.5"),
        (heads.LightGBMHead(feature_fraction=1.5, pca=0), r"2 wrong.*\(0, 1\].*at least 1 or None"),
        (heads.RidgeHead(alpha=0, effective_beta=1), r"2 wrong parameter.*alpha=0 .*\(0, inf\).*effective"),
        (heads.LinearSVMHead(C=-1, max_iter=0), r"LinearSVMHead got 2 wrong.*C=-1 .*max_iter=0"),
        (heads.CentroidHead(effective_beta=-0.1), r"CentroidHead got 1 wrong.*effective_beta=-0.1"),
        (
            heads.NeighboursHead(n_neighbors=0, temperature=0, smoothing=-1),
            r"3 wrong.*n_neighbors=0 .*temperature=0 .*or None\).*smoothing=-1",
        ),
        (heads.LogisticHead(C=float("nan"), tol="small"), r"2 wrong parameter.*C=nan.*tol='small'"),
    ],
)
def test_head_names_all_wrong_parameters(head, message, hard):
    """One message lists every argument that is out of range, with what is allowed."""
    with pytest.raises(ValueError, match=message):
        head.fit(*hard)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("logreg", 3 * 12 + 3),
        ("mlp", (12 * 32 + 32) + 2 * 32 + (32 * 3 + 3)),
        ("ridge", 3 * 12 + 3 + 1),
        ("svm", 3 * 12 + 3 + 1),
        ("centroid", 3 * 12 + 3 + 1),
        ("knn", 300 * 12),
    ],
)
def test_head_counts_its_parameters(name, expected, hard):
    """n_parameters is the number of trained numbers."""
    assert _head(name).fit(*hard).n_parameters == expected


def test_heads_import_loads_nothing_heavy():
    """``import heads`` and its constants load no numerical library and take milliseconds."""
    code = (
        "import sys, time; start = time.process_time(); import heads; heads.HEADS, heads.RESAMPLERS;"
        "spent = time.process_time() - start;"
        "print([m for m in ('numpy', 'torch', 'sklearn', 'lightgbm', 'imblearn') if m in sys.modules], spent "
        "< 0.2)"
    )
    root = Path(heads.__file__).parent.parent
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[] True"


def test_heads_logistic_pipeline_needs_no_torch():
    """Making a pipeline of one head does not import the libraries of the others."""
    code = (
        "import sys, heads; heads.make_pipeline('logreg', resampler='smote');"
        "print([m for m in ('torch', 'lightgbm') if m in sys.modules])"
    )
    root = Path(heads.__file__).parent.parent
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_heads_public_names_resolve():
    """Every public name can be imported, and an unknown one says what there is."""
    assert [name for name in heads.__all__ if getattr(heads, name, None) is None] == []
    assert dir(heads) == sorted(heads.__all__)
    with pytest.raises(AttributeError, match=r"no attribute 'Forest'; it offers .*LogisticHead"):
        _ = heads.Forest


@pytest.mark.parametrize("module", ["blocks", "centroids", "linear", "neighbours", "presets", "ridge", "svm"])
def test_heads_docstring_examples_run(module):
    """The examples in the docstrings print what they say."""
    result = doctest.testmod(importlib.import_module(f"heads.{module}"))
    assert result.attempted > 0
    assert result.failed == 0
