"""A configuration has a stable identity, and its evaluation never sees the rows it predicts."""

import dataclasses
import json

import h5py
import numpy as np
import pytest
from sklearn.metrics import f1_score

import heads
from tuning import Configuration, default_configuration, evaluate, make_folds

FAST = {
    "mlp": {"hidden": 16, "max_epochs": 6},
    "logreg": {"C": 0.01},
    "lightgbm": {"n_estimators": 5, "pca": 8, "min_child_samples": 3},
    "ridge": {},
    "svm": {},
    "centroid": {},
    "knn": {},
}


def test_configuration_key_ignores_order_and_sees_every_value():
    """Equal content has one key; another head, resampler or value has another."""
    base = Configuration("mlp", "none", {"a": 1, "b": None})
    assert base.key == Configuration("mlp", "none", {"b": None, "a": 1}).key
    others = [
        Configuration("logreg", "none", {"a": 1, "b": None}),
        Configuration("mlp", "smote", {"a": 1, "b": None}),
        Configuration("mlp", "none", {"a": 2, "b": None}),
    ]
    assert len({base.key, *(other.key for other in others)}) == 4


def test_configuration_survives_json():
    """Written as JSON and read again it is equal, with the same key and hash."""
    first = default_configuration("lightgbm")
    second = Configuration(**json.loads(json.dumps(first.as_dict())))
    assert second == first
    assert second.key == first.key
    assert hash(second) == hash(first)


def test_configuration_keeps_its_own_copy():
    """Editing the caller's dict afterwards changes nothing."""
    parameters = {"C": 1.0}
    configuration = Configuration("logreg", "none", parameters)
    parameters["C"] = 2.0
    assert configuration.parameters["C"] == 1.0


@pytest.mark.parametrize("value", [np.float32(1), float("nan"), {1, 2}])
def test_configuration_refuses_what_json_cannot_hold(value):
    """NumPy scalars, NaN and sets have no canonical JSON."""
    with pytest.raises(TypeError, match=r"head 'logreg' cannot be written as JSON .*\.item\(\)"):
        Configuration("logreg", "none", {"C": value})


@pytest.mark.parametrize("resampler", heads.RESAMPLERS)
@pytest.mark.parametrize("head", heads.HEADS)
def test_evaluate_never_sees_validation_rows(head, resampler, make_data):
    """Changing all other validation rows of a fold leaves the prediction of a row bit for bit the same."""
    X, y = make_data(120)
    folds = make_folds(y, n_folds=2)
    kept, changed = folds[0][1][0], folds[0][1][1:]
    configuration = Configuration(head, resampler, FAST[head])
    before = evaluate(configuration, X, y, folds, n_classes=3)
    X[changed] = 100 * np.random.default_rng(1).normal(size=X[changed].shape)
    y[changed] = (y[changed] + 1) % 3
    after = evaluate(configuration, X, y, folds, n_classes=3)
    assert np.array_equal(before.oof[kept], after.oof[kept])
    # The changed rows train the other fold: the comparison above would see them.
    assert not np.array_equal(before.oof[folds[1][1]], after.oof[folds[1][1]])


@pytest.mark.parametrize("head", heads.HEADS)
def test_evaluate_gives_row_identities_no_score(head, make_data):
    """Columns that identify rows and nothing else are learnt by heart, and predict nothing out of fold."""
    X, y = make_data(300, d=400, signal=0)
    trial = evaluate(Configuration(head, "none", {}), X, y, make_folds(y, n_folds=3), n_classes=3)
    # Chance lies between 0.25 (the majority) and 1/3; 0.08 is three standard errors with 30 rare rows.
    assert trial.score < 1 / 3 + 0.08


def test_evaluate_scores_the_folds(labelled):
    """Probabilities sum to 1, each fold score is scikit-learn's on its rows, the score is their mean."""
    X, y = labelled
    folds = make_folds(y, n_folds=3)
    trial = evaluate(Configuration("logreg", "none", {}), X, y, folds, n_classes=3, number=4)
    assert (trial.number, trial.rung, trial.oof.dtype, trial.oof.shape) == (4, 0, np.float32, (150, 3))
    np.testing.assert_allclose(trial.oof.sum(axis=1), 1, atol=1e-5)
    expected = [f1_score(y[v], trial.predictions[v], average="macro") for _, v in folds]
    assert trial.fold_scores == pytest.approx(expected)
    assert trial.score == pytest.approx(np.mean(expected))
    assert trial.score > 0.45
    assert trial.seconds > 0


@pytest.mark.parametrize("head", heads.HEADS)
def test_evaluate_is_reproducible(head, labelled):
    """The same seed gives the same probabilities bit for bit."""
    X, y = labelled
    folds = make_folds(y, n_folds=2)
    configuration = Configuration(head, "smote", FAST[head])
    first, second = (evaluate(configuration, X, y, folds, n_classes=3, random_state=7) for _ in range(2))
    assert np.array_equal(first.oof, second.oof)


def test_evaluate_gives_a_class_missing_from_training_no_probability(labelled):
    """A class that only the validation rows have gets a column of zeros; the other columns stay in place."""
    X, y = labelled
    rare = np.flatnonzero(y == 1)
    others = np.flatnonzero(y != 1)
    first = np.sort(np.concatenate([rare, others[::2]]))
    second = np.setdiff1d(np.arange(150), first)
    trial = evaluate(
        Configuration("logreg", "none", {}), X, y, [(second, first), (first, second)], n_classes=3
    )
    assert (trial.oof[first, 1] == 0).all()
    assert (trial.oof[second, 1] > 0).all()
    np.testing.assert_allclose(trial.oof.sum(axis=1), 1, atol=1e-5)


def test_evaluate_takes_blocks_with_invalid_rows(labelled):
    """A row whose block is NaN is imputed inside the pipeline and still predicted."""
    X, y = labelled
    X[::7, 8:] = np.nan
    trial = evaluate(
        Configuration("logreg", "none", {}),
        X,
        y,
        make_folds(y, n_folds=2),
        blocks={"text": 8, "image": 4},
        n_classes=3,
    )
    assert np.isfinite(trial.oof).all()
    assert trial.score > 0.4


def test_evaluate_reads_an_hdf5_dataset_by_rows(labelled, tmp_path):
    """A matrix that stays on disk gives the probabilities of the array."""
    X, y = labelled
    folds = make_folds(y, n_folds=2)
    configuration = Configuration("logreg", "none", {})
    with h5py.File(tmp_path / "x.h5", "w") as file:
        stored = evaluate(configuration, file.create_dataset("x", data=X), y, folds, n_classes=3)
    assert np.array_equal(stored.oof, evaluate(configuration, X, y, folds, n_classes=3).oof)


def test_evaluate_refuses_folds_that_leak(labelled):
    """Folds are checked before anything is fitted."""
    X, y = labelled
    rows = np.arange(150)
    with pytest.raises(ValueError, match="Row 0 is both trained on and validated in fold 0"):
        evaluate(default_configuration("logreg"), X, y, [(rows, rows)], n_classes=3)


def test_trial_cannot_be_changed(labelled):
    """A stored result is frozen."""
    X, y = labelled
    trial = evaluate(Configuration("logreg", "none", {}), X, y, make_folds(y, n_folds=2), n_classes=3)
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign"):
        trial.score = 1.0
