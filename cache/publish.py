"""Make one store of all shards: compose under a temporary name, verify as a reader would, rename."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import h5py
import numpy as np

from cache.columns import PackedBytes, pack
from cache.durable import open_new
from cache.fingerprint import JSON, canonical_json, sha256_hex
from cache.header import FORMAT, FORMAT_MAJOR, FORMAT_MINOR, META
from cache.integrity import INTEGRITY, array_entry, encode, entry
from cache.plan import Plan, SpaceSpec
from cache.schema import Array, RowTable
from cache.shards import ShardData
from cache.sink import DescriptorSink
from cache.verify import verify_store
from cache.workfolder import WorkFolder

# Rows of one chunk: a random row costs one read of at most this much, and a store of one million rows has few
# enough chunks. It must not depend on the shard size, or resuming with another one would change the bytes.
_CHUNK_BYTES = 512 << 10
_ADDED = ("fingerprint", "modalities", "spaces", "identity")

ReadShard = Callable[[str, int, int], ShardData]
"""Returns a range of rows of a modality."""
ReadCodes = Callable[[str, int, int], tuple[Array, Array]]
"""Returns status and valid of a range of rows of a modality."""


def publish_file(
    folder: WorkFolder,
    plan: Plan,
    table: RowTable,
    meta: Mapping[str, JSON],
    *,
    read: ReadShard,
    codes: ReadCodes,
    on_rows: Callable[[int, int], None] | None = None,
    on_hashing: Callable[[int], None] | None = None,
) -> None:
    """Write, verify and rename the store, each shard read once per space.

    `on_rows` is called with the rows that were written and all rows, of all spaces and views together;
    `on_hashing` with the size in bytes of what was written, before all of it is read again.
    The work folder stays, and the new name is not synced. Raises as `PassFolder.publish`.
    """
    _refuse_unfit(plan, table, meta)
    if on_rows is not None:
        read = _counted(read, plan.n_rows * sum(1 + spec.views for spec in plan.spaces), on_rows)
    # Inside the work folder: a killed publish leaves nothing beside the store.
    fd, tmp = open_new(folder.root)
    try:
        try:
            _compose(DescriptorSink(fd), plan, table, meta, read, codes)
            os.fsync(fd)
        finally:
            os.close(fd)
        verify_store(tmp, on_hashing=on_hashing)
        tmp.replace(folder.target)
    except BaseException:
        with suppress(OSError):  # the first error is the one to tell; the next pass removes the file
            tmp.unlink(missing_ok=True)
        raise


def _counted(read: ReadShard, total: int, on_rows: Callable[[int, int], None]) -> ReadShard:
    done = 0

    def counted(modality: str, start: int, stop: int) -> ShardData:
        nonlocal done
        data = read(modality, start, stop)
        done += stop - start
        on_rows(done, total)
        return data

    return counted


def _refuse_unfit(plan: Plan, table: RowTable, meta: Mapping[str, JSON]) -> None:
    faults = []
    if table.status.shape != (plan.n_rows, len(plan.modalities)):
        faults.append(
            f"the table's status has shape {table.status.shape}, but the plan has {plan.n_rows} rows and "
            f"modalities {', '.join(plan.modalities)}"
        )
    for name, column in (("text", table.text), ("image", table.image_path)):
        if column is not None and not {name, "joint"} & set(plan.modalities):
            faults.append(
                f"the table has the modality '{name}', but the plan has {', '.join(plan.modalities)}"
            )
    given = [key for key in _ADDED if key in meta]
    if given:
        faults.append(f"meta keys {', '.join(given)} are added by publish and must not be given")
    faults += _name_faults(meta, "class_names", int(table.label.max(initial=-1)))
    if table.encoding is not None:
        faults += _name_faults(meta, "encodings", int(table.encoding.max(initial=0)))
    if faults:
        raise ValueError("The store cannot be published: " + "; ".join(faults) + ".")


def _name_faults(meta: Mapping[str, JSON], key: str, largest_code: int) -> list[str]:
    names = meta.get(key)
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return [f"meta['{key}'] is {names!r:.60}, but must be a list of strings"]
    if len(set(names)) != len(names):
        return [f"meta['{key}'] has a name twice: {list(names)!r:.120}"]
    if largest_code >= len(names):
        return [f"the table has code {largest_code}, but meta['{key}'] has {len(names)} names"]
    return []


def _compose(
    sink: DescriptorSink,
    plan: Plan,
    table: RowTable,
    meta: Mapping[str, JSON],
    read: ReadShard,
    codes: ReadCodes,
) -> None:
    """Write the whole file in one fixed order, so that equal inputs give equal bytes."""
    try:
        with h5py.File(sink, "w") as file:
            writer = _Writer(file, sink)
            for name, column in _columns(table, _status(plan, codes)).items():
                writer.add(name, column)
            for spec in plan.spaces:
                writer.add_matrix(
                    f"/features/{spec.name}/x", _space_blocks(plan, spec, read), (), spec, plan.n_rows
                )
                valid = [codes(spec.modality, start, stop)[1] for start, stop in plan.ranges]
                writer.add(f"/features/{spec.name}/valid", np.concatenate(valid))
                if spec.views:
                    writer.add_views(f"/features/{spec.name}/views", plan, spec, read)
            writer.add(META, _bytes_column(canonical_json({**meta, **_own_meta(plan)})))
            writer.seal(plan)
    except Exception:
        # After a failed write HDF5 may fail anywhere: the system's own error is the one to tell.
        sink.check()
        raise
    sink.check()


def _own_meta(plan: Plan) -> dict[str, JSON]:
    return {
        "fingerprint": plan.fingerprint,
        "modalities": list(plan.modalities),
        "spaces": [spec.as_json() for spec in plan.spaces],
        "identity": dict(plan.identity),
    }


def _bytes_column(data: bytes) -> Array:
    return np.frombuffer(data, dtype="u1")


def _status(plan: Plan, codes: ReadCodes) -> Array:
    """Return the statuses of the shards, shape (n, n_modalities)."""
    columns = [
        np.concatenate([codes(modality, start, stop)[0] for start, stop in plan.ranges])
        for modality in plan.modalities
    ]
    return np.stack(columns, axis=1)


def _space_blocks(plan: Plan, spec: SpaceSpec, read: ReadShard) -> Iterator[Array]:
    for start, stop in plan.ranges:
        yield read(spec.modality, start, stop).features[spec.name]


def _view_blocks(plan: Plan, spec: SpaceSpec, read: ReadShard, view: int) -> Iterator[Array]:
    for start, stop in plan.ranges:
        yield (read(spec.modality, start, stop).views or {})[spec.name][view]


def _columns(table: RowTable, status: Array) -> dict[str, Array | PackedBytes]:
    """Return the data sets of ``/rows``, ``/text`` and ``/image``; `status` supersedes that of the table."""
    columns: dict[str, Array | PackedBytes] = {}
    columns["/rows/id_bytes"], columns["/rows/id_off"] = pack(table.ids)
    for name in ("label", "split", "group", "source_sha256"):
        columns[f"/rows/{name}"] = getattr(table, name)
    columns["/rows/status"] = status
    if table.text is not None and table.encoding is not None:
        columns["/text/bytes"], columns["/text/off"] = pack(table.text)
        columns["/text/encoding"] = table.encoding
    if table.image_path is not None and table.image_width is not None and table.image_height is not None:
        columns["/image/path_bytes"], columns["/image/path_off"] = pack(table.image_path)
        columns |= {"/image/width": table.image_width, "/image/height": table.image_height}
        if table.image_sha256 is not None:
            columns["/image/sha256"] = table.image_sha256
    return columns


class _Writer:
    """Adds data sets to one file and keeps the hash of each."""

    def __init__(self, file: Any, sink: DescriptorSink) -> None:
        self._file = file
        self._sink = sink
        self._entries: dict[str, dict[str, Any]] = {}

    def add(self, name: str, array: Array | PackedBytes) -> None:
        if isinstance(array, PackedBytes):
            self._add_bytes(name, array)
            return
        data = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        self._file.create_dataset(name, data=data, track_times=False)
        self._entries[name] = array_entry(data)
        self._sink.check()

    def _add_bytes(self, name: str, packed: PackedBytes) -> None:
        dataset = self._file.create_dataset(name, (packed.n_bytes,), "u1", track_times=False)
        digest, at = hashlib.sha256(), 0
        for block in packed:
            dataset[at : at + len(block)] = block
            self._sink.check()
            digest.update(block.data)
            at += len(block)
        self._entries[name] = entry("uint8", (packed.n_bytes,), digest.hexdigest())

    def add_matrix(
        self, name: str, blocks: Iterator[Array], lead: tuple[int, ...], spec: SpaceSpec, n_rows: int
    ) -> None:
        digest = hashlib.sha256()
        self._write_rows(self._create(name, (n_rows, spec.width), spec), lead, blocks, digest)
        self._entries[name] = entry(spec.dtype, (n_rows, spec.width), digest.hexdigest())

    def add_views(self, name: str, plan: Plan, spec: SpaceSpec, read: ReadShard) -> None:
        shape = (spec.views, plan.n_rows, spec.width)
        dataset, digest = self._create(name, shape, spec), hashlib.sha256()
        for view in range(spec.views):
            self._write_rows(dataset, (view,), _view_blocks(plan, spec, read, view), digest)
        self._entries[name] = entry(spec.dtype, shape, digest.hexdigest())

    def _create(self, name: str, shape: tuple[int, ...], spec: SpaceSpec) -> Any:
        dtype = np.dtype(spec.dtype).newbyteorder("<")
        rows = min(shape[-2], max(1, _CHUNK_BYTES // (spec.width * dtype.itemsize)))
        chunks = (*(1 for _ in shape[:-2]), rows, spec.width)
        return self._file.create_dataset(name, shape, dtype, chunks=chunks, track_times=False)

    def _write_rows(self, dataset: Any, lead: tuple[int, ...], blocks: Iterator[Array], digest: Any) -> None:
        """Write whole chunks past HDF5's chunk cache, so that the file does not depend on the shard size."""
        step = dataset.chunks[-2]
        pending = np.empty((0, dataset.shape[-1]), dtype=dataset.dtype)
        at = 0
        for block in blocks:
            digest.update(np.ascontiguousarray(block))
            pending = np.concatenate([pending, block])
            while len(pending) >= step:
                self._write_chunk(dataset, (*lead, at, 0), pending[:step])
                pending, at = pending[step:], at + step
        if len(pending):
            padding = np.zeros((step - len(pending), pending.shape[1]), dtype=pending.dtype)
            self._write_chunk(dataset, (*lead, at, 0), np.concatenate([pending, padding]))

    def _write_chunk(self, dataset: Any, offset: tuple[int, ...], rows: Array) -> None:
        dataset.id.write_direct_chunk(offset, np.ascontiguousarray(rows))
        self._sink.check()

    def seal(self, plan: Plan) -> None:
        """Write the list of hashes and the root attributes, as fixed-length strings and integers."""
        listed = encode(self._entries)
        self._file.create_dataset(INTEGRITY, data=_bytes_column(listed), track_times=False)
        attributes: dict[str, bytes | int] = {
            "format": FORMAT.encode(),
            "format_major": FORMAT_MAJOR,
            "format_minor": FORMAT_MINOR,
            "complete": 1,
            "n_rows": plan.n_rows,
            "fingerprint": plan.fingerprint.encode(),
            "integrity_sha256": sha256_hex(listed).encode(),
        }
        for name, value in attributes.items():
            stored = np.bytes_(value) if isinstance(value, bytes) else np.int64(value)
            self._file.attrs.create(name, stored)
        self._sink.check()
