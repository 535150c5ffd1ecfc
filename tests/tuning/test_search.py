"""The search repeats itself, keeps the best, survives failures and finds nothing in noise."""

import numpy as np
import pytest

import heads
from tests.tuning.searches import InMemory, facts, run
from tuning import bbc_cv, logistic_grid, open_study, parse_space, trials
from tuning.spaces import build_spaces, starting_configuration


def test_search_tries_the_defaults_first_and_keeps_the_best(labelled):
    """Defaults come in the order of the heads, best is the first of the highest scores."""
    seen = []
    result = run(
        labelled,
        names=("logreg", "lightgbm"),
        n_trials=5,
        on_trial=lambda trial, best: seen.append((trial, best)),
    )
    space = build_spaces(["logreg", "lightgbm"], n_features=12, n_rows=150)
    start = [starting_configuration(head, space) for head in ("logreg", "lightgbm")]
    assert [t.configuration for t in result.trials[:2]] == start
    assert result.default == 0
    scores = [t.score for t in result.trials]
    assert result.best == scores.index(max(scores))
    assert {trial.number for trial, _ in seen} == {t.number for t in (*result.trials, *result.dropped)}
    assert seen[-1][1].number == result.trials[result.best].number
    assert (result.metric, result.n_classes, len(result.folds)) == ("macro_f1", 3, 2)
    assert np.array_equal(result.predictions[2], result.trials[2].oof.argmax(axis=1))
    for fold, (_, valid) in enumerate(result.folds):
        assert np.array_equal(np.flatnonzero(result.fold_of_row == fold), valid)


def test_search_repeats_itself_with_the_same_seed(labelled):
    """Same seed, same configurations, probabilities and winner; another seed asks others."""
    first, again, other = (
        run(labelled, names=("ridge", "logreg"), random_state=seed, n_trials=14) for seed in (4, 4, 5)
    )
    assert facts(first) == facts(again)
    assert [t.configuration for t in first.trials] != [t.configuration for t in other.trials]


def test_search_asks_for_what_is_declared_of_logistic_regression(labelled):
    """A share of the L1 penalty or a resampler is no part of a path: it is asked, and scored as it is."""
    X, y = labelled
    declared = parse_space(
        "[logreg]\nC = 0.05\ntol = 0.001\nl1_ratio = [0.0, 0.5]\nbalance = ['smote', 'none']"
    )
    space = build_spaces(["logreg", "ridge"], n_features=12, n_rows=150, declared=declared)
    found = run(labelled, names=("logreg", "ridge"), n_trials=16, space=space)
    mine = [t for t in found.trials if t.configuration.head == "logreg"]
    asked = {(t.configuration.parameters["l1_ratio"], t.configuration.resampler) for t in mine}
    assert {share for share, _ in asked} == {0.0, 0.5}
    assert {resampler for _, resampler in asked} == {"smote", "none"}
    for trial in mine:
        alone = trials.evaluate(trial.configuration, X, y, found.folds, n_classes=3)
        assert trial.score == alone.score


def test_search_asks_for_elastic_nets(labelled):
    """A fixed share of the L1 penalty has no path: its C is drawn by the sampler, not laid out."""
    declared = parse_space("[logreg]\nl1_ratio = 0.5\ntol = 0.001\nC = {low = 1e-3, high = 0.1, log = true}")
    space = build_spaces(["logreg", "ridge"], n_features=12, n_rows=150, declared=declared)
    found = run(labelled, names=("logreg", "ridge"), n_trials=12, space=space)
    mine = [t.configuration.parameters for t in found.trials if t.configuration.head == "logreg"]
    assert {parameters["l1_ratio"] for parameters in mine} == {0.5}
    laid_out = {one.parameters["C"] for one in logistic_grid(12, space)}
    assert len({parameters["C"] for parameters in mine} - laid_out) >= 2


def test_search_records_configurations_that_fail(make_data):
    """SMOTE cannot work with one row of a class: recorded with its reason, and the search goes on."""
    X, y = make_data(120)
    y[y == 1] = 0
    y[:2] = 1
    study = open_study()
    study.enqueue_trial({"head": "svm", "svm.C": 0.01, "svm.balance": "smote"})
    memory = InMemory()
    result = run((X, y), names=("svm",), n_trials=3, study=study, recall=memory)
    ((configuration, reason),) = result.failures
    assert (configuration.resampler, configuration.parameters["C"]) == ("smote", 0.01)
    assert "class" in reason
    assert [trial.number for trial in result.trials] == [1, 2]
    assert result.default == 0
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE", "COMPLETE"]
    again = run((X, y), names=("svm",), n_trials=3, study=study, recall=memory)
    assert facts(again) == facts(result)


def test_search_says_why_when_everything_fails(labelled):
    """When no configuration can be trained the reasons come in one error."""
    X, y = labelled
    X[3, 2] = np.inf
    with pytest.raises(ValueError, match=r"None of the 3 configurations .*\. Reasons: logreg: "):
        run((X, y), n_trials=3)


def test_search_stops_asking_after_the_timeout(labelled):
    """However short the time, one trial is made and it is the first default."""
    result = run(labelled, n_trials=50, timeout=1e-6)
    assert [t.configuration for t in result.trials] == [starting_configuration("logreg")]


def test_search_makes_no_more_trials_than_it_may(labelled):
    """With fewer trials than heads, only the first heads are tried where they start."""
    result = run(labelled, names=("ridge", "logreg", "centroid"), n_trials=2)
    assert [t.configuration.head for t in result.trials] == ["ridge", "logreg"]
    assert result.default == 0


def test_search_lists_a_repeated_configuration_once(labelled, monkeypatch):
    """A configuration asked twice is computed and listed once, and counts as asked."""
    study = open_study()
    memory = InMemory()
    run(labelled, n_trials=2, study=study, recall=memory)
    study.enqueue_trial(study.trials[0].params)
    result = run(labelled, n_trials=3, study=study, recall=memory)
    assert len(result.trials) == 2
    assert [t.value for t in study.trials[:3]] == [result.trials[i].score for i in (0, 1, 0)]


def test_search_finds_nothing_in_permuted_labels(make_data):
    """With labels that mean nothing, the corrected score of the winner among all heads is chance."""
    X, y = make_data(240)
    y = np.random.default_rng(3).permutation(y)
    result = run((X, y), names=heads.HEADS, n_trials=7)
    corrected = bbc_cv(result.predictions, y, n_classes=3)["macro_f1"]["mean"]
    # Chance lies between 0.25 (the majority) and 1/3; 0.06 is two standard errors with 24 rare rows.
    assert corrected < 1 / 3 + 0.06
    assert {t.configuration.head for t in result.trials} == set(heads.HEADS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_trials": 0, "timeout": 0}, "'n_trials' is 0, allowed is 1 or more; 'timeout' is 0 seconds"),
        ({"names": ("forest",)}, r"unknown heads \['forest'\]"),
        ({"metric": "auc"}, "Unknown metric 'auc'"),
    ],
)
def test_search_refuses_bad_arguments(labelled, options, message):
    """Wrong budgets, heads and metrics are refused before anything runs."""
    with pytest.raises(ValueError, match=message):
        run(labelled, **options)
