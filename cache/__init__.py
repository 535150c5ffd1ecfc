"""The feature store: one HDF5 file per data set and backbone; safe to write, audited and verified to read.

Names load on first use, so that ``import cache`` costs a few milliseconds and loads neither numpy nor h5py.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cache.alignment import Aligned, align
    from cache.audit import AuditReport, audit_file
    from cache.durable import sync_folder, write_file
    from cache.errors import (
        AlignError,
        BadRowsError,
        DiskFullError,
        FingerprintMismatch,
        SpaceError,
        StoreBusyError,
        StoreCorruptError,
        StoreError,
        StoreIncompleteError,
        StoreMissingError,
        StoreVersionError,
        UnsafeStoreError,
    )
    from cache.fingerprint import canonical_json, file_sha256, first_difference, sha256_hex
    from cache.matrix import FeatureSpace, RowMatrix, ViewStack
    from cache.oneshot import write_store
    from cache.passfolder import PassFolder
    from cache.plan import Plan, SpaceSpec, required_bytes
    from cache.reuse import ReuseIndex
    from cache.schema import RowTable, Split, Status, is_encodable
    from cache.shards import ShardData
    from cache.store import FeatureStore
    from cache.verify import VerifyReport, verify_store
    from cache.workfolder import unfinished

_HOME = {
    "AlignError": "errors",
    "Aligned": "alignment",
    "AuditReport": "audit",
    "BadRowsError": "errors",
    "DiskFullError": "errors",
    "FeatureSpace": "matrix",
    "FeatureStore": "store",
    "FingerprintMismatch": "errors",
    "PassFolder": "passfolder",
    "Plan": "plan",
    "ReuseIndex": "reuse",
    "RowMatrix": "matrix",
    "RowTable": "schema",
    "ShardData": "shards",
    "SpaceError": "errors",
    "SpaceSpec": "plan",
    "Split": "schema",
    "Status": "schema",
    "StoreBusyError": "errors",
    "StoreCorruptError": "errors",
    "StoreError": "errors",
    "StoreIncompleteError": "errors",
    "StoreMissingError": "errors",
    "StoreVersionError": "errors",
    "UnsafeStoreError": "errors",
    "VerifyReport": "verify",
    "ViewStack": "matrix",
    "align": "alignment",
    "audit_file": "audit",
    "canonical_json": "fingerprint",
    "file_sha256": "fingerprint",
    "first_difference": "fingerprint",
    "is_encodable": "schema",
    "required_bytes": "plan",
    "sha256_hex": "fingerprint",
    "sync_folder": "durable",
    "unfinished": "workfolder",
    "verify_store": "verify",
    "write_file": "durable",
    "write_store": "oneshot",
}

__all__ = [
    "AlignError",
    "Aligned",
    "AuditReport",
    "BadRowsError",
    "DiskFullError",
    "FeatureSpace",
    "FeatureStore",
    "FingerprintMismatch",
    "PassFolder",
    "Plan",
    "ReuseIndex",
    "RowMatrix",
    "RowTable",
    "ShardData",
    "SpaceError",
    "SpaceSpec",
    "Split",
    "Status",
    "StoreBusyError",
    "StoreCorruptError",
    "StoreError",
    "StoreIncompleteError",
    "StoreMissingError",
    "StoreVersionError",
    "UnsafeStoreError",
    "VerifyReport",
    "ViewStack",
    "align",
    "audit_file",
    "canonical_json",
    "file_sha256",
    "first_difference",
    "is_encodable",
    "required_bytes",
    "sha256_hex",
    "sync_folder",
    "unfinished",
    "verify_store",
    "write_file",
    "write_store",
]


def __getattr__(name: str) -> Any:
    """Import the module that holds `name` and keep the name (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"Package 'cache' has no name {name!r}; it has {', '.join(__all__)}.")
    value = getattr(import_module(f"cache.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
