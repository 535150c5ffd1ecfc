"""A pass that can be killed at any moment: shards that count one by one, then one file at once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from cache.durable import disk_full, full_disk_named, sync_folder, write_file
from cache.errors import FingerprintMismatch, StoreCorruptError, StoreIncompleteError
from cache.fingerprint import JSON, canonical_json, file_sha256, first_difference, sha256_hex
from cache.locking import WriterLock
from cache.plan import Plan, required_bytes
from cache.publish import publish_file
from cache.schema import RowTable
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


class PassFolder:
    """The work folder of one pass, held by one process; use it as a context manager.

    On entry the folder is created or taken over: leftovers of killed writes go, finished shards
    are hashed again.
    A shard counts from the moment `write` returns. `publish` turns all shards into the store.

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
        On entry, if the unfinished pass has other settings.
    StoreCorruptError
        On entry, if the recorded plan is damaged.
    DiskFullError
        On entry, if the disk cannot hold the rest of the pass.
    """

    def __init__(self, target: Path, plan: Plan, *, resume: bool = True, command: Sequence[str] = ()) -> None:
        self.folder = WorkFolder(Path(target))
        self.plan = plan
        self.notes: list[str] = []
        self._resume, self._command = resume, command
        self._shards: dict[str, dict[_Range, Path]] = {}
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
        self._lock.release()

    def done(self, modality: str) -> frozenset[_Range]:
        """Return the finished row ranges (start, stop) of a modality."""
        self.plan.of_modality(modality)
        return frozenset(self._shards[modality])

    def missing(self, modality: str) -> list[_Range]:
        """Return the row ranges (start, stop) still to be embedded, in row order."""
        done = self.done(modality)
        return [rows for rows in self.plan.ranges if rows not in done]

    def resumed(self, modality: str) -> int:
        """Return how many rows an earlier pass had finished."""
        self.plan.of_modality(modality)
        return self._resumed[modality]

    def write(self, modality: str, start: int, stop: int, data: ShardData) -> None:
        """Store one range; when this returns, it survives a kill and a power cut.

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
            If the disk is full; earlier ranges stay.
        """
        if (start, stop) not in self.missing(modality):
            raise ValueError(
                f"Rows {start} to {stop} of {modality!r} are no missing range; use PassFolder.missing."
            )
        content = encode(checked(data, self.plan.of_modality(modality), start, stop))
        shard = Shard(start, stop, modality_tag(self.plan.fingerprint, modality), sha256_hex(content)[:16])
        path = self.folder.shards / shard.name
        write_file(path, content)
        self._shards[modality][start, stop] = path

    def read(self, modality: str, start: int, stop: int) -> ShardData:
        """Return a finished range.

        Raises
        ------
        ValueError
            If the range is not finished.
        StoreCorruptError
            If its file changed since it was written.
        """
        path = self._shards[modality].get((start, stop)) if modality in self._shards else None
        if path is None:
            raise ValueError(f"Rows {start} to {stop} of {modality!r} are not finished; use PassFolder.done.")
        content = path.read_bytes()
        if not path.stem.endswith(sha256_hex(content)[:16]):
            raise StoreCorruptError(f"The shard '{path}' changed after it was written. Start the pass again.")
        return decode(content, self.plan.of_modality(modality), path)

    def publish(self, table: RowTable, meta: Mapping[str, JSON]) -> Path:
        """Write the store, verify it through the public reader, give it its name and remove the work folder.

        Memory stays at one shard, however large the store. Equal inputs give equal bytes.

        Parameters
        ----------
        table : RowTable
            One row per planned row; its `status` is superseded by that of the shards.
        meta : mapping of JSON values
            ``class_names`` (list of str) and, with texts, ``encodings`` (list of str) are needed;
            ``fingerprint``, ``modalities``, ``spaces`` and ``identity`` are added. Times make bytes differ.

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
            publish_file(self.folder, self.plan, table, meta, self.read)
            clear(self.folder)
            remove_folder(self.folder)
        return self.folder.target

    def _refuse_missing(self) -> None:
        ranges = self.plan.ranges
        done = sum(stop - start for shards in self._shards.values() for start, stop in shards)
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
        recorded = read_plan(folder) if self._resume else None
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
            sync_folder(folder.root.parent)  # else a power cut could take the work folder and all its shards
            write_file(folder.plan, encode_plan(self.plan))

    def _scan(self) -> None:
        """Hash every shard that is there; only those that are what their name says count."""
        tags = {modality_tag(self.plan.fingerprint, modality): modality for modality in self.plan.modalities}
        self._shards = {modality: {} for modality in self.plan.modalities}
        for shard in list_shards(self.folder):
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
