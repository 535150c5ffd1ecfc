"""Fixtures of the hostile inputs: a good store to spoil, and a trap that no reader may open."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cache.conftest import store_path, toy, toy_bytes  # noqa: F401 - fixtures of this folder


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[Path]:
    """A pipe without a writer: whoever opens it hangs, and the alarm ends the test."""
    path = tmp_path / "trap"
    os.mkfifo(path)

    def ring(number: int, frame: object) -> None:
        raise TimeoutError("something opened the trap")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 20)
    yield path
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
