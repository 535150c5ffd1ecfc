"""Small real stores, plans and tables for the tests of the feature store."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cache import PassFolder, Plan, RowTable, ShardData, SpaceSpec, write_store

CLASSES = ["positive", "neutral", "negative"]
META = {"class_names": CLASSES, "encodings": ["", "utf-8"]}


def text_hashes(texts: tuple[str, ...]) -> np.ndarray:
    """Return uint8 of shape (n, 32)."""
    return np.array([list(hashlib.sha256(t.encode()).digest()) for t in texts], dtype=np.uint8).reshape(
        -1, 32
    )


def make_table(n: int, modalities: tuple[str, ...] = ("text", "image"), *, random_state: int = 0) -> RowTable:
    """Return a table in which nothing is constant."""
    rng = np.random.default_rng(random_state)
    with_text, with_image = "text" in modalities, "image" in modalities
    return RowTable(
        ids=tuple(f"id-{i}-é" for i in range(n)),
        label=rng.integers(-1, 3, n).astype(np.int32),
        split=rng.integers(0, 4, n).astype(np.uint8),
        group=np.where(rng.random(n) < 0.5, -1, rng.integers(0, 5, n)).astype(np.int32),
        source_sha256=rng.integers(0, 256, (n, 32)).astype(np.uint8),
        status=np.zeros((n, len(modalities)), dtype=np.uint8),
        text=tuple(f"text {i} 好" * (i % 3) for i in range(n)) if with_text else None,
        encoding=rng.integers(0, 2, n).astype(np.uint8) if with_text else None,
        image_path=tuple(f"data/{i}.jpg" for i in range(n)) if with_image else None,
        image_width=rng.integers(1, 999, n).astype(np.int32) if with_image else None,
        image_height=rng.integers(1, 999, n).astype(np.int32) if with_image else None,
        image_sha256=rng.integers(0, 256, (n, 32)).astype(np.uint8) if with_image else None,
    )


def make_plan(
    n: int,
    *,
    shard_rows: int = 4,
    views: int = 0,
    identity: dict[str, object] | None = None,
    modalities: tuple[str, ...] = ("text", "image"),
    width: int = 6,
) -> Plan:
    """Return a plan with a float32 text space and a float16 image space."""
    dtypes = {"text": "float32", "image": "float16", "joint": "float32"}
    return Plan(
        backbone="toy",
        n_rows=n,
        shard_rows=shard_rows,
        spaces=tuple(SpaceSpec(f"{m}.pooled", width, dtypes[m], f"fp-{m}", views=views) for m in modalities),
        modalities=modalities,
        identity={"weights": "w0", "seed": 1} if identity is None else identity,
    )


def make_data(plan: Plan, *, random_state: int = 0) -> dict[str, ShardData]:
    """Return all rows of every modality; about a tenth is invalid."""
    rng = np.random.default_rng(random_state)
    data = {}
    for modality in plan.modalities:
        valid = (rng.random(plan.n_rows) > 0.1).astype(np.uint8)
        specs = plan.of_modality(modality)
        features, stacks = {}, {}
        for spec in specs:
            features[spec.name] = rng.normal(size=(plan.n_rows, spec.width)).astype(spec.dtype)
            features[spec.name][valid == 0] = 0
            if spec.views:
                stack = rng.normal(size=(spec.views, plan.n_rows, spec.width)).astype(spec.dtype)
                stack[:, valid == 0] = 0
                stacks[spec.name] = stack
        data[modality] = ShardData(features, valid, (1 - valid).astype(np.uint8), stacks or None)
    return data


def part(data: ShardData, start: int, stop: int) -> ShardData:
    """Return rows `start` to `stop`."""
    views = None if data.views is None else {k: v[:, start:stop] for k, v in data.views.items()}
    return ShardData(
        {k: v[start:stop] for k, v in data.features.items()},
        data.valid[start:stop],
        data.status[start:stop],
        views,
    )


def finish(folder: PassFolder, data: dict[str, ShardData], table: RowTable) -> Path:
    """Write what is missing and publish."""
    for modality in folder.plan.modalities:
        for start, stop in folder.missing(modality):
            folder.write(modality, start, stop, part(data[modality], start, stop))
    return folder.publish(table, META)


@dataclass
class Toy:
    """A plan with matching rows and vectors."""

    n: int = 10
    shard_rows: int = 4
    views: int = 0
    modalities: tuple[str, ...] = ("text", "image")
    width: int = 6
    plan: Plan = field(init=False)
    table: RowTable = field(init=False)
    data: dict[str, ShardData] = field(init=False)

    def __post_init__(self) -> None:
        self.plan = make_plan(
            self.n,
            shard_rows=self.shard_rows,
            views=self.views,
            modalities=self.modalities,
            width=self.width,
        )
        self.table = make_table(self.n, self.modalities)
        self.data = make_data(self.plan)

    def write(self, path: Path) -> Path:
        """Publish at `path` in one go."""
        return write_store(path, self.plan, table=self.table, data=self.data, meta=META)
