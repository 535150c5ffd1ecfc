"""Reductions against the heads' own imputing, standardising and PCA."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from heads import BlockImputer, TermWeights
from heads.blocks import block_slices
from heads.columns import ColumnScale
from heads.projection import block_directions, reduced_map
from tuning.fold_rows import FoldRows
from tuning.folds import make_folds
from tuning.reductions import Reductions

BLOCKS = {"text": 14, "image": 10}


def _correlated(n: int, d: int, *, seed: int = 0) -> np.ndarray:
    """Rows whose columns are correlated and far from zero, like those of an embedding."""
    random = np.random.default_rng(seed)
    strength = 2.0 ** -(np.arange(d)[:, None] ** 0.5)
    rows = random.normal(size=(n, d)) @ (random.normal(size=(d, d)) * strength)
    return (rows + 0.05 * random.normal(size=(n, d)) + random.normal(size=d)).astype(np.float32)


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray, list]:
    """180 rows of two blocks, their codes, and three folds. Not to be changed in place."""
    y = np.random.default_rng(1).permutation(np.repeat([0, 1, 2], [108, 18, 54]))
    return _correlated(180, 24), y, make_folds(y, n_folds=3)


def _by_the_heads(X, fold, *, views=(), pca=None, whiten=False):
    """Rows of a fold as the pipeline of a head makes them."""
    train, valid = fold
    stacked = np.concatenate([part[train] for part in (X, *views)])
    imputer = BlockImputer(BLOCKS).fit(stacked)
    rows = imputer.transform(stacked)
    scale = ColumnScale.of(rows, np.ones(len(rows)))
    if pca is None:
        return scale.apply(rows), scale.apply(imputer.transform(X[valid]))
    slices = block_slices(BLOCKS, X.shape[1]).values()
    projection, _ = reduced_map(scale, rows, slices, pca, whiten=whiten)
    return projection.apply(rows), projection.apply(imputer.transform(X[valid]))


def _with_gaps(X: np.ndarray) -> np.ndarray:
    """Some invalid blocks: every ninth row has no image, every eleventh no text."""
    gaps = X.copy()
    gaps[::9, 14:] = np.nan
    gaps[1::11, :14] = np.nan
    return gaps


@pytest.mark.parametrize("n_views", [0, 2])
@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize(("pca", "whiten"), [(None, False), (5, False), (5, True), (1, False), (99, False)])
def test_reductions_equal_what_heads_see(pca, whiten, gaps, n_views, data):
    """Columns of training and validation rows are those of imputer, scale and reduced_map, signs included."""
    X, y, folds = data
    X = _with_gaps(X) if gaps else X
    noise = np.random.default_rng(2).normal(scale=0.3, size=(n_views, *X.shape)).astype(np.float32)
    views = X + noise
    reductions = Reductions(X, y, folds, blocks=BLOCKS, views=views)
    for fold in range(3):
        rows = reductions.rows(fold, pca, whiten=whiten)
        train, valid = _by_the_heads(X, folds[fold], views=views, pca=pca, whiten=whiten)
        assert_allclose(rows.train, train, atol=1e-4)
        assert_allclose(rows.valid, valid, atol=1e-4)
        assert rows.train.dtype == rows.valid.dtype == np.float32
        assert rows.train.flags.c_contiguous and rows.valid.flags.c_contiguous
        assert sum(rows.block_widths) == train.shape[1]


def test_reductions_equal_heads_with_more_columns_than_rows():
    """With fewer training rows than columns, both stop at the same number of directions."""
    X, y = _correlated(30, 24), np.arange(30) % 3
    folds = make_folds(y, n_folds=3)
    reductions = Reductions(X, y, folds)
    train, valid = folds[0]
    scale = ColumnScale.of(X[train], np.ones(len(train)))
    projection, widths = reduced_map(scale, X[train], [slice(0, 24)], 24)
    rows = reductions.rows(0, 24)
    assert rows.block_widths == widths == (19,)  # 20 rows, centred
    expected = projection.apply(X[train])
    assert_allclose(rows.train @ rows.train.T, expected @ expected.T, atol=1e-3)
    assert_allclose(rows.valid[:, :5], projection.apply(X[valid])[:, :5], atol=1e-3)


@pytest.mark.parametrize("n_views", [0, 1])
@pytest.mark.parametrize("pca", [None, 4])
def test_reductions_leave_out_the_blocks_that_heads_leave_out(pca, n_views, data):
    """A block that says nothing in the training rows of a fold is not among its columns when screened."""
    X, y, folds = data
    X = _with_gaps(X)
    X[:, :14] += 2 * y[:, None]
    X[folds[0][1], 14:] += 50.0 * y[folds[0][1], None]  # what it says in validation rows is not heard
    views = [X] * n_views
    reductions = Reductions(X, y, folds, blocks=BLOCKS, views=views)
    plain, rows = reductions.rows(0, pca), reductions.rows(0, pca, screen_blocks=True)
    text = 14 if pca is None else pca
    assert plain.block_widths == (text, 10 if pca is None else pca)
    assert rows.block_widths == (text, 0)
    assert rows.screened and not plain.screened
    assert_array_equal(rows.train, plain.train[:, :text])
    assert_array_equal(rows.valid, plain.valid[:, :text])
    assert not rows.train.flags.writeable
    assert reductions.rows(0, pca, screen_blocks=True) is rows
    assert reductions.rows(1, pca, screen_blocks=True) is reductions.rows(1, pca)  # there it speaks
    one = Reductions(X[:, :14], y, folds)
    assert one.rows(0, pca, screen_blocks=True) is one.rows(0, pca)


@pytest.mark.parametrize("pca", [None, 4])
def test_reductions_make_screened_rows_once_and_keep_no_others(pca, data, monkeypatch):
    """Asked for again, they are there, though all columns would not fit beside them; those are not made."""
    X, y, folds = data
    X = X.copy()
    X[:, :14] += 2 * y[:, None]
    made = []

    def counted(**fields):
        made.append(fields["fold"])
        return FoldRows(**fields)

    monkeypatch.setattr("tuning.reductions.FoldRows", counted)
    width = 14 if pca is None else pca
    monkeypatch.setattr("tuning.reductions._KEPT_BYTES", len(X) * width * 4)
    reductions = Reductions(X, y, folds, blocks=BLOCKS)
    rows = reductions.rows(0, pca, screen_blocks=True)
    assert rows.block_widths == (width, 0)
    for _ in range(3):
        assert reductions.rows(0, pca, screen_blocks=True) is rows
    assert made == [0]


def test_reductions_smaller_width_is_leading_columns(data):
    """Up to the one factor of a block, 3 directions are the first 3 of 8."""
    X, y, folds = data
    reductions = Reductions(X, y, folds, blocks=BLOCKS)
    narrow, wide = reductions.rows(1, 3), reductions.rows(1, 8)
    assert narrow.block_widths == (3, 3)
    for start, wide_start in ((0, 0), (3, 8)):
        left, right = narrow.train[:, start : start + 3], wide.train[:, wide_start : wide_start + 3]
        assert_allclose(left / np.linalg.norm(left), right / np.linalg.norm(right), atol=1e-6)
    whitened = reductions.rows(1, 3, whiten=True)
    assert_allclose(whitened.train, reductions.rows(1, 8, whiten=True).train[:, [0, 1, 2, 8, 9, 10]])


def test_reductions_even_out_blocks(data):
    """Each block's columns have a mean square of 1; whitened, every column has."""
    X, y, folds = data
    reductions = Reductions(X, y, folds, blocks=BLOCKS)
    plain, white = reductions.rows(0, 6).train, reductions.rows(0, 6, whiten=True).train
    assert_allclose([np.square(plain[:, :6]).mean(), np.square(plain[:, 6:]).mean()], 1.0, rtol=1e-4)
    assert_allclose(np.square(white).mean(axis=0), 1.0, rtol=1e-4)
    assert np.square(plain).mean(axis=0).max() > 2


