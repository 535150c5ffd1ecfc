"""Similar sets: the search that looks at few pairs finds what comparing all pairs finds."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tuning import groups_of_pairs, set_similarity, similar_sets

_SETS = st.lists(st.frozensets(st.sampled_from("abcdefghijkl"), max_size=9), max_size=40)


@settings(max_examples=60, deadline=None)
@given(sets=_SETS, least=st.sampled_from([0.5, 0.7, 0.75, 1.0]), fewest=st.integers(1, 6))
def test_similar_sets_equals_comparing_all_pairs(sets, least, fewest):
    """The prefix filter loses no pair and adds none: groups equal those of the brute-force pairs."""
    brute = [
        (i, j)
        for i in range(len(sets))
        for j in range(i + 1, len(sets))
        if max(len(sets[i]), len(sets[j])) >= fewest
        and len(sets[i] & sets[j]) >= least * len(sets[i] | sets[j]) - 1e-9
    ]
    expected = groups_of_pairs(np.array(brute, dtype=np.int64).reshape(-1, 2), len(sets))
    assert groups_of_pairs(similar_sets(sets, least, fewest=fewest), len(sets)) == expected


def test_copies_of_a_set_too_small_to_pair_are_paired_where_it_is():
    """Two rows of one word: too few to be copies of each other, but both are like the row of two words."""
    sets = [frozenset("a"), frozenset("a"), frozenset("ab"), frozenset("c"), frozenset("c")]
    assert similar_sets(sets, 0.5, fewest=2).tolist() == [[0, 2], [1, 2]]


def test_similar_sets_is_the_same_in_small_portions(monkeypatch):
    """Candidates are cut into portions; their number does not change what is found."""
    rng = np.random.default_rng(0)
    sets = [frozenset(rng.choice(list("abcdefghijklmnop"), 8).tolist()) for _ in range(300)]
    whole = similar_sets(sets, 0.7)
    monkeypatch.setattr(set_similarity, "_PAIRS_AT_ONCE", 50)
    assert len(whole) > 100
    assert (similar_sets(sets, 0.7) == whole).all()
