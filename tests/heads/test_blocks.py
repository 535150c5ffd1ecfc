"""Blocks of columns and the block imputer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from heads import BlockImputer
from heads.blocks import block_slices

BLOCKS = {"text": 2, "image": 1}
NAN = np.nan


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 50), min_size=1))
def test_block_slices_tile_the_columns(blocks):
    """Slices follow each other without gap or overlap and have the given widths."""
    total = sum(blocks.values())
    slices = block_slices(blocks, total)
    assert [s.stop - s.start for s in slices.values()] == list(blocks.values())
    assert [i for s in slices.values() for i in range(s.start, s.stop)] == list(range(total))


def test_block_slices_refuse_wrong_widths():
    """Widths that are not positive whole numbers, or do not add up, are named."""
    with pytest.raises(ValueError, match=r"'text': 0, 'image': 2\.5"):
        block_slices({"text": 0, "image": 2.5, "joint": 3}, 3)
    with pytest.raises(ValueError, match="found no block at all"):
        block_slices({}, 3)
    with pytest.raises(ValueError, match=r"\('text': 2, 'image': 1\) add up to 3, but X has 4 columns"):
        block_slices(BLOCKS, 4)


def test_imputer_uses_training_means_only():
    """What is filled in are the means of the valid training rows, whatever the new rows hold."""
    train = np.array([[1, 2, 5], [3, 4, NAN], [NAN, NAN, 7], [5, 9, 9]], dtype=np.float32)
    imputer = BlockImputer(BLOCKS).fit(train)
    assert_allclose(imputer.means_, [3, 5, 7])
    new = np.array([[NAN, NAN, 1e6], [1e6, 1e6, NAN]], dtype=np.float32)
    assert_array_equal(imputer.transform(new), np.array([[3, 5, 1e6], [1e6, 1e6, 7]], dtype=np.float32))
    assert np.isnan(new[0, 0])


def test_imputer_leaves_valid_rows_alone():
    """Rows without invalid blocks come back bit-equal and uncopied, in their own dtype."""
    X = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    out = BlockImputer(BLOCKS).fit(X).transform(X)
    assert out.dtype == np.float32
    assert np.shares_memory(out, X)
    assert_array_equal(out, X)


def test_imputer_dead_block_is_zero_for_ever():
    """A block without a valid training row is zero from then on, even where it turns up valid later."""
    train = np.array([[1, 2, NAN], [3, 4, NAN]], dtype=np.float32)
    imputer = BlockImputer(BLOCKS).fit(train)
    assert imputer.dead_blocks_ == ["image"]
    new = np.array([[1, 2, 50.0], [NAN, NAN, NAN]], dtype=np.float32)
    assert_array_equal(imputer.transform(new), [[1, 2, 0], [2, 3, 0]])


@pytest.mark.parametrize("method", ["fit", "transform"])
def test_imputer_refuses_faulty_rows(method):
    """A partly missing block and an infinity are named by row and block, all in one message."""
    good = np.ones((4, 3), dtype=np.float32)
    bad = good.copy()
    bad[1, 0] = NAN
    bad[3, 2] = -np.inf
    call = getattr(BlockImputer(BLOCKS).fit(good), method)
    with pytest.raises(
        ValueError, match=r"2 block.*row 1, block 'text': partly NaN; row 3, block 'image': inf"
    ):
        call(bad)


def test_imputer_shows_five_faults_at_most():
    """A long list of faults is cut, and says how many more there are."""
    bad = np.ones((9, 3), dtype=np.float32)
    bad[:, 0] = NAN
    with pytest.raises(ValueError, match=r"9 block\(s\).*row 4, block 'text': partly NaN, and 4 more\."):
        BlockImputer(BLOCKS).fit(bad)


def test_imputer_large_values_are_not_infinite():
    """A row whose sum overflows float32 is finite all the same."""
    X = np.full((2, 3), 3e38, dtype=np.float32)
    assert_array_equal(BlockImputer(BLOCKS).fit(X).transform(X), X)


def test_imputer_refuses_other_width():
    """Rows of another width than in fit are refused."""
    imputer = BlockImputer(BLOCKS).fit(np.ones((2, 3), dtype=np.float32))
    with pytest.raises(ValueError, match="X has 4 features, but BlockImputer is expecting 3"):
        imputer.transform(np.ones((2, 4), dtype=np.float32))
