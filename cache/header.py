"""What a store says about itself: version, completeness, meta, and which data sets it must have."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.audit import HDF5_ERRORS, AuditReport, plain_reason
from cache.errors import StoreCorruptError, StoreVersionError
from cache.integrity import INTEGRITY, check_hash, read_rows, refuse_other_layout
from cache.plan import SpaceSpec, is_fingerprint
from cache.schema import MODALITIES, is_encodable

FORMAT = "embedonce-features"
FORMAT_MAJOR = 1
FORMAT_MINOR = 0
META = "/meta"


@dataclass(frozen=True)
class Header:
    """The small part of a store, read and checked before any of the large part.

    Attributes
    ----------
    path : pathlib.Path
    n_rows : int
    fingerprint : str
    format_minor : int
    meta : dict
        Parsed ``/meta``.
    entries : dict
        Parsed ``/integrity``.
    spaces : tuple of SpaceSpec
    modalities : tuple of str
    class_names : tuple of str
    encodings : tuple of str
    """

    path: Path
    n_rows: int
    fingerprint: str
    format_minor: int
    meta: Mapping[str, Any]
    entries: Mapping[str, Any]
    spaces: tuple[SpaceSpec, ...]
    modalities: tuple[str, ...]
    class_names: tuple[str, ...]
    encodings: tuple[str, ...]


def read_header(file: Any, audit: AuditReport) -> Header:
    """Read and check the header of an audited file.

    Raises
    ------
    StoreVersionError
        If the major version is another one.
    StoreCorruptError
        If anything is missing, contradicts something else, or has another hash than was published.
    """
    path = audit.path
    attributes = _read_attributes(file, path)
    _refuse_version(attributes, path)
    if attributes.get("complete") != 1:
        raise damaged(path, "it is not marked as complete")
    entries = _read_entries(file, audit, attributes)
    check_hash(file, META, entries, path)
    meta = _parse(read_rows(file[META], (), 0, audit.datasets[META][1][0], path).tobytes(), META, path)
    header = _header(path, attributes, meta, entries)
    _refuse_missing(header, audit)
    return header


def damaged(path: Path, why: str) -> StoreCorruptError:
    """Return the error for a file that contradicts itself."""
    return StoreCorruptError(f"'{path}' is damaged: {why}. Extract again, or take the file from a backup.")


def _read_attributes(file: Any, path: Path) -> dict[str, Any]:
    names = (
        "format",
        "format_major",
        "format_minor",
        "complete",
        "n_rows",
        "fingerprint",
        "integrity_sha256",
    )
    try:
        found = {name: file.attrs[name] for name in names if name in file.attrs}
        return {
            name: value.decode("ascii") if isinstance(value, bytes) else int(value)
            for name, value in found.items()
        }
    except HDF5_ERRORS as error:
        raise damaged(path, f"an attribute cannot be read: {plain_reason(error, 1)}") from error


def _refuse_version(attributes: Mapping[str, Any], path: Path) -> None:
    if attributes.get("format") != FORMAT:
        raise StoreCorruptError(
            f"'{path}' is an HDF5 file, but not a feature store: its attribute 'format' is "
            f"{attributes.get('format')!r}, not {FORMAT!r}."
        )
    major = attributes.get("format_major")
    if major != FORMAT_MAJOR:
        advice = "Update embedonce" if isinstance(major, int) and major > FORMAT_MAJOR else "Extract again"
        raise StoreVersionError(
            f"'{path}' has store format {major}, but this version reads format {FORMAT_MAJOR}. {advice}."
        )


def _read_entries(file: Any, audit: AuditReport, attributes: Mapping[str, Any]) -> dict[str, Any]:
    path = audit.path
    for name in (INTEGRITY, META):
        kind = audit.datasets.get(name)
        if kind is None or kind[0] != "uint8" or len(kind[1]) != 1:
            raise damaged(path, f"'{name}' is missing or not a row of bytes")
    data = read_rows(file[INTEGRITY], (), 0, audit.datasets[INTEGRITY][1][0], path).tobytes()
    if hashlib.sha256(data).hexdigest() != attributes.get("integrity_sha256"):
        raise damaged(path, f"the SHA-256 of '{INTEGRITY}' is not the one in the root")
    entries = _parse(data, INTEGRITY, path)
    refuse_other_layout(entries, audit)
    return entries


def _parse(data: bytes, name: str, path: Path) -> dict[str, Any]:
    try:
        parsed = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"'{name}' is not JSON") from error
    if not isinstance(parsed, dict):
        raise damaged(path, f"'{name}' is not a JSON object")
    return parsed


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _header(
    path: Path, attributes: Mapping[str, Any], meta: Mapping[str, Any], entries: Mapping[str, Any]
) -> Header:
    n_rows, fingerprint, minor = (attributes.get(name) for name in ("n_rows", "fingerprint", "format_minor"))
    if not isinstance(n_rows, int) or n_rows < 1 or not isinstance(minor, int) or minor < 0:
        raise damaged(path, f"'n_rows' is {n_rows!r} and 'format_minor' is {minor!r}")
    if not is_fingerprint(fingerprint) or fingerprint != meta.get("fingerprint"):
        raise damaged(path, "the fingerprint in the root is not the one in '/meta'")
    _refuse_odd_provenance(meta, path)
    modalities = _strings(meta, "modalities", path)
    if not modalities or not set(modalities) <= set(MODALITIES):
        raise damaged(path, f"the modalities in '/meta' are {list(modalities)!r}")
    return Header(
        path=path,
        n_rows=n_rows,
        fingerprint=str(fingerprint),
        format_minor=minor,
        meta=meta,
        entries=entries,
        spaces=_spaces(meta, path),
        modalities=modalities,
        class_names=_strings(meta, "class_names", path),
        encodings=_strings(meta, "encodings", path) if "encodings" in meta else (),
    )


# What those who print or match provenance rely on; a store may leave any of it out but the identity.
_PROVENANCE: dict[str, dict[str, type]] = {
    "identity": {"backbone": str},
    "card": {"name": str},
    "weights": {},
    "clean": {"recipe": str},
    "preprocessing": {},
    "versions": {},
    "data": {"notes": dict},
    "truncated": {},
}
_TRUNCATED = ("texts", "texts_cut", "tokens", "tokens_cut")


def _refuse_odd_provenance(meta: Mapping[str, Any], path: Path) -> None:
    """Refuse provenance whose entries are of another type than format 1 gives them."""
    if "identity" not in meta or not isinstance(meta.get("precision", ""), str):
        raise damaged(path, "'identity' in '/meta' is missing, or 'precision' is not a string")
    for key, members in _PROVENANCE.items():
        entry = meta.get(key, {})
        if not isinstance(entry, dict):
            raise damaged(path, f"'{key}' in '/meta' is not a JSON object")
        for member, kind in members.items():
            if not isinstance(entry.get(member, kind()), kind):
                raise damaged(path, f"'{key}.{member}' in '/meta' is {entry[member]!r:.60}")
    for modality, counts in meta.get("truncated", {}).items():
        named = counts if isinstance(counts, dict) else {}
        if not all(type(named.get(name)) is int and named[name] >= 0 for name in _TRUNCATED):
            raise damaged(path, f"'truncated.{modality:.20}' in '/meta' is {counts!r:.60}")


def _strings(meta: Mapping[str, Any], key: str, path: Path) -> tuple[str, ...]:
    values = meta.get(key)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise damaged(path, f"'{key}' in '/meta' is not a list of strings")
    if len(set(values)) != len(values):
        raise damaged(path, f"'{key}' in '/meta' has a name twice")
    if not all(is_encodable(value) for value in values):
        raise damaged(path, f"'{key}' in '/meta' holds a name that is not valid Unicode")
    return tuple(values)


def _spaces(meta: Mapping[str, Any], path: Path) -> tuple[SpaceSpec, ...]:
    try:
        spaces = tuple(
            SpaceSpec(
                name=item["name"],
                width=item["width"],
                dtype=item["dtype"],
                fingerprint=item["fingerprint"],
                views=item.get("views", 0),
            )
            for item in meta["spaces"]
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, "'spaces' in '/meta' cannot be understood") from error
    if not spaces or len({space.name for space in spaces}) != len(spaces):
        raise damaged(path, "'spaces' in '/meta' is empty or has a name twice")
    return spaces


def _refuse_missing(header: Header, audit: AuditReport) -> None:
    """Refuse a file in which a data set is missing or has another type or shape than the format says."""
    faults = []
    for name, (dtype, shape) in _wanted(header, audit.datasets).items():
        kind = audit.datasets.get(name)
        if kind is None:
            faults.append(f"'{name}' is missing")
        elif kind[0] != dtype or len(kind[1]) != len(shape) or not _fits(kind[1], shape):
            faults.append(f"'{name}' is {kind[0]} {kind[1]}")
    if faults:
        raise damaged(header.path, ", ".join(faults[:5]))


def _fits(found: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return all(want is None or have == want for have, want in zip(found, wanted, strict=True))


def _wanted(header: Header, found: Mapping[str, Any]) -> dict[str, tuple[str, tuple[int | None, ...]]]:
    """Return type and shape of every data set of format 1; None = any length."""
    n = header.n_rows
    wanted: dict[str, tuple[str, tuple[int | None, ...]]] = {
        "/rows/id_bytes": ("uint8", (None,)),
        "/rows/id_off": ("int64", (n + 1,)),
        "/rows/label": ("int32", (n,)),
        "/rows/split": ("uint8", (n,)),
        "/rows/group": ("int32", (n,)),
        "/rows/source_sha256": ("uint8", (n, 32)),
        "/rows/status": ("uint8", (n, len(header.modalities))),
    }
    if any(name.startswith("/text/") for name in found):
        wanted |= {"/text/bytes": ("uint8", (None,)), "/text/off": ("int64", (n + 1,))}
        wanted["/text/encoding"] = ("uint8", (n,))
    if any(name.startswith("/image/") for name in found):
        wanted |= {"/image/path_bytes": ("uint8", (None,)), "/image/path_off": ("int64", (n + 1,))}
        wanted |= {f"/image/{side}": ("int32", (n,)) for side in ("width", "height")}
        if "/image/sha256" in found:
            wanted["/image/sha256"] = ("uint8", (n, 32))
    for space in header.spaces:
        base = f"/features/{space.name}"
        wanted |= {f"{base}/x": (space.dtype, (n, space.width)), f"{base}/valid": ("uint8", (n,))}
        if space.views:
            wanted[f"{base}/views"] = (space.dtype, (space.views, n, space.width))
    return wanted
