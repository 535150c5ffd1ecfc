"""The system refuses at call N, for every N: one clear error, finished work stays, the next pass goes on."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cache import DiskFullError, PassFolder, StoreError, verify_store
from tests.cache.builders import Toy, finish, part
from tests.faults.calls import fail_at

CODES = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES)
FULL = (errno.ENOSPC, errno.EDQUOT)
#: Least number of calls of each kind in a pass of two shards, so that no loop below can turn empty unnoticed.
LEAST = {
    "open": 9,
    "write": 20,
    "fsync": 10,
    "replace": 4,
    "mkdir": 2,
    "unlink": 4,
    "rmdir": 2,
    "ftruncate": 2,
}
TOY = Toy(n=5, shard_rows=3, modalities=("text",))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of an undisturbed pass."""
    return TOY.write(tmp_path_factory.mktemp("calm") / "s.h5").read_bytes()


def run(target: Path) -> list[tuple[int, int]]:
    """Run the pass as far as it goes; return the shards that it was told are safe, and the error."""
    done: list[tuple[int, int]] = []
    try:
        with PassFolder(target, TOY.plan) as folder:
            for start, stop in folder.missing("text"):
                folder.write("text", start, stop, part(TOY.data["text"], start, stop))
                done.append((start, stop))
            finish(folder, TOY.data, TOY.table)
    except OSError as error:
        error.done = done
        raise
    return done


def fails_once(folder: Path, name: str, step: int, code: int, *, for_ever: bool, expected: bytes) -> bool:
    """Run a pass whose call number `step` of `name` fails, check it and finish it; whether there was one."""
    folder.mkdir()
    target = folder / "s.h5"
    case = f"{name} {step} {errno.errorcode[code]}{' for ever' if for_ever else ''}"
    with pytest.MonkeyPatch.context() as patch:
        calls = fail_at(step, name, code, for_ever=for_ever, setter=patch.setattr)
        done: list[tuple[int, int]] = []
        try:
            done = run(target)
        except OSError as error:
            done = error.done
            assert isinstance(error, DiskFullError) == (code in FULL), f"{case}: {error!r}"
            assert str(folder) in str(error), f"{case}: {error}"
    assert not target.exists() or target.read_bytes() == expected, case
    with PassFolder(target, TOY.plan) as work:
        assert work.notes == [], case
        assert target.exists() or work.done("text") >= set(done), case
        finish(work, TOY.data, TOY.table)
    assert target.read_bytes() == expected, case
    assert [item.name for item in folder.iterdir()] == ["s.h5"], case
    return calls() >= step


@pytest.mark.parametrize("name", list(LEAST))
def test_pass_folder_survives_a_refusal_at_any_call(tmp_path: Path, expected: bytes, name: str) -> None:
    """Full disk, quota, I/O error, read-only file system and refused access in turn, once or from then on."""
    step = 1
    while fails_once(
        tmp_path / f"{step}",
        name,
        step,
        CODES[step % len(CODES)],
        for_ever=step % 2 == 0,
        expected=expected,
    ):
        step += 1
    assert step > LEAST[name]


@pytest.mark.nightly
@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for ever"])
@pytest.mark.parametrize("code", CODES, ids=[errno.errorcode[code] for code in CODES])
@pytest.mark.parametrize("name", list(LEAST))
def test_pass_folder_survives_every_refusal_at_every_call(
    tmp_path: Path, expected: bytes, name: str, code: int, for_ever: bool
) -> None:
    """Every error at every call, once and from then on."""
    step = 1
    while fails_once(tmp_path / f"{step}", name, step, code, for_ever=for_ever, expected=expected):
        step += 1
    assert step > LEAST[name]


def test_pass_folder_handles_short_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that writes at most 7 bytes per call still gets whole files."""
    toy = Toy(n=3, modalities=("text",))
    expected = toy.write(tmp_path / "expected.h5").read_bytes()
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:7]))
    assert toy.write(tmp_path / "short.h5").read_bytes() == expected


def test_pass_folder_refuses_too_large_a_pass(tmp_path: Path) -> None:
    """A pass that cannot fit on the disk is refused before it starts, and leaves nothing."""
    toy = Toy()
    plan = type(toy.plan)("toy", 10**12, 10**6, toy.plan.spaces, toy.plan.modalities, {})
    with pytest.raises(DiskFullError, match=r"'s\.h5' needs [\d,]+ bytes, [\d,]+ are free") as caught:
        PassFolder(tmp_path / "s.h5", plan).__enter__()
    assert caught.value.need > caught.value.free > 0
    assert list(tmp_path.iterdir()) == []


def test_publish_keeps_old_store_when_the_new_one_fails(tmp_path: Path) -> None:
    """A reader of the old file never notices a publish that ran out of disk."""
    toy = Toy(modalities=("text",))
    path = toy.write(tmp_path / "s.h5")
    before = path.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        fail_at(8, "write", errno.ENOSPC, setter=patch.setattr)
        with pytest.raises(StoreError, match="is full"):
            toy.write(path)
    assert path.read_bytes() == before
    assert verify_store(path).n_rows == 10