@pytest.mark.parametrize("pca", [None, 6])
def test_reductions_validation_rows_shape_nothing(pca, data):
    """Changing the validation rows of a fold a thousandfold leaves its training columns bit-equal."""
    X, y, folds = data
    X = _with_gaps(X)
    changed = X.copy()
    changed[folds[1][1]] *= 1e3
    before = Reductions(X, y, folds, blocks=BLOCKS).rows(1, pca)
    after = Reductions(changed, y, folds, blocks=BLOCKS).rows(1, pca)
    assert_array_equal(before.train, after.train)
    assert not np.array_equal(before.valid, after.valid)


def test_reductions_views_of_validation_rows_are_not_used(data):
    """Views of the validation rows of a fold are neither rows of it nor shape any."""
    X, y, folds = data
    views = np.stack([X + 0.1, X - 0.2])
    changed = views.copy()
    changed[:, folds[0][1]] += 1e3
    before = Reductions(X, y, folds, blocks=BLOCKS, views=views).rows(0, 4)
    after = Reductions(X, y, folds, blocks=BLOCKS, views=changed).rows(0, 4)
    assert_array_equal(before.train, after.train)
    assert_array_equal(before.valid, after.valid)
    n = len(folds[0][0])
    assert len(before.train) == len(before.train_codes) == 3 * n
    assert_array_equal(before.origins, np.tile(np.arange(n), 3))
    assert_array_equal(before.train_codes, np.tile(y[folds[0][0]], 3))


