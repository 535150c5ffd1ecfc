"""Write store-1.0.h5, the golden store of format 1.0: every column, both modalities, views.

Run once per format version and never again for this one: ``python tests/golden/make_store_1_0.py``. The test
reads the file of then with the code of now, so all values here follow from row numbers.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

N = 6
CLASSES = ["positive", "neutral", "negative"]
ENCODINGS = ["", "utf-8", "gb18030"]
IDS = ("1", "../2", "三", "4é", "5", "6")
TEXTS = ("good 好", "", "[EMPTY]", "a\nb", "😀", "no")
TEXT_VALID = np.array([1, 0, 1, 1, 1, 1], dtype=np.uint8)
IMAGE_STATUS = np.array([0, 0, 2, 0, 3, 0], dtype=np.uint8)


def text_features() -> np.ndarray:
    """Return float32 of shape (6, 3); row 1 is invalid."""
    return ((np.arange(N * 3, dtype=np.float32).reshape(N, 3) + 1) / 8) * TEXT_VALID[:, None]


def image_features() -> np.ndarray:
    """Return float16 of shape (6, 4); rows 2 and 4 are invalid."""
    valid = (IMAGE_STATUS == 0)[:, None]
    return ((np.arange(N * 4, dtype=np.float16).reshape(N, 4) + 1) / np.float16(4)) * valid


def main() -> None:
    """Write the file beside this script."""
    from cache import Plan, RowTable, ShardData, SpaceSpec, write_store

    plan = Plan(
        backbone="golden",
        n_rows=N,
        shard_rows=4,
        spaces=(
            SpaceSpec("text.pooled", 3, "float32", "golden-text"),
            SpaceSpec("image.cls", 4, "float16", "golden-image", views=2),
        ),
        modalities=("text", "image"),
        identity={"weights": {"sha256": "0" * 64}, "clean": "basic"},
    )
    hashes = np.arange(N * 32, dtype=np.uint8).reshape(N, 32)
    table = RowTable(
        ids=IDS,
        label=np.array([0, 1, 2, -1, 0, 1], dtype=np.int32),
        split=np.array([1, 1, 2, 3, 0, 1], dtype=np.uint8),
        group=np.array([0, 0, -1, 1, 2, 2], dtype=np.int32),
        source_sha256=hashes,
        status=np.zeros((N, 2), dtype=np.uint8),
        text=TEXTS,
        encoding=np.array([2, 0, 1, 1, 1, 1], dtype=np.uint8),
        image_path=tuple(f"data/{i}.jpg" for i in range(N)),
        image_width=np.arange(N, dtype=np.int32) * 10,
        image_height=np.arange(N, dtype=np.int32) * 20,
        image_sha256=hashes[::-1].copy(),
    )
    views = np.stack([image_features(), -image_features()])
    data = {
        "text": ShardData({"text.pooled": text_features()}, TEXT_VALID, 1 - TEXT_VALID),
        "image": ShardData(
            {"image.cls": image_features()},
            (IMAGE_STATUS == 0).astype(np.uint8),
            IMAGE_STATUS,
            {"image.cls": views},
        ),
    }
    meta = {"class_names": CLASSES, "encodings": ENCODINGS, "backbone": {"name": "golden"}}
    write_store(Path(__file__).with_name("store-1.0.h5"), plan, table=table, data=data, meta=meta)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    main()
