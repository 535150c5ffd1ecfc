"""Augmented views join training folds and nothing else."""

import h5py
import numpy as np
import pytest

import heads
from tuning import Configuration, default_configuration, evaluate, make_folds, search

FAST = {
    "mlp": {"hidden": 16, "max_epochs": 6},
    "logreg": {"C": 0.01},
    "lightgbm": {"n_estimators": 5, "pca": 8},
    "ridge": {},
    "svm": {},
    "centroid": {},
    "knn": {},
}


def _views(X, n_views=3, *, noise=0.1):
    """Views near the rows they come from."""
    rng = np.random.default_rng(11)
    return (X + noise * rng.normal(size=(n_views, *X.shape))).astype(np.float32)


@pytest.mark.parametrize("resampler", ["none", "smote"])
@pytest.mark.parametrize("head", heads.HEADS)
def test_evaluate_never_reads_views_of_validation_rows(head, resampler, make_data):
    """Ruined views of the validation rows of a fold leave its predictions the same, bit for bit."""
    X, y = make_data(120)
    views = _views(X)
    folds = make_folds(y, n_folds=2)
    first, second = folds[0][1], folds[1][1]
    configuration = Configuration(head, resampler, FAST[head])
    before = evaluate(configuration, X, y, folds, views=views, n_classes=3)
    views[:, first] = np.nan if resampler == "none" else 100 * views[:, first]
    after = evaluate(configuration, X, y, folds, views=views, n_classes=3)
    assert np.array_equal(before.oof[first], after.oof[first])
    # They train the other fold: the comparison above would see it if they were read.
    assert not np.array_equal(before.oof[second], after.oof[second])


@pytest.mark.parametrize("head", heads.HEADS)
def test_evaluate_with_views_gives_row_identities_no_score(head, make_data):
    """Near-copies of rows that say nothing but who they are would be learnt by heart if they leaked."""
    X, y = make_data(300, d=400, signal=0)
    folds = make_folds(y, n_folds=3)
    # The MLP without rows held back, and longer: early stopping would keep it from learning by heart.
    by_heart = {"mlp": {"validation_fraction": 0.001, "learning_rate": 3e-3, "max_epochs": 30}}
    configuration = Configuration(head, "none", by_heart.get(head, {}))
    trial = evaluate(configuration, X, y, folds, views=_views(X, noise=0.01), n_classes=3)
    # Chance lies between 0.25 (the majority) and 1/3; 0.08 is three standard errors with 30 rare rows.
    assert trial.score < 1 / 3 + 0.08
    # What a leak would look like: the validation rows stand among the training rows, under their labels.
    leak = heads.make_pipeline(head, parameters=configuration.parameters).fit(X, y)
    # Class means cannot learn everything by heart, but far more than the 0.6 of the majority.
    assert np.mean(leak.predict(X) == y) > (0.7 if head == "centroid" else 0.9)


@pytest.mark.parametrize("head", heads.HEADS)
def test_evaluate_with_views_that_spell_the_label_scores_chance(head, make_data):
    """A column that holds the label in every view but not in clean rows cannot raise the score."""
    X, y = make_data(300, signal=0)
    views = _views(X)
    views[:, :, 5] = 3.0 * y
    trial = evaluate(
        Configuration(head, "none", FAST[head]), X, y, make_folds(y, n_folds=3), views=views, n_classes=3
    )
    assert trial.score < 1 / 3 + 0.08


@pytest.mark.parametrize("head", heads.HEADS)
def test_evaluate_with_views_and_permuted_labels_scores_chance(head, make_data):
    """With a clear signal but permuted labels, views on, every head scores chance."""
    X, y = make_data(300, signal=3.0)
    permuted = np.random.default_rng(5).permutation(y)
    configuration = Configuration(head, "smote", FAST[head])
    folds = make_folds(permuted, n_folds=3)
    trial = evaluate(configuration, X, permuted, folds, views=_views(X), n_classes=3)
    assert trial.score < 1 / 3 + 0.08


