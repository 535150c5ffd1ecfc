"""A search that was interrupted goes on: what was finished is recalled, what was running is asked again."""

from dataclasses import replace

import numpy as np
import pytest
from optuna.trial import TrialState

from tests.tuning.searches import InMemory, facts, networks, run, stop_after
from tuning import batch_evaluation, open_study, trials


class Rewritten(InMemory):
    """A memory in which a trial may be stored again, as in files."""

    def put(self, trial):
        """Store."""
        self.kept[trial.key] = trial


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


def test_search_has_nothing_to_do_in_a_finished_study(labelled):
    """Asked for no more than the study has, it returns the same result from memory alone."""
    study, memory = open_study(), InMemory()
    first = run(labelled, n_trials=4, study=study, recall=memory)
    again = run(labelled, n_trials=4, study=study, recall=memory)
    assert facts(again) == facts(first)
    assert memory.recalled == len(study.trials) == 4


def test_search_recalls_a_trial_under_its_new_number(labelled):
    """A recalled trial is the stored one with the number of this search."""
    memory = InMemory()
    first = run(labelled, n_trials=2, recall=memory)
    memory.kept = {key: replace(trial, number=77) for key, trial in memory.kept.items()}
    again = run(labelled, n_trials=2, recall=memory)
    assert facts(again) == facts(first)


def test_search_refuses_a_memory_of_other_data(labelled, make_data):
    """Stored probabilities that do not give the stored scores on these rows belong to another search."""
    memory = InMemory()
    run(labelled, n_trials=2, recall=memory)
    X, y = labelled
    with pytest.raises(ValueError, match=r"is not of this search.*another memory"):
        run((X, np.roll(y, 1)), n_trials=2, recall=memory)
    with pytest.raises(ValueError, match=r"probabilities have shape \(150, 3\).*what 100 rows"):
        run(make_data(100), n_trials=2, recall=memory)


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
