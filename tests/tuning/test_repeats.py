"""Repeated cross-validation: other splits and seeds for each repeat, the same for every finalist."""

import math

import numpy as np
import pytest
from scipy.stats import t

from tuning import (
    Configuration,
    EvaluationOnSplits,
    RepeatError,
    Trial,
    confusion,
    evaluate,
    macro_f1,
    make_folds,
    nadeau_bengio,
    repeat_finalists,
)

STRONG, WEAK = Configuration("ridge", "none", {"alpha": 1e9}), Configuration("ridge", "none", {"alpha": 1.0})


def evaluation(X, y, seen=None):
    """What `repeat_finalists` calls, noting what it was called with."""

    def evaluate_on(configurations, folds, seed):
        if seen is not None:
            seen.append((list(configurations), [valid.tolist() for _, valid in folds], seed))
        return [evaluate(one, X, y, folds, n_classes=3, random_state=seed) for one in configurations]

    return evaluate_on


def test_nadeau_bengio_equals_the_published_formula():
    """Mean, interval and p-value follow from s2 (1/J + n2/n1), computed here by hand."""
    values = [0.02, -0.01, 0.03, 0.00, 0.01, 0.04, -0.02, 0.05, 0.01, 0.02]
    mean = math.fsum(values) / 10
    s2 = math.fsum((v - mean) ** 2 for v in values) / 9
    error = math.sqrt((1 / 10 + 80 / 320) * s2)
    found = nadeau_bengio(values, test_share=80 / 320)
    assert found["difference"] == pytest.approx(mean)
    assert found["ci95"] == pytest.approx([mean - 2.2621572 * error, mean + 2.2621572 * error], rel=1e-6)
    assert found["p_value"] == pytest.approx(2 * (1 - t.cdf(mean / error, 9)))
    assert nadeau_bengio(np.negative(values), test_share=0.25)["p_value"] == pytest.approx(found["p_value"])


def test_nadeau_bengio_of_differences_without_spread_is_certain():
    """Ten zeros are no difference; ten equal differences are one."""
    assert nadeau_bengio([0.0] * 10, test_share=0.25) == {
        "difference": 0.0,
        "ci95": [0.0, 0.0],
        "p_value": 1.0,
    }
    assert nadeau_bengio([0.5] * 10, test_share=0.25)["p_value"] == 0.0


@pytest.mark.parametrize(("values", "share"), [([0.1], 0.25), ([0.1, np.nan], 0.25), ([0.1, 0.2], 0.0)])
def test_nadeau_bengio_refuses_what_has_no_variance(values, share):
    """One value, NaN and a share of 0 are named."""
    with pytest.raises(ValueError, match=r"'differences' is .* and 'test_share' .*, allowed are two finite"):
        nadeau_bengio(values, test_share=share)


def test_repeat_finalists_scores_every_finalist_on_the_same_new_splits(labelled):
    """All finalists get one split and seed; these differ between repeats, and come from the seed alone."""
    X, y = labelled
    seen = []
    found = repeat_finalists([WEAK, STRONG], evaluation(X, y, seen), y, n_repeats=3, random_state=4)
    assert [entry[0] for entry in seen] == [[WEAK, STRONG]] * 3
    assert len({str(entry[1]) for entry in seen}) == len({entry[2] for entry in seen}) == 3
    again = repeat_finalists([WEAK, STRONG], evaluation(X, y), y, n_repeats=3, random_state=4)
    assert again.compared(0) == found.compared(0)
    assert found.predictions.shape == (2, 3, len(y))
    for repeat, (_, valids, _) in enumerate(seen):
        for fold, valid in enumerate(valids):
            counts = confusion(y[valid], found.predictions[1, repeat, valid], 3)
            assert macro_f1(counts) == pytest.approx(found.scores[1, repeat, fold])


