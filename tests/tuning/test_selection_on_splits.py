"""The corrected estimate of what other splits choose equals its slow definition, and is honest."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from tests.tuning.test_selection import draw_rows
from tuning import (
    ChoiceOnSplits,
    bbc_cv,
    bbc_finalists,
    bbc_finalists_difference,
    confusion,
    macro_f1,
    repeated_choice,
)

Y = np.repeat([0, 1, 2], [40, 8, 22])


def _f1(y, predicted):
    return f1_score(y, predicted, average="macro", labels=range(3), zero_division=0)


def _choice(always=3, **changed):
    """Nine trials of 70 rows, of which three and a default are seen on two other splits."""
    rng = np.random.default_rng(1)
    table = np.where(rng.random((9, 3, 70)) < 0.6, Y, rng.integers(0, 3, (9, 3, 70)))
    finalists = [5, 0, 7, 3]
    arguments = {
        "finalists": finalists,
        "repeats": table[finalists, 1:],
        "always": always,
        "n_classes": 3,
        **changed,
    }
    return table, ChoiceOnSplits.of(table[:, 0], Y, **arguments)


def _slow(table, seed, n_bootstrap):
    """Both choices row by row with scikit-learn: macro-F1 and accuracy of the choice, macro-F1 of trial 3."""
    finalists, values = [5, 0, 7, 3], []
    for inside, outside in draw_rows(Y, seed, n_bootstrap):
        own = np.array([_f1(Y[inside], one[0, inside]) for one in table])
        on_splits = {i: np.mean([_f1(Y[inside], split[inside]) for split in table[i, 1:]]) for i in finalists}
        top = np.argsort(-own, kind="stable")[:3].tolist()
        best = max([*(i for i in finalists[:3] if i in top), 3], key=lambda i: on_splits[i])
        seen = table[best, 1:] if best in finalists else table[best, :1]
        values.append(
            [
                np.mean([_f1(Y[outside], split[outside]) for split in seen]),
                np.mean([accuracy_score(Y[outside], split[outside]) for split in seen]),
                np.mean([_f1(Y[outside], split[outside]) for split in table[3, 1:]]),
            ]
        )
    return np.array(values)


def test_bbc_finalists_equals_its_slow_definition():
    """Both choices inside each draw, the score outside, and the gain over the default on the same splits."""
    table, choice = _choice()
    slow = _slow(table, 5, 40)
    found = bbc_finalists(choice, n_bootstrap=40, random_state=5)
    for name, values in (("macro_f1", slow[:, 0]), ("accuracy", slow[:, 1])):
        assert found[name]["mean"] == pytest.approx(values.mean(), abs=1e-12)
        assert found[name]["ci95"] == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=1e-12)
    gain = bbc_finalists_difference(choice, 3, n_bootstrap=40, random_state=5)
    assert gain["difference"] == pytest.approx((slow[:, 0] - slow[:, 2]).mean(), abs=1e-12)


def test_a_default_that_wins_gains_nothing_over_itself():
    """What is chosen and what it is compared with are seen on the same splits: the gain is exactly 0."""
    table, _ = _choice()
    repeats = table[[5, 0, 7, 3], 1:].copy()
    repeats[3] = Y
    gain = bbc_finalists_difference(_choice(repeats=repeats)[1], 3, n_bootstrap=40)
    assert (gain["difference"], gain["ci95"]) == (0, [0, 0])


def test_bbc_finalists_does_not_depend_on_chunks(monkeypatch):
    """One draw at a time gives the numbers of all draws at once."""
    _, choice = _choice()
    whole = bbc_finalists(choice, n_bootstrap=25)
    monkeypatch.setattr(repeated_choice, "_CHUNK_CELLS", 1)
    assert bbc_finalists(choice, n_bootstrap=25) == whole


def test_bbc_finalists_of_the_split_of_the_search_is_bbc_cv():
    """Where all trials are finalists, and their other split is the search's own, nothing is chosen anew."""
    table, _ = _choice()
    own = table[:, 0]
    choice = ChoiceOnSplits.of(own, Y, finalists=range(9), repeats=own[:, None], n_classes=3)
    assert bbc_finalists(choice) == bbc_cv(own, Y, n_classes=3)


def test_bbc_finalists_keeps_groups_together():
    """Copies of rows that are one group widen the interval of as many rows to that of the originals."""
    table, choice = _choice()
    alone = bbc_finalists(choice)["macro_f1"]["ci95"]
    copies, widths = np.repeat(table, 4, axis=2), []
    for groups in (np.repeat(np.arange(70), 4), None):
        several = ChoiceOnSplits.of(
            copies[:, 0],
            np.repeat(Y, 4),
            finalists=[5, 0, 7, 3],
            repeats=copies[[5, 0, 7, 3], 1:],
            always=3,
            n_classes=3,
            groups=groups,
        )
        low, high = bbc_finalists(several)["macro_f1"]["ci95"]
        widths.append(high - low)
    assert widths[0] == pytest.approx(alone[1] - alone[0], rel=0.2)
    assert widths[1] < 0.7 * widths[0]


@pytest.mark.parametrize("kept", [1.0, 0.7])
def test_most_of_the_luck_of_the_best_five_of_a_hundred_guesses_is_taken_out(kept):
    """Rows that suit a guess by chance suit it on every split: the choice of finalists is corrected too."""
    y = np.repeat([0, 1, 2], [180, 30, 90])
    raw, corrected, typical = [], [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        guesses = rng.integers(0, 3, (100, 300))
        splits = [
            np.where(rng.random((100, 300)) < kept, guesses, rng.integers(0, 3, (100, 300))) for _ in range(4)
        ]
        scores = macro_f1(confusion(y, splits[0], 3))
        best = [*np.argsort(-scores[1:], kind="stable")[:5] + 1, 0]  # the first guess is the default
        repeats = np.stack([split[best] for split in splits[1:]], axis=1)
        choice = ChoiceOnSplits.of(splits[0], y, finalists=best, repeats=repeats, always=0, n_classes=3)
        estimate = bbc_finalists(choice, n_bootstrap=200, random_state=seed)["macro_f1"]
        raw.append(macro_f1(confusion(y, repeats.reshape(-1, 300), 3)).reshape(6, 3).mean(axis=1).max())
        corrected.append(estimate["mean"])
        typical.append(scores.mean())
    luck = np.mean(raw) - np.mean(typical)
    assert luck > 0.02
    assert -0.01 < np.mean(corrected) - np.mean(typical) < 0.4 * luck


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"repeats": np.zeros((4, 70), int)}, r"'repeats' has shape \(4, 70\), allowed is \(4, n_repeats"),
        ({"repeats": np.zeros((3, 1, 70), int)}, r"shape \(3, 1, 70\), allowed is \(4, n_repeats"),
        ({"finalists": [5, 0, 7, 9]}, r"'finalists' is \[5, 0, 7, 9\], allowed are indices of the 9 trials"),
        ({"finalists": [5, 5, 7, 3]}, "each once"),
        ({"always": 1}, "'always' is 1, allowed is one of 'finalists'"),
    ],
)
def test_choice_on_splits_refuses_what_does_not_belong_together(changed, message):
    """Shapes, numbers of trials and the default are named."""
    with pytest.raises(ValueError, match=message):
        _choice(**changed)


def test_the_reference_is_one_that_was_seen_on_the_same_splits():
    """A trial of the search's split alone cannot be compared."""
    with pytest.raises(ValueError, match=r"'reference' is 1, allowed is one of the finalists \[5, 0, 7, 3\]"):
        bbc_finalists_difference(_choice()[1], 1)
