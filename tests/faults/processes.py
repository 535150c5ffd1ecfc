"""Children that die: forked from a process that has loaded everything, so that a death costs milliseconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def run_script(
    name: str, *args: str | Path, timeout: float = 3600, before: Sequence[str] = ()
) -> dict[str, Any]:
    """Run a script of this folder in a process of its own; return the JSON object that it prints last.

    `before` is a command that runs the command which follows it.

    pytest itself never forks: it has threads, and a fork takes over their locks but not the threads.
    """
    environment = {
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        # One thread each: libraries whose thread pools have started cannot be forked.
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
        "TOKENIZERS_PARALLELISM": "false",
    }
    done = subprocess.run(
        [*before, sys.executable, str(Path(__file__).with_name(name)), *map(str, args)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"exit {done.returncode}: {done.stderr[-3000:]}"
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def fork(work: Callable[[], object]) -> int:
    """Run `work` in a child that never returns (exit 0, or 3 and a traceback); return its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(3)
    return pid


def exit_code(pid: int) -> int:
    """Wait for a child; return its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def appender(path: Path) -> Callable[[str], None]:
    """Return a function that adds a line to a file with the system's own calls, wrapped or not."""
    opened, write, close = os.open, os.write, os.close

    def append(line: str) -> None:
        fd = opened(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        write(fd, f"{line}\n".encode())
        close(fd)

    return append
