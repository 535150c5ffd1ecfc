"""Many configurations evaluated at once: each kind by the engine that shares most of the work."""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

import heads
from tuning.binned_rows import BinnedRows
from tuning.boosted_trees import BoostedTrees
from tuning.cores import Cores
from tuning.folds import Fold
from tuning.logistic_path import logistic_path
from tuning.reductions import Reductions
from tuning.resampling_plans import ResamplingPlans
from tuning.rungs import Judge, Population, climb
from tuning.stacked import StackedMLPs
from tuning.trials import Configuration, Trial, evaluate, fold_scores_of

Outcome = Trial | str
"""A trial, or the reason why there is none."""

Asked = tuple[Configuration, int]
"""A configuration and its trial number."""

_LARGE_BYTES = 128 * 2**20
"""Of rows, from which engines work one after the other: each holds copies of a fold's rows."""

_ON_A_PATH = ("C", "class_weight")  # what may differ along a path; it has the head's defaults for the rest

_MOST_ON_A_PATH = 4096
"""Columns, or rows if fewer, up to which paths are solved: beyond, their factorisations take gigabytes."""


@dataclass(frozen=True)
class Task:
    """What every configuration of one search is tried on; see `tuning.evaluate` for the attributes."""

    X: ArrayLike
    y: NDArray[np.int64]
    folds: Sequence[Fold]
    blocks: Mapping[str, int] | None
    n_classes: int
    metric: str
    random_state: int
    views: Any = None

    def evaluate(self, configuration: Configuration, number: int) -> Trial:
        """Cross-validate one configuration by itself: the reference for everything else here."""
        return evaluate(
            configuration,
            self.X,
            self.y,
            self.folds,
            views=self.views,
            blocks=self.blocks,
            n_classes=self.n_classes,
            metric=self.metric,
            random_state=self.random_state,
            number=number,
        )


