"""Folds partition the rows, keep groups whole, and refuse what cannot be split."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuning import connected_groups, make_folds
from tuning.folds import check_partition


@settings(max_examples=40, deadline=None)
@given(
    group_sizes=st.lists(st.integers(1, 4), min_size=24, max_size=60),
    n_folds=st.integers(2, 4),
    seed=st.integers(0, 1000),
)
def test_make_folds_partitions_rows_and_keeps_groups_whole(group_sizes, n_folds, seed):
    """Every row is validated once, is trained on in all other folds, and never meets a row of its group."""
    groups = np.repeat(np.arange(len(group_sizes)), group_sizes)
    y = groups % 3
    folds = make_folds(y, n_folds=n_folds, groups=groups, random_state=seed)
    assert len(folds) == n_folds
    assert sorted(np.concatenate([valid for _, valid in folds])) == list(range(len(y)))
    for train, valid in folds:
        assert sorted(np.concatenate([train, valid])) == list(range(len(y)))
        assert not set(groups[train]) & set(groups[valid])


def test_make_folds_stratifies_without_groups():
    """Class counts of the folds differ by at most one row."""
    y = np.repeat([0, 1, 2], [61, 11, 31])
    counts = np.array([np.bincount(y[valid], minlength=3) for _, valid in make_folds(y)])
    assert (np.ptp(counts, axis=0) <= 1).all()


def test_make_folds_ignores_groups_of_one_row():
    """Groups that are all different give the plain stratified split."""
    y = np.repeat([0, 1], 20)
    plain = make_folds(y, random_state=3)
    grouped = make_folds(y, groups=np.arange(40)[::-1], random_state=3)
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(plain, grouped, strict=True))


def test_make_folds_depends_on_the_seed_alone():
    """The same seed gives the same folds, another seed gives others."""
    y = np.repeat([0, 1], 30)
    first, again, other = (make_folds(y, random_state=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(first, again, strict=True))
    assert any(not np.array_equal(a[1], b[1]) for a, b in zip(first, other, strict=True))


def test_make_folds_names_every_class_with_too_few_rows():
    """The error gives class, count, what is needed and what to pass."""
    y = np.repeat([0, 1, 2], [9, 3, 4])
    with pytest.raises(ValueError, match=r"class 1 has 3 rows; class 2 has 4 rows.*n_folds=5.*n_folds=3"):
        make_folds(y)


def test_make_folds_counts_groups_not_rows():
    """Twenty copies of one sample are one group and cannot be split over folds."""
    y = np.repeat([0, 1], [20, 20])
    groups = np.concatenate([np.arange(20), np.full(20, 99)])
    with pytest.raises(ValueError, match=r"class 1 has 1 groups.*at least 2 groups of every class.*merge"):
        make_folds(y, n_folds=2, groups=groups)


@pytest.mark.parametrize(
    ("y", "options", "message"),
    [
        (np.zeros(9, int), {"n_folds": 1}, "'n_folds' is 1, allowed is 2 or more"),
        (np.zeros(9), {}, "dtype float64, allowed is one integer class code"),
        (np.zeros((9, 1), int), {}, r"'y' has shape \(9, 1\)"),
        (np.zeros(9, int), {"groups": np.zeros(8)}, r"'groups' has shape \(8,\), allowed is \(9,\)"),
        (np.zeros(9, int), {"groups": np.repeat([0, 1], [4, 5]), "n_folds": 3}, "class 0 has 2 groups"),
    ],
)
def test_make_folds_refuses_bad_requests(y, options, message):
    """Every wrong argument is named with what was found and what is allowed."""
    with pytest.raises(ValueError, match=message):
        make_folds(y, **options)


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ([([0, 1], [2]), ([2], [0])], "Row 1 is validated 0 times"),
        ([([0, 1], [1, 2]), ([2], [0])], "Row 1 is both trained on and validated in fold 0"),
        ([([0], [1, 2, 3]), ([2], [0])], r"Fold 0 names row 3, allowed are 0\.\.2"),
        ([([1], [0, 2]), ([2], [0, 1])], "Row 0 is validated 2 times"),
    ],
)
def test_check_partition_names_the_first_wrong_row(folds, message):
    """Folds that leak, overlap or leave out a row are refused."""
    with pytest.raises(ValueError, match=message):
        check_partition([(np.array(train), np.array(valid)) for train, valid in folds], 3)


def connected_by_search(keys, n):
    """The obvious way: walk from every unseen row over shared keys."""
    numbers = [-1] * n
    for start in range(n):
        if numbers[start] >= 0:
            continue
        number, frontier = max(numbers) + 1, [start]
        while frontier:
            row = frontier.pop()
            if numbers[row] < 0:
                numbers[row] = number
                frontier += [
                    other
                    for key in keys
                    for other in range(n)
                    if key[row] is not None and key[other] == key[row]
                ]
    return numbers


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 14).flatmap(
        lambda n: st.tuples(
            st.just(n),
            st.lists(st.lists(st.one_of(st.none(), st.integers(0, 6)), min_size=n, max_size=n), max_size=3),
        )
    )
)
def test_connected_groups_equals_a_graph_search(case):
    """Groups are the connected components of 'shares a key', numbered by first appearance."""
    n, keys = case
    found = connected_groups(*keys, n=n)
    assert found.dtype == np.int32
    assert found.tolist() == connected_by_search(keys, n)


def test_connected_groups_never_joins_missing_keys():
    """None and NaN, which a table has for a missing value, group nothing."""
    missing = float("nan")
    assert connected_groups([None, None, missing, missing], n=4).tolist() == [0, 1, 2, 3]


def test_connected_groups_refuses_keys_of_other_lengths():
    """All keys of a wrong length are named."""
    with pytest.raises(ValueError, match="key 0 has 2; key 2 has 1 values, allowed is one per row: 3"):
        connected_groups([1, 2], [1, 2, 3], [1], n=3)
