"""The search repeats itself, goes on after an interruption, survives failures and finds nothing in noise."""

from dataclasses import replace

import numpy as np
import pytest
from optuna.trial import TrialState

import heads
from tuning import (
    batch_evaluation,
    bbc_cv,
    grid_configurations,
    make_folds,
    open_study,
    parse_space,
    search,
    trials,
)
from tuning.spaces import build_spaces, starting_configuration


class InMemory:
    """A memory that forgets with the process, and counts what it answered."""

    def __init__(self):
        self.kept, self.recalled = {}, 0

    def get(self, key):
        """Look up."""
        self.recalled += key in self.kept
        return self.kept.get(key)

    def put(self, trial):
        """Store."""
        assert trial.key not in self.kept
        self.kept[trial.key] = trial


class Rewritten(InMemory):
    """A memory in which a trial may be stored again, as in files."""

    def put(self, trial):
        """Store."""
        self.kept[trial.key] = trial


def run(data, *, n_trials=8, names=("logreg",), n_folds=2, **options):
    """A small search with the fastest head."""
    X, y = data
    return search(
        X,
        y,
        heads=names,
        n_trials=n_trials,
        folds=make_folds(y, n_folds=n_folds),
        n_classes=3,
        **options,
    )


def facts(result):
    """Everything about a result except how long it took."""
    return (
        [
            (t.number, t.configuration, t.asked, t.rung, t.score, t.fold_scores, t.oof.tobytes())
            for t in (*result.trials, *result.dropped)
        ],
        result.failures,
        result.best,
        result.default,
    )


def stop_after(n):
    """Make a callback that interrupts at the n-th scored trial, as Ctrl-C would."""
    calls = []

    def on_trial(trial, best):
        calls.append(trial)
        if len(calls) == n:
            raise KeyboardInterrupt("stopped by the test")

    return on_trial


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


@pytest.mark.parametrize("storage", [None, "study.journal"])
def test_search_continues_after_an_interruption(labelled, tmp_path, storage):
    """Interrupted and started again, it gives the uninterrupted result and computes nothing twice."""
    whole = run(labelled)
    memory = InMemory()

    def study():
        return open_study("s", str(tmp_path / storage)) if storage else None

    with pytest.raises(KeyboardInterrupt, match="stopped by the test"):
        run(labelled, study=study(), recall=memory, on_trial=stop_after(5))
    computed = len(memory.kept)
    assert computed >= 5
    continued = run(labelled, study=study(), recall=memory)
    assert facts(continued) == facts(whole)
    assert memory.recalled == computed  # InMemory.put refuses a second computation


def test_search_asks_again_what_was_interrupted_while_running(labelled, tmp_path, monkeypatch):
    """A configuration that was cut short is evaluated by the next search of the stored study."""
    path = str(tmp_path / "study.journal")
    evaluated = []

    def cut_short(configuration, *arguments, **options):
        if len(evaluated) == 1:
            raise KeyboardInterrupt("stopped by the test")
        evaluated.append(configuration)
        return trials.evaluate(configuration, *arguments, **options)

    monkeypatch.setattr(batch_evaluation, "evaluate", cut_short)
    with pytest.raises(KeyboardInterrupt, match="stopped by the test"):
        run(labelled, names=("ridge",), n_trials=4, study=open_study("s", path))
    monkeypatch.undo()
    result = run(labelled, names=("ridge",), n_trials=4, study=open_study("s", path))
    asked = [t.configuration for t in run(labelled, names=("ridge",), n_trials=4).trials]
    assert [t.configuration for t in result.trials[:2]] == asked[:2]
    assert len(result.trials) == 4


def test_search_refuses_a_memory_of_other_data(labelled, make_data):
    """Stored probabilities that do not give the stored scores on these rows belong to another search."""
    memory = InMemory()
    run(labelled, n_trials=2, recall=memory)
    X, y = labelled
    with pytest.raises(ValueError, match=r"is not of this search.*another memory"):
        run((X, np.roll(y, 1)), n_trials=2, recall=memory)
    with pytest.raises(ValueError, match=r"probabilities have shape \(150, 3\).*what 100 rows"):
        run(make_data(100), n_trials=2, recall=memory)