def test_reductions_dead_block_is_zero(data):
    """A block that no training row has is 0 in every row, also where a validation row has it."""
    X, y, folds = data
    X = X.copy()
    X[folds[0][0], 14:] = np.nan
    rows = Reductions(X, y, folds, blocks=BLOCKS).rows(0, None)
    assert not rows.train[:, 14:].any()
    assert not rows.valid[:, 14:].any()
    assert rows.train[:, :14].any()


def test_reductions_folds_that_leave_rows_out(data):
    """Folds whose training rows are not all the others' validation rows are measured one by one."""
    X, y, folds = data
    shortened = [(train[::2], valid) for train, valid in folds]
    rows = Reductions(X, y, shortened, blocks=BLOCKS).rows(2, 5)
    train, valid = _by_the_heads(X, shortened[2], pca=5)
    assert_allclose(rows.train, train, atol=1e-4)
    assert_allclose(rows.valid, valid, atol=1e-4)


def test_reductions_wider_request_is_answered():
    """Asking for more directions than were computed at first gives them; the narrow ones stay the same."""
    X, y = np.random.default_rng(0).normal(size=(700, 300)).astype(np.float32), np.arange(700) % 2
    reductions = Reductions(X, y, make_folds(y, n_folds=2))
    narrow = reductions.rows(0, 10).train.copy()
    assert reductions.rows(0, 280).train.shape == (350, 280)
    assert_allclose(reductions.rows(0, 10).train, narrow, atol=1e-5)


def test_reductions_rows_are_shared_and_read_only(data):
    """Two trials get one array, and neither can spoil it."""
    X, y, folds = data
    reductions = Reductions(X, y, folds)
    assert reductions.rows(0, 4) is reductions.rows(0, 4)
    with pytest.raises(ValueError, match="read-only"):
        reductions.rows(0, 4).train[0, 0] = 1.0


def test_reductions_refuse_what_is_out_of_range(data):
    """A fold that does not exist, a width of 0 and a partly NaN block are named."""
    X, y, folds = data
    with pytest.raises(ValueError, match=r"fold=3 and pca=4; allowed are folds 0 to 2"):
        Reductions(X, y, folds).rows(3, 4)
    with pytest.raises(ValueError, match=r"pca=0; .* a pca of 1 or more or None"):
        Reductions(X, y, folds).rows(0, 0)
    partly = X.copy()
    partly[3, 2] = np.nan
    with pytest.raises(ValueError, match="block 'text': partly NaN"):
        Reductions(partly, y, folds, blocks=BLOCKS).rows(0, 4)


def test_reduced_map_keeps_block_directions(data):
    """The reduced columns span what block_directions finds: correlation 1, column by column."""
    X, _, folds = data
    rows = X[folds[0][0]]
    scale = ColumnScale.of(rows, np.ones(len(rows)))
    slices = block_slices(BLOCKS, 24).values()
    plain = scale.apply(rows) @ block_directions(scale.apply(rows), slices, 4)
    reduced = reduced_map(scale, rows, slices, 4, whiten=True)[0].apply(rows)
    assert_allclose((plain / plain.std(axis=0)), reduced, atol=1e-3)


