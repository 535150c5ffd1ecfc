"""Ensembles of stored probabilities against plain implementations."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss
from sklearn.model_selection import cross_val_predict
from sklearn.preprocessing import StandardScaler

import heads
from heads.columns import softmax
from tests.kit.stratified_folds import fold_of_row, splits


def _models(n_models=6, n_samples=400, *, noise=2.0, seed=0):
    """Models that see the truth through noise of their own, the later ones more of it."""
    random = np.random.default_rng(seed)
    y = random.choice(3, n_samples, p=[0.6, 0.1, 0.3])
    levels = noise * np.linspace(0.8, 1.6, n_models)
    logits = 2 * np.eye(3)[y] + random.normal(size=(n_models, n_samples, 3)) * levels[:, None, None]
    return softmax(logits.reshape(-1, 3)).reshape(n_models, n_samples, 3), y


def _macro_f1(y, probabilities):
    predicted = np.argmax(probabilities, axis=-1)
    return f1_score(y, predicted, average="macro", labels=range(3), zero_division=0)


def test_soft_vote_equals_a_plain_loop():
    """The vote is the weighted mean, model by model."""
    stack, y = _models(4, 50)
    weights = [0.5, 0.0, 2.0, 1.5]
    plain = sum(weight * model for weight, model in zip(weights, stack, strict=True)) / 4
    assert_allclose(heads.soft_vote(stack, weights=weights), plain)
    assert_allclose(heads.soft_vote(stack), np.mean(stack, axis=0))
    assert_allclose(heads.fit_soft_vote(stack, y).apply(stack), np.mean(stack, axis=0))


@pytest.mark.parametrize("n_models", [2, 3, 4])
@pytest.mark.parametrize("tie", [None, 1])
def test_majority_vote_equals_counting_row_by_row(n_models, tie):
    """The class named most often wins; a tie goes to the tie class, or to the likelier of the tied."""
    stack, _ = _models(n_models, 200, noise=4.0)
    plain, n_ties = [], 0
    for row in range(200):
        named = [int(np.argmax(model[row])) for model in stack]
        tied = [c for c in range(3) if named.count(c) == max(named.count(k) for k in range(3))]
        n_ties += len(tied) > 1
        likeliest = max(tied, key=lambda c: stack[:, row, c].mean())
        plain.append(tied[0] if len(tied) == 1 else likeliest if tie is None else tie)
    assert n_ties > 5
    assert_array_equal(heads.majority_vote(stack, tie=tie), plain)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_stacking_equals_scikit_learn(class_weight):
    """Stacking is scikit-learn's logistic regression on standardised log-probabilities."""
    stack, y = _models(3, 300)
    columns = StandardScaler().fit_transform(np.log(np.concatenate(stack, axis=1)))
    theirs = LogisticRegression(C=0.01, class_weight=class_weight, tol=1e-8, max_iter=5000).fit(columns, y)
    ours = heads.fit_stacking(stack, y, class_weight=class_weight)
    assert_allclose(ours.apply(stack), theirs.predict_proba(columns), atol=2e-3)


def test_stacking_gives_a_class_it_never_saw_probability_zero():
    """The columns stay those of the classes."""
    stack, y = _models(2, 100)
    found = heads.fit_stacking(stack, np.where(y == 1, 2, y)).apply(stack)
    assert found.shape == (100, 3)
    assert (found[:, 1] == 0).all()
    assert_allclose(found.sum(axis=1), 1)


def _slow_greedy(stack, y, *, n_start, max_size):
    """Caruana's selection written plainly: all prefixes, means computed from nothing each time."""
    ranks = sorted(
        range(len(stack)), key=lambda m: (-round(_macro_f1(y, stack[m]), 12), log_loss(y, stack[m]))
    )
    chosen = ranks[:n_start]
    history = [(_macro_f1(y, stack[chosen].mean(axis=0)), list(chosen))]
    while len(chosen) < max_size:
        means = {m: stack[[*chosen, m]].mean(axis=0) for m in ranks}
        pick = max(ranks, key=lambda m: (round(_macro_f1(y, means[m]), 12), -log_loss(y, means[m])))
        chosen = [*chosen, pick]
        history.append((_macro_f1(y, means[pick]), chosen))
    best = max(history, key=lambda entry: (round(entry[0], 12), -len(entry[1])))[1]
    return np.bincount(best, minlength=len(stack)) / len(best)


