"""Power loss: whatever a disk has kept of what was not synced, there is the old state or the new one."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cache import FeatureStore, PassFolder, StoreError
from tests.cache.builders import Toy, finish, part
from tests.faults.disk_model import Call, Disk, Recorder, crashes, put_tree, read_tree

TOY = Toy(n=5, shard_rows=3, modalities=("text",))
OLD = Toy(n=4, modalities=("text",))


class LostError(AssertionError):
    """What a power cut must not do has happened."""


def record(root: Path, *, with_old_store: bool = False, held: int = 0) -> Recorder:
    """Record a pass from its first call to its last, and what it was told is safe; `held` shards wait."""
    folder = root / "disk"
    folder.mkdir()
    if with_old_store:
        OLD.write(folder / "s.h5")
    with Recorder(folder).recording() as recorder, PassFolder(folder / "s.h5", TOY.plan) as work:
        ranges = work.missing("text")
        for number, rows in enumerate(ranges, start=1):
            put = work.hold if number <= held else work.write
            put("text", *rows, part(TOY.data["text"], *rows))
            for start, stop in ranges[:number] if number > held else []:
                recorder.note(f"{start} {stop}")
        finish(work, TOY.data, TOY.table)
        recorder.note("published")
    assert Disk.after(recorder.calls).tree() == read_tree(folder), "the recorder has missed a call"
    return recorder


def contents(root: Path) -> tuple[bytes, bytes]:
    """Return the bytes of the old store and of the new one."""
    return OLD.write(root / "old.h5").read_bytes(), TOY.write(root / "new.h5").read_bytes()


def check(folder: Path, notes: list[str], old: bytes | None, new: bytes) -> None:
    """Check one state of a disk, then finish the pass on it.

    Raises
    ------
    LostError
    StoreError
        If the next pass refuses what it finds.
    """
    target = folder / "s.h5"
    found = target.read_bytes() if target.exists() else None
    if found not in (old, new):
        raise LostError("the store is neither the old one nor the new one")
    if "published" in notes and found != new:
        raise LostError("the published store is gone")
    if found is not None:
        FeatureStore.open(target).close()
    with PassFolder(target, TOY.plan) as work:
        done = {f"{start} {stop}" for start, stop in work.done("text")}
        lost = {note for note in notes if note != "published"} - done
        if lost and found != new:
            raise LostError(f"the shards {sorted(lost)} are gone")
        finish(work, TOY.data, TOY.table)
    if target.read_bytes() != new:
        raise LostError("the next pass makes other bytes")
    left = {path.name for path in folder.iterdir()} - {"s.h5"}
    if left:
        raise LostError(f"{sorted(left)} are never removed")


def replay(
    calls: list[Call],
    root: Path,
    old: bytes | None,
    new: bytes,
    *,
    n_random: int,
    n_before: int = 0,
    known: set[str] | None = None,
) -> int:
    """Check every state once; return how many different ones there were.

    States in `known` have passed and are not checked again; those that pass here are added to them.
    """
    passed = set() if known is None else known
    seen: set[str] = set()
    for notes, arrived in crashes(calls, random.Random(0), n_random=n_random, n_before=n_before):
        tree = Disk.after(arrived).tree()
        state = repr((notes, tree))
        seen.add(state)
        if state in passed:
            continue
        folder = root / "replayed"
        shutil.rmtree(folder, ignore_errors=True)
        put_tree(tree, folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", lambda _: None)  # the disk of the replay keeps its power
            check(folder, notes, old, new)
        passed.add(state)
    return len(seen)


@pytest.mark.parametrize(("with_old_store", "held"), [(False, 1), (True, 0), (True, 2)])
def test_pass_folder_survives_power_loss(tmp_path: Path, with_old_store: bool, held: int) -> None:
    """At every call, with any part of the unsynced writes kept: old or new store, every promised shard."""
    old, new = contents(tmp_path)
    recorder = record(tmp_path, with_old_store=with_old_store, held=held)
    before = old if with_old_store else None
    n_states = replay(recorder.calls, tmp_path, before, new, n_random=100, n_before=recorder.n_before)
    assert n_states > 100, n_states


@pytest.mark.nightly
@pytest.mark.parametrize("held", [0, 1, 2], ids=["written", "half held", "held"])
@pytest.mark.parametrize("with_old_store", [False, True], ids=["new", "replacing"])
def test_pass_folder_survives_power_loss_nightly(tmp_path: Path, with_old_store: bool, held: int) -> None:
    """The same with 5,000 random parts."""
    old, new = contents(tmp_path)
    recorder = record(tmp_path, with_old_store=with_old_store, held=held)
    before = old if with_old_store else None
    n_states = replay(recorder.calls, tmp_path, before, new, n_random=5000, n_before=recorder.n_before)
    assert n_states > 1500, n_states


MUTANTS: dict[str, Callable[[Call, set[int]], bool]] = {
    "no fsync": lambda _, __: True,
    "no fsync of files": lambda call, folders: call.node not in folders,
    "no fsync of folders": lambda call, folders: call.node in folders,
}


@pytest.mark.parametrize("held", [0, 2], ids=["written", "held"])
@pytest.mark.parametrize("mutant", list(MUTANTS))
def test_power_loss_is_noticed_without_fsync(tmp_path: Path, mutant: str, held: int) -> None:
    """The test above can fail: without the fsyncs of files, or of folders, or any, it does."""
    old, new = contents(tmp_path)
    recorder = record(tmp_path, with_old_store=True, held=held)
    before, calls = recorder.calls[: recorder.n_before], recorder.calls[recorder.n_before :]
    folders = Disk.after(recorder.calls).folders
    weak = [call for call in calls if call.kind != "fsync" or not MUTANTS[mutant](call, folders)]
    with pytest.raises((LostError, StoreError), match=r"gone|neither|damaged"):
        replay(before + weak, tmp_path, old, new, n_random=100, n_before=len(before))


@pytest.mark.parametrize(
    ("held", "fsyncs", "tidying"), [(1, 10, 2), (2, 2, 0), pytest.param(0, 11, 2, marks=pytest.mark.nightly)]
)
def test_every_fsync_is_needed(tmp_path: Path, held: int, fsyncs: int, tidying: int) -> None:
    """Each fsync of a pass, left out alone, loses something in some power cut; the last may only tidy up."""
    _, new = contents(tmp_path)
    calls = record(tmp_path, held=held).calls
    places = [i for i, call in enumerate(calls) if call.kind == "fsync"]
    assert len(places) == fsyncs
    needless, known = [], set[str]()
    for place in places:
        try:
            replay(calls[:place] + calls[place + 1 :], tmp_path, None, new, n_random=100, known=known)
            needless.append(places.index(place))
        except (LostError, StoreError):
            continue
    assert needless == list(range(fsyncs - tidying, fsyncs))
