"""Processor time of other processes: it does not count how long a busy machine let them wait."""

from __future__ import annotations

import resource


def children_seconds() -> float:
    """Return the processor seconds of all children that have been waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
