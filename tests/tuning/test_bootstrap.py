"""Related rows are drawn together, strata hold, and intervals keep their promise where rows repeat."""

import numpy as np
import pytest

from tuning import bbc_cv, cv_summary, make_folds, mean_paired_difference, paired_difference
from tuning.bootstrap import checked_groups, draw_leaving_out, redrawn_cells, units_of

K = 3


def grouped(seed, n_groups=40):
    """Labels, predictions and groups of one to four rows; most groups hold one class."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), rng.integers(1, 5, n_groups))
    of_group = rng.choice(K, n_groups, p=[0.6, 0.15, 0.25])
    y = np.where(rng.random(len(groups)) < 0.9, of_group[groups], rng.integers(0, K, len(groups)))
    shuffled = rng.permutation(len(y))
    predictions = np.where(rng.random(len(y)) < 0.6, y, rng.integers(0, K, len(y)))
    return y[shuffled], predictions[shuffled], groups[shuffled]


def test_units_of_puts_a_group_into_the_stratum_of_its_rarest_class():
    """Written out for five groups: mixed ones go to the rarer class, a lone one to the largest stratum."""
    groups = np.array([7, 7, 3, 3, 5, 9, 9, 1])
    codes = np.array([0, 0, 0, 1, 0, 0, 1, 2])
    units = units_of(codes, groups)
    members = [set(np.unique(groups)[part].tolist()) for part in units.strata]
    assert sorted(map(sorted, members)) == [[1, 5, 7], [3, 9]]
    assert np.array_equal(np.unique(groups)[units.of_row], groups)


def test_units_of_rows_without_groups_are_rows_by_class():
    """Every row is its own unit, in the stratum of its class."""
    codes = np.array([1, 0, 1, 2])
    assert [part.tolist() for part in units_of(codes, None).strata] == [[1], [0, 2], [3]]


def test_redrawn_cells_equals_drawing_the_groups_themselves():
    """Mean and covariance of the counts are those of a loop that draws whole groups with replacement."""
    y, predictions, groups = grouped(1)
    cells = y * K + predictions
    generator = np.random.default_rng(0)
    fast = redrawn_cells(cells, y, groups, n_cells=K * K, n_bootstrap=20_000, generator=generator)
    units = units_of(y, groups)
    rng, slow = np.random.default_rng(1), []
    for _ in range(4000):
        rows = [
            np.flatnonzero(units.of_row == unit)
            for part in units.strata
            for unit in rng.choice(part, len(part))
        ]
        slow.append(np.bincount(cells[np.concatenate(rows)], minlength=K * K))
    slow = np.array(slow)
    assert fast.mean(axis=0) == pytest.approx(slow.mean(axis=0), abs=0.25)
    assert np.cov(fast.T) == pytest.approx(np.cov(slow.T), abs=0.06 * np.cov(slow.T).max())


def test_draw_leaving_out_keeps_groups_whole_and_leaves_out_every_class():
    """All rows of a group are drawn equally often, and no class is without a row outside."""
    y, _, groups = grouped(2, n_groups=12)
    units = units_of(y, groups)
    for seed in range(50):
        counts = draw_leaving_out(units, y, np.random.default_rng(seed))
        assert all(len(np.unique(counts[groups == group])) == 1 for group in np.unique(groups))
        assert set(y[counts == 0]) == set(y)


def test_intervals_hold_the_truth_where_every_row_is_there_three_times():
    """Of 200 data sets of triplets the 95 % interval over groups holds the truth in 90 to 99 %; over rows
    it holds it in fewer than 85 %."""
    held = {"groups": 0, "rows": 0}
    groups = np.repeat(np.arange(150), 3)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        y = np.repeat(rng.permutation(np.repeat([0, 1, 2], 50)), 3)
        right = np.repeat(rng.random(150) < 0.7, 3)
        oof = np.eye(3)[np.where(right, y, (y + 1) % 3)]
        whole = [(np.empty(0, dtype=np.int64), np.arange(450))]
        for name, given in (("groups", groups), ("rows", None)):
            found = cv_summary(oof, y, whole, n_classes=3, groups=given, n_bootstrap=300, random_state=seed)
            low, high = found["accuracy"]["ci95"]
            held[name] += low <= 0.7 <= high
    assert 180 <= held["groups"] <= 198
    assert held["rows"] < 170


def test_every_statistic_widens_by_the_root_of_the_copies():
    """With every row there three times all intervals over groups are those of the single rows, about, and
    those over rows too narrow by the square root of three."""
    rng = np.random.default_rng(4)
    y = rng.permutation(np.repeat([0, 1, 2], [180, 60, 120]))
    a = np.where(rng.random(360) < 0.7, y, rng.integers(0, 3, 360))
    b = np.where(rng.random(360) < 0.6, y, rng.integers(0, 3, 360))
    groups = np.repeat(np.arange(360), 3)
    y3, a3, b3 = (np.repeat(values, 3) for values in (y, a, b))
    single = make_folds(y)
    triple = [tuple((3 * rows[:, None] + np.arange(3)).ravel() for rows in fold) for fold in single]

    def widths(y, a, b, folds, groups):
        shared = {"n_classes": 3, "groups": groups, "n_bootstrap": 2000}
        found = [
            cv_summary(np.eye(3)[a], y, folds, **shared)["macro_f1"],
            paired_difference(np.eye(3)[a], np.eye(3)[b], y, folds=folds, **shared),
            mean_paired_difference(a, [b, b], y, folds, **shared),
            bbc_cv([a, b], y, **shared)["macro_f1"],
        ]
        return np.array([one["ci95"][1] - one["ci95"][0] for one in found])

    truth = widths(y, a, b, single, None)
    assert widths(y3, a3, b3, triple, groups) == pytest.approx(truth, rel=0.12)
    assert widths(y3, a3, b3, triple, None) == pytest.approx(truth / np.sqrt(3), rel=0.12)


def test_groups_of_single_rows_change_nothing():
    """A group number of its own for every row gives the numbers without groups."""
    y, predictions, _ = grouped(3)
    folds = make_folds(y, n_folds=3)
    oof = np.eye(K)[predictions]
    alone = np.random.default_rng(0).permutation(len(y))
    assert cv_summary(oof, y, folds, n_classes=K, groups=alone) == cv_summary(oof, y, folds, n_classes=K)


def test_checked_groups_refuses_a_torn_group_and_a_wrong_length():
    """A group on both sides of a split is a leak; one group per row is needed."""
    folds = [(np.array([2, 3]), np.array([0, 1])), (np.array([0, 1]), np.array([2, 3]))]
    with pytest.raises(ValueError, match=r"group of row 2 is validated in fold 0 and in fold 1.*leak"):
        checked_groups([5, 6, 5, 7], 4, folds)
    with pytest.raises(ValueError, match=r"'groups' has shape \(3,\), allowed is \(4,\)"):
        checked_groups([1, 2, 3], 4)


def test_bbc_cv_refuses_a_class_in_one_group():
    """A class whose rows are all related cannot be on both sides."""
    with pytest.raises(ValueError, match=r"Classes with one group: \[1\]"):
        bbc_cv(np.zeros((2, 6), int), [0, 0, 0, 0, 1, 1], n_classes=2, groups=[0, 1, 2, 3, 4, 4])
