"""The corrected estimate equals its slow definition, and takes the luck out of the best of many."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from tuning import SCORES, bbc_cv, bbc_difference, confusion, macro_f1, repeated_choice, score


def draw_rows(y, seed, n_bootstrap):
    """The documented draws: a generator each, rows within each class, drawn again when none is left out."""
    for child in np.random.SeedSequence(seed).spawn(n_bootstrap):
        rng = np.random.default_rng(child)
        inside = []
        for code in np.unique(y):
            rows = np.flatnonzero(y == code)
            drawn = rng.choice(rows, len(rows))
            while len(set(drawn)) == len(rows):
                drawn = rng.choice(rows, len(rows))
            inside.extend(drawn)
        yield np.array(inside), np.setdiff1d(np.arange(len(y)), inside)


def slow_bbc(predictions, y, *, k, n_bootstrap, seed):
    """BBC-CV row by row and trial by trial with scikit-learn."""
    values = []
    for inside, outside in draw_rows(y, seed, n_bootstrap):
        scores = [
            f1_score(y[inside], row[inside], average="macro", labels=range(k), zero_division=0)
            for row in predictions
        ]
        best = predictions[int(np.argmax(scores))]
        values.append(
            (
                f1_score(y[outside], best[outside], average="macro", labels=range(k), zero_division=0),
                balanced_accuracy_score(y[outside], best[outside]),
            )
        )
    return np.array(values)


@pytest.fixture
def noisy_trials():
    """Eight predictions of 70 rows, right more often than not."""
    rng = np.random.default_rng(1)
    y = np.repeat([0, 1, 2], [40, 8, 22])
    predictions = np.where(rng.random((8, 70)) < 0.6, y, rng.integers(0, 3, (8, 70)))
    return predictions, y


def test_bbc_cv_equals_its_slow_definition(noisy_trials):
    """Choosing inside and scoring outside each draw, written out with scikit-learn, gives the same."""
    predictions, y = noisy_trials
    found = bbc_cv(predictions, y, n_classes=3, n_bootstrap=25, random_state=5)
    slow = slow_bbc(predictions, y, k=3, n_bootstrap=25, seed=5)
    for name, values in (("macro_f1", slow[:, 0]), ("balanced_accuracy", slow[:, 1])):
        assert found[name]["mean"] == pytest.approx(values.mean(), abs=1e-12)
        assert found[name]["ci95"] == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=1e-12)


def test_bbc_cv_does_not_depend_on_chunks(noisy_trials, monkeypatch):
    """One draw at a time gives the numbers of all draws at once."""
    predictions, y = noisy_trials
    whole = bbc_cv(predictions, y, n_classes=3, n_bootstrap=25)
    monkeypatch.setattr(repeated_choice, "_CHUNK_CELLS", 1)
    assert bbc_cv(predictions, y, n_classes=3, n_bootstrap=25) == whole


def test_bbc_cv_takes_the_luck_out_of_the_best_of_many():
    """Among 100 random predictions the best looks far better than chance; the corrected score does not."""
    y = np.repeat([0, 1, 2], [240, 40, 120])
    best, corrected, typical = [], [], []
    for seed in range(6):
        predictions = np.random.default_rng(seed).integers(0, 3, (100, 400))
        scores = macro_f1(confusion(y, predictions, 3))
        best.append(scores.max())
        typical.append(scores.mean())
        estimate = bbc_cv(predictions, y, n_classes=3, n_bootstrap=200, random_state=seed)
        corrected.append(estimate["macro_f1"]["mean"])
    assert np.mean(best) > np.mean(typical) + 0.035
    assert abs(np.mean(corrected) - np.mean(typical)) < 0.012


def test_bbc_cv_of_one_trial_is_its_score():
    """With nothing to choose from, the mean is near the score of all rows, inside its interval."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [300, 100, 200])
    prediction = np.where(rng.random(600) < 0.7, y, rng.integers(0, 3, 600))
    for name, estimate in bbc_cv(prediction[None], y, n_classes=3).items():
        raw = float(score(confusion(y, prediction, 3), name))
        assert estimate["mean"] == pytest.approx(raw, abs=0.01)
        assert estimate["ci95"][0] < raw < estimate["ci95"][1]


