"""Facts and an array in one file that begins with its hash: what an interrupted command has finished."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cache import write_file


def write_hashed(path: Path, facts: Mapping[str, Any], array: np.ndarray) -> None:
    """Write a file durably.

    Parameters
    ----------
    path : Path
    facts : mapping
        JSON-able.
    array : ndarray
        Of numbers.
    """
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    body = json.dumps(facts).encode("utf-8") + b"\n" + buffer.getvalue()
    write_file(path, _hash_of(body) + b"\n" + body)


def read_hashed(path: Path) -> tuple[dict[str, Any], np.ndarray] | None:
    """Return the facts and the array of a file that `write_hashed` wrote.

    Parameters
    ----------
    path : Path

    Returns
    -------
    (dict, ndarray) or None
        None where there is no file. One that was cut short or changed does not count either, and is removed.
    """
    if not path.is_file():
        return None
    digest, _, body = path.read_bytes().partition(b"\n")
    if _hash_of(body) != digest:
        path.unlink()
        return None
    line, _, array = body.partition(b"\n")
    return json.loads(line), np.load(io.BytesIO(array), allow_pickle=False)


def _hash_of(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()
