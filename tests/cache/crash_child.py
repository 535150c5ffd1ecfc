"""Runs in a process of its own: passes that die by SIGKILL at a chosen or random moment.

Forking here, and not in pytest, keeps a step at a few milliseconds. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from cache import FeatureStore, PassFolder, verify_store
from tests.cache.builders import Toy, finish, part

STEPS = ("write", "fsync", "replace", "unlink", "rmdir", "ftruncate")


def fork(work: Callable[[], None]) -> int:
    """Run `work` in a child that never returns; return its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(3)
    return pid


def run_pass(target: Path, toy: Toy, acks: Path, append: Callable[[Path, str], None]) -> None:
    """Run the pass to its end and note every range that was acknowledged."""
    with PassFolder(target, toy.plan) as folder:
        for modality in toy.plan.modalities:
            for start, stop in folder.missing(modality):
                folder.write(modality, start, stop, part(toy.data[modality], start, stop))
                append(acks, f"{modality} {start} {stop}")
        finish(folder, toy.data, toy.table)


def appender() -> Callable[[Path, str], None]:
    """Return a function that adds a line with the system's own write, patched or not."""
    write = os.write

    def append(path: Path, line: str) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        write(fd, f"{line}\n".encode())
        os.close(fd)

    return append


def die_at(step: int) -> None:
    """Replace the calls of our protocol by ones that kill this process at call `step`.

    A write dies half-way, the others just before they happen; just after is just before the next one.
    """
    count = 0

    def wrap(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            nonlocal count
            count += 1
            if count == step:
                if name == "write":
                    real(args[0], memoryview(args[1])[: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **options)

        return call

    for name in STEPS:
        setattr(os, name, wrap(name, getattr(os, name)))


def check_after_kill(target: Path, toy: Toy, acks: Path, expected: bytes) -> None:
    """A killed pass left the old state or the new one, lost nothing acknowledged, and can be finished."""
    if target.exists():
        assert target.read_bytes() == expected, "a partial store is visible"
    lines = acks.read_text().split("\n")[:-1] if acks.exists() else []
    with PassFolder(target, toy.plan) as folder:
        assert folder.notes == [], folder.notes
        if not target.exists():
            for modality, start, stop in (line.split() for line in lines):
                assert (int(start), int(stop)) in folder.done(modality), "an acknowledged shard is lost"
        finish(folder, toy.data, toy.table)
    assert target.read_bytes() == expected, "a resumed pass gives other bytes"
    assert sorted(item.name for item in target.parent.iterdir()) in (["acks", "s.h5"], ["s.h5"])


def every_step(root: Path) -> dict[str, int]:
    """Kill at call 1, 2, 3, ... until the pass gets through."""
    toy = Toy(n=5, shard_rows=3, modalities=("text",))
    expected = toy.write(root / "expected.h5").read_bytes()
    step = 0
    while True:
        step += 1
        folder = root / f"{step}"
        folder.mkdir()
        target, acks = folder / "s.h5", folder / "acks"

        def work(step: int = step, target: Path = target, acks: Path = acks) -> None:
            append = appender()
            die_at(step)
            run_pass(target, toy, acks, append)

        code = os.waitstatus_to_exitcode(os.waitpid(fork(work), 0)[1])
        if code == 0:
            return {"kills": step - 1}
        assert code == -signal.SIGKILL, f"step {step} ended with {code}"
        check_after_kill(target, toy, acks, expected)


def random_kills(root: Path, kills: int) -> dict[str, int]:
    """Kill a pass of many shards at random moments until it was killed often enough, then let it finish."""
    toy = Toy(n=120, shard_rows=2, modalities=("text",))
    expected = toy.write(root / "expected.h5").read_bytes()
    target, acks = root / "run" / "s.h5", root / "run" / "acks"
    target.parent.mkdir()
    rng = random.Random(0)
    done = restarts = 0
    while done < kills:
        pid = fork(lambda: run_pass(target, toy, acks, appender()))
        time.sleep(rng.uniform(0.002, 0.06))
        os.kill(pid, signal.SIGKILL)
        done += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        if target.exists() and done < kills:
            restarts += 1
            verify_store(target)
            target.unlink()
            acks.unlink()
    check_after_kill(target, toy, acks, expected)
    with FeatureStore.open(target) as store:
        return {"kills": done, "rows": store.n_rows, "restarts": restarts}


def main() -> None:
    """Usage: crash_child.py FOLDER every|random."""
    root, mode = Path(sys.argv[1]), sys.argv[2]
    result = random_kills(root, 10) if mode == "random" else every_step(root)
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main()
