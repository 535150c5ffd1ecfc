"""The pass: data set and backbone in, one feature store out; interrupted, it goes on where it was."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cache import FeatureStore, FingerprintMismatch, PassFolder, ReuseIndex, first_difference
from extract.plans import PassOptions, PassPlan
from extract.reports import (
    OnProgress,
    PassProgress,
    PassReport,
    reasons_not_ok,
    report_of_store,
    write_pass_log,
)
from extract.samples import DataError, DataSet
from extract.stages import ModalityCount, run_modality
from extract.work import LazyInputs, PassWork

if TYPE_CHECKING:
    from extract.backbones import Backbone


class TooManyBadRowsError(DataError):
    """More rows than --max-bad have a status other than ok."""


def run_pass(
    data_set: DataSet, backbone: Backbone, options: PassOptions, *, on_progress: OnProgress | None = None
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
    StoreError
        For every fault of the disk or of an existing store.
    """
    began, started = time.perf_counter(), datetime.now(UTC)
    tell = on_progress or (lambda _: None)
    work = PassWork.gather(data_set, backbone, options, tell)
    planned = work.planned
    check_bad_rows(planned, planned.table.status, options.max_bad)
    if _is_there(planned, replace=options.replace):
        return report_of_store(planned.target, data_set.notes)
    options.out.mkdir(parents=True, exist_ok=True)
    reuse = ReuseIndex.from_folder(options.out)
    with PassFolder(planned.target, planned.plan) as folder:
        counts = {modality: _embed(modality, work, folder, reuse, tell) for modality in planned.modalities}
        check_bad_rows(planned, _final_status(folder, planned), options.max_bad)
        path = folder.publish(planned.table, planned.meta)
    report = report_of_store(
        path,
        data_set.notes,
        counts=counts,
        seconds=time.perf_counter() - began,
        notes=(*folder.notes, *reuse.notes),
    )
    write_pass_log(report, options, started)
    return report


def check_bad_rows(planned: PassPlan, status: np.ndarray, max_bad: float) -> None:
    """Refuse a pass whose share of rows that are not ok is above `max_bad`.

    Raises
    ------
    TooManyBadRowsError
    """
    bad = reasons_not_ok(planned.table.ids, status)
    if len(bad) <= max_bad * len(status):
        return
    shown = ", ".join(f"'{guid}' ({why})" for guid, why in list(bad.items())[:5])
    raise TooManyBadRowsError(
        f"{len(bad):,} of {len(status):,} rows ({len(bad) / len(status):.1%}) are not ok, more than "
        f"--max-bad {max_bad:.0%}: {shown}{', ...' if len(bad) > 5 else ''}. Mend the files, or "
        "pass a higher --max-bad."
    )


def _is_there(planned: PassPlan, *, replace: bool) -> bool:
    """Whether the store exists with this fingerprint; another one is refused unless `replace`."""
    if not planned.target.exists():
        return False
    with FeatureStore.open(planned.target) as store:
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
        what = "other spaces (readouts or precision)"
    elif difference[0] == "rows":
        what = "other rows (ids, labels, texts or images have changed since)"
    else:
        what = f"{difference[0]} = {difference[1]!r}, but {difference[2]!r} was asked for"
    return (
        f"Store '{target}' was made with {what}. Extract into another folder with --out, or pass --replace "
        "to make it anew (unchanged rows are copied, not computed)."
    )


def _embed(
    modality: str, work: PassWork, folder: PassFolder, reuse: ReuseIndex, tell: OnProgress
) -> ModalityCount:
    """Compute the missing shards of one modality."""
    if not folder.missing(modality):
        return ModalityCount(resumed=folder.resumed(modality))
    total = work.planned.plan.n_rows

    def on_count(count: ModalityCount) -> None:
        done = count.resumed + count.computed + count.reused + count.repeated + count.bad
        tell(PassProgress(modality, min(done, total), total, count.clock.limiting))

    inputs = LazyInputs(work, modality)
    return run_modality(folder, work.rows(modality), inputs, reuse=reuse, on_progress=on_count)


def _final_status(folder: PassFolder, planned: PassPlan) -> np.ndarray:
    """Return the statuses with what decoding and embedding found out, shape (n, n_modalities)."""
    status = planned.table.status.copy()
    for column, modality in enumerate(planned.modalities):
        for start, stop in folder.done(modality):
            status[start:stop, column] = folder.read(modality, start, stop).status
    return status
