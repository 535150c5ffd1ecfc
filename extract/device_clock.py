"""The clock of a device that several threads feed: how long it worked, and how long it stood still."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Spent:
    """What one batch adds to the times of its device.

    Attributes
    ----------
    waiting : float
        Seconds before its forward in which the device had nothing to do and the batch was not ready.
    forward : float
        Seconds until the end of its forward in which the device worked and that no other batch has counted.
    """

    waiting: float = 0.0
    forward: float = 0.0


class DeviceClock:
    """Counts every second of a device once, though the forwards of its batches overlap.

    Parameters
    ----------
    now : callable
        Returns the time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._n_working = 0
        self._counted_to = float("-inf")  # until then the times have been given to a batch

    @contextmanager
    def forward(self, asked: float) -> Iterator[Spent]:
        """Time the forward of a batch whose inputs were waited for since `asked`.

        Yields
        ------
        Spent
            Whole once the context is left.
        """
        spent = Spent()
        with self._lock:
            if not self._n_working:
                began = self._now()
                spent.waiting = began - max(asked, self._counted_to)
                self._counted_to = began
            self._n_working += 1
        try:
            yield spent
        finally:
            with self._lock:
                self._n_working -= 1
                ended = self._now()
                spent.forward, self._counted_to = ended - self._counted_to, ended
