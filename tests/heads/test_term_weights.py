"""TF-IDF of stored counts: scikit-learn's numbers, from training rows alone."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

import heads
from heads import TermWeights, fit_with_views, make_pipeline, term_recipe

WORDS = ["sun", "rain", "wind", "good", "bad", "very", "day", "night", "rare", "odd", "cat", "dog"]


def texts_of(codes: np.ndarray, seed: int = 0) -> list[str]:
    """Draw short texts; class 1 says 'bad' often, class 2 'rain'."""
    random = np.random.default_rng(seed)
    found = []
    for code in codes:
        words = random.choice(WORDS, 6, p=np.arange(12, 0, -1) / 78).tolist()
        if code and random.random() < 0.95:
            words[:2] = [("bad", "rain")[code - 1]] * 2
        found.append(" ".join(words))
    return found


@pytest.fixture(scope="module")
def counted() -> tuple[list[str], np.ndarray, np.ndarray, list[str]]:
    """240 texts, their counts of all terms that two texts hold, their codes and the terms."""
    y = np.random.default_rng(1).choice(3, 240, p=[0.5, 0.2, 0.3])
    texts = texts_of(y)
    counter = CountVectorizer(ngram_range=(1, 2), min_df=2, dtype=np.float32)
    counts = counter.fit_transform(texts).toarray()
    return texts, counts, y, counter.get_feature_names_out().tolist()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("text.terms", {"min_df": 2}),
        ("text.terms-min5", {"min_df": 5}),
        ("text.terms-max20", {"min_df": 2, "max_features": 20}),
    ],
)
def test_term_weights_equal_tfidf_vectorizer(name, options, counted):
    """On training rows and others the columns are those of TfidfVectorizer on the training texts alone."""
    texts, counts, _, terms = counted
    train, valid = np.arange(150), np.arange(150, 240)
    theirs = TfidfVectorizer(ngram_range=(1, 2), **options).fit([texts[i] for i in train])
    ours = TermWeights({name: counts.shape[1]}).fit(counts[train].astype(np.float64))
    totals = np.sort(counts[train].sum(axis=0))[::-1]
    if "max_features" in options:  # scikit-learn leaves open which terms it takes of equally frequent ones
        kept = np.flatnonzero(ours.idf_)
        assert counts[train].sum(axis=0)[kept].min() >= totals[19]
        assert len(kept) == 20
        if totals[19] == totals[20]:
            theirs = TfidfVectorizer(ngram_range=(1, 2), vocabulary=[terms[i] for i in kept])
            theirs.fit([texts[i] for i in train])
    for rows in (train, valid):
        expected = np.zeros((len(rows), len(terms)))
        found = theirs.transform([texts[i] for i in rows]).toarray()
        expected[:, [terms.index(term) for term in theirs.get_feature_names_out()]] = found
        assert_allclose(ours.transform(counts[rows].astype(np.float64)), expected, atol=1e-12)
        assert_allclose(
            TermWeights({name: counts.shape[1]}).fit(counts[train]).transform(counts[rows]),
            expected,
            atol=1e-6,
        )
    assert 0 < np.count_nonzero(ours.idf_) < len(terms)


def test_term_weights_leave_other_blocks_and_missing_texts_alone(counted):
    """Columns of other blocks pass through to the bit, and a missing text stays NaN."""
    _, counts, _, _ = counted
    image = np.random.default_rng(0).normal(size=(len(counts), 4)).astype(np.float32)
    X = np.hstack([image, counts])
    X[7, 4:] = np.nan
    before = X.copy()
    weighted = TermWeights({"image.pooled": 4, "text.terms@a": counts.shape[1]}).fit(X).transform(X)
    assert_array_equal(X, before)
    assert_array_equal(weighted[:, :4], image)
    assert np.isnan(weighted[7, 4:]).all()
    lengths = np.linalg.norm(np.delete(weighted, 7, axis=0)[:, 4:], axis=1)
    assert_allclose(lengths[lengths > 0], 1, atol=1e-6)
    without = TermWeights({"image.pooled": 4, "text.terms@a": counts.shape[1]}).fit(np.delete(X, 7, axis=0))
    assert_array_equal(
        without.idf_, TermWeights({"image.pooled": 4, "text.terms@a": counts.shape[1]}).fit(X).idf_
    )


def test_views_are_no_further_documents(counted):
    """Two views of every row change neither which terms count nor their weights."""
    _, counts, y, _ = counted
    blocks = {"text.terms": counts.shape[1]}
    rows = np.arange(len(y))
    plain = fit_with_views(make_pipeline("ridge", blocks=blocks), counts, y, None, rows=rows)
    views = np.broadcast_to(counts, (2, *counts.shape))
    seen = fit_with_views(make_pipeline("ridge", blocks=blocks), counts, y, views, rows=rows)
    assert_array_equal(seen["terms"].idf_, plain["terms"].idf_)
    balanced = make_pipeline("ridge", blocks=blocks, resampler="random-over")
    assert_array_equal(
        fit_with_views(balanced, counts, y, views, rows=rows)["terms"].idf_, plain["terms"].idf_
    )


def test_rows_outside_the_fit_change_nothing(counted):
    """What is learnt of terms depends on the training rows only."""
    _, counts, y, _ = counted
    blocks = {"text.terms": counts.shape[1]}
    changed = counts.copy()
    changed[150:] = np.random.default_rng(5).integers(0, 3, changed[150:].shape)
    one, other = (
        fit_with_views(make_pipeline("logreg", blocks=blocks), X, y, None, rows=np.arange(150))
        for X in (counts, changed)
    )
    assert_array_equal(one["terms"].idf_, other["terms"].idf_)
    assert_array_equal(one["head"].coef_, other["head"].coef_)


@pytest.mark.parametrize("head", heads.HEADS)
def test_every_head_learns_from_terms_and_its_file_gives_equal_answers(head, counted, tmp_path):
    """Each head takes term counts through the pipeline, and the model file keeps the weights to the bit."""
    _, counts, y, _ = counted
    quick = {"mlp": {"max_epochs": 5, "hidden": 16}, "lightgbm": {"n_estimators": 20}}
    pipeline = make_pipeline(head, blocks={"text.terms": counts.shape[1]}, parameters=quick.get(head, {}))
    pipeline.fit(counts[:150], y[:150])
    probabilities = pipeline.predict_proba(counts[150:])
    heads.save_model(pipeline, tmp_path, classes=["a", "b", "c"])
    assert_array_equal(heads.load_model(tmp_path).predict_proba(counts[150:]), probabilities)
    if head in ("logreg", "ridge", "svm"):
        assert (probabilities.argmax(axis=1) == y[150:]).mean() > 0.6


def test_term_columns_share_one_spread():
    """Standardising keeps the ratios of term weights, and gives the block the variance of 512 columns."""
    random = np.random.default_rng(0)
    X = random.random((60, 30)).astype(np.float64) * np.linspace(0.1, 3, 30)
    X[:, 5] = 0
    scale = heads.columns.ColumnScale.of(X, np.ones(60), {"text.terms": 30})
    live = np.arange(30) != 5
    assert scale.inverse[5] == 0
    assert len(set(scale.inverse[live])) == 1
    assert_allclose(scale.apply(X).var(axis=0).sum(), 512)


def test_term_weights_score_chance_on_permuted_labels(counted):
    """With labels dealt out anew, TF-IDF and a logistic regression find nothing."""
    _, counts, y, _ = counted
    blocks = {"text.terms": counts.shape[1]}
    scores = {"true": [], "permuted": []}
    for seed in range(6):
        random = np.random.default_rng(seed)
        order = random.permutation(len(y))
        train, valid = order[:160], order[160:]
        for name, labels in (("true", y), ("permuted", random.permutation(y))):
            model = fit_with_views(make_pipeline("logreg", blocks=blocks), counts, labels, None, rows=train)
            recalls = [
                (model.predict(counts[valid])[labels[valid] == code] == code).mean() for code in range(3)
            ]
            scores[name].append(np.mean(recalls))
    assert np.mean(scores["true"]) > 0.6
    assert abs(np.mean(scores["permuted"]) - 1 / 3) < 0.08


def test_too_few_training_texts_are_refused():
    """When no term is in enough training texts, the message says what to ask for."""
    with pytest.raises(ValueError, match=r"No term of block 'text.terms-min3' is in 3 or more of the 4"):
        TermWeights({"text.terms-min3": 2}).fit(np.eye(4, 2, dtype=np.float32))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("text.terms", (2, None)),
        ("text.chars-min4", (4, None)),
        ("text.terms-min1-max7@some store", (1, 7)),
        ("text.terms-min0", None),
        ("text.terms-max5-min2", None),
        ("text.pooled", None),
        ("all", None),
    ],
)
def test_term_recipe_reads_names(name, found):
    """A block's name says what it holds, and any other name says nothing."""
    recipe = term_recipe(name)
    assert (recipe is None) == (found is None)
    assert found is None or (recipe.min_documents, recipe.max_terms) == found


def test_wide_logistic_equals_the_preconditioned_solver():
    """Where the solver for wide rows takes over, the solution stays the same, for two classes as well."""
    from heads import linear

    random = np.random.default_rng(0)
    X = random.normal(size=(120, 40))
    for y in (np.arange(120) % 2, np.arange(120) % 3):
        rows = X.copy()
        rows[np.arange(120), y] += 1.0
        ours = heads.LogisticHead(C=0.3, tol=1e-8, max_iter=5000).fit(rows, y)
        before, linear._MOST_FACTORISED = linear._MOST_FACTORISED, 10
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                theirs = heads.LogisticHead(C=0.3, tol=1e-8, max_iter=5000).fit(rows, y)
        finally:
            linear._MOST_FACTORISED = before
        assert_allclose(theirs.coef_, ours.coef_, atol=1e-5)
        assert_allclose(theirs.intercept_, ours.intercept_, atol=1e-5)
