"""Runs in a process of its own: a pass on a disk that fills up, or may only be read, or limits its files.

Usage: fill_disks.py FOLDER full LEFT...      FOLDER is a small file system of its own
       fill_disks.py FOLDER read-only         which this script makes read-only
       fill_disks.py FOLDER limit BYTES...

Prints one JSON object: for each case the error's type and text, and the shards done before it.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from cache import PassFolder, verify_store
from tests.cache.builders import Toy, finish, part

TOY = Toy(n=1000, shard_rows=100, width=256, modalities=("text",))


def attempt(target: Path, after_start: Callable[[], None]) -> dict[str, object]:
    """Run a pass that is going to fail; return its error and the shards that it was told are safe."""
    done = 0
    try:
        with PassFolder(target, TOY.plan) as folder:
            after_start()
            for start, stop in folder.missing("text"):
                folder.write("text", start, stop, part(TOY.data["text"], start, stop))
                done += 1
            finish(folder, TOY.data, TOY.table)
    except OSError as error:
        return {"error": type(error).__name__, "text": str(error), "done": done}
    return {"error": None, "done": done}


def go_on(target: Path, done: int, expected: bytes) -> None:
    """Finish the pass, which must have kept what was done."""
    with PassFolder(target, TOY.plan) as folder:
        assert target.exists() or len(folder.done("text")) >= done
        assert folder.notes == []
        finish(folder, TOY.data, TOY.table)
    assert target.read_bytes() == expected
    verify_store(target)
    assert not target.with_name(f"{target.name}.work").exists()
    target.unlink()


def leave(folder: Path, n_bytes: int) -> None:
    """Fill the disk with something else until so many bytes are free."""
    free = shutil.disk_usage(folder).free
    with (folder / "ballast").open("wb") as file:
        file.write(bytes(max(0, free - n_bytes)))


def full(folder: Path, left: list[int], expected: bytes) -> list[dict[str, object]]:
    """The disk fills up while the pass is running."""
    results = []
    for n_bytes in left:
        results.append(attempt(folder / "s.h5", lambda n=n_bytes: leave(folder, n)))
        (folder / "ballast").unlink()
        go_on(folder / "s.h5", int(str(results[-1]["done"])), expected)
    return results


def limit(folder: Path, limits: list[int], expected: bytes) -> list[dict[str, object]]:
    """No file may grow beyond a limit, as under ``ulimit -f``."""
    results = []
    for n_bytes in limits:
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.RLIM_INFINITY))
        results.append(attempt(folder / "s.h5", lambda: None))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        go_on(folder / "s.h5", int(str(results[-1]["done"])), expected)
    return results


def read_only(folder: Path, expected: bytes) -> list[dict[str, object]]:
    """The disk is read-only at the start of a pass, and then when one is to be continued."""

    def remount(how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)

    target = folder / "s.h5"
    remount("ro")
    results = [attempt(target, lambda: None)]
    remount("rw")
    with PassFolder(target, TOY.plan) as work:
        work.write("text", 0, 100, part(TOY.data["text"], 0, 100))
    remount("ro")
    results.append(attempt(target, lambda: None))
    remount("rw")
    go_on(target, 1, expected)
    return results


def main() -> None:
    """See the top of the file."""
    folder, mode, numbers = Path(sys.argv[1]), sys.argv[2], [int(word) for word in sys.argv[3:]]
    calm = folder / f"calm-{os.getpid()}.h5"
    expected = TOY.write(calm).read_bytes()
    calm.unlink()
    if mode == "full":
        results = full(folder, numbers, expected)
    elif mode == "limit":
        results = limit(folder, numbers, expected)
    else:
        results = read_only(folder, expected)
    sys.stdout.write(json.dumps({"size": len(expected), "results": results}))


if __name__ == "__main__":
    main()
