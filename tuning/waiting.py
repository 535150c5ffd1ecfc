"""Waiting for what other processes of a study evaluate, instead of computing the same.

All points of a grid are needed by every process that shares it. When none is left to take, a process whose
points are still being evaluated elsewhere waits. A process that dies while it is seen from here is found out
(`tuning.dead_trials`), and its points can be taken again; one on another machine may have died unseen, so it
is waited for no longer than computing its points would take: then they are computed here.
"""

import time
from collections.abc import Callable

from optuna.trial import FrozenTrial

from tuning.dead_trials import living_process
from tuning.study_exchange import StudyExchange

_PAUSE = 0.5  # seconds between two looks
_SILENT = 2.0  # seconds before the first word
_TELL_EVERY = 15.0  # seconds between two words, if nothing changes


class Waiting:
    """Says whether it pays to wait, and what for.

    Parameters
    ----------
    exchange : StudyExchange
    on_step : callable (text) or None
        Told what is waited for, after two seconds.
    """

    def __init__(self, exchange: StudyExchange, on_step: Callable[[str], None] | None) -> None:
        self._exchange, self._on_step = exchange, on_step
        self._since: float | None = None
        self._told = ("", 0.0)

    def pays(self) -> bool:
        """Return whether others evaluate what is needed here, and may be expected to finish it."""
        awaited = self._exchange.awaited()
        if not awaited:
            self._since = None
            return False
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        processes = {living_process(trial) for trial in awaited}
        if processes == {None} and now - self._since >= self._seconds_alone(len(awaited)):
            return False
        if now - self._since >= _SILENT:
            self._tell(awaited, processes, now)
        return True

    def rest(self) -> None:
        """Let the others work for a moment."""
        time.sleep(_PAUSE)

    def _seconds_alone(self, n: int) -> float:
        """Return how long so many would take here, judged by those that are known; 0 if none is."""
        known = [trial.seconds for trial in self._exchange.ledger.trials]
        return n * sum(known) / len(known) if known else 0.0

    def _tell(self, awaited: list[FrozenTrial], processes: set[int | None], now: float) -> None:
        seen = [f"process {pid}" for pid in sorted(pid for pid in processes if pid is not None)]
        others = ["another machine"] if None in processes else []
        sentence = f"waiting for {len(awaited)} configurations from {', '.join([*seen, *others])}"
        before, told = self._told
        if self._on_step is not None and (sentence != before or now - told >= _TELL_EVERY):
            self._on_step(sentence)
            self._told = (sentence, now)
