"""A pass that can be killed at any moment: shards that count one by one, then one file at once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType

from cache.durable import disk_full, full_disk_named, sync_folder, write_file
from cache.errors import FingerprintMismatch, StoreCorruptError, StoreIncompleteError
from cache.fingerprint import JSON, canonical_json, file_sha256, first_difference, sha256_hex
from cache.locking import WriterLock
from cache.plan import Plan, required_bytes
from cache.publish import publish_file
from cache.schema import Array, RowTable
from cache.shards import ShardData, checked, decode, encode
from cache.workfolder import (
    BAD_SUFFIX,
    RecordedPlan,
    Shard,
    WorkFolder,
    clear,
    encode_plan,
    list_shards,
    modality_tag,
    read_plan,
    remove_folder,
    remove_temporary,
)

_Range = tuple[int, int]

# Rows held in memory are written once they take more than this, however little work they were.
_MAX_HELD_BYTES = 64 << 20


class PassFolder:
    """The work folder of one pass, held by one process; use it as a context manager.

    On entry the folder is created or taken over: leftovers of killed writes go, finished shards
    are hashed again.
    A shard counts from the moment `write` returns. Rows that were cheap to compute may be held in memory with
    `hold` and written together. `publish` turns all of them into the store. On exit, also after an
    error, what is held and not published is written.

    Parameters
    ----------
    target : pathlib.Path
        The store to publish; its folder must exist.
    plan : Plan
        An unfinished pass with the same fingerprint is continued, with the shard size it began with.
    resume : bool
        With False, finished shards and the settings of an earlier pass are dropped.
    command : sequence of str
        The words that start this pass, noted in the lock file for whoever wants to go on with it.
    on_hashing : callable, optional
        Called with a path and a size in bytes before all of it is hashed: the folder of the shards that an
        earlier pass left, and `target` before it is published.

    Attributes
    ----------
    plan : Plan
        After entry, with the recorded `shard_rows`.
    notes : list of str
        What was found and put right on entry, one sentence each.

    Raises
    ------
    StoreBusyError
        On entry, if another process holds the folder.
    FingerprintMismatch
        On entry, if the unfinished pass has other settings, and finished shards.
    StoreCorruptError
        On entry, if the recorded plan is damaged and there are finished shards.
    DiskFullError
        On entry, if the disk cannot hold the rest of the pass.
    """

    def __init__(
        self,
        target: Path,
        plan: Plan,
        *,
        resume: bool = True,
        command: Sequence[str] = (),
        on_hashing: Callable[[Path, int], None] | None = None,
    ) -> None:
        self.folder = WorkFolder(Path(target))
        self.plan = plan
        self.notes: list[str] = []
        self._resume, self._command = resume, command
        self._on_hashing = on_hashing or (lambda _path, _size: None)
        self._shards: dict[str, dict[_Range, Path]] = {}
        self._held: dict[str, dict[_Range, ShardData]] = {m: {} for m in plan.modalities}
        self._codes: dict[tuple[str, _Range], tuple[Array, Array]] = {}
        self._plan_is_safe = False
        self._resumed: dict[str, int] = {}

    def __enter__(self) -> PassFolder:
        with full_disk_named(self.folder.root, required_bytes(self.plan)):
            lock = WriterLock(self.folder, self._command)
            try:
                self._take_over(lock)
            except BaseException:
                with suppress(OSError):  # the first error is the one to tell
                    if not self.folder.plan.exists():
                        remove_folder(self.folder)
                lock.release()
                raise
        self._lock = lock
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # The first error is the one to tell; what it leaves unwritten is embedded again.
            with suppress(*((OSError,) if error is not None else ())):
                self._write_held()
        finally:
            self._lock.release()

    def done(self, modality: str) -> frozenset[_Range]:
        """Return the finished row ranges (start, stop) of a modality, written or held."""
        self.plan.of_modality(modality)
        return frozenset(self._shards[modality].keys() | self._held[modality].keys())

    def missing(self, modality: str) -> list[_Range]:
        """Return the row ranges (start, stop) still to be embedded, in row order."""
        done = self.done(modality)
        return [rows for rows in self.plan.ranges if rows not in done]

    def resumed(self, modality: str) -> int:
        """Return how many rows an earlier pass had finished."""
        self.plan.of_modality(modality)
        return self._resumed[modality]

    def write(self, modality: str, start: int, stop: int, data: ShardData) -> None:
        """Store one range, and all that are held; when this returns, they survive a kill and a power cut.

        Parameters
        ----------
        modality : str
        start, stop : int
            One of `missing`.
        data : ShardData
            All spaces of the modality, ``stop - start`` rows.

        Raises
        ------
        ValueError
            If the range is not missing.
        BadRowsError
            If a row may not be stored.
        DiskFullError
            If the disk is full; ranges written earlier stay, those held are gone.
        """
        self._hold(modality, start, stop, data)
        self._write_held()

    def hold(self, modality: str, start: int, stop: int, data: ShardData) -> None:
        """Keep one range in memory until the next `write`, `publish`, or exit; a kill loses it.

        For ranges that cost less to compute again than to make safe one by one. Parameters and errors are
        those of `write`: more than 64 MiB are written at once.
        """
        self._hold(modality, start, stop, data)
        if _n_bytes(self._held) > _MAX_HELD_BYTES:
            self._write_held()

    def _hold(self, modality: str, start: int, stop: int, data: ShardData) -> None:
        if (start, stop) not in self.missing(modality):
            raise ValueError(
                f"Rows {start} to {stop} of {modality!r} are no missing range; use PassFolder.missing."
            )
        data = checked(data, self.plan.of_modality(modality), start, stop)
        self._held[modality][start, stop] = data
        self._codes[modality, (start, stop)] = data.status, data.valid

    def _write_held(self) -> None:
        """Make shards of all rows held; after an error they are gone: what failed is never tried again."""
        held, self._held = self._held, {modality: {} for modality in self._held}
        if not any(held.values()):
            return
        codes = {
            (modality, rows): self._codes.pop((modality, rows))
            for modality in held
            for rows in held[modality]
        }
        with full_disk_named(self.folder.shards, _n_bytes(held)):
            if not self._plan_is_safe:
                write_file(self.folder.plan, encode_plan(self.plan))
                # Else a power cut could take the work folder and all its shards.
                sync_folder(self.folder.root.parent)
                self._plan_is_safe = True
            paths = {
                (modality, rows): self._write_shard(modality, rows, data)
                for modality, ranges in held.items()
                for rows, data in ranges.items()
            }
            sync_folder(self.folder.shards)
        self._codes.update(codes)
        for (modality, rows), path in paths.items():
            self._shards[modality][rows] = path

    def _write_shard(self, modality: str, rows: _Range, data: ShardData) -> Path:
        content = encode(data)
        shard = Shard(*rows, modality_tag(self.plan.fingerprint, modality), sha256_hex(content)[:16])
        path = self.folder.shards / shard.name
        write_file(path, content, sync_name=False)
        return path

    def read(self, modality: str, start: int, stop: int) -> ShardData:
        """Return a finished range.

        Raises
        ------
        ValueError
            If the range is not finished.
        StoreCorruptError
            If its file changed since it was written.
        """
        held = self._held.get(modality, {}).get((start, stop))
        if held is not None:
            return held
        path = self._shards.get(modality, {}).get((start, stop))
        if path is None:
            raise ValueError(f"Rows {start} to {stop} of {modality!r} are not finished; use PassFolder.done.")
        content = path.read_bytes()
        if not path.stem.endswith(sha256_hex(content)[:16]):
            raise StoreCorruptError(f"The shard '{path}' changed after it was written. Start the pass again.")
        return decode(content, self.plan.of_modality(modality), path)

    def codes(self, modality: str, start: int, stop: int) -> tuple[Array, Array]:
        """Return (status, valid) of a finished range, uint8 of shape (stop - start,) each; see `read`.

        They are read from a shard only if an earlier process wrote it, and kept.
        """
        key = modality, (start, stop)
        if key not in self._codes:
            data = self.read(modality, start, stop)
            self._codes[key] = data.status, data.valid
        return self._codes[key]

    def publish(
        self,
        table: RowTable,
        meta: Mapping[str, JSON],
        *,
        on_rows: Callable[[int, int], None] | None = None,
    ) -> Path:
        """Write the store, verify it through the public reader, give it its name and remove the work folder.

        Memory stays at one shard beside what is held, however large the store. Equal inputs give equal bytes.

        Parameters
        ----------
        table : RowTable
            One row per planned row; its `status` is superseded by that of the shards.
        meta : mapping of JSON values
            ``class_names`` (list of str) and, with texts, ``encodings`` (list of str) are needed;
            ``fingerprint``, ``modalities``, ``spaces`` and ``identity`` are added. Times make bytes differ.
        on_rows : callable, optional
            Called while the store is written, with the rows that it has and all it will have; those of each
            space and of each of its views count.

        Returns
        -------
        pathlib.Path
            The target.

        Raises
        ------
        StoreIncompleteError
            If ranges are missing.
        ValueError
            If `table` or `meta` does not fit the plan; the message names every fault.
        DiskFullError
            If the disk is full; the shards stay.
        """
        self._refuse_missing()
        with full_disk_named(self.folder.target, required_bytes(self.plan)):
            publish_file(
                self.folder,
                self.plan,
                table,
                meta,
                read=self.read,
                codes=self.codes,
                on_rows=on_rows,
                on_hashing=partial(self._on_hashing, self.folder.target),
            )
            self._held = {modality: {} for modality in self._held}
            if any(self._shards.values()):
                # A power cut must not keep the removals below and lose the rename.
                sync_folder(self.folder.target.parent)
            clear(self.folder)
            remove_folder(self.folder)
            sync_folder(self.folder.target.parent)
        return self.folder.target

    def _refuse_missing(self) -> None:
        ranges = self.plan.ranges
        done = sum(stop - start for modality in self.plan.modalities for start, stop in self.done(modality))
        total = self.plan.n_rows * len(self.plan.modalities)
        gaps = {modality: len(ranges) - len(self.done(modality)) for modality in self.plan.modalities}
        if any(gaps.values()):
            raise StoreIncompleteError(
                f"'{self.folder.target}' cannot be published: {done:,} of {total:,} inputs are embedded; "
                f"ranges missing are {', '.join(f'{count} of {m}' for m, count in gaps.items() if count)}.",
                done=done,
                total=total,
            )

    def _take_over(self, lock: WriterLock) -> None:
        folder = self.folder
        if lock.foreign_host is not None:
            self.notes.append(
                f"The last writer of '{folder.root}' ran on host '{lock.foreign_host}'; if it still runs, "
                "stop it, because locks do not always reach across machines."
            )
        has_shards = bool(list_shards(folder))
        recorded = read_plan(folder) if self._resume and has_shards else None
        if recorded is None:
            # Shards without a plan: the rest of a pass that was published and then killed while tidying up.
            clear(folder)
        elif recorded.fingerprint != self.plan.fingerprint:
            raise _mismatch(folder, recorded, self.plan)
        else:
            self.plan = replace(self.plan, shard_rows=recorded.shard_rows)
        remove_temporary(folder)
        self._scan()
        self._refuse_full_disk()
        folder.shards.mkdir(exist_ok=True)
        if recorded is None:
            # Nothing depends on it before the first shard, with which it is written for good. But a power cut
            # may bring removed shards back, and half a plan beside shards would be refused.
            write_file(folder.plan, encode_plan(self.plan), sync=has_shards)

    def _scan(self) -> None:
        """Hash every shard that is there; only those that are what their name says count."""
        tags = {modality_tag(self.plan.fingerprint, modality): modality for modality in self.plan.modalities}
        self._shards = {modality: {} for modality in self.plan.modalities}
        shards = list_shards(self.folder)
        if shards:
            n_bytes = sum((self.folder.shards / shard.name).stat().st_size for shard in shards)
            self._on_hashing(self.folder.shards, n_bytes)
        for shard in shards:
            path = self.folder.shards / shard.name
            rows = (shard.start, shard.stop)
            known = shard.tag in tags and rows in self.plan.ranges
            if known and file_sha256(path).startswith(shard.digest):
                self._shards[tags[shard.tag]][rows] = path
            else:
                path.replace(path.with_name(path.name + BAD_SUFFIX))
                self.notes.append(
                    f"The shard '{path.name}' is damaged or of another pass; it was renamed to "
                    f"'*{BAD_SUFFIX}' and its rows are embedded again."
                )
        self._resumed = {m: sum(stop - start for start, stop in rows) for m, rows in self._shards.items()}

    def _refuse_full_disk(self) -> None:
        there = sum(path.stat().st_size for shards in self._shards.values() for path in shards.values())
        need = required_bytes(self.plan) - there
        if shutil.disk_usage(self.folder.root).free < need:
            raise disk_full(self.folder.target, need)


def _n_bytes(held: Mapping[str, Mapping[_Range, ShardData]]) -> int:
    parts = [data for ranges in held.values() for data in ranges.values()]
    return sum(x.nbytes for data in parts for x in (*data.features.values(), *(data.views or {}).values()))


def _mismatch(folder: WorkFolder, recorded: RecordedPlan, plan: Plan) -> FingerprintMismatch:
    found = first_difference(recorded.fields, json.loads(canonical_json(plan.as_json())))
    assert found is not None, "different fingerprints come from different fields"
    name, old, new = found
    return FingerprintMismatch(
        f"The unfinished pass for '{folder.target}' was started with {name} = {_short(old)}, but now it is "
        f"{_short(new)}. Finish it with the old settings, or delete the folder '{folder.root}'."
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
