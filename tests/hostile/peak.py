"""The most memory that a process has had at once."""

from __future__ import annotations

import re
from pathlib import Path


def peak_bytes() -> int:
    """Return this process's own peak; ``ru_maxrss`` begins with that of the process that started it."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert found, status
    return int(found[1]) << 10
