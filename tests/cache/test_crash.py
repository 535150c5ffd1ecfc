"""Kills, full disks and damaged bytes: what is acknowledged stays, and nothing wrong is ever read."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cache import DiskFullError, PassFolder, StoreError, verify_store
from tests.cache.builders import Toy, finish, part

ROOT = Path(__file__).parents[2]


def run_child(script: str, *args: str) -> dict:
    """Run a script of this folder; return the JSON object it prints."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name(script)), *args],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, f"exit {done.returncode}: {done.stderr[-2000:]}"
    return json.loads(done.stdout)


def test_pass_folder_survives_kill_at_every_step(tmp_path: Path) -> None:
    """A kill at any call, and inside any write, loses nothing acknowledged and shows no partial store."""
    assert run_child("crash_child.py", str(tmp_path), "every")["kills"] > 40


def test_pass_folder_survives_random_kills(tmp_path: Path) -> None:
    """Ten kills at random moments lose no acknowledged shard; the final bytes are those of a clean run."""
    result = run_child("crash_child.py", str(tmp_path), "random")
    assert (result["kills"], result["rows"]) == (10, 120)


def test_feature_store_never_reads_damaged_bytes(tmp_path: Path) -> None:
    """Each of 300 flipped bits and 50 cuts is refused with a named error, or changes no value."""
    toy = Toy(n=7, views=1, modalities=("text",))
    result = run_child("damage_child.py", str(toy.write(tmp_path / "s.h5")), "300", "50")
    assert result["wrong"] == []
    assert result["flip refused"] >= 75
    assert result["flip refused"] + result.get("flip harmless", 0) == 300
    assert result["cut refused"] == 50


@pytest.mark.nightly
def test_feature_store_never_reads_damaged_bytes_nightly(tmp_path: Path) -> None:
    """The same with 5,000 flipped bits and 500 cuts."""
    toy = Toy(n=7, views=1)
    result = run_child("damage_child.py", str(toy.write(tmp_path / "s.h5")), "5000", "500")
    assert result["wrong"] == []
    assert result["cut refused"] == 500


def fail_at(monkeypatch: pytest.MonkeyPatch, name: str, step: int, code: int) -> Callable[[], int]:
    """Let call number `step` of ``os.<name>`` fail; return a function that says how many calls there were."""
    real, calls = getattr(os, name), 0

    def call(*args: object) -> object:
        nonlocal calls
        calls += 1
        if calls == step:
            raise OSError(code, os.strerror(code))
        return real(*args)

    monkeypatch.setattr(os, name, call)
    return lambda: calls


@pytest.mark.parametrize(
    ("call", "code"), [("write", errno.ENOSPC), ("fsync", errno.EDQUOT), ("fsync", errno.EIO)]
)
def test_pass_folder_reports_full_disk_at_any_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    """A full disk at any write or fsync is one clear error, and finished shards stay."""
    toy = Toy(n=5, shard_rows=3, modalities=("text",))
    expected = toy.write(tmp_path / "expected.h5").read_bytes()
    step, seen = 0, 0
    while True:
        step += 1
        target = tmp_path / str(step) / "s.h5"
        target.parent.mkdir()
        done: list[tuple[int, int]] = []
        with monkeypatch.context() as patch:
            calls = fail_at(patch, call, step, code)
            try:
                with PassFolder(target, toy.plan) as folder:
                    for start, stop in folder.missing("text"):
                        folder.write("text", start, stop, part(toy.data["text"], start, stop))
                        done.append((start, stop))
                    finish(folder, toy.data, toy.table)
            except OSError as error:
                seen += 1
                assert isinstance(error, DiskFullError) == (code != errno.EIO), repr(error)
                assert code == errno.EIO or "Free some space" in str(error)
            if calls() < step:
                break
        if target.exists():
            assert target.read_bytes() == expected
        with PassFolder(target, toy.plan) as folder:
            assert target.exists() or folder.done("text") >= set(done)
            if step % 4:  # going on costs more than failing, and every fourth fault shows that it works
                continue
            finish(folder, toy.data, toy.table)
        assert target.read_bytes() == expected
        assert not target.with_name("s.h5.work").exists()
    assert seen >= (9 if call == "fsync" else 20)


def test_pass_folder_handles_short_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that writes at most 7 bytes per call still gets whole files."""
    toy = Toy(n=3, modalities=("text",))
    expected = toy.write(tmp_path / "expected.h5").read_bytes()
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:7]))
    assert toy.write(tmp_path / "short.h5").read_bytes() == expected


def test_pass_folder_syncs_around_every_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is on the disk before it gets its name, and the folder is before the call returns."""
    events: list[tuple[str, int]] = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(fd: int) -> None:
        events.append(("fsync", os.fstat(fd).st_ino))
        fsync(fd)

    def record_replace(source: Path, target: Path) -> None:
        events.append(("replace", Path(source).stat().st_ino))
        replace(source, target)
        events.append(("folder", Path(target).parent.stat().st_ino))

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    Toy().write(tmp_path / "s.h5")
    renames = [i for i, (kind, _) in enumerate(events) if kind == "replace"]
    assert len(renames) == 1 + 6 + 1  # plan, three ranges of two modalities, store
    for i in renames:
        assert ("fsync", events[i][1]) in events[:i]
        assert events[i + 2] == ("fsync", events[i + 1][1])


def test_pass_folder_refuses_too_large_a_pass(tmp_path: Path) -> None:
    """A pass that cannot fit on the disk is refused before it starts, and leaves nothing."""
    toy = Toy()
    plan = type(toy.plan)("toy", 10**12, 10**6, toy.plan.spaces, toy.plan.modalities, {})
    with pytest.raises(DiskFullError, match=r"'s\.h5' needs [\d,]+ bytes, [\d,]+ are free") as caught:
        PassFolder(tmp_path / "s.h5", plan).__enter__()
    assert caught.value.need > caught.value.free > 0
    assert list(tmp_path.iterdir()) == []


def test_publish_keeps_old_store_when_the_new_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader of the old file never notices a publish that ran out of disk."""
    toy = Toy(modalities=("text",))
    path = toy.write(tmp_path / "s.h5")
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        fail_at(patch, "write", 8, errno.ENOSPC)
        with pytest.raises(StoreError, match="is full"):
            toy.write(path)
    assert path.read_bytes() == before
    assert verify_store(path).n_rows == 10
