"""The search: ask for configurations, evaluate or recall them together, tell the scores, keep everything."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from optuna.study import Study

from heads import check_views
from tuning.batch_evaluation import BatchEvaluation, Task
from tuning.folds import Fold, check_partition
from tuning.grids import is_on_a_path, logistic_grid
from tuning.ledger import Ledger, TrialMemory, describe_task
from tuning.scores import class_codes, score_name
from tuning.shared_trials import SharedMemory
from tuning.spaces import Space, build_spaces, check_heads, starting_configuration
from tuning.studies import open_study, quiet_optuna
from tuning.study_exchange import StudyExchange, claim
from tuning.trials import Configuration, Trial
from tuning.waiting import Waiting

_LARGEST_BATCH = 32
_BATCHES = 5  # at least so many after the first, so that answers can shape questions
_LONGEST_PATH = 36  # configurations of logistic regression beside other heads


@dataclass(frozen=True)
class SearchResult:
    """Everything a search found.

    Attributes
    ----------
    trials : list of Trial
        The configurations that were cross-validated in full, each once, in the order asked.
    failures : list of (Configuration, str)
        The configurations that could not be trained, each once, with the reason.
    best : int
        Index into ``trials`` of the chosen one: the highest score, the earliest of equals, unless
        something else decided.
    default : int or None
        Index into ``trials`` of the configuration that the first head starts with; None when it could not be
        trained, or is no point of the grid.
    folds : list of (train, valid)
    metric : str
        Name of the score in snake_case.
    n_classes : int
    dropped : list of Trial
        Those that were dropped on a rung; see `tuning.rungs`.
    """

    trials: list[Trial]
    failures: list[tuple[Configuration, str]]
    best: int
    default: int | None
    folds: list[Fold]
    metric: str
    n_classes: int
    dropped: list[Trial] = field(default_factory=list)

    @property
    def predictions(self) -> NDArray[np.int64]:
        """Out-of-fold class codes, shape (n_trials, n_samples), int64: what `tuning.bbc_cv` takes."""
        return np.stack([trial.predictions for trial in self.trials])

    @property
    def fold_of_row(self) -> NDArray[np.int64]:
        """Number of the fold that validates each row, shape (n_samples,), int64."""
        numbers = np.empty(sum(len(valid) for _, valid in self.folds), dtype=np.int64)
        for number, (_, valid) in enumerate(self.folds):
            numbers[valid] = number
        return numbers


def search(
    X: ArrayLike,
    y: ArrayLike,
    *,
    heads: Sequence[str],
    n_trials: int,
    views: Any = None,
    blocks: Mapping[str, int] | None = None,
    folds: Sequence[Fold],
    n_classes: int,
    metric: str = "macro-f1",
    random_state: int = 0,
    timeout: float | None = None,
    space: Space | None = None,
    grid: Sequence[Configuration] | None = None,
    study: Study | None = None,
    recall: TrialMemory | None = None,
    on_trial: Callable[[Trial, Trial], None] | None = None,
    on_step: Callable[[str], None] | None = None,
) -> SearchResult:
    """Look for the configuration with the highest cross-validated score.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features), float32
        See `evaluate`; a block that is NaN in a row is imputed from training rows.
    y : array-like of shape (n_samples,), integer
        Class codes 0 .. n_classes - 1.
    heads : sequence of str
        Names of the heads to choose from. The configurations they start with are tried first, in this order;
        only what the caller enqueued in ``study`` comes before.
    n_trials : int
        How many configurations to ask for, the defaults and those already in ``study`` included, also those
        of other processes. Processes that share a study may finish a few more, of which none is reported.
    views : array-like of shape (n_views, n_samples, n_features), or None
        See `evaluate`.
    blocks : mapping of str to int, or None
        Block name to width, in column order.
    folds : sequence of (train, valid)
        From `make_folds`.
    n_classes : int
    metric : str
        A score name; larger is better.
    random_state : int
        Seed of the models, and of the sampler when ``study`` is None.
    timeout : float or None
        Seconds after which nothing more is asked; what runs is finished, and at least one trial is made.
    space : Space or None
        From `build_spaces`, with these heads; None is what it gives for data of this shape.
    grid : sequence of Configuration or None
        From `grid_configurations`: these are tried, in this order, and nothing else is asked.
    study : optuna.Study or None
        From `open_study`. A study of an earlier search on the same task is continued. What other processes
        finished in it is taken from there, and not computed again; what they are computing and this search
        needs too is waited for (`tuning.waiting`).
    recall : TrialMemory or None
        With the same seed the same configurations are asked, so one that is stored is recalled, not computed.
    on_trial : callable (trial, best) or None
        Called after every configuration that has a score, with the best so far. What it raises ends the
        search.
    on_step : callable (text) or None
        Called with one sentence before each longer piece of work.

    Returns
    -------
    SearchResult

    Raises
    ------
    ValueError
        When an argument is not allowed, the study or the memory belongs to another task, or every
        configuration failed.

    Notes
    -----
    Configurations are asked for in batches and evaluated together, see `tuning.batch_evaluation`. Logistic
    regression is not asked for one by one: its path of penalties and class weights is laid out at the start
    and solved as a whole (`logistic_grid`), as the share of ``n_trials`` that one head has. Where its space
    has more than these (an ``l1_ratio``, a resampler), it is asked for like any other head.

    A configuration that raises ValueError (SMOTE with a class of one row, for example) is recorded and the
    search goes on. A configuration asked again counts as a trial, but is neither computed nor listed again.
    An interrupt passes through: what was finished is in ``study`` and ``recall``, and what was running is
    asked again.
    """
    check_heads(heads)
    _check_budget(n_trials, timeout)
    codes = class_codes(y, n_classes)
    check_partition(folds, len(codes))
    if views is not None:
        check_views(X, views)
    task = Task(X, codes, folds, blocks, n_classes, score_name(metric), random_state, views)
    if space is None:
        space = build_spaces(heads, blocks=blocks, n_features=np.shape(X)[1], n_rows=len(codes))
    start = [starting_configuration(head, space) for head in heads] if grid is None else []
    first = _laid_out(start, space, n_trials) if grid is None else list(grid)
    n_trials = n_trials if grid is None else len(first)
    whole = start[:n_trials] or first
    in_full = frozenset(configuration.key for configuration in whole)
    started = time.monotonic()
    with quiet_optuna():
        if study is None:
            study = open_study(random_state=random_state)
        else:
            claim(study, {**describe_task(task, heads), "space": space.digest})
            recall = SharedMemory(study, recall, shape=(len(codes), n_classes))
        ledger = Ledger(BatchEvaluation(task, on_step), recall)
        exchange = StudyExchange(study, _asked_space(space), ledger, in_full, on_trial, asks=grid is None)
        exchange.hear()
        exchange.enqueue(first, space)
        waiting = Waiting(exchange, on_step)
        while (left := exchange.n_left(n_trials)) > 0 or waiting.pays():
            if left > 0:
                size = 1 if timeout is not None and not ledger.outcomes else _batch_size(exchange, n_trials)
                if grid is not None:  # its points do not compete, so other processes may take the next ones
                    size = min(size, _LARGEST_BATCH)
                exchange.answer(exchange.ask(min(size, left)))
            else:
                waiting.rest()
            if timeout is not None and time.monotonic() - started >= timeout:
                break
        else:  # another process, which cannot be seen from here, may have begun with some of these
            ledger.look_up([(one, number) for number, one in enumerate(whole)], in_full)
        ledger.keep(exchange.numbers(n_trials) if grid is None else _places(first))
    _check_any(ledger)
    return SearchResult(
        trials=ledger.trials,
        failures=ledger.failures,
        best=ledger.best,
        default=None if not start else ledger.index_of(start[0]),
        folds=list(folds),
        metric=task.metric,
        n_classes=n_classes,
        dropped=ledger.dropped,
    )


def _laid_out(start: Sequence[Configuration], space: Space, n_trials: int) -> list[Configuration]:
    """Return what is tried before anything is asked: where each head starts, and the logistic path."""
    first = list(start)
    if _has_a_path(space):
        only = len(space.heads) == 1
        length = n_trials if only else min(_LONGEST_PATH, n_trials // len(space.heads))
        first += logistic_grid(max(length, 1), space)
    return list({configuration.key: configuration for configuration in first}.values())[:n_trials]


def _asked_space(space: Space) -> Space:
    """Return the heads that a study is asked for: not one that is laid out as a path, unless it is alone."""
    others = {head: one for head, one in space.heads.items() if head != "logreg" or not _has_a_path(space)}
    return Space(others or space.heads)


def _has_a_path(space: Space) -> bool:
    """Whether there is a logistic regression, and a path of penalties and weights leaves nothing out."""
    return "logreg" in space.heads and is_on_a_path(space.heads["logreg"])


def _batch_size(exchange: StudyExchange, n_trials: int) -> int:
    """Return how many configurations to ask for: first all that wait, then a fair part of the rest."""
    return exchange.n_waiting() or min(_LARGEST_BATCH, max(4, math.ceil(n_trials / _BATCHES)))


def _check_budget(n_trials: int, timeout: float | None) -> None:
    faults = []
    if n_trials < 1:
        faults.append(f"'n_trials' is {n_trials}, allowed is 1 or more")
    if timeout is not None and not timeout > 0:
        faults.append(f"'timeout' is {timeout} seconds, allowed is more than 0, or None for no limit")
    if faults:
        raise ValueError(f"{'; '.join(faults)}. Correct the search budget.")


def _places(grid: Sequence[Configuration]) -> dict[str, int]:
    """Return the keys and numbers of a grid: its order, whichever process was first with a point."""
    return {key: number for number, key in enumerate(dict.fromkeys(one.key for one in grid))}


def _check_any(ledger: Ledger) -> None:
    if ledger.trials:
        return
    reasons = list(dict.fromkeys(f"{failed.head}: {reason}" for failed, reason in ledger.failures))
    raise ValueError(
        f"None of the {len(ledger.failures)} configurations could be trained. Reasons: "
        f"{' | '.join(reasons[:5])} Correct the data or choose other heads."
    )
