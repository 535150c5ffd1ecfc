"""Prove that a store is byte for byte what was published, once per file and process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.audit import open_for_reading
from cache.content import check_content
from cache.header import Header, read_header
from cache.integrity import check_hash

# A file changed twice within one tick of the file system's clock keeps its time stamp, so a verdict on a file
# younger than this is not kept (git treats its index the same way).
_SETTLED_NS = 2_000_000_000
_MAX_KEPT = 1024

_FileKey = tuple[int, int, int, int, int]
# The only state of this package: verdicts on files that did not change since. Losing it costs time only.
_verdicts: dict[_FileKey, VerifyReport] = {}


@dataclass(frozen=True)
class VerifyReport:
    """Outcome of a verification that found nothing wrong.

    Attributes
    ----------
    path : pathlib.Path
    n_datasets : int
        Data sets whose hash was compared.
    n_bytes : int
        Their size.
    n_rows : int
    fingerprint : str
    format : tuple of (int, int)
        Major and minor version of the format.
    seconds : float
    """

    path: Path
    n_datasets: int
    n_bytes: int
    n_rows: int
    fingerprint: str
    format: tuple[int, int]
    seconds: float


def verify_store(path: str | Path, *, on_hashing: Callable[[int], None] | None = None) -> VerifyReport:
    """Audit a store, hash all of it and check every column, whatever was verified before.

    Parameters
    ----------
    path : str or pathlib.Path
    on_hashing : callable, optional
        Called with the file's size in bytes before every hash is compared.

    Returns
    -------
    VerifyReport

    Raises
    ------
    StoreError
        As `FeatureStore.open`, for everything that is not exactly as published.
    """
    started = time.perf_counter()
    file, audit = open_for_reading(path)
    with file:
        return _verify(file, read_header(file, audit), started, on_hashing)


def open_checked(
    path: str | Path, *, verify: bool, on_hashing: Callable[[int], None] | None = None
) -> tuple[Any, Header]:
    """Open a store after its audit, header and (if `verify`) all hashes passed; the caller closes it.

    `on_hashing` is called with the file's size in bytes before hashes are compared.
    """
    started = time.perf_counter()
    file, audit = open_for_reading(path)
    try:
        header = read_header(file, audit)
        if verify:
            key = _file_key(file)
            if key not in _verdicts:
                report = _verify(file, header, started, on_hashing)
                _remember(key, report)
    except BaseException:
        file.close()
        raise
    return file, header


def _verify(
    file: Any, header: Header, started: float, on_hashing: Callable[[int], None] | None
) -> VerifyReport:
    if on_hashing is not None:
        on_hashing(_file_key(file)[2])
    n_bytes = sum(check_hash(file, name, header.entries, header.path) for name in sorted(header.entries))
    check_content(file, header)
    return VerifyReport(
        path=header.path,
        n_datasets=len(header.entries),
        n_bytes=n_bytes,
        n_rows=header.n_rows,
        fingerprint=header.fingerprint,
        format=(1, header.format_minor),
        seconds=time.perf_counter() - started,
    )


def _file_key(file: Any) -> _FileKey:
    """Identify the file that is really open, not what the path may point to by now."""
    info = os.fstat(file.id.get_vfd_handle())
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _remember(key: _FileKey, report: VerifyReport) -> None:
    *_, modified, changed = key
    if time.time_ns() - max(modified, changed) < _SETTLED_NS:
        return
    if len(_verdicts) >= _MAX_KEPT:
        _verdicts.clear()
    _verdicts[key] = report
