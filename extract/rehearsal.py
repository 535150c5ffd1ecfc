"""The dry run: what a pass would do, and about how long it would take."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cache import ReuseIndex, required_bytes
from extract.batches import BatchPlanner
from extract.data_sets import DataSet
from extract.devices import open_engine
from extract.engine import Engine
from extract.plans import PassOptions
from extract.reports import DryRun, OnHashing, OnProgress
from extract.run import gather_works, is_there
from extract.sources import count_statuses
from extract.work import PassWork, refuse_little_memory

if TYPE_CHECKING:
    from extract.backbones import Backbone

_PROBES = 32


def dry_run(
    data_set: DataSet,
    backbone: Backbone,
    options: PassOptions,
    *,
    on_progress: OnProgress | None = None,
    on_hashing: OnHashing | None = None,
) -> DryRun:
    """Say what `run_pass` would do, from the sources and one timed batch per modality; nothing is written.

    Raises
    ------
    DataError, WeightsMissingError, FingerprintMismatch, ValueError
        As `run_pass`, with too many bad rows, a store of other settings, and too little memory.
    """
    passes = [(backbone, options)]
    return dry_runs(data_set, passes, on_progress=on_progress, on_hashing=on_hashing)[0]


def dry_runs(
    data_set: DataSet,
    passes: Sequence[tuple[Backbone, PassOptions]],
    *,
    on_progress: OnProgress | None = None,
    on_hashing: OnHashing | None = None,
) -> list[DryRun]:
    """Say what `run_passes` would do, one `DryRun` per backbone; refuses what that refuses. See `dry_run`."""
    works = gather_works(data_set, passes, on_progress or (lambda _: None))
    there = [is_there(w.planned, replace=w.options.replace, on_hashing=on_hashing) for w in works]
    reuse = ReuseIndex.from_folder(passes[0][1].out, on_hashing=on_hashing)
    refuse_little_memory([work for work, is_done in zip(works, there, strict=True) if not is_done], reuse)
    return [_rehearsed(work, None if is_done else reuse) for work, is_done in zip(works, there, strict=True)]


def _rehearsed(work: PassWork, reuse: ReuseIndex | None) -> DryRun:
    """Describe one pass; without `reuse` its store is there."""
    plan, table, nothing_to_do = work.planned.plan, work.planned.table, reuse is None
    wanted = {
        modality: np.array([], dtype=np.intp) if reuse is None else work.rows(modality).unknown_to(reuse)
        for modality in work.planned.modalities
    }
    return DryRun(
        path=work.planned.target,
        n_rows=plan.n_rows,
        nothing_to_do=nothing_to_do,
        to_compute={modality: len(rows) for modality, rows in wanted.items()},
        needed_bytes=0 if nothing_to_do else required_bytes(plan),
        free_bytes=shutil.disk_usage(_existing_parent(work.options.out)).free,
        seconds=sum(_estimate(work, modality, rows) for modality, rows in wanted.items()),
        statuses=count_statuses(table.status, work.planned.modalities),
    )


def _estimate(work: PassWork, modality: str, wanted: np.ndarray) -> float:
    """Estimate seconds from the second of two small batches (the first warms up)."""
    if not len(wanted):
        return 0.0
    probe = wanted[:_PROBES].tolist()
    with open_engine([work], modality) as engine:
        _run_probe(engine, probe)
        began = time.perf_counter()
        _run_probe(engine, probe)
        seconds = time.perf_counter() - began
    return seconds * len(wanted) * (1 + work.options.views) / len(probe)


def _run_probe(engine: Engine, rows: list[int]) -> None:
    planner = BatchPlanner([rows], engine.inputs.buckets, engine.inputs.capacity)
    for _ in engine.run((units, [np.ones(len(units), dtype=bool)]) for units in planner):
        pass


def _existing_parent(path: Path) -> Path:
    while not path.exists():
        path = path.absolute().parent
    return path
