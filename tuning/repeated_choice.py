"""The choice that a search made, made again on the rows of many bootstrap draws."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tuning.bootstrap import Units, checked_groups, draw_leaving_out, units_of
from tuning.early_drops import EarlyDrops, Step
from tuning.scores import Ints, class_codes, score, score_name
from tuning.uncertainty import check_bootstrap

Counts = NDArray[np.float32]

# Numbers in one chunk of draws: 4 Mi, which is 16 MiB in float32 and a few times that while scoring.
_CHUNK_CELLS = 2**22


@dataclass(frozen=True)
class Choice:
    """What a search chose from.

    Attributes
    ----------
    table : ndarray of shape (n_trials + n_dropped, n_samples), int64
        Out-of-fold class codes of the finished trials, then of those dropped early (-1 where there are none).
    n_trials : int
        Finished trials.
    codes : ndarray of shape (n_samples,), int64
        True classes.
    n_classes : int
    metric : str
        A score name in snake_case.
    steps : list of Step
        The decisions on rungs, in order.
    units : Units
        What is drawn as a whole.
    """

    table: Ints
    n_trials: int
    codes: Ints
    n_classes: int
    metric: str
    steps: list[Step]
    units: Units

    def repeated(self, *, n_bootstrap: int, random_state: int) -> Iterator[tuple[Ints, Ints]]:
        """Choose on the rows of bootstrap samples.

        Parameters
        ----------
        n_bootstrap, random_state : int
            Draw number i depends on ``random_state`` and i alone.

        Yields
        ------
        (ndarray, ndarray) of shape (n_draws, n_samples), int64
            How often each row was drawn, and the class codes by what these draws would choose; a chunk of
            draws at a time.

        Raises
        ------
        ValueError
            When there is no draw.
        """
        for drawn, standings in self.standings(n_bootstrap=n_bootstrap, random_state=random_state):
            yield drawn, standings.predictions_of(standings.scores.argmax(axis=1))

    def standings(self, *, n_bootstrap: int, random_state: int) -> "Iterator[tuple[Ints, Standings]]":
        """Say where the finished trials stand on the rows of bootstrap samples.

        Parameters
        ----------
        n_bootstrap, random_state : int
            As in `repeated`.

        Yields
        ------
        (ndarray of shape (n_draws, n_samples), int64, Standings)
            How often each row was drawn, and what that makes of the trials; a chunk of draws at a time.

        Raises
        ------
        ValueError
            When there is no draw.
        """
        part_of_row, n_seen = self._parts()
        n_parts = len(set(n_seen)) + 1
        for drawn in self.draws(n_bootstrap=n_bootstrap, random_state=random_state, n_parts=n_parts):
            cells = np.stack([self.confusions(drawn, part_of_row == part) for part in range(n_parts)], axis=1)
            source = self._sources(cells, n_seen)
            finished = _counts_of(cells, source[:, :, : self.n_trials])
            yield drawn, Standings(score(finished, self.metric), source, part_of_row, self.table)

    def draws(self, *, n_bootstrap: int, random_state: int, n_parts: int = 1) -> Iterator[Ints]:
        """Draw bootstrap samples that leave out rows of every class.

        Parameters
        ----------
        n_bootstrap, random_state : int
            As in `repeated`.
        n_parts : int
            Parts of the rows that are counted by themselves, which bounds a chunk.

        Yields
        ------
        ndarray of shape (n_draws, n_samples), int64
            How often each row was drawn; a chunk of draws at a time.

        Raises
        ------
        ValueError
            When there is no draw.
        """
        check_bootstrap(n_bootstrap)
        chunk = max(1, _CHUNK_CELLS // (len(self.codes) + len(self.table) * self.n_classes**2 * n_parts))
        seeds = np.random.SeedSequence(random_state).spawn(n_bootstrap)
        for start in range(0, n_bootstrap, chunk):
            generators = [np.random.default_rng(seed) for seed in seeds[start : start + chunk]]
            yield np.stack([draw_leaving_out(self.units, self.codes, one) for one in generators])

    def _parts(self) -> tuple[Ints, list[int]]:
        """Cut the rows by what decisions saw: the part of each row, and how many parts each decision saw.

        A later rung looks at the folds of the one before and more, so what decisions see is nested.
        """
        sizes = sorted({int(step.rows.sum()) for step in self.steps})
        part_of_row: Ints = np.full(len(self.codes), len(sizes))
        for step in self.steps:
            part = sizes.index(int(step.rows.sum()))
            part_of_row[step.rows] = np.minimum(part_of_row[step.rows], part)
        return part_of_row, [sizes.index(int(step.rows.sum())) + 1 for step in self.steps]

    def _sources(self, cells: Counts, n_seen: list[int]) -> Ints:
        """Repeat the decisions on drawn counts (draws, parts, n_all, k, k); return `Standings.source`."""
        n_draws, n_parts, n_all = cells.shape[:3]
        source = np.tile(np.arange(n_all), (n_draws, n_parts, 1))
        for step, n in zip(self.steps, n_seen, strict=True):
            candidates = np.concatenate([step.staying, step.leaving])
            stood = _counts_of(cells[:, :n], source[:, :n, candidates])
            step.repeat(source, score(stood, self.metric), n)
        return source

    def confusions(self, drawn: Ints, included: NDArray[np.bool_]) -> Counts:
        """Count what all trials predict in drawn rows.

        Parameters
        ----------
        drawn : ndarray of shape (n_draws, n_samples), int64
            How often each row counts.
        included : ndarray of shape (n_samples,), bool
            Other rows do not count.

        Returns
        -------
        ndarray of shape (n_draws, n_all, n_classes, n_classes), float32
            Confusion counts; exact below 2**24.
        """
        k, n_all = self.n_classes, len(self.table)
        cells = np.zeros((len(drawn), n_all, k, k), dtype=np.float32)
        for code in np.unique(self.codes[included]):
            rows = np.flatnonzero(included & (self.codes == code))
            one_hot = self.table[:, rows].T[:, :, None] == np.arange(k)  # (rows, n_all, k)
            flat = one_hot.reshape(len(rows), n_all * k).astype(np.float32)
            product = drawn[:, rows].astype(np.float32) @ flat
            cells[:, :, code, :] = product.reshape(len(drawn), n_all, k)
        return cells


@dataclass(frozen=True)
class Standings:
    """Where the finished trials stand in some draws.

    Attributes
    ----------
    scores : ndarray of shape (n_draws, n_trials), float64
        On the drawn rows.
    source : ndarray of shape (n_draws, n_parts, n_all), int64
        Whose predictions each trial has in each part of the rows.
    part_of_row : ndarray of shape (n_samples,), int64
    table : ndarray of shape (n_all, n_samples), int64
        Class codes.
    """

    scores: NDArray[np.float64]
    source: Ints
    part_of_row: Ints
    table: Ints

    def predictions_of(self, trials: Ints) -> Ints:
        """Return the class codes (n_draws, n_samples) of one trial for each draw, shape (n_draws,)."""
        origins = self.source[np.arange(len(trials)), :, trials]
        codes: Ints = self.table[origins[:, self.part_of_row], np.arange(self.table.shape[1])]
        return codes


def _counts_of(cells: Counts, source: Ints) -> Counts:
    """Sum over parts the counts (draws, parts, n_all, k, k) of candidates' sources (draws, parts, m)."""
    total: Counts = np.take_along_axis(cells, source[..., None, None], axis=2).sum(axis=1)
    return total


