"""Engines that share work give what cross-validating a configuration by itself gives, or leave it to that."""

from dataclasses import replace

import numpy as np
import pytest

from heads import default_parameters
from tuning import Configuration, evaluate, make_folds
from tuning.batch_evaluation import BatchEvaluation, Task
from tuning.logistic_path import logistic_path
from tuning.trials import fold_seed


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


def test_one_that_cannot_be_trained_takes_no_others_from_their_stack(make_data):
    """SMOTE fails with one row of a class in a fold: the others are still taken up the rungs together."""
    X, y = make_data(120)
    y[y == 1] = 0
    y[:2] = 1
    asked = [network(dropout=share) for share in (0.1, 0.2, 0.3, 0.4)]
    asked.insert(2, replace(network(), resampler="smote"))
    task = task_of(X, y)
    *_, reason, _, _ = outcomes = BatchEvaluation(task).outcomes([(one, i) for i, one in enumerate(asked)])
    assert "class" in reason
    others = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    assert len(others) == 4
    assert all(trial.asked in asked for trial in others)


TERMS = {"text.terms": 150, "image.pooled": 6}


@pytest.fixture(scope="module")
def worded():
    """120 texts of 150 rare words beside 6 columns; some words and columns say something of the class."""
    random = np.random.default_rng(4)
    y = random.permutation(np.repeat([0, 1, 2], [60, 24, 36]))
    often = np.where(np.arange(150) % 5 == y[:, None], 0.15, 0.05)
    counts = random.poisson(often)
    images = random.normal(size=(120, 6)) + 0.5 * np.eye(3)[y] @ random.normal(size=(3, 6))
    X = np.hstack([counts, images]).astype(np.float32)
    X[::11, :150] = np.nan
    return X, y


@pytest.mark.parametrize(
    "one",
    [
        network(pca=8, fusion="gated"),
        network(pca=8, whiten=True, class_weight="balanced"),
        replace(network(pca=8), resampler="smote"),
    ],
    ids=["gated", "whitened", "resampled"],
)
def test_networks_on_term_counts_are_those_of_the_pipeline(worded, one, monkeypatch):
    """A stack gives the probabilities of the whole pipeline to 1e-5, without falling back on single fits."""
    X, y = worded
    task = replace(task_of(X, y), blocks=TERMS)
    alone = evaluate(one, X, y, task.folds, blocks=TERMS, n_classes=3)
    monkeypatch.setattr(Task, "evaluate", lambda *_: pytest.fail("fitted alone"))
    (found,) = BatchEvaluation(task).outcomes([(one, 0)], never_dropped=[one.key])
    np.testing.assert_allclose(found.oof, alone.oof, atol=1e-5)
    assert found.fold_scores == alone.fold_scores


def test_logistic_regressions_on_term_counts_are_those_of_the_pipeline(worded, monkeypatch):
    """Solved closely, a path is the whole pipeline to 1e-5; as a search solves it, to 1e-4."""
    X, y = worded
    task = replace(task_of(X, y), blocks=TERMS)
    settings = [(None, 1e-3), ("balanced", 1e-4), (0.5, 1e-4)]
    batch = BatchEvaluation(task)
    path = logistic_path(
        batch.reductions, Cs=[1e-3, 1e-4], class_weights=[None, "balanced", 0.5], n_classes=3, tol=1e-7
    )
    asked = [logistic(C=C, class_weight=weight) for weight, C in settings]
    alone = [evaluate(one, X, y, task.folds, blocks=TERMS, n_classes=3) for one in asked]
    closely = [
        evaluate(logistic(C=C, class_weight=weight, tol=1e-7), X, y, task.folds, blocks=TERMS, n_classes=3)
        for weight, C in settings
    ]
    monkeypatch.setattr(Task, "evaluate", lambda *_: pytest.fail("fitted alone"))
    outcomes = batch.outcomes([(one, number) for number, one in enumerate(asked)])
    for setting, outcome, plain, close in zip(settings, outcomes, alone, closely, strict=True):
        np.testing.assert_allclose(path[setting], close.oof, atol=1e-5)
        np.testing.assert_allclose(outcome.oof, plain.oof, atol=1e-4)
        assert outcome.fold_scores == plain.fold_scores


