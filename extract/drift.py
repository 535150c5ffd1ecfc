"""Drift guard: stored vectors are joined only by vectors that come out the same today.

A fingerprint covers what we know decides a vector. It cannot cover a library that changed its arithmetic, a
driver, or a broken installation. So a few rows that an earlier process stored are embedded again before the
first new vector is written.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cache import Status, sha256_hex
from extract.engine import LaneResult
from extract.open_shards import Probe

#: Largest relative difference (L2 norm of the difference over the norm of the stored vector), by precision.
#: float32 kernels differ by less (measured: 3e-6 between batch shapes) and half-precision ones should; the
#: room is for GPUs, whose TF32 keeps 10 bits of mantissa (not measured). A changed preprocessing, pooling or
#: weight differs by more.
TOLERANCE = {"fp32": 2e-3, "fp16": 2e-2, "bf16": 5e-2}


_ORIGINS = {"resumed": "the unfinished pass", "reused": "an earlier store in the folder"}
_REMEDIES = {
    "resumed": "delete the work folder and start again",
    "reused": "write into another folder with --out",
}


class DriftError(ValueError):
    """Vectors embedded now differ from those that an earlier process stored."""


def check_drift(probe: Probe, result: LaneResult, *, precision: str, ids: Sequence[str], where: str) -> None:
    """Compare stored vectors with the same rows embedded again.

    Parameters
    ----------
    probe : Probe
    result : LaneResult
        Of the probe's rows, clean.
    precision : {"fp32", "fp16", "bf16"}
    ids : sequence of str
        Of all rows.
    where : str
        The store or work folder, for the message.

    Raises
    ------
    DriftError
        If a row differs by more than the tolerance, or cannot be embedded any more.
    """
    ok = result.status == Status.OK
    allowed = TOLERANCE[precision]
    for name, stored in probe.vectors.items():
        now = result.vectors[name.partition(".")[2]] if ok.any() else np.zeros((0, stored.shape[1]))
        stored_ok = stored[ok].astype(np.float64)
        gaps = np.full(len(ok), np.inf)
        gaps[ok] = np.linalg.norm(now - stored_ok, axis=1) / np.linalg.norm(stored_ok, axis=1)
        worst = int(gaps.argmax())
        if gaps[worst] > allowed:
            raise DriftError(
                f"'{name}' of row '{ids[probe.rows[worst]]}' comes out differently now than when "
                f"{_ORIGINS[probe.origin]} of '{where}' stored it: relative difference {gaps[worst]:.2g}, "
                f"allowed is {allowed:g} (fingerprint of the stored vectors {_digest(stored)}, of those "
                f"embedded now {_digest(now)}). A library, a driver or the hardware has changed its "
                "arithmetic, and mixed vectors would mislead every head. Go back to the versions that made "
                f"them, or {_REMEDIES[probe.origin]}."
            )


def _digest(vectors: np.ndarray) -> str:
    return sha256_hex(np.ascontiguousarray(vectors, dtype=np.float32).tobytes())[:12]
