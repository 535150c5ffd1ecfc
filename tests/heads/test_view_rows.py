"""Augmented views: extra training rows, kept together with the row they come from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from imblearn.pipeline import Pipeline
from numpy.testing import assert_allclose, assert_array_equal

from heads import HEADS, RESAMPLERS, LogisticHead, MLPHead, fit_with_views, make_pipeline
from heads.blocks import BlockImputer
from heads.early_stopping import inner_split
from heads.view_rows import check_origin, inner_split_of
from heads.weighted_rows import WeightedRows

FAST = {
    "mlp": {"hidden": 8, "max_epochs": 4},
    "logreg": {"C": 0.01},
    "lightgbm": {"n_estimators": 4, "pca": None},
    "ridge": {},
    "svm": {},
    "centroid": {},
    "knn": {},
}
EVERY = np.arange(300)


def _views(X: np.ndarray, n_views: int = 2, *, noise: float = 0.3) -> np.ndarray:
    random = np.random.default_rng(7)
    return (X + noise * random.normal(size=(n_views, *X.shape))).astype(np.float32)


@pytest.mark.parametrize("resampler", RESAMPLERS)
@pytest.mark.parametrize("head", HEADS)
def test_fit_without_views_is_plain_fit(head, resampler, hard):
    """None and an empty stack give the model of ``pipeline.fit``, bit for bit."""
    X, y = hard
    rows = EVERY[::2]

    def pipeline():
        return make_pipeline(head, resampler=resampler, parameters=FAST[head])

    expected = pipeline().fit(X[rows], y[rows]).predict_proba(X)
    for views in (None, np.empty((0, *X.shape), dtype=np.float32)):
        found = fit_with_views(pipeline(), X, y, views, rows=rows).predict_proba(X)
        assert_array_equal(found, expected)


@pytest.mark.parametrize("resampler", RESAMPLERS)
@pytest.mark.parametrize("head", HEADS)
def test_fit_learns_from_the_views_of_its_rows_only(head, resampler, hard):
    """Views of other rows change nothing, views of its own rows do; the fit is repeatable."""
    X, y = hard
    rows, others = EVERY[:200], EVERY[200:]
    views = _views(X)

    def answers(stack: np.ndarray) -> np.ndarray:
        pipeline = make_pipeline(head, resampler=resampler, parameters=FAST[head])
        return fit_with_views(pipeline, X, y, stack, rows=rows).predict_proba(X)

    first = answers(views)
    other_views = views.copy()
    other_views[:, others] = np.nan
    assert_array_equal(answers(other_views), first)
    own_views = views.copy()
    own_views[:, rows] += 1.0
    assert not np.array_equal(answers(own_views), first)


@pytest.mark.parametrize("head", HEADS)
def test_fit_reads_the_views_of_the_viewed_rows_only(head, hard):
    """Views of other training rows change nothing; all rows viewed is the same as none named."""
    X, y = hard
    rows, viewed = EVERY[:200][::-1], EVERY[50:90]
    views = _views(X)

    def answers(stack: np.ndarray, chosen: np.ndarray | None) -> np.ndarray:
        pipeline = make_pipeline(head, parameters=FAST[head])
        return fit_with_views(pipeline, X, y, stack, rows=rows, viewed=chosen).predict_proba(X)

    first = answers(views, viewed)
    blanked = np.full_like(views, np.nan)
    blanked[:, viewed] = views[:, viewed]
    assert_array_equal(answers(blanked, viewed), first)
    assert_array_equal(answers(views, rows), answers(views, None))
    assert not np.array_equal(first, answers(views, None))


def test_fit_refuses_views_of_rows_that_are_not_trained_on(hard):
    """A view without its row would be a leak as soon as the row is scored."""
    X, y = hard
    with pytest.raises(ValueError, match=r"Row 200 brings views, but is not trained on \(2 such rows\)"):
        fit_with_views(
            make_pipeline("ridge"), X, y, _views(X), rows=EVERY[:200], viewed=np.array([3, 200, 201])
        )


@pytest.mark.parametrize("n_views", [1, 4])
def test_copies_as_views_are_a_weaker_penalty_and_nothing_else(n_views, hard):
    """Classes keep their shares: with exact copies for views the optimum is that of C times the copies."""
    X, y = hard
    views = np.repeat(X[None], n_views, axis=0)
    settings = {"tol": 1e-7, "max_iter": 2000}
    repeated = make_pipeline("logreg", parameters={"C": 0.01, **settings})
    fit_with_views(repeated, X, y, views, rows=EVERY)
    plain = LogisticHead(C=0.01 * (1 + n_views), **settings).fit(X, y)
    assert_allclose(repeated.named_steps["head"].coef_, plain.coef_, atol=1e-5)


def test_resampler_sees_rows_and_views(hard):
    """A resampling step draws from the clean rows and their views alike."""
    X, y = hard
    pipeline = make_pipeline("logreg", resampler="random-over")
    fit_with_views(pipeline, X, y, _views(X), rows=EVERY)
    drawn = pipeline.named_steps["resample"].sample_indices_
    assert set(drawn.tolist()) == set(range(900))
    assert_array_equal(np.bincount(np.tile(y, 3)[drawn]), [540, 540, 540])


# --- early stopping ----------------------------------------------------------------------------------


def test_inner_split_holds_out_clean_rows_and_drops_their_views(hard):
    """The held-out rows are those held out without views; no view of them is kept, all others are."""
    _, y = hard
    codes, origins = np.tile(y, 3), np.tile(EVERY, 3)
    kept, held_out = inner_split_of(codes, origins, 0.15, np.random.RandomState(3))
    expected_kept, expected_held_out = inner_split(y, 0.15, np.random.RandomState(3))
    assert_array_equal(held_out, expected_held_out)
    assert_array_equal(kept, np.concatenate([expected_kept + shift for shift in (0, 300, 600)]))


def test_inner_split_counts_clean_rows_only():
    """A class too small to be held out stays too small, however many views it has."""
    codes, origins = np.tile(np.repeat([0, 1], [40, 5]), 9), np.tile(np.arange(45), 9)
    assert inner_split_of(codes, origins, 0.15, np.random.RandomState(0)) is None
    assert inner_split_of(codes, None, 0.15, np.random.RandomState(0)) is not None


@pytest.mark.parametrize("resampler", ["none", "smote"])
def test_mlp_never_reads_the_views_of_held_out_rows(resampler, hard):
    """Ruined views of the rows that early stopping looks at leave the model the same, bit for bit."""
    X, y = hard
    views = _views(X)
    head = MLPHead(**FAST["mlp"])
    kept, held_out = inner_split(y, head.validation_fraction, np.random.RandomState(head._seed()))

    def fitted(stack: np.ndarray) -> MLPHead:
        pipeline = make_pipeline("mlp", resampler=resampler, parameters=FAST["mlp"])
        return fit_with_views(pipeline, X, y, stack, rows=EVERY).named_steps["head"]

    first = fitted(views)
    ruined = views.copy()
    # Far away, so that a scale or a step that saw them would show it.
    ruined[:, held_out] = -1000 * ruined[:, held_out]
    again = fitted(ruined)
    assert again.history_ == first.history_
    assert_array_equal(again.predict_proba(X), first.predict_proba(X))
    ruined[0, kept[0]] += 1.0
    assert fitted(ruined).history_ != first.history_


def test_mlp_stops_on_rows_it_has_not_learnt_by_heart():
    """On pure noise with near-copies for views, training stops early: the validation loss is honest."""
    random = np.random.default_rng(0)
    X = random.normal(size=(300, 200)).astype(np.float32)
    y = random.permutation(np.repeat([0, 1, 2], 100))
    pipeline = make_pipeline("mlp", parameters={"learning_rate": 3e-3, "max_epochs": 60})
    head = fit_with_views(pipeline, X, y, _views(X, 3, noise=0.01), rows=EVERY).named_steps["head"]
    assert head.best_epoch_ <= 3
    assert min(entry["valid_loss"] for entry in head.history_) > 1.0
    # Told nothing about origins, the same rows look learnable: near-copies lie on both sides of the split.
    blind = MLPHead(learning_rate=3e-3, max_epochs=60)
    blind.fit(np.concatenate([X, *_views(X, 3, noise=0.01)]), np.tile(y, 4))
    assert min(entry["valid_loss"] for entry in blind.history_) < 0.6


# --- the fit parameter -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        ([0, 1, 2], r"has shape \(3,\) and type int64; it must hold one integer for each of the 4 rows"),
        ([0.0, 1.0, 2.0, 3.0], r"has shape \(4,\) and type float64"),
        ([0, 1, 0, 4], "row 3 is a view of row 4, which is not a row from 0 to 3"),
        ([0, 1, -1, 1], "row 2 is a view of row -1, which is not a row from 0 to 3"),
        ([0, 1, 0, 2], "row 3 is a view of row 2, which is itself a view of another row"),
        ([0, 1, 1, 1], "row 2 is a view of row 1, which has another label"),
    ],
)
def test_origin_must_be_a_clean_row_of_the_same_label(origin, message):
    """Each fault is named with the first row that has it, before anything is fitted."""
    X = np.array([[0.0], [1.0], [0.1], [1.1]])
    with pytest.raises(ValueError, match=message):
        LogisticHead().fit(X, [0, 1, 0, 1], sample_origin=origin)


def test_origin_none_says_nothing():
    """Without the parameter there are no views."""
    assert check_origin(None, np.array([0, 1])) is None


@pytest.mark.parametrize("head", HEADS)
def test_rows_of_weight_zero_take_their_views_with_them(head, hard):
    """A weight of 0 for a clean row leaves its views out too, and the other origins still fit."""
    X, y = hard
    rows, labels = np.concatenate([X, X + 0.1]).astype(np.float32), np.tile(y, 2)
    weights = np.ones(600)
    weights[10:40] = 0
    left = np.setdiff1d(np.arange(600), [*range(10, 40), *range(310, 340)])
    fresh = make_pipeline(head, parameters=FAST[head]).named_steps["head"]
    fresh.fit(rows, labels, sample_weight=weights, sample_origin=np.tile(EVERY, 2))
    again = make_pipeline(head, parameters=FAST[head]).named_steps["head"]
    again.fit(rows[left], labels[left], sample_origin=np.tile(np.arange(270), 2))
    assert_array_equal(fresh.predict_proba(X), again.predict_proba(X))


def test_views_must_be_of_the_same_rows():
    """A view with other rows or columns than X is refused with both shapes."""
    X, y = np.zeros((4, 2), dtype=np.float32), np.array([0, 1, 0, 1])
    with pytest.raises(ValueError, match=r"View 2 has shape \(3, 2\), but X has \(4, 2\)"):
        fit_with_views(make_pipeline("logreg"), X, y, [X, X[:3]], rows=np.arange(4))


def test_view_per_epoch_shows_each_sample_once_in_a_view_drawn_anew() -> None:
    """Every epoch has one row of each sample; over many epochs all views come up about equally often."""
    samples = np.tile(np.arange(40), 3)
    X = np.arange(120, dtype=np.float32)[:, None]
    weights = np.ones(120)
    rows = WeightedRows.on(torch.device("cpu"), X, samples % 3, weights, samples)
    order = torch.Generator().manual_seed(0)
    counts = np.zeros(120)
    orders = set()
    for _ in range(300):
        batches = list(rows.batches(order, 4))
        assert [len(batch.X) for batch in batches] == [10, 10, 10, 10]
        shown = torch.cat([batch.X[:, 0] for batch in batches]).numpy().astype(int)
        assert sorted(shown % 40) == list(range(40))
        for batch in batches:
            assert_array_equal(batch.codes.numpy(), samples[batch.X[:, 0].numpy().astype(int)] % 3)
        counts[shown] += 1
        orders.add(tuple(shown % 40))
    assert len(orders) == 300
    assert counts.min() > 60
    assert counts.max() < 140


def test_view_per_epoch_learns_from_views_but_not_as_further_rows(hard) -> None:
    """It is neither training without views nor training on all of them; a resampler is refused with it."""
    X, y = hard
    settings = {"hidden": 8, "max_epochs": 3, "validation_fraction": 0.0}
    answers = []
    for views, per_epoch in ((None, False), (_views(X), True), (_views(X), False)):
        head = MLPHead(**settings, view_per_epoch=per_epoch)
        pipeline = Pipeline([("impute", BlockImputer()), ("head", head)])
        fitted = fit_with_views(pipeline, X, y, views, rows=EVERY[:200])
        answers.append(fitted.predict_proba(X))
    assert np.abs(answers[0] - answers[1]).max() > 1e-4
    assert np.abs(answers[2] - answers[1]).max() > 1e-4
    with pytest.raises(ValueError, match="view_per_epoch cannot be combined with resampler='smote'"):
        MLPHead(view_per_epoch=True, resampler="smote").fit(X, y)
