"""Near duplicates: planted ones are found, unrelated rows are left alone, block by block as all at once."""

import numpy as np
import pytest

from tuning import connected_groups, groups_of_pairs, make_folds, near_duplicates, near_pairs
from tuning.near_duplicates import centred, rows_with_likeness, similar_rows, unit_rows


def _vectors(n: int, *, d: int = 64, directions: int = 24, seed: int = 0) -> np.ndarray:
    """Rows around an offset, most of whose variance lies in a few directions, as in embeddings."""
    rng = np.random.default_rng(seed)
    main = rng.normal(size=(n, directions)) @ rng.normal(size=(directions, d))
    return (main + rng.normal(size=(n, d)) + 10.0).astype(np.float32)


def _planted(n: int, n_near: int, *, seed: int = 0) -> tuple[np.ndarray, list[tuple[int, int]]]:
    X = _vectors(n, seed=seed)
    rng = np.random.default_rng(seed + 1)
    originals = rng.choice(n, n_near, replace=False)
    copies = X[originals] + 0.05 * X.std() * rng.normal(size=(n_near, X.shape[1])).astype(np.float32)
    return np.concatenate([X, copies]), [(int(o), n + k) for k, o in enumerate(originals)]


@pytest.mark.parametrize("n", [30, 400])
def test_near_pairs_finds_what_was_planted_and_nothing_else(n):
    """Vectors with a little noise are paired with their originals; unrelated rows with nobody."""
    X, planted = _planted(n, n // 10)
    assert [tuple(pair) for pair in near_pairs(X).tolist()] == sorted(planted)
    assert not len(near_pairs(_vectors(n, seed=5)))


def test_near_pairs_leaves_tight_classes_alone():
    """Rows of a class that the backbone knows well have cosines above 0.99 and are no duplicates."""
    rng = np.random.default_rng(0)
    classes = rng.normal(size=(3, 48)) * 20
    y = np.arange(300) % 3
    X = (classes[y] + rng.normal(size=(300, 48))).astype(np.float32)
    U = unit_rows(centred(X))
    assert (U[y == 0] @ U[y == 0].T).min() > 0.97
    assert not len(near_pairs(X))


@pytest.mark.parametrize("d", [1, 2, 4, 8])
def test_near_pairs_needs_more_evidence_in_few_dimensions(d):
    """Where rows come close by chance, fewer than 1 % of them are paired."""
    pairs = near_pairs(np.random.default_rng(0).normal(size=(500, d)).astype(np.float32))
    assert len(np.unique(pairs)) <= 5


def test_near_pairs_ignores_missing_and_constant_vectors():
    """Rows without a vector, and data without any variation, pair with nothing."""
    X, planted = _planted(100, 10)
    gone = X.copy()
    gone[planted[0][0]] = np.nan
    gone[3, 0] = np.nan
    kept = [pair for pair in planted if planted[0][0] not in pair and 3 not in pair]
    assert [tuple(pair) for pair in near_pairs(gone).tolist()] == sorted(kept)
    assert not len(near_pairs(np.ones((20, 8), np.float32)))
    assert not len(near_pairs(np.full((20, 8), np.nan, np.float32)))
    assert not len(near_pairs(np.empty((0, 8), np.float32)))


def test_similar_rows_is_the_same_in_blocks_and_in_fewer_dimensions(monkeypatch):
    """Small blocks and the bound in 128 directions give the pairs of one whole product."""
    rng = np.random.default_rng(3)
    U = unit_rows(centred(_vectors(700, d=300, seed=3)))
    whole = U @ U.T
    np.fill_diagonal(whole, -1)
    expected = {(i, j) for i, j in zip(*np.nonzero(whole >= 0.5), strict=True) if i < j}
    assert len(expected) > 50
    monkeypatch.setattr(near_duplicates, "_BLOCK_BYTES", 4 * 700 * int(rng.integers(3, 90)))
    for most in (10_000, 100):
        monkeypatch.setattr(near_duplicates, "_MANY_ROWS", most)
        found = [(i, j) for a, b, _ in similar_rows(U, 0.5) for i, j in zip(a, b, strict=True)]
        assert len(found) == len(set(found))
        assert set(found) == expected
        likely = rows_with_likeness(U, 0.5)
        assert likely[np.unique(np.array(sorted(expected)))].all()
    monkeypatch.setattr(near_duplicates, "_MANY_ROWS", 10_000)
    assert (rows_with_likeness(U, 0.5) == (whole >= 0.5).any(axis=1)).all()


def test_rows_with_likeness_leave_out_no_pair_by_rounding():
    """A bound that a pair reaches exactly, by itself, is reached in a product of matrices too."""
    U = unit_rows(centred(_vectors(300, d=300, seed=5)))
    for i in range(0, 300, 3):
        own = np.einsum("j,kj->k", U[i], U)
        own[i] = -1
        assert rows_with_likeness(U, float(own.max()))[i]


def _groups(known: np.ndarray, *blocks: np.ndarray) -> np.ndarray:
    keys = [groups_of_pairs(near_pairs(X), len(X)) for X in blocks]
    return connected_groups(known.tolist(), *keys, n=len(known))


def test_near_pairs_of_several_blocks_join_known_groups():
    """A pair in either block joins the groups of its rows, and folds then keep them on one side."""
    X, in_text = _planted(200, 12, seed=1)
    Z, in_image = _planted(200, 12, seed=2)
    known = np.arange(len(X))
    known[7] = known[8] = 7
    groups = _groups(known, X, Z)
    assert groups[7] == groups[8]
    assert all(groups[i] == groups[j] for i, j in in_text + in_image)
    assert groups.max() + 1 == len(X) - len({*in_text, *in_image}) - 1
    y = np.arange(len(X)) % 3
    for train, valid in make_folds(y, groups=groups):
        assert not set(groups[train]) & set(groups[valid])


def test_near_duplicates_with_random_labels_score_chance_only_as_groups():
    """Half of the rows are near copies with their original's random label: plain folds see through them."""
    from sklearn.neighbors import KNeighborsClassifier

    X = _vectors(200, seed=4)
    rng = np.random.default_rng(4)
    y = rng.integers(0, 2, 200)
    X = np.concatenate([X, X + 0.05 * X.std() * rng.normal(size=X.shape).astype(np.float32)])
    y = np.concatenate([y, y])

    def accuracy(groups: np.ndarray | None) -> float:
        right = 0
        for train, valid in make_folds(y, groups=groups):
            nearest = KNeighborsClassifier(1).fit(X[train], y[train])
            right += int((nearest.predict(X[valid]) == y[valid]).sum())
        return right / len(y)

    assert accuracy(None) > 0.75
    assert abs(accuracy(_groups(np.arange(400), X)) - 0.5) < 0.12
