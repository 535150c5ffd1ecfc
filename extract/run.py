"""The pass: data set and backbones in, feature stores out; interrupted, it goes on where it was."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cache import FeatureStore, FingerprintMismatch, PassFolder, ReuseIndex, first_difference, sync_folder
from extract.counts import ModalityCount
from extract.data_sets import DataSet
from extract.devices import open_engine
from extract.plans import PassOptions, PassPlan
from extract.reports import (
    OnHashing,
    OnProgress,
    PassProgress,
    PassReport,
    reasons_not_ok,
    report_of_store,
    write_pass_log,
)
from extract.samples import DataError
from extract.sources import count_statuses, read_sources
from extract.stages import Lane, ModalityProgress, run_modality
from extract.truncation import measure_truncation
from extract.work import PassWork, refuse_little_memory, stages_of

if TYPE_CHECKING:
    from extract.backbones import Backbone


class TooManyBadRowsError(DataError):
    """More rows than --max-bad have a status other than ok."""


def run_pass(
    data_set: DataSet,
    backbone: Backbone,
    options: PassOptions,
    *,
    on_progress: OnProgress | None = None,
    on_hashing: OnHashing | None = None,
) -> PassReport:
    """Embed a data set with one backbone into ``<out>/<backbone>.h5``.

    Work that an interrupted pass left is continued, vectors that other stores in the same folder hold are
    copied, and every distinct input is embedded once. The store appears whole or not at all.

    Raises
    ------
    WeightsMissingError
        If the backbone's weights are not on this machine.
    DataError
        If the data set has none of the backbone's modalities.
    TooManyBadRowsError
        If more rows than ``options.max_bad`` are not ok; finished shards stay.
    FingerprintMismatch
        If the store exists and was made with other settings or inputs, and ``options.replace`` is False.
    DriftError
        If rows that an earlier process stored come out differently now.
    StoreError
        For every fault of the disk or of an existing store.
    """
    return run_passes(data_set, [(backbone, options)], on_progress=on_progress, on_hashing=on_hashing)[0]


def run_passes(
    data_set: DataSet,
    passes: Sequence[tuple[Backbone, PassOptions]],
    *,
    on_progress: OnProgress | None = None,
    on_hashing: OnHashing | None = None,
) -> list[PassReport]:
    """Embed a data set with several backbones, reading it once and decoding each picture once for all.

    Parameters
    ----------
    data_set : DataSet
    passes : sequence of (Backbone, PassOptions)
        The options may differ in precision and readouts only. The image towers of all of them are in memory
        together; text and joint towers one by one.
    on_progress : callable, optional
    on_hashing : callable, optional
        Called before stores and shards are hashed, see `OnHashing`.

    Returns
    -------
    list of PassReport
        In the order of `passes`.

    Raises
    ------
    ValueError
        If two backbones would write the same file.
    Exception
        As `run_pass`. Finished shards of every backbone stay.
    """
    began, started = time.perf_counter(), datetime.now(UTC)
    tell = on_progress or (lambda _: None)
    works = gather_works(data_set, passes, tell)
    waiting = [
        work
        for work in works
        if not is_there(work.planned, replace=work.options.replace, on_hashing=on_hashing)
    ]
    made = _make(waiting, tell, on_hashing, began, started)
    return [
        made.get(work.planned.target) or report_of_store(work.planned.target, data_set.notes)
        for work in works
    ]


def gather_works(
    data_set: DataSet, passes: Sequence[tuple[Backbone, PassOptions]], tell: OnProgress
) -> list[PassWork]:
    """Check the backbones, read the sources once for all, plan every pass, and refuse too many bad rows.

    Raises
    ------
    Exception
        As `run_passes`, before anything is written.
    """
    _refuse_same_file([backbone for backbone, _ in passes])
    for backbone, _ in passes:
        backbone.check_available()
    total, source = len(data_set.samples), passes[0][1].source
    sources = read_sources(data_set, source, on_progress=lambda n: tell(PassProgress("sources", n, total)))
    works = [PassWork.gather(data_set, sources, *each) for each in passes]
    for work in works:
        _refuse_bad_rows(work.planned, work.planned.table.status, work.options.max_bad)
    return works


def _make(
    works: Sequence[PassWork],
    tell: OnProgress,
    on_hashing: OnHashing | None,
    began: float,
    started: datetime,
) -> dict[Path, PassReport]:
    """Compute and publish the stores that are not there yet; returns reports by path."""
    if not works:
        return {}
    out = works[0].options.out
    reuse = ReuseIndex.from_folder(out, on_hashing=on_hashing)
    refuse_little_memory(works, reuse)
    out.mkdir(parents=True, exist_ok=True)
    sync_folder(out.parent)  # a store is as durable as the name of its folder
    reports: dict[Path, PassReport] = {}
    with ExitStack() as stack:
        folders = [stack.enter_context(_pass_folder(work, on_hashing)) for work in works]
        counts: list[dict[str, ModalityCount]] = [{} for _ in works]
        lengths: list[dict[str, np.ndarray]] = [{} for _ in works]
        for modality, members in stages_of(works):
            done = run_modality(
                [_lane(works[i], folders[i], modality) for i in members],
                partial(open_engine, [works[i] for i in members], modality),
                reuse=reuse,
                on_progress=partial(_tell_progress, tell, modality),
            )
            for i, (count, of_rows) in zip(members, done, strict=True):
                counts[i][modality], lengths[i][modality] = count, of_rows
        for work, folder, by_modality, of_texts in zip(works, folders, counts, lengths, strict=True):
            path = _publish(work, folder, of_texts, tell)
            report = report_of_store(
                path,
                work.data_set.notes,
                counts=by_modality,
                seconds=time.perf_counter() - began,
                notes=(*folder.notes, *reuse.notes),
            )
            write_pass_log(report, work.options, started)
            reports[path] = report
    return reports


def _pass_folder(work: PassWork, on_hashing: OnHashing | None) -> PassFolder:
    planned = work.planned
    return PassFolder(planned.target, planned.plan, command=work.options.command, on_hashing=on_hashing)


def _publish(work: PassWork, folder: PassFolder, lengths: Mapping[str, np.ndarray], tell: OnProgress) -> Path:
    """Publish the store of a pass whose shards are all there, unless too many rows turned out bad."""
    planned = work.planned
    status = _final_status(folder, planned)
    _refuse_bad_rows(planned, status, work.options.max_bad)
    cut = measure_truncation(work, status, lengths)
    found = {
        "summary": count_statuses(status, planned.modalities),
        "truncated": {modality: asdict(each) for modality, each in cut.items()},
    }
    meta = {**planned.meta, **found}
    return folder.publish(planned.table, meta, on_rows=lambda *rows: tell(PassProgress("store", *rows)))


def _lane(work: PassWork, folder: PassFolder, modality: str) -> Lane:
    return Lane(folder, work.rows(modality), work.options.precision, work.planned.table.ids)


def _refuse_same_file(backbones: Sequence[Backbone]) -> None:
    names = [backbone.file_name for backbone in backbones]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"Two of the backbones would write the same file '{name}.h5'. Name each backbone once."
            )


def _tell_progress(tell: OnProgress, modality: str, progress: ModalityProgress) -> None:
    counts = progress.counts
    tell(
        PassProgress(
            modality,
            progress.done,
            progress.total,
            counts[0].clock.limiting,
            peak_bytes=counts[0].peak_bytes,
            truncated=sum(count.truncated for count in counts),
            bad=counts[0].bad,
        )
    )


def _refuse_bad_rows(planned: PassPlan, status: np.ndarray, max_bad: float) -> None:
    """Refuse a pass whose share of rows that are not ok is above `max_bad`."""
    bad = reasons_not_ok(planned.table.ids, status)
    if len(bad) <= max_bad * len(status):
        return
    shown = ", ".join(f"'{guid}' ({why})" for guid, why in list(bad.items())[:5])
    raise TooManyBadRowsError(
        f"{len(bad):,} of {len(status):,} rows ({len(bad) / len(status):.1%}) are not ok, more than "
        f"--max-bad {max_bad:.0%}: {shown}{', ...' if len(bad) > 5 else ''}. Mend the files, or "
        "pass a higher --max-bad."
    )


def is_there(planned: PassPlan, *, replace: bool, on_hashing: OnHashing | None = None) -> bool:
    """Whether the store of a pass is there, whole, and needs no tidying up.

    Raises
    ------
    FingerprintMismatch
        If it is there with another fingerprint and `replace` is False.
    """
    if not planned.target.exists():
        return False
    told = None if on_hashing is None else partial(on_hashing, planned.target)
    with FeatureStore.open(planned.target, on_hashing=told) as store:
        if store.fingerprint == planned.plan.fingerprint:
            # A crash between publishing and cleaning up leaves a work folder; publishing again removes it.
            return not planned.target.with_name(f"{planned.target.name}.work").exists()
        if replace:
            return False
        difference = first_difference(store.meta["identity"], dict(planned.plan.identity))
        backbone = store.meta["identity"].get("backbone", "another tool")
    if backbone != planned.plan.backbone:
        raise FingerprintMismatch(
            f"Store '{planned.target}' was written by backbone '{backbone}', but '{planned.plan.backbone}' "
            f"was asked for. Extract into another folder with --out, or pass --backbone {backbone}."
        )
    raise FingerprintMismatch(_mismatch_text(planned.target, difference))


def _mismatch_text(target: Path, difference: tuple[str, Any, Any] | None) -> str:
    if difference is None:
        what = "other spaces (modalities, readouts or precision)"
    elif difference[0] == "rows":
        what = "other rows (ids, labels, texts or images have changed since)"
    else:
        what = f"{difference[0]} = {difference[1]!r}, but {difference[2]!r} was asked for"
    return (
        f"Store '{target}' was made with {what}. Extract into another folder with --out, or pass --replace "
        "to make it anew (unchanged rows are copied, not computed)."
    )


def _final_status(folder: PassFolder, planned: PassPlan) -> np.ndarray:
    """Return the statuses with what decoding and embedding found out, shape (n, n_modalities)."""
    status = planned.table.status.copy()
    for column, modality in enumerate(planned.modalities):
        for start, stop in folder.done(modality):
            status[start:stop, column], _ = folder.codes(modality, start, stop)
    return status
