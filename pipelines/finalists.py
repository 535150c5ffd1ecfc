"""The best five configurations of a search once more, on other splits: how sure is the winner's lead?"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.console import duration, tell

if TYPE_CHECKING:
    from pipelines.matrices import Matrix
    from tuning import SearchResult, Trial

N_FINALISTS = 5
#: Repeats when nothing is asked for, after a search of so many trials or more, on matrices of at most so many
#: numbers (4,000 rows x 512 columns): there they cost little beside the search.
USUAL_REPEATS, FEWEST_TRIALS, MOST_CELLS = 3, 100, 2_048_000


def repeats_of(asked: int | None, *, n_trials: int, shape: Sequence[int]) -> int:
    """Return how often finalists are cross-validated again: as asked for, else where it costs little.

    Parameters
    ----------
    asked : int or None
    n_trials : int
        That were made, the dropped ones included.
    shape : (n_samples, n_features)

    Returns
    -------
    int
        No clock is asked, so that the same command finds the same numbers.
    """
    if asked is not None:
        return asked
    return USUAL_REPEATS if n_trials >= FEWEST_TRIALS and shape[0] * shape[1] <= MOST_CELLS else 0


def repeated_finalists(
    found: SearchResult, matrix: Matrix, *, n_repeats: int, random_state: int, deadline: float | None
) -> list[dict[str, Any]]:
    """Cross-validate the best trials on other splits.

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

    Returns
    -------
    list of dict
        The winner, then the others with the highest mean first: `tuning.Finalist`, of which ``difference`` is
        to the winner, and ``number``, the trial's. Empty when there is one trial, or no time.
    """
    from tuning import Configuration, EvaluationOnSplits, RepeatError, repeat_finalists

    order = sorted(range(len(found.trials)), key=lambda i: (i != found.best, -found.trials[i].score, i))
    # Trials that stop at the same epoch can be equal though they were asked for differently.
    trials: dict[str, Trial] = {}
    for i in order:
        trials.setdefault(found.trials[i].configuration.key, found.trials[i])
    finalists = [trial.configuration for trial in trials.values()][:N_FINALISTS]
    if len(finalists) < 2 or not n_repeats:
        return []
    clock = _Clock(n_repeats, len(finalists), deadline)
    rows = matrix.training
    evaluation = EvaluationOnSplits(
        matrix.X[rows],
        matrix.labels[rows],
        n_classes=found.n_classes,
        metric=found.metric,
        blocks=matrix.blocks,
        views=matrix.training_views,
    )
    try:
        entries = repeat_finalists(
            finalists,
            evaluation,
            matrix.labels[rows],
            groups=matrix.groups[rows],
            n_folds=len(found.folds),
            n_repeats=n_repeats,
            random_state=random_state,
            goes_on=clock.goes_on,
        )
    except RepeatError as error:
        # A class too small for SMOTE on another split, say: the search stands as it is.
        tell(f"note: the finalists are not compared on other splits: {error}")
        return []
    return [
        {"number": trials[Configuration(**entry["configuration"]).key].number, **entry} for entry in entries
    ]


class _Clock:
    """Says what is repeated, and whether there is time for one more repeat."""

    def __init__(self, n_repeats: int, n_finalists: int, deadline: float | None) -> None:
        self._n_repeats, self._n_finalists, self._deadline = n_repeats, n_finalists, deadline
        self._began = time.perf_counter()

    def goes_on(self, repeat: int) -> bool:
        """Whether a repeat, numbered from 0, would probably end in time."""
        now = time.perf_counter()
        each = (now - self._began) / max(repeat, 1)
        if self._deadline is not None and now + each >= self._deadline:
            tell(f"--timeout leaves no time to cross-validate the finalists again ({repeat} repeats made).")
            return False
        left = f", about {duration(each * (self._n_repeats - repeat))} left" if repeat else ""
        tell(f"{self._n_finalists} finalists on other splits: repeat {repeat + 1} of {self._n_repeats}{left}")
        return True


def finalist_rows(finalists: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return table rows: trial, head, resampler, mean and spread of repeats, difference to the winner, p."""
    rows = []
    for place, entry in enumerate(finalists):
        low, high = entry["ci95"]
        spread = "" if entry["std"] is None else f" +- {entry['std']:.3f}"
        compared = [f"{entry['difference']:+.3f}", f"{low:+.3f} to {high:+.3f}", f"{entry['p_value']:.2f}"]
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
