"""The cores of the processor, shared by engines that work side by side."""

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TypeVar

_MOST = 8  # threads of small networks wait for Python's lock beyond

Job = TypeVar("Job")
Found = TypeVar("Found")


class StoppedError(Exception):
    """What a job ends with that was not begun, or was told to end, because the search ends."""


class Cores:
    """Lets as many jobs compute at a time as there are cores, whichever engine they belong to.

    Parameters
    ----------
    n : int or None
        None is as many as this process may use, and at most 8.

    Attributes
    ----------
    n : int
    """

    def __init__(self, n: int | None = None) -> None:
        self.n = min(_available(), _MOST) if n is None else n
        self._free = threading.Semaphore(self.n)
        self._stopped = threading.Event()
        self._own = threading.local()  # of a thread: whether the run that it works for has failed

    def run(
        self,
        function: Callable[[Job], Found],
        jobs: Iterable[Job],
        *,
        prepare: Callable[[], object] | None = None,
    ) -> list[Found]:
        """Compute jobs, each on a thread.

        Parameters
        ----------
        function : callable (job)
            Must let go of Python's lock for most of its time.
        jobs : iterable
            Begun in this order.
        prepare : callable or None
            Called once on each new thread.

        Returns
        -------
        list
            In the order of the jobs.

        Raises
        ------
        StoppedError
            If `stop` was called before all had begun.

        Notes
        -----
        What a job raises ends all that have not begun, also those that wait for a core, and is raised when
        those under way are done; they end early if they `check`. Ctrl-C stops the jobs of all engines.
        """
        failed = threading.Event()

        def on_a_core(job: Job) -> Found:
            self._own.failed = failed
            self.check()
            with self._free:
                self.check()
                try:
                    return function(job)
                except BaseException:
                    failed.set()
                    raise

        with ThreadPoolExecutor(self.n, "core", initializer=prepare) as workers:
            try:
                futures = [workers.submit(on_a_core, job) for job in jobs]
                wait(futures)  # a job that was told to end may have ended before the one that failed
            except KeyboardInterrupt:
                self.stop()  # long jobs look whether they shall go on
                raise
        return _results(futures)

    def stop(self) -> None:
        """Let no further job begin."""
        self._stopped.set()

    def check(self) -> None:
        """Raise StoppedError if `stop` was called, or another job of the same `run` failed.

        For long jobs to call now and then.
        """
        failed: threading.Event | None = getattr(self._own, "failed", None)
        if self._stopped.is_set() or (failed is not None and failed.is_set()):
            raise StoppedError

    def side_by_side(self, calls: Iterable[Callable[[], Found]]) -> list[Found]:
        """Call functions that use `run`, each on a thread of its own.

        Parameters
        ----------
        calls : iterable of callable

        Returns
        -------
        list
            In the order of the calls.

        Notes
        -----
        What one of them raises, and Ctrl-C, stops the others for good: their jobs under way are waited for.
        """
        waiting = list(calls)
        if len(waiting) < 2:
            return [call() for call in waiting]
        with ThreadPoolExecutor(len(waiting), "engine") as engines:
            futures = [engines.submit(call) for call in waiting]
            try:
                return _results(futures)
            except BaseException:
                self.stop()
                raise


def _results(futures: Sequence[Future[Found]]) -> list[Found]:
    """Wait for all, or for the first that fails: what it raised counts, not what it stopped."""
    ended = wait(futures, return_when=FIRST_EXCEPTION).done
    found = [future.exception() for future in futures if future in ended]
    errors = [error for error in found if error is not None]
    if errors:
        raise min(errors, key=lambda error: isinstance(error, StoppedError))
    return [future.result() for future in futures]


def _available() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
