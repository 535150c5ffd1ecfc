"""Probabilities survive a shared study with every score; damage and other data never pass for them."""

from dataclasses import replace

import numpy as np
import pytest

from tuning import (
    Configuration,
    Trial,
    default_configuration,
    evaluate,
    make_folds,
    open_study,
    shared_attributes,
    shared_trial,
    shared_trials,
)
from tuning.trials import fold_scores_of


@pytest.fixture
def trial(labelled):
    """A real trial of 150 rows."""
    X, y = labelled
    return evaluate(default_configuration("logreg"), X, y, make_folds(y, n_folds=2), n_classes=3, number=4)


@pytest.mark.parametrize("storage", [None, "study.journal", "sqlite:///{}/study.db"])
def test_shared_trial_comes_back_from_a_study(trial, labelled, tmp_path, storage):
    """Through memory, a journal and a database: the same scores, and probabilities to three digits."""
    url = storage and (storage.format(tmp_path) if "://" in storage else str(tmp_path / storage))
    study = open_study("s", url)
    question = study.ask()
    for name, value in shared_attributes(trial).items():
        question.set_user_attr(name, value)
    study.tell(question, trial.score)
    other = open_study("s", url) if url else study
    found = shared_trial(other.trials[0].user_attrs, number=9, shape=(150, 3))
    _, y = labelled
    assert found.number == 9
    assert (found.configuration, found.score, found.fold_scores, found.rung, found.seconds) == (
        trial.configuration,
        trial.score,
        trial.fold_scores,
        trial.rung,
        trial.seconds,
    )
    np.testing.assert_allclose(found.oof, trial.oof, rtol=1e-3, atol=1e-7)
    assert found.oof.dtype == np.float32
    folds = make_folds(y, n_folds=2)
    assert fold_scores_of(found.predictions, y, folds, n_classes=3, metric="macro-f1") == trial.fold_scores


def test_shared_memory_unpacks_only_what_it_is_asked_for(trial, monkeypatch):
    """Looked up among many, only the trials of that configuration are unpacked, those told later included."""
    unpacked = []

    def counted(attributes, *, number, shape):
        unpacked.append(number)
        return shared_trial(attributes, number=number, shape=shape)

    def tell(C):
        asked = Configuration("logreg", "none", {**trial.configuration.parameters, "C": C})
        question = study.ask()
        for name, value in shared_attributes(replace(trial, configuration=asked)).items():
            question.set_user_attr(name, value)
        study.tell(question, trial.score)
        return asked.key

    monkeypatch.setattr(shared_trials, "shared_trial", counted)
    study = open_study()
    memory = shared_trials.SharedMemory(study, None, shape=(150, 3))
    keys = [tell(C) for C in (1.0, 2.0, 3.0)]
    assert memory.get(keys[2]).number == 2
    assert memory.get("of nothing") is None
    keys.append(tell(4.0))
    assert memory.get(keys[3]).configuration.parameters["C"] == 4.0
    assert unpacked == [2, 3]


def made_trial(oof):
    """A trial with these probabilities."""
    return Trial(0, default_configuration("logreg"), 0.5, [0.5], 1.0, oof.astype(np.float32))


def test_shared_trial_keeps_the_predicted_class_of_near_ties():
    """Probabilities that rounding would make equal still name the same class."""
    oof = np.repeat([[0.33333, 0.333333, 0.333337], [0.49999, 0.50001, 0.0]], 4, axis=0)
    assert (oof.astype(np.float16).argmax(axis=1) != oof.argmax(axis=1)).any()
    found = shared_trial(shared_attributes(made_trial(oof)), number=0, shape=(8, 3))
    assert np.array_equal(found.predictions, oof.argmax(axis=1))


def test_shared_attributes_leave_out_what_is_too_large():
    """Above a megabyte of text nothing is stored; below, no piece is longer than a database's text column."""
    rng = np.random.default_rng(0)
    large = made_trial(rng.dirichlet(np.ones(3), size=200_000))
    assert shared_attributes(large) == {}
    medium = made_trial(rng.dirichlet(np.ones(3), size=40_000))
    attributes = shared_attributes(medium)
    lengths = [len(value) for value in attributes.values() if isinstance(value, str)]
    assert len(lengths) > 1
    assert max(lengths) <= 65_535
    found = shared_trial(attributes, number=0, shape=(40_000, 3))
    np.testing.assert_allclose(found.oof, medium.oof, rtol=1e-3, atol=1e-7)


def test_shared_trial_refuses_damage_and_other_data(trial):
    """Changed, cut or missing text, another shape, and a trial without any are None: evaluated again."""
    attributes = shared_attributes(trial)
    (piece,) = [name for name, value in attributes.items() if isinstance(value, str)]
    text = attributes[piece]
    flipped = ("A" if text[100] != "A" else "B").join([text[:100], text[101:]])
    for damaged in (flipped, text[:-8], text[: len(text) // 2], "no base64!", ""):
        assert shared_trial({**attributes, piece: damaged}, number=0, shape=(150, 3)) is None
    assert shared_trial(attributes, number=0, shape=(149, 3)) is None
    assert shared_trial({k: v for k, v in attributes.items() if k != piece}, number=0, shape=(150, 3)) is None
    assert shared_trial({}, number=0, shape=(150, 3)) is None
