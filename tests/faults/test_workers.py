"""Processes that embed for a device: when one dies, or when the planning process does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from extract import PassOptions, WorkerDiedError, open_backbone, read_data_set, run_pass
from tests.faults.processes import ROOT
from tests.kit.data_sets import write_guid_data_set
from tests.kit.tiny_checkpoints import make_tiny_bert

PASS = """
import sys
from pathlib import Path
from extract import PassOptions, open_backbone, read_data_set, run_pass
if __name__ == "__main__":
    data, weights, out = map(Path, sys.argv[1:])
    options = PassOptions(out=out, shard_rows=2, device="cpu,cpu")
    run_pass(read_data_set(data), open_backbone(str(weights)), options)
"""


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bert(tmp_path_factory.mktemp("weights") / "tiny-bert")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_guid_data_set(tmp_path / "set", 90, 0)
    return tmp_path / "set"


def workers_of(pid: int) -> list[int]:
    """Return the children of a process that compute (multiprocessing starts another one, to tidy up)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            is_worker = b"spawn_main" in (folder / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid and is_worker:
            found.append(int(folder.name))
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def start(folder: Path, data: Path, bert: Path, out: Path) -> subprocess.Popen[str]:
    """Start a pass on two processes and wait until both are there."""
    script = folder / "run.py"
    script.write_text(PASS, encoding="utf-8")
    child = subprocess.Popen(
        [sys.executable, str(script), str(data), str(bert), str(out)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 300
    while len(workers_of(child.pid)) < 2 and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return child


def calm_bytes(data: Path, bert: Path, out: Path) -> bytes:
    options = PassOptions(out=out, shard_rows=2)
    return run_pass(read_data_set(data), open_backbone(str(bert)), options).path.read_bytes()


def test_workers_end_with_a_killed_pass(data: Path, bert: Path, tmp_path: Path) -> None:
    """Kill -9 of the planning process frees its devices at once, and the next pass goes on."""
    out = tmp_path / "out"
    child = start(tmp_path, data, bert, out)
    workers = workers_of(child.pid)
    child.kill()
    child.communicate()
    assert len(workers) == 2
    deadline = time.monotonic() + 300  # a worker that is still importing ends when that is done
    while any(map(is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, workers))
    assert calm_bytes(data, bert, out) == calm_bytes(data, bert, tmp_path / "calm")


@pytest.mark.nightly
@pytest.mark.parametrize("delay", [0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
def test_a_worker_that_dies_at_any_time_is_one_error(
    data: Path, bert: Path, tmp_path: Path, delay: float
) -> None:
    """Kill -9 of a worker while it imports, loads, computes: an error that says so, or it had finished."""
    out = tmp_path / "out"
    child = start(tmp_path, data, bert, out)
    time.sleep(delay)
    for pid in workers_of(child.pid)[:1]:
        os.kill(pid, signal.SIGKILL)
    error = child.communicate(timeout=300)[1]
    if child.returncode:
        assert f"{WorkerDiedError.__name__}: The process that embeds on 'cpu' has died" in error
        assert not list(out.glob("*.h5"))
    assert calm_bytes(data, bert, out) == calm_bytes(data, bert, tmp_path / "calm")
