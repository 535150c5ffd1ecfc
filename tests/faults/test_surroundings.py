"""Odd surroundings: a strict umask, a folder without permission, odd paths, a clock that goes back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cache import FeatureStore, PassFolder, verify_store
from extract import PassOptions, open_backbone, read_data_set, run_pass
from pipelines.cli import main
from tests.cache.builders import Toy, finish, part
from tests.faults.processes import ROOT
from tests.kit.data_sets import write_guid_data_set
from tests.kit.tiny_checkpoints import make_tiny_bert

NAMES = [
    "with space",
    "mit Umlauten äöü ß",
    "表情 😀",
    "'quote\" $HOME `x`",
    "-dash",
    "percent%20",
    "x" * 200,
]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bert(tmp_path_factory.mktemp("weights") / "tiny-bert")


@pytest.mark.parametrize("name", NAMES)
def test_commands_work_in_odd_folders(
    bert: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data, output and current folder may have any name that the system allows."""
    root = tmp_path / name
    root.mkdir()
    write_guid_data_set(root / name, 20, 2)
    monkeypatch.chdir(root)
    words = ["--data", f"./{name}", "--out", f"./{name}/out"]
    assert main(["extract", "--backbone", str(bert), *words]) == 0
    assert verify_store(root / name / "out" / "tiny-bert.h5").n_rows == 22


def test_a_path_that_is_too_long_is_one_clear_error(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name of 300 letters is the system's to refuse; the user reads one line with it."""
    write_guid_data_set(tmp_path / "set", 10, 0)
    out = str(tmp_path / ("y" * 300))
    assert main(["extract", "--backbone", str(bert), "--data", str(tmp_path / "set"), "--out", out]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("embedonce: File name too long: ")
    assert "yyy" in error


def test_pass_folder_obeys_the_umask(tmp_path: Path) -> None:
    """Under umask 077 nobody else reads a store, and under 022 everybody does."""
    toy = Toy(modalities=("text",))
    for mask, mode in ((0o077, 0o600), (0o022, 0o644)):
        before = os.umask(mask)
        try:
            path = toy.write(tmp_path / f"{mask}.h5")
        finally:
            os.umask(before)
        assert path.stat().st_mode & 0o777 == mode
        FeatureStore.open(path).close()


WITHOUT_PERMISSION = """
import os, sys
from pathlib import Path
from cache import PassFolder
from tests.cache.builders import Toy
toy, target = Toy(), Path(sys.argv[1])
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)  # root may do anything
try:
    PassFolder(target, toy.plan).__enter__()
except PermissionError as error:
    print(f"{error.strerror}: {error.filename}")
"""


def test_pass_folder_names_a_folder_without_permission(tmp_path: Path) -> None:
    """A user who may not write there is told where."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    for folder in (closed, *closed.parents):
        if folder.stat().st_uid == os.geteuid() and "pytest" in str(folder):
            folder.chmod(0o555 if folder == closed else 0o755)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PERMISSION, str(closed / "s.h5")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"Permission denied: {closed / 's.h5.work'}\n", done.stderr
    assert list(closed.iterdir()) == []


def test_passes_do_not_trust_the_clock(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes back ten years changes no byte, and a file from the future is verified."""
    write_guid_data_set(tmp_path / "set", 30, 0)
    data, backbone = read_data_set(tmp_path / "set"), open_backbone(str(bert))
    calm = run_pass(data, backbone, PassOptions(out=tmp_path / "calm", shard_rows=5))
    now, now_ns = time.time, time.time_ns
    jump = 10 * 365 * 86_400

    def step_back(moment: object) -> None:
        monkeypatch.setattr(time, "time", lambda: now() - jump)
        monkeypatch.setattr(time, "time_ns", lambda: now_ns() - jump * 10**9)

    options = PassOptions(out=tmp_path / "out", shard_rows=5)
    report = run_pass(data, backbone, options, on_progress=step_back)
    assert report.path.read_bytes() == calm.path.read_bytes()
    assert 0 <= report.seconds < 600
    content = bytearray(report.path.read_bytes())
    FeatureStore.open(report.path).close()
    content[-200] ^= 1
    future = time.time_ns() + 10**18
    report.path.write_bytes(content)
    os.utime(report.path, ns=(future, future))
    with pytest.raises(OSError, match="damaged"):
        FeatureStore.open(report.path)


def test_pass_folder_resumes_after_the_clock_went_back(tmp_path: Path) -> None:
    """Shards from the future count like any other: only names and hashes decide."""
    toy = Toy()
    target = tmp_path / "s.h5"
    with PassFolder(target, toy.plan) as folder:
        folder.write("text", 0, 4, part(toy.data["text"], 0, 4))
    future = time.time_ns() + 10**18
    for path in (tmp_path / "s.h5.work").rglob("*"):
        os.utime(path, ns=(future, future))
    with PassFolder(target, toy.plan) as folder:
        assert folder.done("text") == {(0, 4)}
        finish(folder, toy.data, toy.table)
    assert target.read_bytes() == toy.write(tmp_path / "calm.h5").read_bytes()