TERMS = {"text.terms": 60, "image.pooled": 10, "text.chars-min3-max20": 30}


def _counts(n: int, *, gaps: bool, seed: int = 0) -> np.ndarray:
    """Rows of TERMS: two blocks of rare counts around columns of an embedding, and a text without any."""
    random = np.random.default_rng(seed)
    often = random.uniform(0.005, 0.4, size=90)
    terms = random.poisson(often, size=(n, 90))
    terms[3] = 0
    X = np.hstack([terms[:, :60], random.normal(size=(n, 10)) + 3, terms[:, 60:]]).astype(np.float32)
    if gaps:
        X[::7, :60] = np.nan
        X[2::9, 60:70] = np.nan
    return X


def _terms_by_the_pipeline(X, fold, *, views, pca, whiten):
    """Rows of a fold as the steps of a pipeline make them, and the widths of its blocks."""
    train, valid = fold
    origin = np.tile(np.arange(len(train)), 1 + len(views))
    stacked = np.concatenate([part[train] for part in (X, *views)])
    weights = TermWeights(TERMS).fit(stacked, sample_origin=origin)
    imputer = BlockImputer(TERMS).fit(weights.transform(stacked))
    rows, held_out = (imputer.transform(weights.transform(part)) for part in (stacked, X[valid]))
    scale = ColumnScale.of(rows, np.ones(len(rows)), TERMS)
    if pca is None:
        return scale.apply(rows), scale.apply(held_out), tuple(TERMS.values())
    projection, widths = reduced_map(scale, rows, block_slices(TERMS, 100).values(), pca, whiten=whiten)
    return projection.apply(rows), projection.apply(held_out), widths


@pytest.mark.parametrize("n_views", [0, 1])
@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("n_rows", [60, 180])
@pytest.mark.parametrize(("pca", "whiten"), [(None, False), (4, False), (4, True)])
def test_reductions_of_term_counts_equal_what_heads_see(pca, whiten, n_rows, gaps, n_views):
    """Terms are weighed by the training rows of each fold, with more columns than rows and with fewer."""
    X, y = _counts(n_rows, gaps=gaps), np.arange(n_rows) % 3
    views = np.stack([_counts(n_rows, gaps=gaps, seed=1)] * n_views) if n_views else X[:0]
    folds = make_folds(y, n_folds=3)
    reductions = Reductions(X, y, folds, blocks=TERMS, views=views)
    for fold in range(3):
        rows = reductions.rows(fold, pca, whiten=whiten)
        train, valid, widths = _terms_by_the_pipeline(X, folds[fold], views=views, pca=pca, whiten=whiten)
        assert rows.block_widths == widths
        assert_allclose(rows.train, train, atol=1e-4)
        assert_allclose(rows.valid, valid, atol=1e-4)


@pytest.mark.parametrize("pca", [None, 4])
def test_reductions_of_term_counts_see_no_validation_row(pca):
    """Other texts in the validation rows of a fold leave its training columns bit-equal."""
    X, y = _counts(90, gaps=True), np.arange(90) % 3
    folds = make_folds(y, n_folds=3)
    changed = X.copy()
    changed[folds[1][1]] = _counts(90, gaps=False, seed=9)[folds[1][1]]
    before, after = (Reductions(rows, y, folds, blocks=TERMS).rows(1, pca) for rows in (X, changed))
    assert_array_equal(before.train, after.train)
    assert (before.valid != after.valid).any()


def test_reductions_refuse_training_rows_without_terms():
    """A fold whose training rows hold no term often enough says so when its rows are asked for."""
    X, y = np.zeros((30, 5), dtype=np.float32), np.arange(30) % 3
    reductions = Reductions(X, y, make_folds(y, n_folds=3), blocks={"text.terms": 5})
    with pytest.raises(ValueError, match=r"No term of block 'text\.terms' is in 2 or more of the 20"):
        reductions.rows(0, None)
