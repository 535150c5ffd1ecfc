"""The lock of a work folder while another process finishes, and folders that are links."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import RunError
from pipelines.runs import RunFolder
from pipelines.work_lock import LOCK, work_lock


def _meanwhile(monkeypatch: pytest.MonkeyPatch, moment: str, happens: Callable[[], None]) -> None:
    """Let something happen once, just before or just after a lock file is opened."""
    plain, left = os.open, [happens]

    def opened(path: Any, *arguments: Any, **options: Any) -> int:
        if os.path.basename(path) != LOCK or not left:  # noqa: PTH119 - may be bytes or a str
            return plain(path, *arguments, **options)
        happen = left.pop()
        if moment == "before":
            happen()
            return plain(path, *arguments, **options)
        handle = plain(path, *arguments, **options)
        happen()
        return handle

    monkeypatch.setattr(os, "open", opened)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_work_lock_holds_the_folder_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Where its last holder removes the folder just then, the lock is of a new one, and of one process."""
    work = tmp_path / "r.work"
    _meanwhile(monkeypatch, moment, lambda: shutil.rmtree(work))
    with work_lock(work) as is_free:
        assert is_free
        assert (work / LOCK).is_file()
        with work_lock(work) as is_also_free:
            assert not is_also_free


@pytest.mark.parametrize("moment", ["before", "after"])
def test_run_that_is_finished_meanwhile_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """A process that waits at the lock of a run that another one publishes says so, and leaves nothing."""
    folder = RunFolder(tmp_path, "r", {"command": "train"})

    def finish() -> None:
        folder.path.mkdir()
        (folder.path / "metrics.json").write_text("{}", encoding="utf-8")
        shutil.rmtree(folder.work)

    _meanwhile(monkeypatch, moment, finish)
    with pytest.raises(RunError, match="was finished by another process just now"), folder.working():
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


@pytest.mark.parametrize("name", ["", "trials", "result"])
def test_run_writes_through_no_link(tmp_path: Path, name: str) -> None:
    """A work folder that is a link, or has one in it, is refused before anything is written behind it."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder = RunFolder(tmp_path / "runs", "r", {"command": "train"})
    link = folder.work / name
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    with pytest.raises(OSError, match="nothing is written through links"), folder.working():
        pass
    assert list(elsewhere.iterdir()) == []
