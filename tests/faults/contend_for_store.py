"""Runs in a process of its own: eight processes that start the same pass at once, again and again.

Usage: contend_for_store.py FOLDER ROUNDS locked|unlocked

With "unlocked" every flock succeeds, as on network file systems that ignore it. Prints one JSON object.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path

from cache import PassFolder, StoreBusyError, verify_store
from cache.workfolder import WorkFolder
from tests.cache.builders import Toy, finish
from tests.faults.processes import exit_code, fork

N_PROCESSES = 8
PATIENCE = 120.0  # seconds
TOY = Toy(n=30, shard_rows=2, modalities=("text",))
FINISHED, BUSY, OTHER = 0, 10, 11


def contend(target: Path, gate: int) -> None:
    """Wait for the gate to open, run the pass, and exit with what came of it."""
    os.read(gate, 1)
    inside, refused = target.with_name("inside"), target.with_name("refused")
    try:
        with PassFolder(target, TOY.plan) as folder:
            if fcntl.flock is not _always:
                os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # fails if another one is inside
                wait_for(refused)
            finish_from_inside(folder, inside)
    except StoreBusyError as error:
        assert "is being written by process" in str(error)
        refused.touch()
        os._exit(BUSY)
    except OSError as error:
        # Without locks one takes the other's files away; that must be an error, never a wrong store.
        assert fcntl.flock is _always, error
        assert str(error)
        os._exit(OTHER)


def wait_for(path: Path) -> None:
    """Stay inside until another process has found the store taken, however few of them run at a time."""
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < deadline, "nobody was refused"
        time.sleep(0.001)


def finish_from_inside(folder: PassFolder, inside: Path) -> None:
    """Finish the pass; the mark goes before the lock does."""
    finish(folder, TOY.data, TOY.table)
    inside.unlink(missing_ok=True)


def _always(fd: int, operation: int) -> None:
    """A flock that never says no."""


def main() -> None:
    """See the top of the file."""
    root, rounds, mode = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    expected = TOY.write(root / "calm.h5").read_bytes()
    if mode == "unlocked":
        fcntl.flock = _always
    codes: Counter[int] = Counter()
    for number in range(rounds):
        target = root / f"{number}" / "s.h5"
        target.parent.mkdir()
        gate, opener = os.pipe()
        pids = [fork(lambda t=target, g=gate: contend(t, g)) for _ in range(N_PROCESSES)]
        os.write(opener, b"x" * N_PROCESSES)
        codes.update(ended := [exit_code(pid) for pid in pids])
        os.close(gate)
        os.close(opener)
        assert set(ended) <= {FINISHED, BUSY, OTHER}, ended
        if mode == "locked":
            assert FINISHED in ended, "nobody won"
        if target.exists():
            assert target.read_bytes() == expected, "two writers made a wrong store"
            verify_store(target)
        with PassFolder(target, TOY.plan) as folder:  # whatever they left, the next one gets through
            finish(folder, TOY.data, TOY.table)
        assert target.read_bytes() == expected
        assert not WorkFolder(target).root.exists()
    result = {"rounds": rounds, "finished": codes[FINISHED], "busy": codes[BUSY], "other": codes[OTHER]}
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main()
