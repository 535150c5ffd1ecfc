"""The one-standard-error rule takes something simpler only where the scores cannot tell."""

import time

import numpy as np
import pytest

import heads
from tuning import Configuration, Trial, confusion, macro_f1, make_folds, simplest_within_one_se
from tuning.trials import fold_scores_of

Y = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [240, 40, 120]))
FOLDS = make_folds(Y)


def trial(number, codes, head="logreg", resampler="none", **parameters):
    """A trial of a head that predicted these codes."""
    scores = fold_scores_of(codes, Y, FOLDS, n_classes=3, metric="macro_f1")
    oof = np.eye(3, dtype=np.float32)[codes]
    configuration = Configuration(head, resampler, parameters)
    return Trial(number, configuration, float(np.mean(scores)), scores, 0.1, oof)


def wrong(n, seed=0):
    """The true classes but for ``n`` random rows."""
    rows = np.random.default_rng(seed).choice(len(Y), n, replace=False)
    codes = Y.copy()
    codes[rows] = (codes[rows] + 1) % 3
    return codes


def choose(trials):
    """Index of the choice."""
    return simplest_within_one_se(trials, Y, FOLDS, 3)


def test_simplest_keeps_the_best_when_it_is_clearly_better():
    """A simpler head that is worse by far is not taken."""
    assert choose([trial(0, wrong(100), "ridge"), trial(1, wrong(20, 1), "mlp")]) == 1


def test_simplest_is_taken_within_one_standard_error():
    """A ridge that errs on two rows more than the network, on other rows, is taken."""
    assert choose([trial(0, wrong(80, 1), "mlp"), trial(1, wrong(82, 2), "ridge")]) == 1


def bootstrapped_difference(best, other, rng):
    """Macro-F1 of one minus that of the other on rows drawn within each fold and class, mean over folds."""
    pairs = []
    for _, valid in FOLDS:
        cells = [valid[Y[valid] == code] for code in range(3)]
        rows = np.concatenate([rng.choice(cell, len(cell)) for cell in cells])
        first, second = macro_f1(confusion(Y[rows], np.stack([best[rows], other[rows]]), 3))
        pairs.append(first - second)
    return np.mean(pairs)


def test_simplest_uses_the_standard_error_of_paired_differences():
    """The boundary is where the difference equals its deviation over plain bootstraps of the rows."""
    rng = np.random.default_rng(1)
    found = set()
    for n_worse in range(0, 24, 4):
        best, other = wrong(60, 1), wrong(60 + n_worse, 2)
        error = np.std([bootstrapped_difference(best, other, rng) for _ in range(300)], ddof=1)
        a, b = trial(0, best, "mlp"), trial(1, other, "ridge")
        ratio = (a.score - b.score) / error
        if ratio > 0 and abs(ratio - 1) > 0.2:  # further than the noise of the two bootstraps
            found.add(ratio < 1)
            assert (choose([a, b]) == 1) == (ratio < 1)
    assert found == {True, False}


@pytest.mark.parametrize(
    ("simpler", "other"),
    [
        (("centroid", {}), ("ridge", {})),
        (("ridge", {"alpha": 1.0}), ("logreg", {"C": 1e-5})),
        (("logreg", {}), ("svm", {})),
        (("svm", {}), ("knn", {})),
        (("knn", {}), ("lightgbm", {})),
        (("lightgbm", {"num_leaves": 31}), ("mlp", {"hidden": 64})),
        (("ridge", {"alpha": 1000.0}), ("ridge", {"alpha": 10.0})),
        (("logreg", {"C": 0.001}), ("logreg", {})),  # what is not named has the head's default, here 0.01
        (("knn", {"n_neighbors": 50}), ("knn", {"n_neighbors": 5})),
        (
            ("lightgbm", {"n_estimators": 50, "num_leaves": 7}),
            ("lightgbm", {"n_estimators": 30, "num_leaves": 15}),
        ),
        (("mlp", {"pca": 64, "hidden": 128}), ("mlp", {"pca": 256, "hidden": 64})),
        (("mlp", {"pca": 64, "hidden": 128}), ("mlp", {"pca": None, "hidden": 64})),
        (("mlp", {"n_hidden": 1}), ("mlp", {"n_hidden": 2})),
        (("mlp", {"weight_decay": 1.0}), ("mlp", {"weight_decay": 0.01})),
        (("mlp", {"hidden": [64, 8]}), ("mlp", {"hidden": [64, 64]})),
        (("mlp", {"hidden": 64, "n_hidden": 2, "taper": True}), ("mlp", {"hidden": 64, "n_hidden": 2})),
        (("mlp", {"n_hidden": 0, "pca": 64}), ("mlp", {"hidden": 2, "n_hidden": 1, "pca": 64})),
        (("mlp", {"n_hidden": 0}), ("mlp", {"hidden": [16]})),
    ],
)
def test_simplest_follows_the_documented_order(simpler, other):
    """Of two trials with the same predictions the simpler one is chosen, whichever comes first."""
    one = trial(0, wrong(50), simpler[0], **simpler[1])
    two = trial(1, wrong(50), other[0], **other[1])
    assert choose([one, two]) == 0
    assert choose([two, one]) == 1


def test_simplest_prefers_no_resampler_then_the_score_then_the_earlier():
    """What the order of heads and parameters leaves open is settled, and the same every time."""
    plain, resampled = trial(0, wrong(50), "ridge"), trial(1, wrong(50), "ridge", "smote")
    assert choose([resampled, plain]) == 1
    better = trial(2, wrong(48), "ridge", class_weight=None)
    assert choose([plain, better]) == 1
    assert choose([plain, plain]) == 0


def test_simplest_knows_every_head():
    """A head that is added must be given its place in the order."""
    trials = [trial(i, wrong(50), head) for i, head in enumerate(heads.HEADS)]
    assert trials[choose(trials)].configuration.head == "centroid"


def test_simplest_is_quick_for_a_whole_search():
    """Comparing 200 trials takes seconds of processor time, not minutes."""
    trials = [trial(i, wrong(150, i), "ridge", alpha=float(200 - i)) for i in range(199)]
    began = time.process_time()
    assert choose([*trials, trial(199, Y, "mlp")]) == 199
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    ("trials", "message"),
    [
        ([], "'trials': there are none"),
        ([trial(3, wrong(5), "forest")], "trial 3 is of head 'forest'"),
        (
            [Trial(4, Configuration("ridge", "none", {}), 0.5, [0.5], 0.1, np.zeros((3, 3), np.float32))],
            r"trial 4 has probabilities of shape \(3, 3\).*shape \(400, 3\)",
        ),
    ],
)
def test_simplest_refuses_trials_it_cannot_order(trials, message):
    """No trials, an unknown head and other rows are named."""
    with pytest.raises(ValueError, match=message):
        choose(trials)