def test_repeats_compare_the_others_with_the_winner(make_data):
    """The winner stands first, the others follow by mean; the corrected test is over all fold scores."""
    X, y = make_data(150, d=60, signal=1.5)
    middle = Configuration("ridge", "none", {"alpha": 1e3})
    found = repeat_finalists([WEAK, STRONG, middle], evaluation(X, y), y, n_repeats=4)
    assert found.best == 2
    assert [i for i, _ in found.compared(2)] == [2, 1, 0] or [i for i, _ in found.compared(2)] == [2, 0, 1]
    (_, first), *rest = found.compared(0)
    others = [entry for _, entry in rest]
    assert [one["configuration"] for one in (first, *others)] == [
        one.as_dict() for one in (WEAK, middle, STRONG)
    ]
    assert others[0]["mean"] > others[1]["mean"]
    assert (first["difference"], first["p_value"]) == (0.0, 1.0)
    for other in others:
        scores, reference = np.array(other["scores"]), np.array(first["scores"])
        assert scores.shape == reference.shape == (4, 5)
        assert other["mean"] == pytest.approx(scores.mean())
        assert other["std"] == pytest.approx(scores.mean(axis=1).std(ddof=1))
        expected = nadeau_bengio((scores - reference).ravel(), test_share=0.25)
        assert {name: other[name] for name in expected} == expected
        assert other["difference"] == pytest.approx(other["mean"] - first["mean"])


def test_repeat_finalists_stops_when_it_is_told_to(labelled):
    """Two repeats that were allowed are those of a longer run; none gives an empty list."""
    X, y = labelled
    two = repeat_finalists(
        [WEAK, STRONG], evaluation(X, y), y, n_repeats=9, goes_on=lambda repeat: repeat < 2
    )
    again = repeat_finalists([WEAK, STRONG], evaluation(X, y), y, n_repeats=2)
    assert two.compared(0) == again.compared(0)
    assert repeat_finalists([WEAK], evaluation(X, y), y, goes_on=bool) is None


@pytest.mark.parametrize(
    "configuration",
    [
        Configuration("logreg", "none", {"C": 0.03, "class_weight": "balanced"}),
        Configuration("ridge", "smote", {"alpha": 30.0}),
        Configuration("mlp", "none", {"hidden": 32, "max_epochs": 5, "validation_fraction": 0.0}),
    ],
    ids=lambda configuration: configuration.head,
)
def test_evaluation_on_splits_equals_the_plain_evaluation(configuration, labelled):
    """What the shared engines give on new folds is what fitting each fold by itself gives."""
    X, y = labelled
    evaluate_on = EvaluationOnSplits(X, y, n_classes=3, metric="macro-f1")
    for seed in (0, 1):
        folds = make_folds(y, n_folds=3, random_state=seed)
        (found,) = evaluate_on([configuration], folds, seed)
        plain = evaluate(configuration, X, y, folds, n_classes=3, random_state=seed)
        assert found.oof == pytest.approx(plain.oof, abs=2e-3)
        assert found.fold_scores == pytest.approx(plain.fold_scores, abs=0.02)


def test_evaluation_on_splits_says_why_a_configuration_fails():
    """A refusal of the head is not taken for a score."""
    X, y = np.zeros((40, 3), np.float32), np.repeat([0, 1], 20)
    X[3, 1] = np.inf
    evaluate_on = EvaluationOnSplits(X, y, n_classes=2, metric="accuracy")
    with pytest.raises(RepeatError, match="infinit"):
        evaluate_on([STRONG, WEAK], make_folds(y, n_folds=2), 0)


