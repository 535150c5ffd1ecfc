"""Many LightGBM configurations trained a few rounds at a time, so that the poor ones can be dropped early."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import heads
from heads.columns import softmax
from tuning.binned_rows import BinnedFold, BinnedRows
from tuning.checkpoints import checkpoints_up_to
from tuning.cores import Cores
from tuning.reductions import Reductions
from tuning.trials import Configuration, fold_seed

if TYPE_CHECKING:
    import lightgbm

_FIRST_CHECKPOINTS = (10, 20, 30, 40, 60, 80)
_LATER_CHECKPOINTS = (100, 125, 150, 200, 250, 300, 400, 500, 600, 800)  # and ten times as many, and so on

MOST_RAW_COLUMNS = 256
"""Columns up to which a configuration without PCA is taken. The histograms of a booster grow with columns x
leaves, and a population keeps many boosters alive."""


@dataclass
class _Fit:
    """How far one member has come on one fold."""

    booster: "lightgbm.Booster | None" = None
    rounds: int = 0
    scores: NDArray[np.float64] | None = None
    kept: list[NDArray[np.float32]] = field(default_factory=list)


class BoostedTrees:
    """Configurations of LightGBM that are trained fold by fold and a few rounds at a time.

    Parameters
    ----------
    configurations : sequence of Configuration
        The members. Each must pass `accepts`; ``n_estimators`` is the most rounds that it may take.
    reductions : Reductions
    n_classes : int
    random_state : int
        As for `tuning.evaluate`: each fold has its own seed made from this one.
    binned : BinnedRows or None
        Shared by several populations on the same rows, which saves binning them again.
    cores : Cores or None
        Boosters grow side by side, each on a thread and a core of its own; None takes all cores.

    Attributes
    ----------
    checkpoints : tuple of int
        Rounds after which probabilities are kept, ascending. The beginning of one sequence (10, 20, 30, 40,
        60, 80, 100, 125, 150, 200, 250, 300, ...), up to the first that no member goes beyond: a position
        means the same number of rounds in every population. A member's last checkpoint is its
        ``n_estimators``, in the place of the first that is not smaller.
    configurations : tuple of Configuration

    Raises
    ------
    ValueError
        When a configuration is not accepted, or a parameter is unknown or out of range.

    Notes
    -----
    A member after r rounds is the model that ``heads.LightGBMHead`` with ``n_estimators=r`` gives on the same
    columns, to the bit. On the whole pipeline the columns differ by float32 rounding, which moves single rows
    over the edge of a bin.

    A booster on one thread and two boosters side by side, because two threads inside a booster take 1.3 to 3
    times the processor time of one on 3,200 rows of 32 to 128 columns, while LightGBM lets go of Python's
    lock. ``use_quantized_grad`` saved 7 to 10 % and gave other trees; ``histogram_pool_size`` gave other
    trees too. Neither is used.

    Memory: about 16 bytes x leaves x columns x bins (3 MB at 31 x 128 x 63) and 60 bytes per row for each
    booster that is alive, plus the kept probabilities.

    References
    ----------
    G. Ke et al., "LightGBM: A Highly Efficient Gradient Boosting Decision Tree", NIPS 2017.
    """

    def __init__(
        self,
        configurations: Sequence[Configuration],
        reductions: Reductions,
        *,
        n_classes: int,
        random_state: int,
        binned: BinnedRows | None = None,
        cores: Cores | None = None,
    ) -> None:
        self.configurations = tuple(configurations)
        self._binned = BinnedRows(reductions) if binned is None else binned
        self._n_classes = n_classes
        self._random_state = random_state
        self._cores = Cores() if cores is None else cores
        for configuration in self.configurations:
            _check(configuration, n_classes)
        self._most = [_most_rounds(configuration) for configuration in self.configurations]
        self.checkpoints = checkpoints_up_to(max(self._most, default=1), _sequence())
        self._fits: dict[tuple[int, int], _Fit] = {}
        self._seconds = [0.0] * len(self.configurations)
        self._dropped: set[int] = set()

    @staticmethod
    def accepts(configuration: Configuration, *, n_features: int | None = None) -> bool:
        """Tell whether a population can take a configuration.

        Parameters
        ----------
        configuration : Configuration
        n_features : int or None
            Columns of X. A configuration without PCA is taken when there are at most `MOST_RAW_COLUMNS`.

        Notes
        -----
        One that resamples is left to the plain pipeline, which resamples before the head reduces the rows:
        made-up rows have a say in its directions, and the reductions of a fold are shared.
        """
        if configuration.head != "lightgbm" or configuration.resampler != "none":
            return False
        if _parameters(configuration)["pca"] is not None:
            return True
        return n_features is not None and n_features <= MOST_RAW_COLUMNS

    def train(self, targets: Mapping[int, int], folds: Sequence[int]) -> None:
        """Bring members to checkpoints on some folds, going on from where they are.

        Parameters
        ----------
        targets : mapping of int to int
            Position in `configurations` -> position in `checkpoints`. Those that are there already are left
            as they are.
        folds : sequence of int

        Raises
        ------
        ValueError
            When a target is out of range, a member was dropped, or a fold has fewer than two classes.
        """
        strange = sorted({until for until in targets.values() if not 0 <= until < len(self.checkpoints)})
        if strange:
            raise ValueError(
                f"There is no checkpoint {strange[0]!r}; allowed are 0 to {len(self.checkpoints) - 1} "
                f"({self.checkpoints[-1]} rounds)."
            )
        gone = sorted(self._dropped.intersection(targets))
        if gone:
            raise ValueError(f"Members {gone[:5]} were dropped and cannot be trained on.")
        jobs = [(member, fold, until) for fold in folds for member, until in targets.items()]
        jobs.sort(key=lambda job: -self._cost(job[0], job[2]))  # ends evenly
        # LightGBM lets go of Python's lock, so threads do. Ctrl-C waits for the boosters that are growing.
        taken = self._cores.run(lambda job: self._advance(*job), jobs, prepare=_silence_this_thread)
        for (member, _, _), seconds in zip(jobs, taken, strict=True):
            self._seconds[member] += seconds

    def probabilities(self, member: int, fold: int) -> NDArray[np.float32]:
        """Return the probabilities of a fold's validation rows at each checkpoint that was reached.

        Parameters
        ----------
        member : int
        fold : int

        Returns
        -------
        ndarray of shape (n_reached, n_valid, n_classes), float32
            A class that the training rows lack has probability 0. A member that was dropped keeps its own.
        """
        fit = self._fits.get((member, fold))
        if fit is None or not fit.kept:
            n_valid = len(self._binned.reductions.folds[fold][1])
            return np.zeros((0, n_valid, self._n_classes), dtype=np.float32)
        return np.stack(fit.kept)

    def final(self, member: int, checkpoint: int) -> Configuration:
        """Return the configuration that stops at a checkpoint, everything else as asked.

        Parameters
        ----------
        member : int
        checkpoint : int
            Position in `checkpoints`.
        """
        asked = self.configurations[member]
        rounds = min(self.checkpoints[checkpoint], self._most[member])
        return Configuration(asked.head, asked.resampler, {**asked.parameters, "n_estimators": rounds})

    def seconds(self, member: int) -> float:
        """Return how long the work on a member took so far, in seconds, over all folds."""
        return self._seconds[member]

    def drop(self, member: int) -> None:
        """Free the boosters of a member; it cannot be trained any more."""
        self._dropped.add(member)
        for (owner, _), fit in self._fits.items():
            if owner == member:
                fit.booster = fit.scores = None

    def _cost(self, member: int, until: int) -> float:
        """Estimate what training a member costs, in no unit."""
        parameters = _parameters(self.configurations[member])
        columns = parameters["pca"] or MOST_RAW_COLUMNS
        share = parameters["feature_fraction"]
        rounds = min(self.checkpoints[until], self._most[member])
        return float(share * columns * parameters["num_leaves"] * rounds)

    def _advance(self, member: int, fold: int, until: int) -> float:
        """Bring one member to a checkpoint; return the seconds that it took."""
        fit = self._fits.setdefault((member, fold), _Fit())
        most = self._most[member]
        own = [rounds for rounds in self.checkpoints[: until + 1] if rounds < most]
        if len(own) <= until:
            own.append(most)
        started = time.perf_counter()
        if len(fit.kept) >= len(own):
            return 0.0
        binned = self._start(fit, member, fold)
        for rounds in own[len(fit.kept) :]:
            fit.kept.append(self._grow(fit, binned, rounds))
        if fit.rounds == most:
            fit.booster = fit.scores = None
        return time.perf_counter() - started

    def _start(self, fit: _Fit, member: int, fold: int) -> BinnedFold:
        """Return the rows of a member, and give it a booster when it has none."""
        import lightgbm

        configuration = self.configurations[member]
        seed = fold_seed(self._random_state, fold)
        head = _head(configuration, seed)
        binned = self._binned.of(fold, head)
        if fit.booster is None:
            settings = head.booster_settings(len(binned.classes))
            fit.booster = lightgbm.Booster(settings, binned.dataset)
            fit.scores = np.zeros((len(binned.valid), len(binned.classes)))
        return binned

    def _grow(self, fit: _Fit, binned: BinnedFold, rounds: int) -> NDArray[np.float32]:
        """Train up to `rounds` and return the probabilities of the validation rows."""
        booster, scores = fit.booster, fit.scores
        assert booster is not None
        assert scores is not None
        grown = booster.current_iteration()
        while fit.rounds < rounds:
            booster.update()  # adds nothing when no split is left, as in lightgbm.train
            fit.rounds += 1
        added = booster.current_iteration() - grown
        if added:
            scores += booster.predict(
                binned.valid, start_iteration=grown, num_iteration=added, raw_score=True, num_threads=1
            )
        out = np.zeros((len(scores), self._n_classes), dtype=np.float32)
        out[:, binned.classes] = softmax(scores)
        return out


def _check(configuration: Configuration, n_classes: int) -> None:
    """Refuse a configuration that is not of LightGBM, or has parameters that the head refuses."""
    if configuration.head != "lightgbm":
        raise ValueError(f"Head {configuration.head!r} cannot be boosted trees; allowed is 'lightgbm'.")
    _head(configuration, 0).booster_settings(n_classes)


def _head(configuration: Configuration, seed: int) -> "heads.LightGBMHead":
    """Make the head of a configuration, on one thread."""
    parameters = {**configuration.parameters, "n_jobs": 1}
    pipeline = heads.make_pipeline("lightgbm", parameters=parameters, random_state=seed)
    head: heads.LightGBMHead = pipeline.named_steps["head"]
    return head


def _parameters(configuration: Configuration) -> dict[str, Any]:
    """Return the parameters of a configuration, with the head's defaults for those not given."""
    return {**heads.default_parameters("lightgbm"), **configuration.parameters}


def _most_rounds(configuration: Configuration) -> int:
    """Return how many rounds a configuration may take."""
    return int(_parameters(configuration)["n_estimators"])


def _sequence() -> Iterator[int]:
    """Yield 10, 20, 30, 40, 60, 80, 100, 125, 150, 200, 250, 300, 400, 500, 600, 800, 1000, ..."""
    yield from _FIRST_CHECKPOINTS
    for power in count():
        yield from (rounds * 10**power for rounds in _LATER_CHECKPOINTS)


def _silence_this_thread() -> None:
    """Switch LightGBM's messages off; the level belongs to the thread, and any call sets it."""
    import lightgbm

    lightgbm.Dataset(np.zeros((1, 1)), params={"verbosity": -1, "num_threads": 1}).construct()
