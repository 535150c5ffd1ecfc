"""What gives the label away without being content: words, class names, lengths, sizes, ids, order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from pipelines.auditing.findings import Finding, Tested, first_ids
from pipelines.auditing.rows import AuditRows
from pipelines.near_texts import words_of
from tuning import make_folds, wilson_interval

_FEWEST_ROWS = 40
_PERMUTATIONS = 100
_MOST_ROWS = 4000  # of the permutation test; more would only cost time
#: A word gives a class away if, at 95 %, so many of the rows that hold it are of that class ...
_LEAST_PURITY = 0.9
#: ... and it is in so many of the rows of the class.
_LEAST_COVERAGE = 0.1
_NAME_PURITY, _NAME_COVERAGE = 0.8, 0.02
_WEAK, _STRONG = 0.15, 0.5  # of the way from chance to a perfect score
_ID_FEATURES = ("id number", "row order")


def word_tests(rows: AuditRows) -> list[Tested]:
    """Test whether a word gives a class away, and whether texts name their class.

    A word that is merely typical of a class does not count: nearly all texts that hold it must be of that
    class. Of a group of related rows one is counted.
    """
    if rows.texts is None:
        return []
    kept = _one_per_group(rows)
    texts = [rows.texts[row] for row in kept]
    labels = rows.labels[kept]
    if len(kept) < _FEWEST_ROWS or len(np.unique(labels)) < 2:
        return []
    holders: dict[str, list[int]] = {}
    for place, text in enumerate(texts):
        for word in {*text.casefold().split(), *words_of(text)}:
            holders.setdefault(word, []).append(place)
    names = {word for name in rows.class_names for word in words_of(name)}
    usual = _word_test(rows, kept, labels, {w: h for w, h in holders.items() if w not in names}, named=False)
    own = _word_test(rows, kept, labels, {w: h for w, h in holders.items() if w in names}, named=True)
    return [usual, own]


def _one_per_group(rows: AuditRows) -> np.ndarray:
    labelled = rows.labelled
    return labelled[np.sort(np.unique(rows.related.groups[labelled], return_index=True)[1])]


def _word_test(
    rows: AuditRows, kept: np.ndarray, labels: np.ndarray, holders: dict[str, list[int]], *, named: bool
) -> Tested:
    """Look at every word and class; the p-value is the smallest one times their number."""
    from scipy.stats import hypergeom

    purity, coverage = (_NAME_PURITY, _NAME_COVERAGE) if named else (_LEAST_PURITY, _LEAST_COVERAGE)
    check = "class name in the text" if named else "word that gives the label away"
    sizes = np.bincount(labels, minlength=len(rows.class_names))
    tested, best, given = 0, 1.0, []
    for word, places in holders.items():
        if len(places) < max(5, 0.01 * len(labels)):
            continue
        counts = np.bincount(labels[places], minlength=len(sizes))
        tested += int((sizes > 0).sum())
        code = int(counts.argmax())
        if named and code not in _classes_named(rows.class_names, word):
            continue
        p = float(hypergeom.sf(counts[code] - 1, len(labels), sizes[code], len(places)))
        best = min(best, p)
        low = wilson_interval([counts[code]], [len(places)])[0][0]
        if low >= purity and counts[code] >= coverage * sizes[code]:
            given.append((p, -int(counts[code]), word, code, len(places)))
    p = min(1.0, best * max(1, tested))
    if not given:
        return Tested(check, p, f"{tested:,} words and classes looked at")
    given.sort()
    smallest, count, word, code, n = given[0]
    others = f" (also {', '.join(repr(w) for _, _, w, _, _ in given[1:4])})" if len(given) > 1 else ""
    detail = (
        f"{word!r} is in {-count:,} of {sizes[code]:,} texts of class '{rows.class_names[code]}' and in "
        f"{n + count:,} others{others}"
    )
    finding = Finding(
        check,
        "high" if not named else "medium",
        n,
        detail,
        first_ids([rows.ids[row] for row in kept[holders[word]]]),
        "If it was put there with the label, remove it from the texts and extract again.",
    )
    return Tested(check, min(1.0, smallest * tested), detail, finding)


def _classes_named(class_names: Sequence[str], word: str) -> set[int]:
    return {code for code, name in enumerate(class_names) if word in words_of(name)}


def side_features(rows: AuditRows) -> dict[str, np.ndarray]:
    """Return what is known of a row beside its content.

    Returns
    -------
    dict of str to ndarray of shape (n_samples,), float64
        NaN = unknown. A feature that is the same everywhere is left out.
    """
    features: dict[str, np.ndarray] = {"row order": np.arange(len(rows.ids), dtype=np.float64)}
    if all(guid.isdecimal() and len(guid) <= 15 for guid in rows.ids):
        features["id number"] = np.array([float(guid) for guid in rows.ids])
    if rows.texts is not None:
        features["characters"] = np.array([float(len(text)) for text in rows.texts])
        features["words"] = np.array([float(len(text.split())) for text in rows.texts])
    if rows.sizes is not None:
        sizes = np.where(rows.sizes > 0, rows.sizes, np.nan).astype(np.float64)
        features |= {"image width": sizes[:, 0], "image height": sizes[:, 1]}
        features["image shape"] = sizes[:, 0] / sizes[:, 1]
    if rows.file_bytes is not None:
        features["image file bytes"] = rows.file_bytes
    return {name: values for name, values in features.items() if len(set(values[~np.isnan(values)])) > 1}


def side_feature_test(rows: AuditRows, *, random_state: int) -> list[Tested]:
    """Test whether lengths, sizes, ids or the order of the rows predict the label.

    A decision tree is cross-validated on the side features, on the true labels and on 100 permutations of
    them; related rows share a fold. The p-value is that of the true score in a normal distribution with the
    mean and the deviation of the permuted ones (100 draws alone could not survive Holm's correction).
    """
    features = side_features(rows)
    names = [name for name in features if name not in _ID_FEATURES]
    outer = [name for name in features if name in _ID_FEATURES]
    tests = []
    for check, chosen in (
        ("side features predict the label", names),
        ("ids or order predict the label", outer),
    ):
        if chosen:
            test = _tree_test(rows, check, {name: features[name] for name in chosen}, random_state)
            tests += [test] if test is not None else []
    return tests


def _tree_test(
    rows: AuditRows, check: str, features: dict[str, np.ndarray], random_state: int
) -> Tested | None:
    from scipy.stats import norm

    rng = np.random.default_rng(random_state)
    kept = _one_per_group(rows)
    counts = Counter(rows.labels[kept].tolist())
    kept = kept[[counts[code] >= 10 for code in rows.labels[kept].tolist()]]
    if len(kept) > _MOST_ROWS:
        kept = np.sort(rng.choice(kept, _MOST_ROWS, replace=False))
    y = np.unique(rows.labels[kept], return_inverse=True)[1]
    if len(kept) < _FEWEST_ROWS or y.max() < 1:
        return None
    F = np.stack([values[kept] for values in features.values()], axis=1)
    folds = make_folds(y, n_folds=5, random_state=random_state)
    true = _tree_score(F, y, folds)
    permuted = np.array([_tree_score(F, rng.permutation(y), folds) for _ in range(_PERMUTATIONS)])
    p = float(norm.sf((true - permuted.mean()) / max(permuted.std(ddof=1), 1e-9)))
    chance = 1 / (y.max() + 1)
    gain = (true - chance) / (1 - chance)
    detail = (
        f"balanced accuracy {true:.3f} where permuted labels give {permuted.mean():.3f} +- "
        f"{permuted.std(ddof=1):.3f}"
    )
    if gain < _WEAK:
        return Tested(check, p, detail)
    alone = {name: _tree_score(F[:, [k]], y, folds) for k, name in enumerate(features)}
    best = sorted(alone, key=lambda name: -alone[name])[:3]
    detail += "; alone: " + ", ".join(f"{name} {alone[name]:.3f}" for name in best)
    is_outer = set(features) <= set(_ID_FEATURES)
    finding = Finding(
        check,
        "low" if is_outer else "high" if gain >= _STRONG else "medium",
        len(kept),
        detail,
        first_ids([rows.ids[row] for row in kept]),
        "Heads do not see ids or order; do not add them as features, and do not split by them."
        if is_outer
        else "Check how the data were collected: a backbone may see it too. Resize or crop to one size, or "
        "collect the classes in one way.",
    )
    return Tested(check, p, detail, finding)


def _tree_score(F: np.ndarray, y: np.ndarray, folds: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """Return the mean over classes of the share of their rows that other folds' trees get right."""
    from sklearn.tree import DecisionTreeClassifier

    F = np.ascontiguousarray(F, dtype=np.float32)
    right = np.zeros(len(y), dtype=bool)
    for train, valid in folds:
        weights = 1 / np.bincount(y[train])[y[train]]
        tree = DecisionTreeClassifier(max_depth=4, min_samples_leaf=5, random_state=0)
        # Checking the input takes longer than fitting, and is for the same F a thousand times.
        tree.fit(F[train], y[train], sample_weight=weights * len(train), check_input=False)
        right[valid] = tree.predict(F[valid], check_input=False) == y[valid]
    return float(np.mean([right[y == code].mean() for code in range(int(y.max()) + 1)]))
