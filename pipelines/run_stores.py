"""Stores of a finished run: found from the current folder or from a folder above the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.errors import RunError
from pipelines.named_stores import open_store
from pipelines.term_counts import is_term_space


def find_store(space: Mapping[str, Any], run: Path) -> Path:
    """Return where the store of one space of a run lies now.

    Parameters
    ----------
    space : mapping
        An entry of ``spaces`` in ``config.json``.
    run : Path
        The run folder.

    Returns
    -------
    Path

    Raises
    ------
    RunError
        If the store is not there, or has changed since.
    StoreError
        If a file in its place cannot be trusted.
    """
    recorded = Path(space["path"])
    places = dict.fromkeys([recorded, *(above / recorded for above in run.resolve().parents[:3])])
    found = [path for path in places if path.is_file()]
    for path in found:
        with open_store(path) as store:
            same = store.fingerprint == space["store_fingerprint"]
            if same and (space["space"] in store.spaces or is_term_space(space["space"])):
                return path
    if found:
        raise RunError(f"Store '{recorded}' has changed since the run was made.")
    raise RunError(
        f"Store '{recorded}' is not there any more (looked for from the current folder and above the run)."
    )


def store_specs(spaces: Sequence[Mapping[str, Any]], run: Path) -> tuple[str, ...]:
    """Return ``FILE:SPACE`` of every space of a run, for ``matrices.read_matrix``.

    Raises
    ------
    RunError
        If a store is not there, or has changed since.
    """
    return tuple(f"{find_store(space, run)}:{space['space']}" for space in spaces)
