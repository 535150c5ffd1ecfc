"""Engines that share work give what cross-validating a configuration by itself gives, or leave it to that."""

from dataclasses import replace

import numpy as np
import pytest

from heads import default_parameters
from tuning import Configuration, evaluate, make_folds
from tuning.batch_evaluation import BatchEvaluation, Task


def task_of(X, y, *, n_folds=2):
    """A small task."""
    return Task(X, y, make_folds(y, n_folds=n_folds), None, 3, "macro_f1", 0)


def logistic(**parameters):
    """A logistic regression, with the head's defaults for what is not named."""
    return Configuration("logreg", "none", parameters)


@pytest.mark.parametrize(
    "parameters",
    [
        {"C": 0.05, "l1_ratio": 0.5, "tol": 1e-3},
        {"C": 0.5, "class_weight": "effective", "effective_beta": 0.9},
        {"C": 0.5, "tol": 0.1},
        {"class_weight": None},
        {"C": 0.5},
    ],
    ids=lambda parameters: "+".join(parameters),
)
def test_a_logistic_regression_is_scored_with_all_its_parameters(labelled, parameters):
    """Whatever is set, the outcome is that of the head alone; the path is for C and class weights."""
    X, y = labelled
    task, one = task_of(X, y), logistic(**parameters)
    (found,) = BatchEvaluation(task).outcomes([(one, 0)])
    alone = evaluate(one, X, y, task.folds, n_classes=3)
    np.testing.assert_allclose(found.oof, alone.oof, atol=2e-3)
    assert found.fold_scores == alone.fold_scores


def test_an_elastic_net_is_not_the_plain_penalty(labelled):
    """Beside its L2 neighbour in one batch, an elastic net has its own probabilities, to the bit."""
    X, y = labelled
    task = task_of(X, y)
    plain, elastic = logistic(C=0.05), logistic(C=0.05, l1_ratio=0.5, tol=1e-3)
    first, second = BatchEvaluation(task).outcomes([(plain, 0), (elastic, 1)])
    alone = evaluate(elastic, X, y, task.folds, n_classes=3)
    np.testing.assert_array_equal(second.oof, alone.oof)
    assert second.score == alone.score
    assert np.abs(first.oof - second.oof).max() > 0.02


def network(**changes):
    """An MLP as a search trains it."""
    small = {"hidden": 8, "batch_size": 32, "max_epochs": 8, "learning_rate": 3e-3}
    fixed = {"validation_fraction": 0.0, "schedule": "constant"}
    return Configuration("mlp", "none", {**default_parameters("mlp"), **fixed, **small, **changes})


@pytest.mark.parametrize("in_full", [False, True])
def test_a_network_that_diverges_is_a_failure_like_a_plain_head(labelled, in_full):
    """Its neighbour in the stack is scored, and it has a reason instead of a score, in full or not."""
    X, y = labelled
    task, calm, wild = task_of(X, y), network(), network(learning_rate=1e30)
    keys = [one.key for one in (calm, wild) if in_full]
    found, reason = BatchEvaluation(task).outcomes([(calm, 0), (wild, 1)], never_dropped=keys)
    assert np.isfinite(found.oof).all()
    assert isinstance(reason, str)
    assert "Use a smaller learning_rate" in reason
    with pytest.raises(ValueError, match="Use a smaller learning_rate"):
        evaluate(wild, X, y, task.folds, n_classes=3)


def test_only_networks_that_diverge_leave_nothing_to_compare(labelled):
    """A batch in which nothing stays finite is a batch of failures."""
    X, y = labelled
    both = [(network(learning_rate=rate), number) for number, rate in enumerate((1e30, 1e31))]
    outcomes = BatchEvaluation(task_of(X, y, n_folds=4)).outcomes(both)
    assert all(isinstance(outcome, str) for outcome in outcomes)


def test_a_model_whose_probabilities_are_not_finite_has_no_trial(labelled, monkeypatch):
    """A head that answers NaN after it was fitted is refused by the plain evaluation too."""
    from heads import MLPHead

    X, y = labelled
    monkeypatch.setattr(MLPHead, "_probabilities", lambda _, rows: np.full((len(rows), 3), np.nan))
    alone = replace(network(), parameters={**network().parameters, "schedule": "one-cycle"})
    (reason,) = BatchEvaluation(task_of(X, y)).outcomes([(alone, 0)])
    assert "probabilities of fold 0 are not finite" in reason