def test_search_makes_again_what_an_earlier_version_kept_of_a_diverged_network(labelled):
    """A stored trial with rows that are not finite has no score that means anything."""
    memory = InMemory()
    first = run(labelled, n_trials=3, recall=memory)
    torn = replace(first.trials[1], oof=first.trials[1].oof.copy(), fold_scores=[0.0, 0.0], score=0.0)
    torn.oof[7] = np.nan
    del memory.kept[torn.key]
    fresh = InMemory()
    fresh.get = lambda key: torn if key == torn.key else memory.get(key)
    again = run(labelled, n_trials=3, recall=fresh)
    assert facts(again) == facts(first)
    assert list(fresh.kept) == [torn.key]


def test_search_refuses_a_study_of_another_task(labelled, make_data):
    """Scores of other heads, metric, labels or folds do not mix in one study."""
    study = open_study("mine")
    run(labelled, n_trials=2, study=study)
    with pytest.raises(ValueError, match="Study 'mine' holds metric 'macro_f1', not 'accuracy'"):
        run(labelled, n_trials=3, study=study, metric="accuracy")
    with pytest.raises(ValueError, match=r"heads \['logreg'\], not .*labels and folds"):
        run(make_data(100), n_trials=3, study=study, names=("mlp",))
    foreign = open_study("foreign")
    foreign.tell(foreign.ask(), 0.5)
    with pytest.raises(ValueError, match="Study 'foreign' holds trials of another program"):
        run(labelled, study=foreign)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({}, r"matrix '150 x 12 \w+', not '150 x 12 \w+'"),
        ({"blocks": {"text": 5, "image": 7}}, r"blocks None, not \[\['text', 5\], \['image', 7\]\]"),
        ({"views": True}, r"views \[\], not \['150 x 12 \w+'\]"),
        ({"random_state": 3}, "random_state 0, not 3"),
    ],
    ids=["matrix", "blocks", "views", "seed"],
)
def test_search_does_not_take_over_trials_of_other_rows(labelled, changed, named):
    """Equal labels, folds and names are not enough: what is trained on must be equal, and both are named."""
    X, y = labelled
    study = open_study("shared")
    run((X, y), n_trials=2, study=study)
    run((X.astype(np.float64), y), n_trials=2, study=study)  # the same rows, however they are kept
    options = {**changed, "views": X[None] + 1} if "views" in changed else changed
    rows = X if changed else X + np.float32(0.001)
    with pytest.raises(ValueError, match=f"Study 'shared' holds {named}; scores of different tasks"):
        run((rows, y), n_trials=2, study=study, **options)


def test_search_refuses_a_study_that_did_not_note_its_rows(labelled):
    """Trials of an earlier version may be of any matrix with these labels."""
    study = open_study("old")
    run(labelled, n_trials=2, study=study)
    known = study.user_attrs["embedonce:task"]
    study.set_user_attr(
        "embedonce:task", {k: known[k] for k in ("heads", "metric", "labels and folds", "space")}
    )
    with pytest.raises(
        ValueError, match="'old' holds trials of an earlier version, which did not note their mat"
    ):
        run(labelled, n_trials=2, study=study)


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


NETWORKS = """
[mlp]
hidden = [4, 6, 8]
n_hidden = [1, 2]
max_epochs = 6
pca = 'none'
only = true
"""


def networks():
    """A grid of six networks of six shapes, and the space that it is made of."""
    space = build_spaces(["mlp"], n_features=12, n_rows=150, declared=parse_space(NETWORKS))
    return {"names": ("mlp",), "space": space, "grid": grid_configurations(space, limit=6)}


def test_search_continues_a_grid_with_its_points_and_nothing_else(labelled, tmp_path, monkeypatch):
    """Interrupted while all of it ran, a grid of many shapes is asked again point by point, and is whole."""
    path = str(tmp_path / "study.journal")
    options = networks()
    whole = run(labelled, **options)
    assert [t.configuration for t in whole.trials] == options["grid"]

    def cut_short(*_, **__):
        raise KeyboardInterrupt("stopped by the test")

    monkeypatch.setattr(batch_evaluation, "climb", cut_short)
    with pytest.raises(KeyboardInterrupt, match="stopped by the test"):
        run(labelled, study=open_study("s", path), **options)
    monkeypatch.undo()
    study = open_study("s", path)
    assert facts(run(labelled, study=study, **options)) == facts(whole)
    assert len([t for t in study.trials if t.state.name == "COMPLETE"]) == len(study.trials) - 6 == 6