def test_bbc_cv_chooses_by_the_metric():
    """The score that chooses decides which of two opposite trials is reported."""
    y = np.repeat([0, 1], [90, 10])
    majority = np.zeros(100, int)
    rare = np.where(np.arange(100) < 40, 1, y)
    by_accuracy = bbc_cv([majority, rare], y, n_classes=2, metric="accuracy", n_bootstrap=100)
    by_recall = bbc_cv([majority, rare], y, n_classes=2, metric="macro-recall", n_bootstrap=100)
    assert set(by_accuracy) == set(SCORES)
    assert by_accuracy["macro_recall"]["mean"] == pytest.approx(0.5)
    assert by_recall["macro_recall"]["mean"] > 0.7


@pytest.mark.parametrize(
    ("predictions", "y", "options", "message"),
    [
        (np.zeros((0, 4), int), [0, 0, 1, 1], {}, r"'predictions' has shape \(0, 4\).*at least one trial"),
        (
            np.zeros((2, 3), int),
            [0, 0, 1, 1],
            {},
            r"'predictions' has shape \(2, 3\), allowed is \(n_trials, 4\)",
        ),
        (np.full((2, 4), 9), [0, 0, 1, 1], {}, r"'predictions' holds the class codes \[9\]"),
        (np.zeros((2, 3), int), [0, 0, 1], {}, r"Classes with one row: \[1\]"),
        (np.zeros((2, 4), int), [0, 0, 1, 1], {"n_bootstrap": 0}, "'n_bootstrap' is 0"),
        (np.zeros((2, 4), int), [0, 0, 1, 1], {"metric": "auc"}, "Unknown metric 'auc'"),
    ],
)
def test_bbc_cv_refuses_bad_input(predictions, y, options, message):
    """Every wrong argument is named with what was found and what is allowed."""
    with pytest.raises(ValueError, match=message):
        bbc_cv(predictions, y, n_classes=2, **options)


def test_bbc_difference_equals_its_slow_definition(noisy_trials):
    """Choosing inside and comparing outside each draw, written out with scikit-learn, gives the same."""
    predictions, y = noisy_trials
    found = bbc_difference(predictions, y, 2, n_classes=3, n_bootstrap=25, random_state=5)
    chosen = slow_bbc(predictions, y, k=3, n_bootstrap=25, seed=5)[:, 0]
    drawn = draw_rows(y, 5, 25)
    other = [
        f1_score(y[out], predictions[2][out], average="macro", labels=range(3), zero_division=0)
        for _, out in drawn
    ]
    values = chosen - np.array(other)
    fewer = min((values <= 0).sum(), (values >= 0).sum())
    assert found["difference"] == pytest.approx(values.mean(), abs=1e-12)
    assert found["ci95"] == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=1e-12)
    assert found["p_value"] == pytest.approx(min(1, 2 * (fewer + 1) / 26))


def test_bbc_difference_finds_no_gain_in_luck_and_finds_a_real_one():
    """The best of 60 equal trials gains nothing over the first in 19 of 20 draws; a better one does."""
    y = np.repeat([0, 1, 2], [240, 40, 120])
    noise, plain = 0, []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        predictions = np.where(rng.random((60, 400)) < 0.5, y, rng.integers(0, 3, (60, 400)))
        gain = bbc_difference(predictions, y, 0, n_classes=3, n_bootstrap=200, random_state=seed)
        noise += gain["ci95"][0] <= 0 <= gain["ci95"][1]
        scores = macro_f1(confusion(y, predictions, 3))
        plain.append(scores.max() - scores[0])
        predictions[7] = np.where(rng.random(400) < 0.8, y, predictions[7])
        real = bbc_difference(predictions, y, 0, n_classes=3, n_bootstrap=200, random_state=seed)
        assert real["ci95"][0] > 0
        assert real["p_value"] < 0.05
    assert noise >= 19
    assert np.mean(plain) > 0.04  # what a comparison without the correction would have reported


def test_bbc_difference_is_zero_when_only_the_reference_can_be_chosen():
    """A search of one trial gains nothing, surely."""
    y = np.repeat([0, 1], [20, 20])
    found = bbc_difference(y[None], y, 0, n_classes=2, n_bootstrap=50)
    assert found == {"difference": 0.0, "ci95": [0.0, 0.0], "p_value": 1.0}


@pytest.mark.parametrize("reference", [-1, 2])
def test_bbc_difference_refuses_a_reference_that_is_no_trial(reference):
    """The index of the reference is checked, a negative one too."""
    with pytest.raises(ValueError, match=f"'reference' is {reference}, allowed is 0 to 1"):
        bbc_difference(np.zeros((2, 4), int), [0, 0, 1, 1], reference, n_classes=2)
