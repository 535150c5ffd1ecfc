"""A study is continued by searches of the same task only, and a grid asks for its points and nothing else."""

import numpy as np
import pytest
from optuna.trial import TrialState

from tests.tuning.searches import facts, networks, run
from tuning import batch_evaluation, open_study, parse_space
from tuning.spaces import build_spaces


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
