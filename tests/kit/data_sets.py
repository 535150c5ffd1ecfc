"""Small data sets in the guid layout, with real pictures and learnable labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

WORDS = {"positive": "the cat", "neutral": "a dog", "negative": "go the"}
COLOURS = {"positive": (230, 60, 60), "neutral": (60, 200, 60), "negative": (60, 60, 230)}
SHARES = (("positive", 0.6), ("neutral", 0.1), ("negative", 0.3))


def write_guid_data_set(
    folder: Path, n_labelled: int = 60, n_unlabelled: int = 6, *, seed: int = 0
) -> list[str]:
    """Write ``train.txt``, ``test_without_label.txt`` and ``data/``; returns the ids in manifest order.

    Words and colours hint at the label, so heads beat chance; every text and every picture is distinct.
    """
    generator = np.random.default_rng(seed)
    data = folder / "data"
    data.mkdir(parents=True)
    labels = [name for name, share in SHARES for _ in range(round(n_labelled * share))]
    generator.shuffle(labels)
    ids = [str(100 + i) for i in range(len(labels) + n_unlabelled)]
    names = list(WORDS)
    kinds = labels + [names[i % 3] for i in range(n_unlabelled)]
    for i, (guid, kind) in enumerate(zip(ids, kinds, strict=True)):
        (data / f"{guid}.txt").write_text(f"{WORDS[kind]} {_spell(i)}", encoding="utf-8")
        write_picture(data / f"{guid}.jpg", COLOURS[kind], seed=seed * 100_000 + i)
    write_list(folder / "train.txt", list(zip(ids, labels, strict=False)))
    write_list(folder / "test_without_label.txt", [(guid, "null") for guid in ids[len(labels) :]])
    return ids


def write_list(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    """Write a ``guid,tag`` list."""
    path.write_text(
        "\n".join(["guid,tag", *(f"{guid},{tag}" for guid, tag in rows)]) + "\n", encoding="utf-8"
    )


def write_picture(
    path: Path, colour: tuple[int, int, int], *, seed: int, size: tuple[int, int] = (48, 40)
) -> None:
    """Write a noisy picture of one colour."""
    noise = np.random.default_rng(seed).integers(-40, 40, (size[1], size[0], 3))
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(path)


def _spell(number: int) -> str:
    return " ".join("abcdefghij"[int(digit)] for digit in str(number))
