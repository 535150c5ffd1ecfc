"""Reports: what a pass is doing, what it did, and what it would do."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from cache import FeatureStore, Status, write_file
from extract.counts import ModalityCount
from extract.plans import PassOptions
from extract.sources import count_names, count_statuses


@dataclass(frozen=True)
class PassProgress:
    """One moment of a pass.

    Attributes
    ----------
    stage : str
        ``"sources"``, a modality, or ``"store"`` while one is written.
    done, total : int
        Rows of this stage, times views and backbones; of a store, those of its spaces and their views.
    limiting : str
        Which stage sets the pace: ``"reading"`` or ``"forward"``; empty while sources are read.
    peak_bytes : int or None
        Most device memory in use so far; None on a CPU.
    truncated, bad : int
        Rows so far whose text was cut, or that have no vector.
    """

    stage: str
    done: int
    total: int
    limiting: str = ""
    peak_bytes: int | None = None
    truncated: int = 0
    bad: int = 0


OnProgress = Callable[[PassProgress], None]

OnHashing = Callable[[Path, int], None]
"""Called with a path and a size in bytes before all of it is hashed, which takes about a second per GB."""


@dataclass(frozen=True)
class PassReport:
    """What a pass did, and what its store holds.

    Attributes
    ----------
    path : Path
        The published store.
    n_rows : int
    nothing_to_do : bool
        The store was already there, whole and with the same fingerprint.
    statuses : dict
        Modality -> status name -> rows.
    not_ok : dict
        Id -> why, for every row with a status other than ok.
    encodings : dict
        Encoding -> texts, the most frequent first; empty without texts.
    data_notes : Mapping
        Oddities of the manifest: ids repaired, files ignored, rows repeated.
    truncated : dict
        Modality -> what of its texts was cut (see `Truncation`); empty if the store, of an earlier
        version, does not say.
    counts : dict
        Modality -> what happened to its rows.
    seconds : float
    notes : tuple of str
        Oddities of the work folder and of neighbouring stores.
    """

    path: Path
    n_rows: int
    nothing_to_do: bool
    statuses: dict[str, dict[str, int]]
    not_ok: dict[str, str]
    encodings: dict[str, int]
    data_notes: Mapping[str, str]
    truncated: dict[str, dict[str, Any]] = field(default_factory=dict)
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
    nothing_to_do : bool
        Whether the store is there already, whole and with these settings.
    to_compute : dict of str to int
        Modality -> inputs that no earlier row and no earlier store holds; an interrupted pass is not looked
        at.
    needed_bytes, free_bytes : int
        Disk space for shards and store, and what there is.
    seconds : float
        Estimate from one timed batch per modality.
    statuses : dict
    """

    path: Path
    n_rows: int
    nothing_to_do: bool
    to_compute: dict[str, int]
    needed_bytes: int
    free_bytes: int
    seconds: float
    statuses: dict[str, dict[str, int]]


def report_of_store(
    path: Path,
    data_notes: Mapping[str, str],
    *,
    counts: dict[str, ModalityCount] | None = None,
    seconds: float = 0.0,
    notes: tuple[str, ...] = (),
) -> PassReport:
    """Describe a store that was verified a moment ago; without `counts` there was nothing to do."""
    with FeatureStore.open(path, verify=False) as store:
        status = np.asarray(store.status)
        return PassReport(
            path=path,
            n_rows=store.n_rows,
            nothing_to_do=counts is None,
            statuses=count_statuses(status, store.modalities),
            # Most stores have no such row, and the ids of a million rows are a hundred megabytes.
            not_ok=reasons_not_ok(store.ids, status) if (status != Status.OK).any() else {},
            encodings=count_names(store.encodings or ()),
            data_notes=data_notes,
            truncated=dict(store.meta.get("truncated", {})),
            counts=counts or {},
            seconds=seconds,
            notes=notes,
        )


def reasons_not_ok(ids: Sequence[str], status: np.ndarray) -> dict[str, str]:
    """Return id -> status names, for every row of ``status`` (n, n_modalities) that is not ok throughout."""
    return {
        ids[row]: ", ".join(sorted({Status(code).label for code in status[row] if code != Status.OK}))
        for row in np.flatnonzero((status != Status.OK).any(axis=1)).tolist()
    }


def write_pass_log(report: PassReport, options: PassOptions, started: datetime) -> None:
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
    target = report.path.with_suffix(".pass.json")
    write_file(target, (json.dumps(log, indent=2) + "\n").encode())
