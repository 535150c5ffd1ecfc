"""The pass: data set and backbone in, one feature store out; interrupted, it goes on where it was."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from cache import (
    FeatureStore,
    FingerprintMismatch,
    PassFolder,
    ReuseIndex,
    Status,
    first_difference,
    required_bytes,
    write_file,
)
from extract.inputs import ImageInputs, TextInputs
from extract.plans import PassOptions, PassPlan, make_plan
from extract.samples import TEXT, DataError, DataSet
from extract.sources import Source, count_statuses, input_hashes, read_sources
from extract.stages import Inputs, ModalityCount, ModalityRows, first_occurrences, run_modality

if TYPE_CHECKING:
    from extract.backbones import Backbone, ImageTower, TextTower


@dataclass(frozen=True)
class PassProgress:
    """One moment of a pass.

    Attributes
    ----------
    stage : str
        ``"sources"``, ``"text"`` or ``"image"``.
    done, total : int
        Rows of this stage.
    limiting : str
        Which stage sets the pace: ``"reading"`` or ``"forward"``; empty while sources are read.
    """

    stage: str
    done: int
    total: int
    limiting: str = ""


@dataclass(frozen=True)
class PassReport:
    """What a pass did.

    Attributes
    ----------
    path : Path
        The published store.
    n_rows : int
    nothing_to_do : bool
        The store was already there, whole and with the same fingerprint.
    counts : dict
        Modality -> rows resumed, computed, reused, repeated, bad, truncated.
    statuses : dict
        Modality -> status name -> rows.
    encodings : dict
        Encoding -> rows.
    seconds : float
    notes : tuple of str
        Oddities of the work folder and of neighbouring stores.
    """

    path: Path
    n_rows: int
    nothing_to_do: bool
    statuses: dict[str, dict[str, int]]
    encodings: dict[str, int] = field(default_factory=dict)
    counts: dict[str, ModalityCount] = field(default_factory=dict)
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class DryRun:
    """What a pass would do.

    Attributes
    ----------
    path : Path
    n_rows : int
    to_compute : dict of str to int
        Modality -> inputs that no shard, earlier row or earlier store holds.
    needed_bytes, free_bytes : int
        Disk space for shards and store, and what there is.
    seconds : float
        Estimate from one timed batch per modality.
    statuses : dict
    """

    path: Path
    n_rows: int
    to_compute: dict[str, int]
    needed_bytes: int
    free_bytes: int
    seconds: float
    statuses: dict[str, dict[str, int]]


class TooManyBadRowsError(DataError):
    """More rows than --max-bad have a status other than ok."""


OnProgress = Callable[[PassProgress], None]


def run_pass(
    data_set: DataSet, backbone: Backbone, options: PassOptions, *, on_progress: OnProgress | None = None
) -> PassReport:
    """Embed a data set with one backbone into ``<out>/<backbone>.h5``.

    Work that an interrupted pass left is continued, vectors that other stores in the same folder hold are
    copied, and every distinct input is embedded once. The store appears whole or not at all.

    Raises
    ------
    DataError
        If the data set has none of the backbone's modalities.
    TooManyBadRowsError
        If more rows than ``options.max_bad`` are not ok; finished shards stay.
    FingerprintMismatch
        If the store exists and was made with other settings or inputs, and ``options.replace`` is False.
    StoreError
        For every fault of the disk or of an existing store.
    """
    began, started = time.perf_counter(), datetime.now(UTC)
    backbone.check_available()
    tell = on_progress or (lambda _: None)
    sources = _sources(data_set, options, tell)
    passed = make_plan(data_set, sources, backbone, options)
    check_bad_rows(passed, passed.table.status, options.max_bad)
    if _is_there(passed, replace=options.replace):
        return PassReport(passed.target, passed.plan.n_rows, True, count_statuses_of(passed.target))
    options.out.mkdir(parents=True, exist_ok=True)
    reuse = ReuseIndex.from_folder(options.out)
    with PassFolder(passed.target, passed.plan) as folder:
        counts = {
            modality: _run_modality(
                modality, folder, passed, data_set, sources, backbone, options, reuse, tell
            )
            for modality in passed.modalities
        }
        check_bad_rows(passed, _final_status(folder, passed), options.max_bad)
        path = folder.publish(passed.table, passed.meta)
        notes = (*folder.notes, *reuse.notes)
    report = PassReport(
        path=path,
        n_rows=passed.plan.n_rows,
        nothing_to_do=False,
        statuses=count_statuses_of(path),
        encodings=count_encodings(sources) if TEXT in passed.modalities else {},
        counts=counts,
        seconds=time.perf_counter() - began,
        notes=notes,
    )
    _write_pass_log(passed, report, options, started)
    return report


def dry_run(
    data_set: DataSet, backbone: Backbone, options: PassOptions, *, on_progress: OnProgress | None = None
) -> DryRun:
    """Say what `run_pass` would do, from the sources and one timed batch per modality; nothing is written."""
    import shutil

    backbone.check_available()
    sources = _sources(data_set, options, on_progress or (lambda _: None))
    passed = make_plan(data_set, sources, backbone, options)
    reuse = ReuseIndex.from_folder(options.out)
    to_compute, seconds = {}, 0.0
    for modality in passed.modalities:
        rows = _modality_rows(modality, passed, sources)
        wanted = _unknown_rows(rows, reuse)
        to_compute[modality] = len(wanted)
        seconds += _estimate(modality, wanted, data_set, sources, backbone, options)
    free = shutil.disk_usage(_existing_parent(options.out)).free
    statuses = count_statuses(passed.table.status, passed.modalities)
    return DryRun(
        passed.target, passed.plan.n_rows, to_compute, required_bytes(passed.plan), free, seconds, statuses
    )


def check_bad_rows(passed: PassPlan, status: np.ndarray, max_bad: float) -> None:
    """Refuse a pass whose share of rows that are not ok is above `max_bad`.

    Raises
    ------
    TooManyBadRowsError
    """
    bad = np.flatnonzero((status != Status.OK).any(axis=1))
    if len(bad) <= max_bad * len(status):
        return
    shown = []
    for row in bad[:5]:
        reasons = {Status(code).label for code in status[row] if code != Status.OK}
        shown.append(f"'{passed.table.ids[row]}' ({', '.join(sorted(reasons))})")
    raise TooManyBadRowsError(
        f"{len(bad):,} of {len(status):,} rows ({len(bad) / len(status):.1%}) are not ok, more than "
        f"--max-bad {max_bad:.0%}: {', '.join(shown)}{', ...' if len(bad) > 5 else ''}. Mend the files, or "
        "pass a higher --max-bad."
    )


def count_encodings(sources: Sequence[Source]) -> dict[str, int]:
    """Return encoding -> texts, the most frequent first."""
    names = [source.encoding for source in sources if source.encoding]
    return dict(
        sorted(((name, names.count(name)) for name in set(names)), key=lambda item: (-item[1], item[0]))
    )


def count_statuses_of(path: Path) -> dict[str, dict[str, int]]:
    """Return modality -> status name -> rows of a store."""
    with FeatureStore.open(path) as store:
        return count_statuses(store.status, store.modalities)


def _sources(data_set: DataSet, options: PassOptions, tell: OnProgress) -> list[Source]:
    total = len(data_set.samples)
    return read_sources(
        data_set, options.source, on_progress=lambda n: tell(PassProgress("sources", n, total))
    )


def _is_there(passed: PassPlan, *, replace: bool) -> bool:
    """Whether the store exists with this fingerprint; another one is refused unless `replace`."""
    if not passed.target.exists():
        return False
    with FeatureStore.open(passed.target) as store:
        if store.fingerprint == passed.plan.fingerprint:
            return True
        if replace:
            return False
        difference = first_difference(store.meta["identity"], dict(passed.plan.identity))
        backbone = store.meta["identity"].get("backbone", "another tool")
    if backbone != passed.plan.backbone:
        raise FingerprintMismatch(
            f"Store '{passed.target}' was written by backbone '{backbone}', but '{passed.plan.backbone}' "
            f"was asked for. Extract into another folder with --out, or pass --backbone {backbone}."
        )
    raise FingerprintMismatch(_mismatch_text(passed.target, difference))


def _mismatch_text(target: Path, difference: tuple[str, Any, Any] | None) -> str:
    if difference is None:
        what = "other spaces (readouts or precision)"
    elif difference[0] == "rows":
        what = "other rows (ids, labels, texts or images have changed since)"
    else:
        what = f"{difference[0]} = {difference[1]!r}, but {difference[2]!r} was asked for"
    return (
        f"Store '{target}' was made with {what}. Extract into another folder with --out, or pass --replace "
        "to make it anew (unchanged rows are copied, not computed)."
    )


def _modality_rows(modality: str, passed: PassPlan, sources: Sequence[Source]) -> ModalityRows:
    status = passed.table.status[:, passed.modalities.index(modality)]
    hashes = input_hashes(sources, modality)
    fingerprints = {s.name: s.fingerprint for s in passed.plan.spaces if s.name.startswith(f"{modality}.")}
    return ModalityRows(
        modality, status, hashes, first_occurrences(hashes, status == Status.OK), fingerprints
    )


def _run_modality(
    modality: str,
    folder: PassFolder,
    passed: PassPlan,
    data_set: DataSet,
    sources: Sequence[Source],
    backbone: Backbone,
    options: PassOptions,
    reuse: ReuseIndex,
    tell: OnProgress,
) -> ModalityCount:
    if not folder.missing(modality):
        return ModalityCount(resumed=folder.resumed(modality))
    rows = _modality_rows(modality, passed, sources)
    total = passed.plan.n_rows

    def on_count(count: ModalityCount) -> None:
        done = count.resumed + count.computed + count.reused + count.repeated + count.bad
        tell(PassProgress(modality, min(done, total), total, count.clock.limiting))

    # Fully reused passes never load weights: the tower is opened by the first batch.
    inputs = _LazyInputs(modality, data_set, sources, backbone, options)
    return run_modality(folder, rows, inputs, reuse=reuse, on_progress=on_count)


class _LazyInputs:
    """Opens the tower when the first batch is cut."""

    def __init__(
        self,
        modality: str,
        data_set: DataSet,
        sources: Sequence[Source],
        backbone: Backbone,
        options: PassOptions,
    ) -> None:
        self._arguments = (modality, data_set, sources, backbone, options)
        self._inputs: Inputs | None = None

    @property
    def _opened(self) -> Inputs:
        if self._inputs is None:
            self._inputs = open_inputs(*self._arguments)
        return self._inputs

    def cut(self, rows: Sequence[int]) -> list[list[int]]:
        return self._opened.cut(rows) if rows else []

    def prepare(self, rows: Sequence[int]) -> tuple[list[Any], np.ndarray]:
        return self._opened.prepare(rows)

    def is_truncated(self, item: Any) -> bool:
        return self._opened.is_truncated(item)

    def forward(self, items: Sequence[Any]) -> dict[str, np.ndarray]:
        return self._opened.forward(items)


def open_inputs(
    modality: str, data_set: DataSet, sources: Sequence[Source], backbone: Backbone, options: PassOptions
) -> Inputs:
    """Load one tower and return its inputs."""
    readouts = tuple(r for r in options.readouts if r in backbone.card.readouts[modality])
    tower = backbone.open_tower(
        modality, readouts=readouts, device=options.device, precision=options.precision
    )
    if modality == TEXT:
        return TextInputs(
            sources, cast("TextTower", tower), device=options.device, batch_size=options.batch_size
        )
    return ImageInputs(
        data_set, cast("ImageTower", tower), device=options.device, batch_size=options.batch_size
    )


def _final_status(folder: PassFolder, passed: PassPlan) -> np.ndarray:
    status = passed.table.status.copy()
    for column, modality in enumerate(passed.modalities):
        for start, stop in folder.done(modality):
            status[start:stop, column] = folder.read(modality, start, stop).status
    return status


def _unknown_rows(rows: ModalityRows, reuse: ReuseIndex) -> list[int]:
    unique = np.flatnonzero((rows.status == Status.OK) & (rows.first == np.arange(len(rows.first))))
    known = np.ones(len(unique), dtype=bool)
    for fingerprint in rows.fingerprints.values():
        known &= reuse.lookup(fingerprint, rows.hashes[unique])[0]
    return [int(row) for row in unique[~known]]


def _estimate(
    modality: str,
    wanted: Sequence[int],
    data_set: DataSet,
    sources: Sequence[Source],
    backbone: Backbone,
    options: PassOptions,
) -> float:
    """Estimate seconds from the second of two small batches (the first warms up)."""
    if not wanted:
        return 0.0
    inputs = open_inputs(modality, data_set, sources, backbone, options)
    probe = list(wanted[:8])
    for _ in range(2):
        began = time.perf_counter()
        for batch in inputs.cut(probe):
            items, _status = inputs.prepare(batch)
            if items:
                inputs.forward(items)
        seconds = time.perf_counter() - began
    return seconds * len(wanted) / len(probe)


def _existing_parent(path: Path) -> Path:
    while not path.exists():
        path = path.absolute().parent
    return path


def _write_pass_log(passed: PassPlan, report: PassReport, options: PassOptions, started: datetime) -> None:
    """Write what differs from run to run (times, rates, batch sizes) beside the store, not into it."""
    log = {
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(report.seconds, 3),
        "device": options.device,
        "batch_size": options.batch_size,
        "rows": {modality: asdict(count) for modality, count in report.counts.items()},
        "encodings": report.encodings,
        "notes": list(report.notes),
    }
    target = passed.target.with_suffix(".pass.json")
    write_file(target, (json.dumps(log, indent=2) + "\n").encode())