@pytest.mark.parametrize("n_start", [1, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_greedy_equals_plain_selection(n_start, seed):
    """One bag of all models gives the weights of the slow implementation."""
    stack, y = _models(5, 80, seed=seed)
    plain = _slow_greedy(stack, y, n_start=n_start, max_size=8)
    found = heads.fit_greedy(stack, y, n_start=n_start, max_size=8, n_bags=1, bag_share=1.0)
    assert_allclose(found.weights, plain)
    assert _macro_f1(y, found.apply(stack)) >= _macro_f1(y, stack[:n_start].mean(axis=0))


def test_greedy_bags_are_seeded_and_weights_sum_to_one():
    """One seed gives one ensemble, another seed another, and models left out have weight 0."""
    stack, y = _models(12, 200)
    first = heads.fit_greedy(stack, y, n_bags=5, n_kept=6, random_state=3).weights
    assert_array_equal(heads.fit_greedy(stack, y, n_bags=5, n_kept=6, random_state=3).weights, first)
    assert np.abs(heads.fit_greedy(stack, y, n_bags=5, n_kept=6, random_state=4).weights - first).max() > 0.01
    assert first.sum() == pytest.approx(1)
    worst = np.argsort([_macro_f1(y, model) for model in stack])[:4]
    assert (first[worst] == 0).all()
    assert np.count_nonzero(first) > 2


def test_best_single_is_the_model_with_the_best_score():
    """All weight goes to one model; of equal scores to the one with the lower log loss."""
    stack, y = _models(6, 200)
    best = int(np.argmax([_macro_f1(y, model) for model in stack]))
    assert heads.fit_best_single(stack, y).weights.tolist() == [float(m == best) for m in range(6)]
    sharper = softmax(np.log(stack[best]) * 20)
    both = np.stack([sharper, stack[best]])
    assert log_loss(y, sharper) > log_loss(y, stack[best])
    assert heads.fit_best_single(both, y).weights.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("fit", [heads.fit_soft_vote, heads.fit_stacking, heads.fit_greedy])
def test_ensembles_beat_the_best_model_on_rows_they_have_not_seen(fit):
    """With errors of their own, models are better together; said nested over folds."""
    stack, y = _models(8, 1000)
    report = heads.with_and_without(fit, stack, y, fold_of_row(y))
    assert report["with"]["log_loss"] < report["without"]["log_loss"] - 0.05
    assert report["with"]["accuracy"] > report["without"]["accuracy"] + 0.02


def test_with_and_without_chooses_the_single_model_without_the_rows_it_scores():
    """Among coin-tossing models the one that "won" on all rows is not what is reported."""
    random = np.random.default_rng(0)
    y = np.arange(90) % 3
    stack = softmax(random.normal(size=(200 * 90, 3))).reshape(200, 90, 3)
    report = heads.with_and_without(heads.fit_soft_vote, stack, y, fold_of_row(y))
    assert max(_macro_f1(y, model) for model in stack) > 0.44
    assert report["without"]["macro_f1"] < 0.42


@pytest.mark.parametrize("fit", [heads.fit_stacking, heads.fit_greedy])
def test_ensembles_of_permuted_labels_score_chance(fit, hard):
    """Out-of-fold probabilities of permuted labels hold nothing that a nested ensemble could find."""
    X, y = hard
    scores, chance = [], []
    for seed in range(3):
        permuted = np.random.default_rng(seed).permutation(y)
        stack = np.stack(
            [
                cross_val_predict(
                    heads.LogisticHead(C=C), X, permuted, cv=splits(permuted), method="predict_proba"
                )
                for C in (1e-4, 1e-2, 1.0)
            ]
        )
        found = heads.nested_apply(fit, stack, permuted, fold_of_row(permuted))
        scores.append(_macro_f1(permuted, found))
        shuffled = [np.random.default_rng(i).permutation(found) for i in range(50)]
        chance.append(np.mean([_macro_f1(permuted, rows) for rows in shuffled]))
    assert np.mean(scores) == pytest.approx(np.mean(chance), abs=0.04)


def test_ensembles_refuse_faulty_arguments():
    """Wrong shapes, weights, codes and ranges are one clear error each."""
    stack, y = _models(3, 30)
    with pytest.raises(
        ValueError, match=r"shape \(30, 3\), but \(n_models, n_samples, n_classes\) is needed"
    ):
        heads.soft_vote(stack[0])
    with pytest.raises(ValueError, match=r"weights=\[1.0, 2.0\] do not fit 3 model\(s\)"):
        heads.soft_vote(stack, weights=[1, 2])
    with pytest.raises(ValueError, match=r"not all of them 0"):
        heads.soft_vote(stack, weights=[0, 0, 0])
    with pytest.raises(ValueError, match=r"tie=3 is no class; allowed are None and 0..2"):
        heads.majority_vote(stack, tie=3)
    with pytest.raises(
        ValueError, match=r"3 wrong.*max_size=0.*bag_share=2 .allowed: a number in \(0, 1\].*n_kept=0"
    ):
        heads.fit_greedy(stack, y, max_size=0, bag_share=2, n_kept=0)
    with pytest.raises(ValueError, match="one integer class code for each of the 30 rows"):
        heads.fit_greedy(stack, y[:4])
    with pytest.raises(ValueError, match=r"found 1 class"):
        heads.fit_stacking(stack, np.zeros(30, dtype=int))
