"""Rungs: every configuration gets a little training first, and only the promising ones get the rest.

A rung is a number of folds and a share of the epochs (or boosting rounds). After each, configurations are
dropped that are worse than the leader by more than the rows can explain (a paired test), and of the others
all but the best share.

References
----------
Jamieson, Talwalkar (2016). Non-stochastic best arm identification and hyperparameter optimization. AISTATS
(successive halving). Maron, Moore (1997). The racing algorithm: model selection for lazy learners. Artificial
Intelligence Review 11 (paired tests on the same rows).
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tuning.folds import Fold
from tuning.influences import MeasuredScore
from tuning.scores import confusion, score
from tuning.trials import Configuration, Trial


class Population(Protocol):
    """Configurations of one head that are trained together, fold by fold and step by step."""

    configurations: tuple[Configuration, ...]
    checkpoints: tuple[int, ...]

    def train(self, targets: Mapping[int, int], folds: Sequence[int]) -> None:
        """Bring members to checkpoints on some folds; those that are not named do not go on there."""
        ...

    def probabilities(self, member: int, fold: int) -> NDArray[np.float32]:
        """Return probabilities of shape (n_reached, n_valid, n_classes)."""
        ...

    def final(self, member: int, checkpoint: int) -> Configuration:
        """Return the configuration that stops at a checkpoint."""
        ...

    def seconds(self, member: int) -> float:
        """Return the work on a member so far."""
        ...

    def drop(self, member: int) -> None:
        """Free what a member holds."""
        ...


@dataclass(frozen=True)
class Rung:
    """How far members are taken, and how many go on.

    Attributes
    ----------
    n_folds : int
        The first so many folds.
    share : float in (0, 1]
        Of the checkpoints.
    keep : float in (0, 1]
        Largest share of the members of this rung that go on.
    """

    n_folds: int
    share: float
    keep: float


_DIVERGED = (
    "Training diverged: its probabilities are not finite. Use a smaller learning_rate, or look for extreme "
    "values in X."
)

_NEARLY_ALL = 0.8  # of the checkpoints: a member may be compared with finished trials
_RISING = 3  # a member is given three times the epochs of its best checkpoint, to rise once more
_ENOUGH = 0.5  # of the checkpoints: what every member is given, if it is not dropped

RUNGS = (Rung(1, 0.3, 1 / 2), Rung(2, 0.3, 2 / 3), Rung(2, 0.8, 1 / 2), Rung(3, 0.8, 1 / 2))
"""What comes before all folds in full."""


@dataclass(frozen=True)
class Judge:
    """How members are compared.

    Attributes
    ----------
    y : ndarray of shape (n_samples,), int64
    folds : sequence of (train, valid)
    n_classes : int
    metric : str
    """

    y: NDArray[np.int64]
    folds: Sequence[Fold]
    n_classes: int
    metric: str

    def fold_scores(self, probabilities: NDArray[np.float32], fold: int) -> NDArray[np.float64]:
        """Return the score at each checkpoint."""
        predicted = probabilities.argmax(axis=2)
        truth = self.y[self.folds[fold][1]]
        return np.asarray(score(confusion(truth, predicted, self.n_classes), self.metric))

    def measured(self, predicted: NDArray[np.int64], rows: NDArray[np.int64]) -> MeasuredScore:
        """Return the score of predictions of some rows, and what each row does to it."""
        return MeasuredScore.of(self.y[rows], predicted, self.n_classes, self.metric)


@dataclass(frozen=True)
class _Standing:
    """Where a member stands on some folds, at its best checkpoint."""

    score: float
    fold_scores: list[float]
    checkpoint: int
    predicted: NDArray[np.int64]
    oof: NDArray[np.float32]


def climb(
    population: Population,
    judge: Judge,
    *,
    numbers: Sequence[int],
    never_dropped: Collection[int] = (),
    incumbent: NDArray[np.int64] | None = None,
    rungs: Sequence[Rung] = RUNGS,
    on_rung: Callable[[str], None] | None = None,
) -> list[Trial | str]:
    """Take the members of a population up the rungs.

    Parameters
    ----------
    population : Population
        Nothing trained yet.
    judge : Judge
    numbers : sequence of int
        Trial number of each member.
    never_dropped : collection of int
        Members that are taken to all folds, whatever they score, with as many epochs or rounds as they ask
        for.
    incumbent : ndarray of shape (n_samples,), int64, or None
        Out-of-fold class codes of the best trial so far: a member that is clearly worse when it is nearly
        trained to the end is dropped.
    rungs : sequence of Rung
        What comes before all folds in full.
    on_rung : callable or None
        Called with one sentence before each rung.

    Returns
    -------
    list of Trial or str
        One per member, in order. ``rung`` is 0 when it was taken to the end; else the number (from 1) of the
        rung after which it was dropped, with NaN in the rows of folds that it did not see, and only there. A
        text says why a member has no trial: it diverged.

    Notes
    -----
    The checkpoint of a member is the one with the best mean score over the folds of its rung: all folds stop
    at the same epoch, as a model that is fitted on all rows will. What a finished trial keeps of a fold comes
    from the checkpoint that is best on the other folds. A member that was best long before the end
    of a rung is not trained to the end of the next: it stops at three times its best epoch, but not before
    half of the checkpoints.

    A member that diverges is judged by the checkpoints before, at which all its folds were finite, as a model
    that is fitted alone keeps the last epoch that was. One that has none has diverged, and so has one of
    `never_dropped` that is not finite where it ends.
    """
    members = list(range(len(population.configurations)))
    standings: dict[int, _Standing] = {}
    reached = dict.fromkeys(members, 0)
    last = len(population.checkpoints) - 1
    limits = dict.fromkeys(members, last)
    steps = [rung for rung in rungs if rung.n_folds < len(judge.folds)]
    for place, rung in enumerate(steps, start=1):
        until = max(0, math.ceil(rung.share * (last + 1)) - 1)
        _train(population, {m: min(until, limits[m]) for m in members}, range(rung.n_folds), on_rung)
        finite = _stand_all(population, judge, standings, members, rung.n_folds)
        for member in finite:
            reached[member] = place
            if member not in never_dropped:
                best = standings[member].checkpoint
                limits[member] = min(limits[member], _limit(population.checkpoints, best, until))
        compared = incumbent if rung.share >= _NEARLY_ALL else None
        kept = _going_on(judge, standings, finite, rung, compared)
        staying = [m for m in finite if m in kept or m in never_dropped]
        for member in set(members) - set(staying):
            population.drop(member)
        members = staying
    _train(population, {m: limits[m] for m in members}, range(len(judge.folds)), on_rung)
    _stand_all(population, judge, standings, members, len(judge.folds), at_their_end=never_dropped)
    for member in members:
        reached[member] = 0
        population.drop(member)
    return [
        _DIVERGED
        if member not in standings
        else _trial(
            population,
            member,
            standings[member],
            number=numbers[member],
            rung=reached[member],
            as_asked=member in never_dropped,
        )
        for member in range(len(population.configurations))
    ]


def _trial(
    population: Population, member: int, standing: _Standing, *, number: int, rung: int, as_asked: bool
) -> Trial:
    asked = population.configurations[member]
    return Trial(
        number=number,
        configuration=asked if as_asked else population.final(member, standing.checkpoint),
        score=standing.score,
        fold_scores=standing.fold_scores,
        seconds=population.seconds(member),
        oof=standing.oof,
        rung=rung,
        asked=None if as_asked else asked,
    )


def _train(
    population: Population,
    targets: Mapping[int, int],
    folds: range,
    on_rung: Callable[[str], None] | None,
) -> None:
    if not targets:
        return
    if on_rung is not None:
        head = population.configurations[0].head
        most = population.checkpoints[max(targets.values())]
        on_rung(f"{len(targets)} x {head}, {len(folds)} folds, up to {most} steps")
    population.train(targets, folds)


def _limit(checkpoints: Sequence[int], best: int, until: int) -> int:
    """Return the last checkpoint worth training to, after a rung up to `until` that was best at `best`."""
    last = len(checkpoints) - 1
    if best >= until:
        return last
    enough = math.ceil(_ENOUGH * (last + 1)) - 1
    later = (place for place, steps in enumerate(checkpoints) if steps >= _RISING * checkpoints[best])
    return max(enough, next(later, last))


def _stand_all(
    population: Population,
    judge: Judge,
    standings: dict[int, _Standing],
    members: Sequence[int],
    n_folds: int,
    *,
    at_their_end: Collection[int] = (),
) -> list[int]:
    """Score members on the first folds; return those that are finite, the others lose their standing."""
    for member in members:
        standing = _stand(population, judge, member, n_folds, at_its_end=member in at_their_end)
        if standing is None:
            standings.pop(member, None)
        else:
            standings[member] = standing
    return [member for member in members if member in standings]


def _stand(
    population: Population, judge: Judge, member: int, n_folds: int, *, at_its_end: bool
) -> _Standing | None:
    """Score a member on the first folds, where it is best or where it ended; None if it is not finite there.

    Taken to the end, each fold is scored where the mean of the *other* folds is best: the best of many
    checkpoints on a fold's own rows would be too good, and nothing that looks at stored predictions later
    could tell.
    """
    found = [population.probabilities(member, fold) for fold in range(n_folds)]
    n_reached = min(len(part) for part in found)
    n_finite = _n_finite([part[:n_reached] for part in found])
    if n_finite < (n_reached if at_its_end else 1):
        return None
    n_reached = n_finite
    table = np.stack([judge.fold_scores(part[:n_reached], fold) for fold, part in enumerate(found)])
    # The first of equals is the earliest.
    checkpoint = n_reached - 1 if at_its_end else int(table.mean(axis=0).argmax())
    used = [checkpoint] * n_folds
    if n_folds == len(judge.folds) and not at_its_end:
        used = (table.sum(axis=0) - table).argmax(axis=1).tolist()
    oof = np.full((len(judge.y), judge.n_classes), np.nan, dtype=np.float32)
    for fold, part in enumerate(found):
        oof[judge.folds[fold][1]] = part[used[fold]]
    fold_scores = [float(table[fold, place]) for fold, place in enumerate(used)]
    predicted = np.concatenate([part[place].argmax(axis=1) for part, place in zip(found, used, strict=True)])
    return _Standing(float(np.mean(fold_scores)), fold_scores, checkpoint, predicted, oof)


def _n_finite(found: Sequence[NDArray[np.float32]]) -> int:
    """Count the checkpoints, from the first, at which the probabilities of every fold are finite."""
    finite = np.all([np.isfinite(part).all(axis=(1, 2)) for part in found], axis=0)
    return len(finite) if finite.all() else int(finite.argmin())


def _going_on(
    judge: Judge,
    standings: dict[int, _Standing],
    members: Sequence[int],
    rung: Rung,
    incumbent: NDArray[np.int64] | None,
) -> set[int]:
    """Return the members that are not clearly worse than the leader, and at most the share that may go on."""
    if not members:
        return set()
    rows = np.concatenate([judge.folds[fold][1] for fold in range(rung.n_folds)])
    ranked = sorted(members, key=lambda member: (-standings[member].score, member))
    rivals = [judge.measured(standings[ranked[0]].predicted, rows)]
    if incumbent is not None:
        rivals.append(judge.measured(incumbent[rows], rows))
    places = math.ceil(rung.keep * len(members))
    kept = set()
    for member in ranked[:places]:
        own = judge.measured(standings[member].predicted, rows)
        if not any(own.is_clearly_below(rival) for rival in rivals):
            kept.add(member)
    return kept