def choice_of(
    predictions: ArrayLike,
    y: ArrayLike,
    *,
    n_classes: int,
    metric: str,
    dropped: EarlyDrops | None,
    groups: ArrayLike | None,
) -> Choice:
    """Check what `tuning.bbc_cv` takes, and put it together.

    Parameters
    ----------
    predictions, y, n_classes, metric, dropped, groups
        As in `tuning.bbc_cv`.

    Returns
    -------
    Choice

    Raises
    ------
    ValueError
        As in `tuning.bbc_cv`.
    """
    name = score_name(metric)
    codes = class_codes(y, n_classes)
    table = np.asarray(predictions)
    if table.ndim != 2 or table.shape[0] < 1 or table.shape[1] != len(codes):
        raise ValueError(
            f"'predictions' has shape {table.shape}, allowed is (n_trials, {len(codes)}) with at least one "
            "trial: a class code for every row of 'y'. Stack the out-of-fold predictions of the trials."
        )
    every, n_trials = class_codes(table, n_classes, name="predictions"), len(table)
    units = units_of(codes, checked_groups(groups, len(codes)))
    _check_two_of_each_class(codes, units, kind="row" if groups is None else "group")
    steps: list[Step] = []
    if dropped is not None:
        if dropped.survivors.shape != (n_trials,) or dropped.predictions.shape[1:] != codes.shape:
            raise ValueError(
                f"'dropped' knows {len(dropped.survivors)} finished trials and rows of shape "
                f"{dropped.predictions.shape[1:]}, allowed are {n_trials} and {codes.shape}. Make it with "
                "'EarlyDrops.of' from the trials of the same search."
            )
        every, steps = np.concatenate([every, dropped.predictions]), dropped.steps()
    return Choice(every, n_trials, codes, n_classes, name, steps, units)


def _check_two_of_each_class(codes: Ints, units: Units, *, kind: str) -> None:
    """Every class must have something to be drawn and something to be left out."""
    n_units = {int(code): len(np.unique(units.of_row[codes == code])) for code in np.unique(codes)}
    single = [code for code, count in n_units.items() if count < 2]
    if single or not n_units:
        raise ValueError(
            f"Classes with one {kind}: {single[:5]} (of {len(codes)} rows), allowed are 2 or more {kind}s of "
            "each class, some to choose on and some to score on. Merge or leave out rare classes."
        )
