"""A data set with planted faults: flipped labels, and one kind of sample whose vectors are noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.pipelines.ablation_stores import CLASSES, labels_of, make_store

SLICE = "text with URL"


@dataclass(frozen=True)
class Planted:
    """Where the store lies, and what was planted: rows with a wrong label, rows with a URL and no signal."""

    store: Path
    flipped: np.ndarray
    noisy: np.ndarray
    true: np.ndarray


def plant(
    folder: Path, *, n: int = 900, seed: int = 0, signal: float = 4.0, flips: float = 0.1, width: int = 24
) -> Planted:
    """Write a store of text and image vectors with `flips` wrong labels and a tenth of rows without signal.

    The texts of that tenth have a URL; lengths of texts say nothing. Its labels are right, so its rows are
    bad cases but no label errors.
    """
    generator = np.random.default_rng(seed)
    true = labels_of(n, seed=seed)
    flipped = np.zeros(n, dtype=bool)
    flipped[generator.choice(n, round(flips * n), replace=False)] = True
    given = np.where(flipped, (true + generator.integers(1, 3, n)) % len(CLASSES), true)
    noisy = np.zeros(n, dtype=bool)
    noisy[generator.choice(np.flatnonzero(~flipped), n // 10, replace=False)] = True
    vectors = {}
    for modality in ("text", "image"):
        x = generator.normal(size=(n, width))
        x[np.flatnonzero(~noisy), true[~noisy]] += signal / np.sqrt(2)
        vectors[modality] = x.astype(np.float32)
    words = generator.integers(3, 20, n)
    texts = tuple(
        f"{' '.join(['word'] * int(words[i]))} {i}" + (" https://t.co/x" if noisy[i] else "")
        for i in range(n)
    )
    store = make_store(folder / f"planted-{seed}.h5", "toy", vectors, given.astype(np.int32), texts=texts)
    return Planted(store, flipped, noisy, true)
