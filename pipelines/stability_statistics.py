"""Where the variance of a repeated score comes from: splits, seeds, or neither."""

from __future__ import annotations

from typing import Any

import numpy as np


def variance_shares(scores: np.ndarray) -> dict[str, Any]:
    """Split the variance of a score among splits, seeds and what neither explains.

    Parameters
    ----------
    scores : ndarray of shape (n_splits, n_seeds), float

    Returns
    -------
    dict
        ``split``, ``seed`` and ``rest``: variances; ``share``: the same as shares of their sum (0 when
        nothing varies). With one split or one seed, that part is 0 and the other holds everything.

    Notes
    -----
    Two-way random effects without replication: ``rest`` is the mean square of the interaction, and a
    component that would be negative is 0.

    References
    ----------
    Searle, Casella, McCulloch (1992). Variance Components, section 4.3.
    """
    n_splits, n_seeds = scores.shape
    by_split, by_seed = scores.mean(axis=1), scores.mean(axis=0)
    parts = {"split": 0.0, "seed": 0.0, "rest": 0.0}
    if n_splits > 1 and n_seeds > 1:
        left = scores - by_split[:, None] - by_seed[None, :] + scores.mean()
        rest = float((left**2).sum() / ((n_splits - 1) * (n_seeds - 1)))
        parts["rest"] = rest
        parts["split"] = max(0.0, float(by_split.var(ddof=1)) - rest / n_seeds)
        parts["seed"] = max(0.0, float(by_seed.var(ddof=1)) - rest / n_splits)
    elif n_splits > 1:
        parts["split"] = float(by_split.var(ddof=1))
    elif n_seeds > 1:
        parts["seed"] = float(by_seed.var(ddof=1))
    total = sum(parts.values())
    return {**parts, "share": {name: part / total if total else 0.0 for name, part in parts.items()}}
