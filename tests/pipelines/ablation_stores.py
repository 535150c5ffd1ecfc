"""Stores for the tests of ablations: any backbone's name, any widths, labels that the vectors know or not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cache import Plan, RowTable, ShardData, SpaceSpec, write_store

CLASSES = ("positive", "neutral", "negative")


def labels_of(n: int, *, seed: int = 0) -> np.ndarray:
    """Return class codes at 5 : 2 : 3, shuffled."""
    codes = np.repeat([0, 1, 2], [n - n // 5 - 3 * n // 10, n // 5, 3 * n // 10]).astype(np.int32)
    return np.random.default_rng(seed).permutation(codes)


def noisy(codes: np.ndarray, strength: float, *, width: int = 8, seed: int = 0) -> np.ndarray:
    """Return vectors whose first columns know the class as well as `strength` says."""
    x = np.random.default_rng(seed).normal(size=(len(codes), width))
    x[np.arange(len(codes)), codes] += strength
    return x.astype(np.float32)


def make_store(
    path: Path,
    backbone: str,
    vectors: Mapping[str, np.ndarray],
    codes: np.ndarray,
    *,
    ids: tuple[str, ...] | None = None,
    texts: tuple[str, ...] | None = None,
    views: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Write a store of one pooled space per modality, as a pass with this backbone would have.

    `views`, by modality, have shape (n_views, n, width).
    """
    n = len(codes)
    n_views = {name: 0 if views is None else len(views[name]) for name in vectors}
    modalities = tuple(vectors)
    plan = Plan(
        backbone=backbone,
        n_rows=n,
        shard_rows=n,
        spaces=tuple(
            SpaceSpec(f"{name}.pooled", x.shape[1], "float32", f"{backbone}-{name}", views=n_views[name])
            for name, x in vectors.items()
        ),
        modalities=modalities,
        identity={"backbone": backbone, "path": path.stem},
    )
    names = ids or tuple(str(i) for i in range(n))
    hashes = np.array([list(i.encode().ljust(32, b".")) for i in names], dtype=np.uint8)
    table = RowTable(
        ids=names,
        label=np.asarray(codes, dtype=np.int32),
        split=np.zeros(n, dtype=np.uint8),
        group=np.full(n, -1, dtype=np.int32),
        source_sha256=hashes,
        status=np.zeros((n, len(modalities)), dtype=np.uint8),
        text=texts,
        encoding=None if texts is None else np.zeros(n, dtype=np.uint8),
    )
    data = {
        name: ShardData(
            {f"{name}.pooled": x},
            np.ones(n, dtype=np.uint8),
            np.zeros(n, dtype=np.uint8),
            {f"{name}.pooled": views[name]} if views is not None else None,
        )
        for name, x in vectors.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_store(
        path, plan, table=table, data=data, meta={"class_names": list(CLASSES), "encodings": ["utf-8"]}
    )