def test_search_asks_no_more_of_a_grid_than_other_processes_leave(labelled, monkeypatch):
    """Points that were taken between counting and asking are not replaced by drawn ones."""
    options, study = networks(), open_study()
    ask = study.ask

    def taken():
        monkeypatch.setattr(study, "ask", ask)
        for _ in range(3):
            other = ask()
            study.tell(other, state=TrialState.FAIL)
        return ask()

    monkeypatch.setattr(study, "ask", taken)
    found = run(labelled, study=study, **options)
    assert [trial.configuration for trial in found.trials] == options["grid"]
    drawn = [trial for trial in study.trials if "fixed_params" not in trial.system_attrs]
    assert len(drawn) == 1
    assert drawn[0].state == TrialState.FAIL


def test_search_asks_what_waits_and_no_like_shapes_beside_it(labelled, tmp_path, monkeypatch):
    """A batch of many shapes that was cut short is asked again as it was."""
    options = {**networks(), "grid": None}
    path, climb, calls = str(tmp_path / "study.journal"), batch_evaluation.climb, []

    def cut_short(*arguments, **named):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt("stopped by the test")
        return climb(*arguments, **named)

    monkeypatch.setattr(batch_evaluation, "climb", cut_short)
    with pytest.raises(KeyboardInterrupt, match="stopped by the test"):
        run(labelled, study=open_study("s", path), n_trials=40, **options)
    monkeypatch.undo()
    study = open_study("s", path)
    waiting = study.get_trials(states=(TrialState.WAITING,))
    assert len(waiting) == 8
    run(labelled, study=study, n_trials=9, **options)
    states = [trial.state for trial in study.trials]
    assert TrialState.WAITING not in states
    assert len(states) == 1 + 8 + 8  # the start, the batch that was cut short, and the same again


def test_search_takes_a_grid_in_full_after_a_free_search_dropped_its_points(labelled):
    """What is remembered as dropped, or as stopped where it was best, is evaluated as the grid asks."""
    options = networks()
    study = open_study("shared")
    free = run(labelled, study=study, n_trials=24, n_folds=4, **{**options, "grid": None})
    assert free.dropped
    again = run(labelled, study=study, n_folds=4, **options)
    alone = run(labelled, n_folds=4, **options)
    assert not again.dropped
    assert [(t.number, t.configuration, t.score) for t in again.trials] == [
        (t.number, t.configuration, t.score) for t in alone.trials
    ]


def test_search_does_not_mistake_a_part_of_a_batch_for_all_of_it(labelled):
    """Killed while a batch was being stored, it goes on as if it had not: who competed competes again."""
    options = {**networks(), "grid": None, "n_trials": 20, "n_folds": 4}
    whole = InMemory()
    first = run(labelled, recall=whole, **options)
    assert first.dropped
    for lost in (first.dropped[-1], first.trials[-1]):
        torn = Rewritten()
        torn.kept = {key: trial for key, trial in whole.kept.items() if key != lost.key}
        assert facts(run(labelled, recall=torn, **options)) == facts(first)


def test_search_records_networks_that_diverge_and_does_not_train_them_again(labelled, monkeypatch):
    """A network whose weights become infinite is a failure, also for who continues the study."""
    declared = parse_space("[mlp]\nlearning_rate = [0.001, 1e30]\npca = 'none'\nonly = true\nmax_epochs = 4")
    space = build_spaces(["mlp"], n_features=12, n_rows=150, declared=declared)
    study, options = open_study("wild"), {"names": ("mlp",), "space": space, "n_trials": 6}
    found = run(labelled, study=study, **options)
    ((failed, reason),) = found.failures
    assert failed.parameters["learning_rate"] == 1e30
    assert "Use a smaller learning_rate" in reason
    assert all(np.isfinite(t.oof).all() for t in found.trials)
    monkeypatch.setattr(batch_evaluation, "climb", None)
    assert facts(run(labelled, study=study, **options))[1:] == facts(found)[1:]


def test_search_has_nothing_to_do_in_a_finished_study(labelled):
    """Asked for no more than the study has, it returns the same result from memory alone."""
    study, memory = open_study(), InMemory()
    first = run(labelled, n_trials=4, study=study, recall=memory)
    again = run(labelled, n_trials=4, study=study, recall=memory)
    assert facts(again) == facts(first)
    assert memory.recalled == len(study.trials) == 4


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


def test_search_recalls_a_trial_under_its_new_number(labelled):
    """A recalled trial is the stored one with the number of this search."""
    memory = InMemory()
    first = run(labelled, n_trials=2, recall=memory)
    memory.kept = {key: replace(trial, number=77) for key, trial in memory.kept.items()}
    again = run(labelled, n_trials=2, recall=memory)
    assert facts(again) == facts(first)
