"""Runs in a process of its own: a pass that dies by SIGKILL after every so many shards, until it is through.

Usage: kill_counted_passes.py FOLDER WEIGHTS DATA SHARD_ROWS EACH

Makes one store in FOLDER/calm without a kill, then another in FOLDER/out by as many processes as it takes.
Prints one JSON object: the shards that each killed process left, and how many vectors the last computed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import extract.assembly
from cache import PassFolder
from extract import PassOptions, open_backbone, read_data_set, run_pass
from tests.faults.processes import exit_code, fork


def die_after(shards: int) -> None:
    """Kill this process where it would write one more shard than these."""
    write, written = PassFolder.write, 0

    def counted(*given: object) -> None:
        nonlocal written
        if written == shards:
            os.kill(os.getpid(), signal.SIGKILL)
        write(*given)
        written += 1

    PassFolder.write = counted


def main() -> None:
    """See the top of the file."""
    root, weights, data = map(Path, sys.argv[1:4])
    shard_rows, each = int(sys.argv[4]), int(sys.argv[5])

    def run(out: str) -> int:
        """Return how many vectors were computed."""
        options = PassOptions(out=root / out, shard_rows=shard_rows)
        report = run_pass(read_data_set(data), open_backbone(str(weights)), options)
        return sum(counts.computed for counts in report.counts.values())

    def life() -> None:
        extract.assembly.HOLD_SECONDS = 0.0  # as if each shard had taken minutes
        die_after(each)
        (root / "computed").write_text(str(run("out")))

    run("calm")  # also loads every library, so that a fork costs milliseconds
    left: list[list[str]] = []
    while (code := exit_code(fork(life))) == -signal.SIGKILL:
        left.append(sorted(path.name for path in root.glob("out/*.work/shards/*.h5")))
        assert len(left) < 20, f"no process gets further: {left[-2:]}"
    assert code == 0, f"a process ended with {code}"
    found = {"left": left, "computed": int((root / "computed").read_text())}
    sys.stdout.write(f"{json.dumps(found)}\n")


if __name__ == "__main__":
    main()