def test_evaluate_learns_from_views(make_data):
    """What clean rows cannot teach, views can: noise on a column that only views show to be noise."""
    X, y = make_data(120, d=60, signal=2.0)
    rng = np.random.default_rng(3)
    views = np.repeat(X[None], 6, axis=0)
    views[:, :, 2:] = rng.normal(size=views[:, :, 2:].shape)
    folds = make_folds(y, n_folds=3)
    without, with_views = (
        evaluate(Configuration("logreg", "none", {"C": 0.1}), X, y, folds, views=stack, n_classes=3)
        for stack in (None, views)
    )
    assert with_views.score > without.score + 0.1


@pytest.mark.parametrize("head", heads.HEADS)
def test_evaluate_with_views_is_reproducible(head, labelled):
    """The same seed gives the same probabilities, bit for bit."""
    X, y = labelled
    folds = make_folds(y, n_folds=2)
    configuration = Configuration(head, "random-over", FAST[head])
    first, second = (
        evaluate(configuration, X, y, folds, views=_views(X), n_classes=3, random_state=7) for _ in range(2)
    )
    assert np.array_equal(first.oof, second.oof)


@pytest.mark.parametrize("head", heads.HEADS)
def test_evaluate_without_views_is_what_it_was(head, labelled):
    """None and no view give one result: that of a pipeline fitted on the training rows alone."""
    X, y = labelled
    train, valid = make_folds(y, n_folds=2)[0]
    folds = [(train, valid), (valid, train)]
    configuration = Configuration(head, "none", FAST[head])
    plain = evaluate(configuration, X, y, folds, n_classes=3)
    empty = evaluate(configuration, X, y, folds, views=np.empty((0, *X.shape)), n_classes=3)
    assert np.array_equal(plain.oof, empty.oof)


def test_evaluate_reads_views_on_disk(labelled, tmp_path):
    """A stack that stays in a file gives the probabilities of the array."""
    X, y = labelled
    folds = make_folds(y, n_folds=2)
    configuration = Configuration("logreg", "none", {})
    with h5py.File(tmp_path / "x.h5", "w") as file:
        stack = file.create_dataset("views", data=_views(X))
        stored = evaluate(configuration, X, y, folds, views=stack, n_classes=3)
    assert np.array_equal(stored.oof, evaluate(configuration, X, y, folds, views=_views(X), n_classes=3).oof)


def test_search_trains_every_trial_on_views(labelled):
    """Each trial of a search is the one that `evaluate` gives with the same views."""
    X, y = labelled
    folds = make_folds(y, n_folds=2)
    views = _views(X, noise=1.0)
    found = search(X, y, heads=["logreg"], n_trials=2, views=views, folds=folds, n_classes=3)
    for trial in found.trials:
        again = evaluate(trial.configuration, X, y, folds, views=views, n_classes=3)
        np.testing.assert_allclose(trial.oof, again.oof, atol=1e-3)  # a path stops where it is flat enough
        clean = evaluate(trial.configuration, X, y, folds, n_classes=3)
        assert not np.array_equal(trial.oof, clean.oof)


def test_search_refuses_views_of_other_rows(labelled):
    """Views are checked before the first trial, not recorded as the failure of every trial."""
    X, y = labelled
    with pytest.raises(ValueError, match=r"View 1 has shape \(149, 12\), but X has \(150, 12\)"):
        search(
            X,
            y,
            heads=["logreg"],
            n_trials=1,
            views=_views(X)[:, 1:],
            folds=make_folds(y, n_folds=2),
            n_classes=3,
        )
    with pytest.raises(ValueError, match="View 1 has shape"):
        evaluate(
            default_configuration("logreg"),
            X,
            y,
            make_folds(y, n_folds=2),
            views=_views(X)[:, :, 1:],
            n_classes=3,
        )
