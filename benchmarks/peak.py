"""The memory of this process: the most that it has had at once, and what it holds now."""

from __future__ import annotations

import re
from pathlib import Path


def peak_bytes() -> int:
    """Return this process's own peak; ``ru_maxrss`` begins with that of the process that started it."""
    return _status_bytes("VmHWM")


def resident_bytes() -> int:
    """Return what this process holds now."""
    return _status_bytes("VmRSS")


def _status_bytes(name: str) -> int:
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found, status
    return int(found[1]) << 10