@dataclass
class BatchEvaluation:
    """Evaluates configurations together, on reductions that are computed once.

    Parameters
    ----------
    task : Task
    on_step : callable or None
        Called with one sentence before each longer piece of work.
    """

    task: Task
    on_step: Callable[[str], None] | None = None
    _reductions: Reductions | None = None
    _binned: BinnedRows | None = None
    _plans: ResamplingPlans = field(default_factory=ResamplingPlans)
    _cores: Cores = field(default_factory=Cores)
    _saying: threading.Lock = field(default_factory=threading.Lock)

    def outcomes(
        self,
        asked: Sequence[Asked],
        *,
        never_dropped: Collection[str] = (),
        incumbent: NDArray[np.int64] | None = None,
    ) -> list[Outcome]:
        """Evaluate configurations.

        Parameters
        ----------
        asked : sequence of (Configuration, int)
            All different, with their trial numbers.
        never_dropped : collection of str
            Keys of configurations that are taken to all folds, with the epochs or rounds that they ask for.
        incumbent : ndarray of shape (n_samples,), int64, or None
            Out-of-fold class codes of the best trial so far.

        Returns
        -------
        list of Trial or str
            In the order asked; a text is the reason why a configuration could not be trained.
        """
        engines = self._by_engine(asked)
        alone = engines.pop("alone", [])
        found = self._side_by_side(engines, never_dropped, incumbent)
        found |= {one.key: self._alone(one, number) for one, number in alone}
        return [found[configuration.key] for configuration, _ in asked]

    def _by_engine(self, asked: Sequence[Asked]) -> dict[str, list[Asked]]:
        """Sort configurations by what evaluates them; the linear ones come first, being quick."""
        engines: dict[str, list[Asked]] = {"logreg": [], "lightgbm": [], "mlp": [], "alone": []}
        for configuration, number in asked:
            engines[self._engine_of(configuration)].append((configuration, number))
        return {engine: members for engine, members in engines.items() if members}

    def _side_by_side(
        self,
        engines: Mapping[str, Sequence[Asked]],
        never_dropped: Collection[str],
        incumbent: NDArray[np.int64] | None,
    ) -> dict[str, Outcome]:
        """Evaluate by several engines at once: one alone leaves cores idle while its last jobs end.

        The columns are reduced before, and BLAS has one thread in all of them: numbers do not depend on who
        comes first.
        """
        calls = [
            partial(self._together, engine, pairs, never_dropped, incumbent)
            for engine, pairs in engines.items()
        ]
        if self._is_large or len(calls) < 2:
            return dict(chain.from_iterable(call().items() for call in calls))
        self._reduce([one for pairs in engines.values() for one, _ in pairs])
        with threadpool_limits(limits=1, user_api="blas"):
            return dict(chain.from_iterable(found.items() for found in self._cores.side_by_side(calls)))

    @property
    def _is_large(self) -> bool:
        """Whether several engines at once would take too much memory."""
        n_rows, n_columns = np.shape(self.task.X)
        return bool(4 * n_rows * n_columns > _LARGE_BYTES)

    def _reduce(self, configurations: Sequence[Configuration]) -> None:
        """Make the reductions that configurations need, the widest first: it measures the others as well."""
        widths = {
            {**heads.default_parameters(one.head), **one.parameters}.get("pca") for one in configurations
        }
        try:
            for width in sorted(widths, key=lambda width: -(width or 0)):
                self.reductions.rows(0, width)
        except ValueError:
            return  # the engines find it again, and tell it of every configuration

    def _engine_of(self, configuration: Configuration) -> str:
        n_features = int(np.shape(self.task.X)[1])
        if not self._every_fold_has_every_class:
            return "alone"
        if _is_on_a_path(configuration) and self._narrowest(n_features) <= _MOST_ON_A_PATH:
            return "logreg"
        if BoostedTrees.accepts(configuration, n_features=n_features):
            return "lightgbm"
        return "mlp" if StackedMLPs.accepts(configuration, resamples=True) else "alone"

    def _narrowest(self, n_features: int) -> int:
        """Return the columns that a path is solved in: those of X, or as many as there are rows if fewer."""
        n_views = 0 if self.task.views is None else len(self.task.views)
        most_rows = max(len(train) for train, _ in self.task.folds)
        return min(n_features, most_rows * (1 + n_views))

    @property
    def _every_fold_has_every_class(self) -> bool:
        sizes = (len(np.unique(self.task.y[train])) for train, _ in self.task.folds)
        return all(size == self.task.n_classes for size in sizes)

    def _together(
        self,
        engine: str,
        pairs: Sequence[Asked],
        never_dropped: Collection[str],
        incumbent: NDArray[np.int64] | None,
    ) -> dict[str, Outcome]:
        """Evaluate by one engine; if that fails, by halves, until only the guilty are left and fail."""
        try:
            if engine == "logreg":
                return self._path(pairs)
            return self._climb(engine, pairs, never_dropped, incumbent)
        except ValueError:
            if len(pairs) == 1:
                return {one.key: self._alone(one, number) for one, number in pairs}
        half = len(pairs) // 2
        first = self._together(engine, pairs[:half], never_dropped, incumbent)
        return first | self._together(engine, pairs[half:], never_dropped, incumbent)

    def _alone(self, configuration: Configuration, number: int) -> Outcome:
        """Cross-validate one configuration; what is wrong with it is its outcome."""
        self._say(f"1 x {configuration.head}, {len(self.task.folds)} folds")
        try:
            return self.task.evaluate(configuration, number)
        except ValueError as error:
            return str(error)

    def _climb(
        self,
        engine: str,
        pairs: Sequence[Asked],
        never_dropped: Collection[str],
        incumbent: NDArray[np.int64] | None,
    ) -> dict[str, Outcome]:
        task = self.task
        configurations = [configuration for configuration, _ in pairs]
        in_full = [i for i, one in enumerate(configurations) if one.key in never_dropped]
        options: dict[str, Any] = {
            "n_classes": task.n_classes,
            "random_state": task.random_state,
            "cores": self._cores,
        }
        population: Population = (
            StackedMLPs(
                configurations, self.reductions, resampled=self._plans.apply, as_asked=in_full, **options
            )
            if engine == "mlp"
            else BoostedTrees(configurations, self.reductions, binned=self.binned, **options)
        )
        outcomes = climb(
            population,
            Judge(task.y, task.folds, task.n_classes, task.metric),
            numbers=[number for _, number in pairs],
            never_dropped=in_full,
            incumbent=incumbent,
            on_rung=self._say,
        )
        return {
            # What must be taken to its end is judged as a model fitted alone is, which keeps its last finite
            # epoch.
            one.key: self._alone(one, number)
            if isinstance(found, str) and one.key in never_dropped
            else found
            for (one, number), found in zip(pairs, outcomes, strict=True)
        }

    def _path(self, pairs: Sequence[Asked]) -> dict[str, Outcome]:
        """Evaluate logistic regressions along their paths of penalties."""
        task = self.task
        started = time.perf_counter()
        given = [_logistic_parameters(one) for one, _ in pairs]
        settings = [(parameters["class_weight"], parameters["C"]) for parameters in given]
        self._say(f"{len(pairs)} x logreg, {len(task.folds)} folds")
        solved = logistic_path(
            self.reductions,
            Cs=sorted({C for _, C in settings}),
            class_weights=list(dict.fromkeys(weight for weight, _ in settings)),
            n_classes=task.n_classes,
            cores=self._cores,
        )
        seconds = (time.perf_counter() - started) / len(pairs)
        found: dict[str, Outcome] = {}
        for (configuration, number), setting in zip(pairs, settings, strict=True):
            oof = solved[setting]
            scores = fold_scores_of(
                oof.argmax(axis=1), task.y, task.folds, n_classes=task.n_classes, metric=task.metric
            )
            found[configuration.key] = Trial(
                number, configuration, float(np.mean(scores)), scores, seconds, oof
            )
        return found

    @property
    def reductions(self) -> Reductions:
        """Standardised and reduced rows of every fold."""
        if self._reductions is None:
            task = self.task
            self._reductions = Reductions(task.X, task.y, task.folds, blocks=task.blocks, views=task.views)
        return self._reductions

    @property
    def binned(self) -> BinnedRows:
        """Reduced rows in LightGBM's bins."""
        if self._binned is None:
            self._binned = BinnedRows(self.reductions)
        return self._binned

    def _say(self, sentence: str) -> None:
        self._cores.check()
        if self.on_step is not None:
            with self._saying:  # engines speak from threads of their own
                self.on_step(sentence)


def _is_on_a_path(configuration: Configuration) -> bool:
    """Tell whether a configuration is a logistic regression that `logistic_path` solves."""
    if configuration.head != "logreg" or configuration.resampler != "none":
        return False
    usual, given = heads.default_parameters("logreg"), _logistic_parameters(configuration)
    weight = given["class_weight"]
    weighted = weight is None or weight == "balanced" or isinstance(weight, float)
    return weighted and all(given[name] == usual.get(name) for name in given if name not in _ON_A_PATH)


def _logistic_parameters(configuration: Configuration) -> dict[str, Any]:
    """Return the parameters of a logistic regression, with the head's defaults for those not given."""
    return {**heads.default_parameters("logreg"), **configuration.parameters}
