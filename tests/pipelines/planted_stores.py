"""Stores of planted float16 vectors, in any row order, some rows without one: for commands on large data."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cache import Plan, RowTable, ShardData, SpaceSpec, write_store

CLASSES = ["positive", "neutral", "negative"]


def write_planted(
    path: Path,
    modality: str,
    x: np.ndarray,
    labels: np.ndarray,
    *,
    missing: tuple[int, ...] = (),
    order: np.ndarray | None = None,
    n_views: int = 0,
) -> str:
    """Write a float16 store; every 10th row is unlabelled, every 8th a test row, `missing` have no vector."""
    n = len(x)
    order = np.arange(n) if order is None else order
    valid = np.ones(n, dtype=np.uint8)
    valid[list(missing)] = 0
    x = np.where(valid[:, None], x, 0).astype(np.float16)
    name = f"{modality}.pooled"
    plan = Plan(
        backbone="toy",
        n_rows=n,
        shard_rows=100,
        spaces=(SpaceSpec(name, x.shape[1], "float16", f"fp-{modality}", views=n_views),),
        modalities=(modality,),
        identity={"backbone": "toy"},
    )
    table = RowTable(
        ids=tuple(f"id{i}" for i in order),
        label=np.where(order % 10 == 9, -1, labels[order]).astype(np.int32),
        split=np.where(order % 8 == 7, 3, 1).astype(np.uint8),
        group=np.full(n, -1, dtype=np.int32),
        source_sha256=np.zeros((n, 32), dtype=np.uint8),
        status=(1 - valid[order])[:, None],
    )
    views = {name: np.repeat(x[None, order], n_views, axis=0)} if n_views else None
    data = ShardData({name: x[order]}, valid[order], 1 - valid[order], views)
    meta = {"class_names": CLASSES, "encodings": ["", "utf-8"]}
    return str(write_store(path, plan, table=table, data={modality: data}, meta=meta))


def planted_rows(n: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows whose first columns tell the class, and the classes."""
    labels = np.tile([0, 0, 0, 1, 2, 2], n // 6 + 1)[:n].astype(np.int32)
    x = np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)
    x[np.arange(n), labels] += 1.5
    return x, labels
