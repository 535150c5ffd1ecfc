"""The best five configurations of a search once more, on other splits, which say who wins and how surely."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.console import duration, p_text, tell

if TYPE_CHECKING:
    from pipelines.matrices import Matrix
    from tuning import Finalists, SearchResult, Trial

#: Repeats when nothing is asked for, after a search of so many trials or more: the best of many owes its
#: place to luck with the search's split. Fewer on matrices of more numbers than 4,000 rows x 512 columns.
USUAL_REPEATS, REPEATS_OF_LARGE, FEWEST_TRIALS, MOST_CELLS = 3, 1, 100, 2_048_000
_TOLD_EVERY = 3.0  # seconds


def repeats_of(asked: int | None, *, n_trials: int, shape: Sequence[int], decides: bool = True) -> int:
    """Return how many other splits decide among the finalists: as asked for, else some after a long search.

    Parameters
    ----------
    asked : int or None
    n_trials : int
        That were made, the dropped ones included.
    shape : (n_samples, n_features)
    decides : bool
        Whether they would choose; if not, they are made when asked for only.

    Returns
    -------
    int
        No clock is asked, so that the same command finds the same numbers.
    """
    if asked is not None:
        return asked
    if n_trials < FEWEST_TRIALS or not decides:
        return 0
    return USUAL_REPEATS if shape[0] * shape[1] <= MOST_CELLS else REPEATS_OF_LARGE


def repeated_finalists(
    found: SearchResult,
    matrix: Matrix,
    *,
    n_repeats: int,
    random_state: int,
    deadline: float | None,
    decides: bool = True,
) -> tuple[SearchResult, Finalists | None]:
    """Cross-validate the best trials on other splits, and let these choose among them.

    Parameters
    ----------
    found : SearchResult
    matrix : Matrix
        What was searched.
    n_repeats : int
        0 does nothing.
    random_state : int
        Of the splits and models.
    deadline : float or None
        A reading of `time.perf_counter`: no repeat is begun that would probably end after it.
    decides : bool
        Whether they choose; if not, the best of the search stays.

    Returns
    -------
    SearchResult
        With what was chosen as its best.
    Finalists or None
        None when there is one configuration, no repeat is asked for, or no time.
    """
    from tuning import RepeatError, decide_on_splits, finalists_of

    trials = [found.trials[i] for i in finalists_of(found)]
    if len(trials) < 2 or not n_repeats:
        return found, None  # before the rows are copied
    rows = matrix.training
    printer = _RepeatPrinter(trials, n_repeats=n_repeats, decides=decides, deadline=deadline)
    try:
        decided, finalists = decide_on_splits(
            found,
            matrix.X[rows],
            matrix.labels[rows],
            views=matrix.training_views,
            blocks=matrix.blocks,
            groups=matrix.groups[rows],
            n_repeats=n_repeats,
            random_state=random_state,
            goes_on=printer.goes_on,
            on_step=printer.step,
        )
    except RepeatError as error:
        # A class too small for SMOTE on another split, say: the search stands as it is.
        tell(f"note: the finalists are not compared on other splits: {error}")
        return found, None
    return (decided if decides else found), finalists


def finalist_entries(finalists: Finalists | None, found: SearchResult) -> list[dict[str, Any]]:
    """Return what a run records of its finalists: the winner, then the highest mean first.

    Parameters
    ----------
    finalists : Finalists or None
    found : SearchResult
        Whose best is one of them.

    Returns
    -------
    list of dict
        `tuning.Finalist`, and ``number``, the trial's.
    """
    if finalists is None:
        return []
    numbers = [found.trials[i].number for i in finalists.trials]
    compared = finalists.repeats.compared(finalists.trials.index(found.best))
    return [{"number": numbers[i], **entry} for i, entry in compared]


class _RepeatPrinter:
    """Says what is repeated, every few seconds what runs, and whether there is time for one more repeat."""

    def __init__(
        self, finalists: Sequence[Trial], *, n_repeats: int, decides: bool, deadline: float | None
    ) -> None:
        verb = "decide among" if decides else "compare"
        self._task = f"other splits {verb} {len(finalists)} finalists"
        self._n_repeats, self._deadline = n_repeats, deadline
        self._first = sum(trial.seconds for trial in finalists)  # what these took on the search's split
        self._began = self._last = time.perf_counter()
        self._told = ""

    def goes_on(self, repeat: int) -> bool:
        """Whether a repeat, numbered from 0, would probably end in time."""
        now = time.perf_counter()
        each = (now - self._began) / repeat if repeat else self._first
        if self._deadline is not None and now + each >= self._deadline:
            tell(f"--timeout leaves no time to cross-validate the finalists again ({repeat} repeats made).")
            return False
        left = f", about {duration(each * (self._n_repeats - repeat))} left" if repeat else ""
        self._told, self._last = f"{self._task}: repeat {repeat + 1} of {self._n_repeats}", now
        tell(self._told + left)
        return True

    def step(self, sentence: str) -> None:
        """Say what runs now, if enough time has gone by."""
        now = time.perf_counter()
        if now - self._last < _TOLD_EVERY:
            return
        self._last = now
        tell(f"{self._told}; now {sentence}")


def finalist_rows(finalists: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return table rows: trial, head, resampler, mean and spread of repeats, difference to the winner, p."""
    rows = []
    for place, entry in enumerate(finalists):
        low, high = entry["ci95"]
        spread = "" if entry["std"] is None else f" +- {entry['std']:.3f}"
        compared = [f"{entry['difference']:+.3f}", f"{low:+.3f} to {high:+.3f}", p_text(entry["p_value"])]
        settings = entry["configuration"]
        rows.append(
            [
                str(entry["number"]),
                settings["head"],
                settings["resampler"],
                f"{entry['mean']:.3f}{spread}",
                *(compared if place else ["winner", "", ""]),
            ]
        )
    return rows
