"""The dry run: what a pass would do, and about how long it would take."""

from __future__ import annotations

import shutil
import time
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
from extract.reports import DryRun, OnHashing, OnProgress, PassProgress
from extract.run import check_bad_rows, is_there
from extract.sources import count_statuses, read_sources
from extract.work import PassWork, refuse_little_memory

if TYPE_CHECKING:
    from extract.backbones import Backbone

_PROBES = 32
#: Rows that are looked up in earlier stores at a time.
_RUN = 4096


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
    DataError, WeightsMissingError, FingerprintMismatch
        As `run_pass`, with too many bad rows and a store of other settings too.
    """
    backbone.check_available()
    tell, total = on_progress or (lambda _: None), len(data_set.samples)
    sources = read_sources(
        data_set, options.source, on_progress=lambda n: tell(PassProgress("sources", n, total))
    )
    work = PassWork.gather(data_set, sources, backbone, options)
    plan, table = work.planned.plan, work.planned.table
    check_bad_rows(work.planned, table.status, options.max_bad)
    nothing_to_do = is_there(work.planned, replace=options.replace, on_hashing=on_hashing)
    wanted: dict[str, np.ndarray] = dict.fromkeys(work.planned.modalities, np.array([], dtype=np.intp))
    if not nothing_to_do:
        reuse = ReuseIndex.from_folder(options.out, on_hashing=on_hashing)
        wanted = {modality: _unknown(work.rows(modality), reuse) for modality in wanted}
    refuse_little_memory(((modality, [work]) for modality, rows in wanted.items() if len(rows)), options)
    return DryRun(
        path=work.planned.target,
        n_rows=plan.n_rows,
        nothing_to_do=nothing_to_do,
        to_compute={modality: len(rows) for modality, rows in wanted.items()},
        needed_bytes=0 if nothing_to_do else required_bytes(plan),
        free_bytes=shutil.disk_usage(_existing_parent(options.out)).free,
        seconds=sum(_estimate(work, modality, rows) for modality, rows in wanted.items()),
        statuses=count_statuses(table.status, work.planned.modalities),
    )


def _unknown(rows: ModalityRows, reuse: ReuseIndex) -> np.ndarray:
    """Return the rows that would go through the network."""
    unique = np.flatnonzero((rows.status == Status.OK) & (rows.first == np.arange(len(rows.first))))
    if not all(map(reuse.holds, rows.fingerprints.values())):
        return unique
    known = np.ones(len(unique), dtype=bool)
    for start in range(0, len(unique), _RUN):  # a lookup reads the vectors that it finds
        hashes = rows.hashes_of(unique[start : start + _RUN])
        for fingerprint in rows.fingerprints.values():
            known[start : start + _RUN] &= reuse.lookup(fingerprint, hashes)[0]
    return unique[~known]


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