def test_trees_on_term_counts_see_the_columns_of_the_pipeline(worded, monkeypatch):
    """Boosted trees are the head's own, to the bit, on terms that were weighed and reduced once."""
    from heads import LightGBMHead

    X, y = worded
    task = replace(task_of(X, y), blocks=TERMS)
    given = {"n_estimators": 12, "min_child_samples": 5}
    one = Configuration("lightgbm", "none", {**default_parameters("lightgbm"), **given, "pca": 4})
    monkeypatch.setattr(Task, "evaluate", lambda *_: pytest.fail("fitted alone"))
    batch = BatchEvaluation(task)
    (found,) = batch.outcomes([(one, 0)], never_dropped=[one.key])
    for fold, (_, valid) in enumerate(task.folds):
        rows = batch.reductions.rows(fold, 4)
        head = LightGBMHead(**given, pca=None, random_state=fold_seed(0, fold))
        np.testing.assert_array_equal(
            found.oof[valid], head.fit(rows.train, rows.train_codes).predict_proba(rows.valid).astype("f4")
        )


def test_term_counts_with_permuted_labels_score_chance(worded):
    """Labels that mean nothing score like guessing, over 8 shuffles and three strengths of the penalty."""
    X, y = worded
    random, scores = np.random.default_rng(0), []
    for _ in range(8):
        labels = random.permutation(y)
        batch = BatchEvaluation(replace(task_of(X, labels, n_folds=3), blocks=TERMS))
        outcomes = batch.outcomes([(logistic(C=C), n) for n, C in enumerate((1e-4, 1e-2, 1.0))])
        scores += [outcome.score for outcome in outcomes]
    assert 0.28 < np.mean(scores) < 0.385  # 1/3, with a standard error of about 0.015 over the shuffles


def test_a_logistic_regression_too_wide_for_a_path_is_fitted_alone(worded, monkeypatch):
    """Where rows and columns are both many, the head's own solver answers, bit for bit."""
    monkeypatch.setattr("tuning.batch_evaluation._MOST_ON_A_PATH", 59)
    X, y = worded
    task, one = replace(task_of(X, y), blocks=TERMS), logistic(C=1e-3)
    (found,) = BatchEvaluation(task).outcomes([(one, 0)])
    alone = evaluate(one, X, y, task.folds, blocks=TERMS, n_classes=3)
    np.testing.assert_array_equal(found.oof, alone.oof)
    monkeypatch.setattr("tuning.batch_evaluation._MOST_ON_A_PATH", 60)
    assert BatchEvaluation(task)._engine_of(one) == "logreg"


@pytest.mark.parametrize("large", [False, True])
def test_engines_side_by_side_give_what_each_gives_by_itself(labelled, monkeypatch, large):
    """Three heads in one batch: the outcomes of each are those of a batch of its own, to the bit."""
    X, y = labelled
    if large:
        monkeypatch.setattr("tuning.batch_evaluation._LARGE_BYTES", 0)
    task = task_of(X, y, n_folds=3)
    trees = [
        Configuration("lightgbm", "none", {"n_estimators": 12, "pca": 4, "num_leaves": leaves})
        for leaves in (3, 4)
    ]
    networks = [network(dropout=0.1), network(pca=4)]
    everything = [logistic(C=0.5), logistic(C=0.05), *trees, *networks]
    asked = [(one, number) for number, one in enumerate(everything)]
    together = BatchEvaluation(task).outcomes(asked)
    assert [outcome.number for outcome in together] == list(range(6))
    for part in (asked[:2], asked[2:4], asked[4:]):
        for outcome in BatchEvaluation(task).outcomes(part):
            other = together[outcome.number]
            assert (outcome.key, outcome.rung, outcome.score) == (other.key, other.rung, other.score)
            np.testing.assert_array_equal(outcome.oof, other.oof)


def test_rows_that_cannot_be_reduced_are_the_outcome_of_every_configuration(labelled):
    """Columns are reduced before the engines begin; what is wrong with them is told of each one."""
    X, y = labelled
    broken = X.copy()
    broken[3, 2] = np.inf
    asked = [(logistic(C=0.5), 0), (network(pca=4), 1)]
    reasons = BatchEvaluation(task_of(broken, y)).outcomes(asked)
    assert all(isinstance(reason, str) and "inf" in reason for reason in reasons)


def test_what_ends_a_search_ends_every_engine(labelled):
    """An error from a callback of one engine passes through, whichever thread it came from."""

    def on_step(sentence):
        if "mlp" in sentence:
            raise KeyboardInterrupt("Ctrl-C")

    asked = [(logistic(C=0.5), 0), (network(), 1)]
    with pytest.raises(KeyboardInterrupt, match="Ctrl-C"):
        BatchEvaluation(task_of(*labelled), on_step).outcomes(asked)