def test_evaluation_on_splits_trains_networks_of_one_shape_together(labelled, monkeypatch):
    """Networks among the finalists are one population, and each is what it is alone, in the order given."""
    from tuning import batch_evaluation

    X, y = labelled
    fixed = {"hidden": 16, "validation_fraction": 0.0, "batch_size": 64}
    slow, quick = (
        Configuration("mlp", "none", {**fixed, "max_epochs": epochs, "learning_rate": rate})
        for epochs, rate in ((6, 1e-4), (3, 1e-2))
    )
    populations = []

    class Counted(batch_evaluation.StackedMLPs):
        def __init__(self, configurations, *args, **options):
            populations.append(len(configurations))
            super().__init__(configurations, *args, **options)

    monkeypatch.setattr(batch_evaluation, "StackedMLPs", Counted)
    folds = make_folds(y, n_folds=3)
    evaluate_on = EvaluationOnSplits(X, y, n_classes=3, metric="macro-f1")
    found = evaluate_on([slow, WEAK, quick], folds, 5)
    assert populations == [2]
    for one, trial in zip((slow, WEAK, quick), found, strict=True):
        plain = evaluate(one, X, y, folds, n_classes=3, random_state=5)
        np.testing.assert_allclose(trial.oof, plain.oof, atol=1e-5)
        assert trial.fold_scores == plain.fold_scores


def test_repeat_finalists_keeps_groups_together(labelled):
    """Rows of one group are validated in one fold, in every repeat."""
    X, y = labelled
    y = np.repeat(y[::3], 3)  # a group is three rows of one class
    groups, seen = np.repeat(np.arange(50), 3), []
    repeat_finalists([WEAK], evaluation(X, y, seen), y, groups=groups, n_folds=4, n_repeats=2)
    for _, valids, _ in seen:
        held = [set(groups[valid]) for valid in valids]
        assert sum(len(part) for part in held) == 50


def test_repeat_finalists_finds_nothing_in_permuted_labels(make_data):
    """With labels that mean nothing every finalist scores chance, and none differs from the first."""
    X, y = make_data(200, d=20, signal=0.0)
    finalists = [Configuration("ridge", "none", {"alpha": alpha}) for alpha in (1.0, 100.0, 3000.0)]
    for _, entry in repeat_finalists(finalists, evaluation(X, y), y, n_repeats=3).compared(0):
        assert 0.2 < entry["mean"] < 0.4
        assert entry["p_value"] > 0.05


def test_repeat_finalists_keeps_the_order_of_equals():
    """Finalists with the same scores stay as given, and one repeat has no spread."""
    y = np.repeat([0, 1], 20)

    def constant(configurations, folds, seed):
        oof = np.zeros((40, 2), np.float32)
        return [Trial(0, one, 0.5, [0.4, 0.6], 0.1, oof) for one in configurations]

    found = repeat_finalists([STRONG, WEAK], constant, y, n_folds=2, n_repeats=1)
    assert found.best == 0
    assert [i for i, _ in found.compared(0)] == [0, 1]
    assert [entry["configuration"] for _, entry in found.compared(0)] == [STRONG.as_dict(), WEAK.as_dict()]
    assert [entry["std"] for _, entry in found.compared(0)] == [None, None]


def test_repeat_finalists_tells_a_split_that_cannot_be_cut_from_a_fault_of_its_own():
    """Only what another split brings with it is a `RepeatError`; wrong arrays stay what they are."""
    y, groups = np.repeat([0, 1], 20), np.repeat(np.arange(20), 2)
    with pytest.raises(RepeatError, match="n_folds"):
        repeat_finalists([STRONG, WEAK], evaluation(None, None), y, groups=groups, n_folds=15)

    def torn(configurations, folds, seed):
        oof = np.zeros((40, 2), np.float32)
        return [Trial(n, one, 0.5, [0.5] * (n + 1), 0.1, oof) for n, one in enumerate(configurations)]

    with pytest.raises(ValueError, match="inhomogeneous") as caught:
        repeat_finalists([STRONG, WEAK], torn, y, n_folds=2)
    assert not isinstance(caught.value, RepeatError)


def test_repeat_finalists_refuses_what_cannot_be_repeated():
    """All faults are named together."""
    with pytest.raises(ValueError, match=r"'finalists' is empty.*; 'n_repeats' is 0, allowed is 1 or more"):
        repeat_finalists([], evaluation(None, None), [0, 1], n_repeats=0)
    with pytest.raises(ValueError, match="holds a configuration twice"):
        repeat_finalists([WEAK, WEAK], evaluation(None, None), [0, 1])
