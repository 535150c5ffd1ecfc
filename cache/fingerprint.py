"""Hashes of settings and files, and the first field in which two settings differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

JSON: TypeAlias = "bool | int | float | str | list[JSON] | tuple[JSON, ...] | Mapping[str, JSON] | None"

_BLOCK_BYTES = 1 << 20
_ABSENT = "(absent)"


def canonical_json(obj: object) -> bytes:
    """Return the one JSON text of `obj`: sorted keys, no spaces, UTF-8.

    Parameters
    ----------
    obj : JSON value
        Mappings must have string keys; tuples count as lists.

    Returns
    -------
    bytes

    Raises
    ------
    ValueError
        If it holds NaN, an infinity or a lone surrogate.
    TypeError
        If it holds something JSON has no form for, or a key that is not a string.
    """
    _refuse_other_keys(obj, "")
    text = json.dumps(
        obj, sort_keys=True, allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_plain
    )
    return text.encode("utf-8")


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(
        f"A value of type '{type(value).__name__}' has no JSON form; use str, int, float, bool, None, "
        "list or dict."
    )


def _refuse_other_keys(value: object, path: str) -> None:
    """Refuse keys that json would turn into strings: 1 and "1" must not hash alike."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise TypeError(f"JSON keys must be strings; {path or 'the top level'} has {key!r}.")
            _refuse_other_keys(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_other_keys(inner, path)


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of `data` as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def first_difference(old: object, new: object) -> tuple[str, object, object] | None:
    """Return the first field in which two JSON values differ.

    Parameters
    ----------
    old, new : JSON value
        Keys are compared in sorted order, lists item by item.

    Returns
    -------
    (str, object, object) or None
        Dotted name of the field (list positions as numbers), old value, new value; a side that lacks the
        field shows ``"(absent)"``. None if both are equal.
    """
    return _difference(old, new, "")


def _difference(old: object, new: object, path: str) -> tuple[str, object, object] | None:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        fields = sorted(old.keys() | new.keys())
        pairs = [(key, old.get(key, _ABSENT), new.get(key, _ABSENT)) for key in fields]
    elif isinstance(old, list | tuple) and isinstance(new, list | tuple):
        count = range(max(len(old), len(new)))
        pairs = [
            (str(i), old[i] if i < len(old) else _ABSENT, new[i] if i < len(new) else _ABSENT) for i in count
        ]
    else:
        # The canonical text decides, as in the fingerprint: 1, 1.0 and True are equal to Python only.
        return None if _text(old) == _text(new) else (path, old, new)
    for key, left, right in pairs:
        found = _difference(left, right, f"{path}.{key}" if path else key)
        if found is not None:
            return found
    return None


def _text(value: object) -> bytes:
    return canonical_json(value)
