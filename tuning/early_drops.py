"""The trials that a search dropped early, and their part in its choice.

A search on rungs (see `tuning.rungs`) chooses twice: which trials go on, by a part of the rows, and which of
those is best. Survivors owe some of their score on that part to luck, as the winner does on all rows. So a
correction that repeats the choice repeats the dropping too, on the rows that were drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuning.scores import Ints
from tuning.trials import Trial


@dataclass(frozen=True)
class EarlyDrops:
    """Which trials competed for places on a rung, and what is known of those that were dropped.

    Attributes
    ----------
    predictions : ndarray of shape (n_dropped, n_samples), int64
        Out-of-fold class codes, -1 in rows of folds that the trial did not see.
    cohorts : ndarray of shape (n_dropped,), int64
        Trials of one cohort compete with each other.
    rungs : ndarray of shape (n_dropped,), int64
        The rung (from 1) after which each was dropped. In a cohort all that were dropped after one rung have
        predictions in the same rows, and those of a later rung have them there too.
    survivors : ndarray of shape (n_trials,), int64
        The cohort in which each finished trial competed, or -1 if it could not be dropped.
    """

    predictions: Ints
    cohorts: Ints
    rungs: Ints
    survivors: Ints

    @classmethod
    def of(cls, trials: Sequence[Trial], dropped: Sequence[Trial]) -> "EarlyDrops | None":
        """Tell from the trials of a search who competed with whom.

        Parameters
        ----------
        trials, dropped : sequence of Trial
            As in `tuning.SearchResult`.

        Returns
        -------
        EarlyDrops or None
            None when nothing was dropped. Trials of one head are a cohort, but for those that could not be
            dropped (``asked`` is None): where the head starts, points of a grid, and what was cross-validated
            by itself.
        """
        if not dropped:
            return None
        names = list(dict.fromkeys(trial.configuration.head for trial in dropped))
        competed = [
            names.index(trial.configuration.head)
            if trial.configuration.head in names and trial.asked is not None
            else -1
            for trial in trials
        ]
        seen = [np.isfinite(trial.oof).all(axis=1) for trial in dropped]
        return cls(
            np.stack(
                [np.where(rows, trial.predictions, -1) for rows, trial in zip(seen, dropped, strict=True)]
            ),
            np.array([names.index(trial.configuration.head) for trial in dropped]),
            np.array([trial.rung for trial in dropped]),
            np.array(competed, dtype=np.int64),
        )

    def steps(self) -> "list[Step]":
        """Return the decisions to repeat, each cohort's in the order in which they were taken."""
        n_trials, found = len(self.survivors), []
        for cohort in np.unique(self.cohorts):
            finished = np.flatnonzero(self.survivors == cohort)
            mine = np.flatnonzero(self.cohorts == cohort)
            for rung in np.unique(self.rungs[mine]):
                staying = np.concatenate([finished, n_trials + mine[self.rungs[mine] > rung]])
                leaving = mine[self.rungs[mine] == rung]
                if len(staying):
                    found.append(Step(staying, n_trials + leaving, self.predictions[leaving[0]] >= 0))
        return found


@dataclass(frozen=True)
class Step:
    """One decision on a rung.

    Attributes
    ----------
    staying, leaving : ndarray of int64
        Candidates that went on, and that were dropped: finished trials are numbered from 0, and dropped ones
        after them.
    rows : ndarray of shape (n_samples,), bool
        What the decision saw.
    """

    staying: Ints
    leaving: Ints
    rows: NDArray[np.bool_]

    def repeat(self, source: Ints, scores: NDArray[np.float64], n_seen: int) -> None:
        """Give the places on the next rung to the best of each draw.

        Parameters
        ----------
        source : ndarray of shape (n_draws, n_parts, n_candidates), int64
            Whose predictions stand in for each candidate's, part by part of the rows; changed in place.
        scores : ndarray of shape (n_draws, n_staying + n_leaving), float64
            Of what the decision sees; of equals the first goes on.
        n_seen : int
            How many parts the decision sees.

        Notes
        -----
        As many go on as did in the search. One that goes on only in a draw was never trained on later folds.
        It takes the place of one that goes on no longer, and with it that one's predictions there: what folds
        say that no decision has looked at does not depend on the luck of the decision.
        """
        n_places = len(self.staying)
        kept = np.zeros(scores.shape, dtype=bool)
        np.put_along_axis(kept, np.argsort(-scores, axis=1, kind="stable")[:, :n_places], True, axis=1)
        # Each draw has as many that rise as fall, and both are listed draw by draw: they pair up.
        draws, fallen = np.nonzero(~kept[:, :n_places])
        _, risen = np.nonzero(kept[:, n_places:])
        for part in range(n_seen):
            source[draws, part, self.staying[fallen]] = source[draws, part, self.leaving[risen]]
