"""The corrected estimate of what other splits choose equals its slow definition."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from tests.tuning.test_selection import draw_rows
from tuning import bbc_cv, bbc_finalists, bbc_finalists_difference, repeated_choice


def _f1(y, predicted):
    return f1_score(y, predicted, average="macro", labels=range(3), zero_division=0)


@pytest.fixture
def finalists():
    """Four finalists on three splits, 70 rows, and the predictions of a reference."""
    rng = np.random.default_rng(1)
    y = np.repeat([0, 1, 2], [40, 8, 22])
    table = np.where(rng.random((5, 3, 70)) < 0.6, y, rng.integers(0, 3, (5, 3, 70)))
    return table[:4], y, table[4, 0]


def test_bbc_finalists_equals_its_slow_definition(finalists):
    """Choosing by the mean over splits inside, scoring by the mean outside, written out with scikit-learn."""
    predictions, y, reference = finalists
    found = bbc_finalists(predictions, y, n_classes=3, n_bootstrap=25, random_state=5)
    gain = bbc_finalists_difference(predictions, y, reference, n_classes=3, n_bootstrap=25, random_state=5)
    f1, right, gains = [], [], []
    for inside, outside in draw_rows(y, 5, 25):
        means = [np.mean([_f1(y[inside], split[inside]) for split in one]) for one in predictions]
        best = predictions[int(np.argmax(means))]
        f1.append(np.mean([_f1(y[outside], split[outside]) for split in best]))
        right.append(np.mean([accuracy_score(y[outside], split[outside]) for split in best]))
        gains.append(f1[-1] - _f1(y[outside], reference[outside]))
    for name, values in (("macro_f1", f1), ("accuracy", right)):
        assert found[name]["mean"] == pytest.approx(np.mean(values), abs=1e-12)
        assert found[name]["ci95"] == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=1e-12)
    assert gain["difference"] == pytest.approx(np.mean(gains), abs=1e-12)
    assert gain["ci95"] == pytest.approx(np.percentile(gains, [2.5, 97.5]), abs=1e-12)


def test_bbc_finalists_does_not_depend_on_chunks(finalists, monkeypatch):
    """One draw at a time gives the numbers of all draws at once."""
    predictions, y, _ = finalists
    whole = bbc_finalists(predictions, y, n_classes=3, n_bootstrap=25)
    monkeypatch.setattr(repeated_choice, "_CHUNK_CELLS", 1)
    assert bbc_finalists(predictions, y, n_classes=3, n_bootstrap=25) == whole


def test_bbc_finalists_on_one_split_is_bbc_cv(finalists):
    """With one other split the definition is that of the plain correction on it."""
    predictions, y, _ = finalists
    assert bbc_finalists(predictions[:, :1], y, n_classes=3) == bbc_cv(predictions[:, 0], y, n_classes=3)


def test_bbc_finalists_keeps_groups_together(finalists):
    """Copies of rows that are one group widen the interval of as many rows to that of the originals."""
    predictions, y, _ = finalists
    alone = bbc_finalists(predictions, y, n_classes=3)["macro_f1"]["ci95"]
    copies = np.repeat(predictions, 4, axis=2)
    options = {"n_classes": 3, "groups": np.repeat(np.arange(70), 4)}
    low, high = bbc_finalists(copies, np.repeat(y, 4), **options)["macro_f1"]["ci95"]
    loose = bbc_finalists(copies, np.repeat(y, 4), n_classes=3)["macro_f1"]["ci95"]
    assert high - low == pytest.approx(alone[1] - alone[0], rel=0.15)
    assert loose[1] - loose[0] < 0.7 * (high - low)


def test_bbc_finalists_of_nothing_but_luck_is_chance():
    """Twenty guesses on three splits: the best looks better than chance, the corrected score does not."""
    y = np.repeat([0, 1, 2], [240, 40, 120])
    best, corrected, typical = [], [], []
    for seed in range(6):
        # A guess of its own for each split would leave nothing to be lucky with.
        guesses = np.random.default_rng(seed).integers(0, 3, (20, 1, 400)).repeat(3, axis=1)
        scores = [_f1(y, guess[0]) for guess in guesses]
        best.append(max(scores))
        typical.append(np.mean(scores))
        estimate = bbc_finalists(guesses, y, n_classes=3, n_bootstrap=200, random_state=seed)
        corrected.append(estimate["macro_f1"]["mean"])
    assert np.mean(best) > np.mean(typical) + 0.02
    assert abs(np.mean(corrected) - np.mean(typical)) < 0.015


def test_bbc_finalists_refuses_what_is_no_table(finalists):
    """Shapes and a reference of other rows are named."""
    predictions, y, reference = finalists
    with pytest.raises(
        ValueError, match=r"shape \(4, 70\), allowed is \(n_finalists, n_repeats, n_samples\)"
    ):
        bbc_finalists(predictions[:, 0], y, n_classes=3)
    with pytest.raises(ValueError, match=r"'reference' has shape \(69,\), allowed is \(70,\)"):
        bbc_finalists_difference(predictions, y, reference[1:], n_classes=3)
