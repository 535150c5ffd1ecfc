"""Do features say which split a row is in? Adversarial validation, with intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from pipelines.auditing.findings import Finding, Tested, first_ids
from pipelines.auditing.hints import side_features
from pipelines.auditing.rows import TRAINING, AuditRows
from tuning import make_folds

_FEWEST_ROWS = 20
_MOST_ROWS = 4000  # of each side
_WEAK, _STRONG = 0.55, 0.8  # lower end of the interval of an AUC; AUC
_COLUMN_WEAK, _COLUMN_STRONG = 0.65, 0.9
_DIMENSIONS = 32
_SIDE_FEATURES = ("characters", "words", "image width", "image height", "image shape", "image file bytes")


def split_tests(rows: AuditRows, *, random_state: int) -> list[Tested]:
    """Test, for every other split, whether it can be told from the training rows.

    Three ways: a logistic regression on the vectors (32 principal components, fitted in the training part
    of each fold), each column of the vectors alone, and a decision tree on lengths and sizes.
    """
    tests = []
    for part in sorted(set(rows.parts) - {TRAINING}):
        both = [np.flatnonzero(rows.parts == name) for name in (TRAINING, part)]
        if min(map(len, both)) < _FEWEST_ROWS:
            continue
        rng = np.random.default_rng(random_state)
        some = [rng.choice(r, min(len(r), _MOST_ROWS), replace=False) for r in both]
        kept = np.sort(np.concatenate(some))
        is_other = (rows.parts[kept] == part).astype(np.int64)
        side = {n: v[kept] for n, v in side_features(rows).items() if n in _SIDE_FEATURES}
        if rows.X is not None:
            X = rows.X[kept]
            tests.append(_vectors_test(rows, part, X, is_other, kept, random_state))
            tests.append(_columns_test(rows, part, X, is_other, kept))
        if side:
            F = np.stack(list(side.values()), axis=1)
            tests.append(_side_test(rows, part, F, list(side), is_other, kept, random_state))
    return [test for test in tests if test is not None]


def _vectors_test(
    rows: AuditRows, part: str, X: np.ndarray, is_other: np.ndarray, kept: np.ndarray, random_state: int
) -> Tested | None:
    from sklearn.decomposition import PCA
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X = X[:, np.isfinite(X).any(axis=0)]
    width = min(_DIMENSIONS, X.shape[1], len(X) // 4)
    model = make_pipeline(
        SimpleImputer(keep_empty_features=True),
        StandardScaler(),
        PCA(width, svd_solver="randomized", iterated_power=2, random_state=0),
        LogisticRegression(C=0.1, class_weight="balanced", max_iter=500),
    )
    return _model_test(rows, part, "features predict the split", model, X, is_other, kept, "", random_state)


def _side_test(
    rows: AuditRows,
    part: str,
    F: np.ndarray,
    names: list[str],
    is_other: np.ndarray,
    kept: np.ndarray,
    random_state: int,
) -> Tested | None:
    from sklearn.tree import DecisionTreeClassifier

    tree = DecisionTreeClassifier(max_depth=4, min_samples_leaf=10, class_weight="balanced", random_state=0)
    columns = column_aucs(F, is_other)
    best = names[int(np.abs(columns - 0.5).argmax())]
    return _model_test(
        rows,
        part,
        "side features predict the split",
        tree,
        F,
        is_other,
        kept,
        f"; most: {best}",
        random_state,
    )


def _model_test(
    rows: AuditRows,
    part: str,
    check: str,
    model: object,
    X: np.ndarray,
    is_other: np.ndarray,
    kept: np.ndarray,
    more: str,
    random_state: int,
) -> Tested | None:
    groups = rows.related.groups[kept]
    if any(len(np.unique(groups[is_other == side])) < 5 for side in (0, 1)):
        return None
    scores = np.empty(len(kept))
    with threadpool_limits(1, user_api="blas"):  # the products are small: a second thread mostly waits
        for train, valid in make_folds(is_other, n_folds=5, groups=groups, random_state=random_state):
            fitted = model.fit(X[train], is_other[train])  # type: ignore[attr-defined]
            scores[valid] = fitted.predict_proba(X[valid])[:, 1]
    auc, low, high, p = auc_with_interval(scores, is_other)
    detail = f"{part} against train: AUC {auc:.3f} (95 % {low:.3f} to {high:.3f}){more}"
    finding = None
    if low >= _WEAK:
        finding = _finding(rows, check, detail, "high" if auc >= _STRONG else "medium", is_other, kept)
    return Tested(f"{check} ({part})", p, detail, finding)


def _columns_test(
    rows: AuditRows, part: str, X: np.ndarray, is_other: np.ndarray, kept: np.ndarray
) -> Tested:
    """Test every column alone; the p-value is that of the best one times their number."""
    from scipy.stats import norm

    aucs = column_aucs(X, is_other)
    best = int(np.abs(aucs - 0.5).argmax())
    auc = max(aucs[best], 1 - aucs[best])
    p = min(1.0, 2 * len(aucs) * float(norm.sf((auc - 0.5) / _null_error(is_other))))
    low, high = _interval(auc, is_other)
    detail = (
        f"{part} against train: column {best:,} of {len(aucs):,} has AUC {auc:.3f} "
        f"(95 % {low:.3f} to {high:.3f})"
    )
    check = "one feature predicts the split"
    finding = None
    if low >= _WEAK and auc >= _COLUMN_WEAK:
        severity = "high" if auc >= _COLUMN_STRONG else "medium"
        finding = _finding(rows, check, detail, severity, is_other, kept)
    return Tested(f"{check} ({part})", p, detail, finding)


def _finding(
    rows: AuditRows, check: str, detail: str, severity: str, is_other: np.ndarray, kept: np.ndarray
) -> Finding:
    return Finding(
        check,
        severity,
        int(is_other.sum()),
        detail,
        first_ids([rows.ids[row] for row in kept[is_other == 1]]),
        "The splits were not drawn alike: a cross-validated score may not hold on that split. Split anew at "
        "random (by group), or find what differs.",
    )


def column_aucs(X: np.ndarray, is_other: np.ndarray) -> NDArray[np.float64]:
    """Return for every column the chance that a row of the other split has the larger value (ties half).

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float
        NaN counts as the column's median.
    is_other : ndarray of shape (n_samples,), int
        1 = other split, 0 = training.
    """
    from scipy.stats import rankdata

    aucs = np.empty(X.shape[1])
    n_other = int(is_other.sum())
    for start in range(0, X.shape[1], 64):
        some = X[:, start : start + 64].astype(np.float64)
        known = np.isfinite(some)
        middle = np.array([np.median(c[k]) if k.any() else 0.0 for c, k in zip(some.T, known.T, strict=True)])
        ranks = rankdata(np.where(known, some, middle), axis=0)
        sums = ranks[is_other == 1].sum(axis=0)
        aucs[start : start + 64] = (sums - n_other * (n_other + 1) / 2) / (n_other * (len(X) - n_other))
    return aucs


def auc_with_interval(scores: np.ndarray, is_other: np.ndarray) -> tuple[float, float, float, float]:
    """Return an AUC, its 95 % interval, and the one-sided p-value that it is no better than 0.5.

    Parameters
    ----------
    scores : ndarray of shape (n_samples,), float
    is_other : ndarray of shape (n_samples,), int
        1 = positive.

    Returns
    -------
    (auc, low, high, p)

    References
    ----------
    Hanley and McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC)
    curve", Radiology 143, 1982 (the interval); Mann and Whitney 1947 (the p-value, normal approximation).
    """
    from scipy.stats import norm

    auc = float(column_aucs(scores[:, None], is_other)[0])
    low, high = _interval(auc, is_other)
    return auc, low, high, float(norm.sf((auc - 0.5) / _null_error(is_other)))


def _null_error(is_other: np.ndarray) -> float:
    n_other, n = int(is_other.sum()), len(is_other)
    return float(np.sqrt((n + 1) / (12 * n_other * (n - n_other))))


def _interval(auc: float, is_other: np.ndarray) -> tuple[float, float]:
    m, n = int(is_other.sum()), int((is_other == 0).sum())
    one, two = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    variance = (auc * (1 - auc) + (m - 1) * (one - auc**2) + (n - 1) * (two - auc**2)) / (m * n)
    reach = 1.96 * float(np.sqrt(max(variance, 0.0)))
    return max(0.0, auc - reach), min(1.0, auc + reach)
