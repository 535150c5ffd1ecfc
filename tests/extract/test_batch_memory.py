"""Batch memory: probing finds the best size that fits, and a second pass need not probe."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from extract.batch_memory import BatchKey, BatchMemory, default_file, probe_batch_size

KEY = BatchKey("ab" * 32, "image", "fp16", "NVIDIA A100 40536 MiB", None)

# A real network under a real limit: the address space of a process of its own. Seconds are those of a device
# that gets ever better with size, so that only memory ends the probe.
UNDER_A_LIMIT = """
import resource, sys
from pathlib import Path
import numpy as np, torch
from extract.batch_memory import probe_batch_size
from extract.registry import open_backbone
torch.set_num_threads(1)
tower = open_backbone(sys.argv[1]).open_tower("image")
pixels = np.zeros((3, 96, 96), dtype=np.float32)
tower._embed([pixels])
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
tried = []
def run(n):
    tried.append(n)
    tower._embed([pixels] * n)
    return n ** 0.5
best = probe_batch_size(run, start=int(sys.argv[3]), limit=4096)
print(best, max(tried), flush=True)
"""


def rates(table: dict[int, float], tried: list[int]) -> Callable[[int], float]:
    """Return a `run` whose throughput comes from a table; sizes that are not in it are out of memory."""

    def run(n_rows: int) -> float:
        tried.append(n_rows)
        if n_rows not in table:
            raise MemoryError
        return n_rows / table[n_rows]

    return run


@pytest.mark.parametrize(
    ("table", "start", "limit", "best"),
    [
        ({8: 100, 16: 150, 32: 190, 64: 195, 128: 400}, 8, 4096, 32),  # 64 gains less than 5 %
        ({8: 100, 16: 150, 32: 190}, 8, 4096, 32),  # 64 does not fit
        ({8: 100, 16: 150, 32: 190, 64: 300}, 8, 40, 32),  # the limit
        ({8: 100, 16: 90}, 8, 4096, 8),  # slower
        ({1: 10, 2: 18, 4: 30, 8: 60}, 32, 4096, 8),  # the start does not fit
        ({1: 10}, 64, 4096, 1),
        ({4: 10}, 64, 4, 4),  # the start is above the limit
    ],
)
def test_probe_batch_size_stops_where_it_should(
    table: dict[int, float], start: int, limit: int, best: int
) -> None:
    """It doubles while a batch fits and is worth it; it goes down if the first does not fit."""
    tried: list[int] = []
    assert probe_batch_size(rates(table, tried), start=start, limit=limit) == best
    assert len(tried) <= 2 * 10


def test_probe_batch_size_raises_when_nothing_fits_and_when_something_else_is_wrong() -> None:
    """Not even one row, or an error that is not about memory, is the caller's to report."""
    with pytest.raises(MemoryError):
        probe_batch_size(rates({}, []), start=8, limit=64)

    def broken(n_rows: int) -> float:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        probe_batch_size(broken, start=8, limit=64)


@pytest.mark.skipif(sys.platform != "linux", reason="address space limits are those of Linux")
@pytest.mark.parametrize("start", [4, 256])
def test_probe_batch_size_survives_a_real_memory_limit(tmp_path: Path, start: int) -> None:
    """A real network runs out of real memory; the answer fits, and twice as much was tried and did not."""
    from tests.kit.tiny_checkpoints import make_resnet18

    folder = make_resnet18(tmp_path)
    command = [sys.executable, "-c", UNDER_A_LIMIT, str(folder), str(120_000_000), str(start)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    best, largest = map(int, done.stdout.split())
    assert 4 <= best <= 64
    assert largest >= 2 * best


def test_batch_memory_remembers_across_processes(tmp_path: Path) -> None:
    """A size is found again by its key alone; any change of the key is another entry."""
    file = tmp_path / "new" / "batch_sizes.json"
    BatchMemory(file).remember(KEY, 128)
    others = [
        replace(KEY, backbone="cd" * 32),
        replace(KEY, modality="text"),
        replace(KEY, precision="bf16"),
        replace(KEY, device="NVIDIA A100 81920 MiB"),
        replace(KEY, max_memory=10**9),
    ]
    for size, key in enumerate(others, start=1):
        assert BatchMemory(file).remembered(key) is None
        BatchMemory(file).remember(key, size)
    memory = BatchMemory(file)
    assert [memory.remembered(key) for key in (KEY, *others)] == [128, 1, 2, 3, 4, 5]
    memory.remember(KEY, 64)
    assert BatchMemory(file).remembered(KEY) == 64
    assert memory.notes == []


def test_batch_memory_forgets_the_oldest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file does not grow for ever, and an entry that was renewed is young again."""
    monkeypatch.setattr("extract.batch_memory._MOST_ENTRIES", 2)
    memory = BatchMemory(tmp_path / "sizes.json")
    keys = [replace(KEY, max_memory=n) for n in (1, 2, 3)]
    for key in (keys[0], keys[1], keys[0], keys[2]):
        memory.remember(key, 7)
    assert [memory.remembered(key) for key in keys] == [7, None, 7]


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"format": 2, "batch_sizes": {}}', '{"format": 1, "batch_sizes": {"a": -1}}', "\x00"]
)
def test_batch_memory_ignores_a_file_that_is_not_its_own(tmp_path: Path, text: str) -> None:
    """Damage costs a probe and a note, never the pass; the next size to remember mends the file."""
    file = tmp_path / "sizes.json"
    file.write_text(text)
    memory = BatchMemory(file)
    assert memory.remembered(KEY) is None
    assert memory.remembered(KEY) is None
    assert len(memory.notes) == 1 and str(file) in memory.notes[0] and "probed again" in memory.notes[0]
    memory.remember(KEY, 32)
    assert BatchMemory(file).remembered(KEY) == 32


def test_batch_memory_survives_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """Where no file can be made, a note says that the next pass probes again."""
    (tmp_path / "file").write_text("")
    memory = BatchMemory(tmp_path / "file" / "sizes.json")
    memory.remember(KEY, 32)
    assert any("could not be kept" in note for note in memory.notes)


@pytest.mark.parametrize("value", ["", "relative/folder"])
def test_default_file_follows_the_user(value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """XDG_CACHE_HOME is honoured where it is an absolute path, as its specification says."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert default_file() == tmp_path / ".cache" / "embedonce" / "batch_sizes.json"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert default_file() == tmp_path / "x" / "embedonce" / "batch_sizes.json"
    assert os.environ["HOME"] == str(tmp_path)
