"""Stages: one modality of one or several stores, from missing shards to files.

Inputs are read ahead and shards written behind. Memory does not grow with the data: a bounded number of
inputs is read ahead, a bounded number of shards is open, and at most two finished ones wait for the writer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

import numpy as np

from cache import PassFolder, ReuseIndex
from extract.assembly import Assembly
from extract.batches import BatchPlanner
from extract.counts import ModalityCount
from extract.drift import check_drift
from extract.engine import Batch, Embedded, Engine
from extract.open_shards import ModalityRows


@dataclass(frozen=True)
class Lane:
    """One store's share of a modality: where its shards go, and what its rows are.

    Attributes
    ----------
    folder : PassFolder
        The open work folder.
    rows : ModalityRows
    precision : str
    ids : sequence of str
        Of all rows, for messages.
    """

    folder: PassFolder
    rows: ModalityRows
    precision: str
    ids: Sequence[str]


@dataclass(frozen=True)
class ModalityProgress:
    """How far the lanes of a modality are.

    Attributes
    ----------
    done, total : int
        Units (rows and their views) of all lanes.
    counts : list of ModalityCount
        One per lane.
    """

    done: int
    total: int
    counts: list[ModalityCount]


def run_modality(
    lanes: Sequence[Lane],
    open_engine: Callable[[], Engine],
    *,
    reuse: ReuseIndex | None,
    on_progress: Callable[[ModalityProgress], None],
) -> list[tuple[ModalityCount, np.ndarray]]:
    """Compute and write every missing shard of one modality.

    Parameters
    ----------
    lanes : sequence of Lane
        One per store; several share every picture that is decoded.
    open_engine : callable
        Loads the towers, one per lane. Called only if something must be computed.
    reuse : ReuseIndex or None
        Where vectors of equal inputs may already lie.
    on_progress : callable
        Called after every batch.

    Returns
    -------
    list of (ModalityCount, ndarray of shape (n, 2), int32)
        One per lane; the array is `Assembly.lengths`.

    Raises
    ------
    DriftError
        If rows that an earlier process stored come out differently now.
    """
    with ThreadPoolExecutor(1, "write") as writer:
        assemblies = [Assembly(lane.folder, lane.rows, reuse, writer) for lane in lanes]
        stream = _owed_units(assemblies)
        first = next(stream, None)
        if first is not None:
            for assembly in assemblies:
                assembly.offer_resumed_probe()
            with open_engine() as engine:
                for assembly in assemblies:
                    assembly.begin()
                planner = BatchPlanner(chain([first], stream), engine.inputs.buckets, engine.inputs.capacity)
                for embedded in engine.run(_with_lanes(planner, assemblies)):
                    _guard(lanes, assemblies, engine)
                    _take(assemblies, embedded)
                    on_progress(_progress(assemblies))
        for assembly in assemblies:
            assembly.finish()
        on_progress(_progress(assemblies))
    return [(assembly.count, assembly.lengths) for assembly in assemblies]


def _owed_units(assemblies: Sequence[Assembly]) -> Iterator[list[int]]:
    """Open the missing shards of all lanes in row order; yield the units that some lane owes."""
    for start, stop in sorted({shard for assembly in assemblies for shard in assembly.missing}):
        owed: dict[int, None] = {}  # ordered, without repeats
        for assembly in assemblies:
            if (start, stop) in assembly.missing:
                owed.update(dict.fromkeys(assembly.open_shard(start, stop)))
                assembly.settle()
        if owed:
            yield list(owed)


def _with_lanes(planner: BatchPlanner, assemblies: Sequence[Assembly]) -> Iterator[Batch]:
    for units in planner:
        yield units, [assembly.wants(units) for assembly in assemblies]


def _take(assemblies: Sequence[Assembly], embedded: Embedded) -> None:
    for assembly, lane in zip(assemblies, embedded.lanes, strict=True):
        assembly.take(lane.units, lane.status, lane.vectors, lane.lengths)
        assembly.settle()
        clock = assembly.count.clock
        clock.reading += embedded.reading
        clock.forward += embedded.forward
        clock.waiting += embedded.waiting
        assembly.count.smallest_batch = embedded.smallest_batch
        assembly.count.peak_bytes = embedded.peak_bytes


def _guard(lanes: Sequence[Lane], assemblies: Sequence[Assembly], engine: Engine) -> None:
    """Embed rows that earlier processes stored again, before new vectors join them."""
    for i, (lane, assembly) in enumerate(zip(lanes, assemblies, strict=True)):
        while assembly.probes:
            probe = assembly.probes.pop()
            result = engine.embed(probe.rows)[i]
            where = str(lane.folder.folder.target)
            check_drift(probe, result, precision=lane.precision, ids=lane.ids, where=where)


def _progress(assemblies: Sequence[Assembly]) -> ModalityProgress:
    total = sum(len(assembly.rows.status) * (1 + assembly.rows.views) for assembly in assemblies)
    done = sum(assembly.done_units for assembly in assemblies)
    return ModalityProgress(done, total, [assembly.count for assembly in assemblies])
