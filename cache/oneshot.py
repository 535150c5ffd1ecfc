"""Write a store from arrays that are already there, through the same machinery as a pass."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cache.fingerprint import JSON
from cache.passfolder import PassFolder
from cache.plan import Plan
from cache.schema import RowTable
from cache.shards import ShardData


def write_store(
    path: str | Path, plan: Plan, *, table: RowTable, data: Mapping[str, ShardData], meta: Mapping[str, JSON]
) -> Path:
    """Write a store at once.

    Parameters
    ----------
    path : str or pathlib.Path
        An existing store there is replaced in one step.
    plan : Plan
    table : RowTable
    data : mapping of str to ShardData
        For every modality of the plan, all rows.
    meta : mapping of JSON values
        As for `PassFolder.publish`.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    ValueError
        If `data` has other modalities than the plan, or as `PassFolder.publish`.
    BadRowsError
        If a row may not be stored.
    StoreBusyError, DiskFullError
        As `PassFolder`.
    """
    if set(data) != set(plan.modalities):
        raise ValueError(
            f"Data of {sorted(data)} is given, but the plan has modalities {sorted(plan.modalities)}."
        )
    # Leftovers are dropped, not resumed: the arrays may have changed under the same settings.
    with PassFolder(Path(path), plan, resume=False) as folder:
        for modality in plan.modalities:
            for start, stop in folder.missing(modality):
                folder.hold(modality, start, stop, _part(data[modality], start, stop))
        return folder.publish(table, meta)


def _part(data: ShardData, start: int, stop: int) -> ShardData:
    views = None if data.views is None else {name: stack[:, start:stop] for name, stack in data.views.items()}
    return ShardData(
        {name: matrix[start:stop] for name, matrix in data.features.items()},
        data.valid[start:stop],
        data.status[start:stop],
        views,
    )
