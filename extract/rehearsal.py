"""The dry run: what a pass would do, and about how long it would take."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cache import ReuseIndex, Status, required_bytes
from extract.batches import BatchPlanner
from extract.data_sets import DataSet
from extract.devices import open_engine
from extract.engine import Engine
from extract.open_shards import ModalityRows
from extract.plans import PassOptions
from extract.reports import DryRun, OnProgress, PassProgress
from extract.sources import count_statuses, read_sources
from extract.work import PassWork

if TYPE_CHECKING:
    from extract.backbones import Backbone

_PROBES = 32


def dry_run(
    data_set: DataSet, backbone: Backbone, options: PassOptions, *, on_progress: OnProgress | None = None
) -> DryRun:
    """Say what `run_pass` would do, from the sources and one timed batch per modality; nothing is written.

    Raises
    ------
    DataError, WeightsMissingError
        As `run_pass`.
    """
    backbone.check_available()
    tell, total = on_progress or (lambda _: None), len(data_set.samples)
    sources = read_sources(
        data_set, options.source, on_progress=lambda n: tell(PassProgress("sources", n, total))
    )
    work = PassWork.gather(data_set, sources, backbone, options)
    reuse = ReuseIndex.from_folder(options.out)
    wanted = {modality: _unknown(work.rows(modality), reuse) for modality in work.planned.modalities}
    plan, table = work.planned.plan, work.planned.table
    return DryRun(
        path=work.planned.target,
        n_rows=plan.n_rows,
        to_compute={modality: len(rows) for modality, rows in wanted.items()},
        needed_bytes=required_bytes(plan),
        free_bytes=shutil.disk_usage(_existing_parent(options.out)).free,
        seconds=sum(_estimate(work, modality, rows) for modality, rows in wanted.items()),
        statuses=count_statuses(table.status, work.planned.modalities),
    )


def _unknown(rows: ModalityRows, reuse: ReuseIndex) -> list[int]:
    """Return the rows that would go through the network."""
    unique = np.flatnonzero((rows.status == Status.OK) & (rows.first == np.arange(len(rows.first))))
    known, hashes = np.ones(len(unique), dtype=bool), rows.hashes_of(unique)
    for fingerprint in rows.fingerprints.values():
        known &= reuse.lookup(fingerprint, hashes)[0]
    return [int(row) for row in unique[~known]]


def _estimate(work: PassWork, modality: str, wanted: Sequence[int]) -> float:
    """Estimate seconds from the second of two small batches (the first warms up)."""
    if not wanted:
        return 0.0
    probe = list(wanted[:_PROBES])
    with open_engine([work], modality) as engine:
        _run_probe(engine, probe)
        began = time.perf_counter()
        _run_probe(engine, probe)
        seconds = time.perf_counter() - began
    return seconds * len(wanted) * (1 + work.options.views) / len(probe)


def _run_probe(engine: Engine, rows: Sequence[int]) -> None:
    planner = BatchPlanner([list(rows)], engine.inputs.buckets, engine.inputs.capacity)
    for _ in engine.run((units, [np.ones(len(units), dtype=bool)]) for units in planner):
        pass


def _existing_parent(path: Path) -> Path:
    while not path.exists():
        path = path.absolute().parent
    return path
