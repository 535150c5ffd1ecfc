"""The search: ask for configurations, evaluate or recall them together, tell the scores, keep everything."""

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from optuna.trial import Trial as Question

from heads import check_views
from tuning.batch_evaluation import BatchEvaluation, Outcome, Task
from tuning.dead_trials import fail_dead_trials, sign
from tuning.folds import Fold, check_partition
from tuning.grids import is_on_a_path, logistic_grid
from tuning.ledger import Ledger, TrialMemory, describe_task
from tuning.scores import class_codes, score_name
from tuning.shared_trials import SharedMemory, shared_attributes
from tuning.spaces import Space, build_spaces, check_heads, starting_configuration
from tuning.studies import open_study, quiet_optuna
from tuning.trials import Configuration, Trial

# Names under which a study keeps what its own numbers do not say.
_CONFIGURATION = "embedonce:configuration"
_FAILURE = "embedonce:failure"
_TASK = "embedonce:task"

_LARGEST_BATCH = 32
_BATCHES = 5  # at least so many after the first, so that answers can shape questions
_STRUCTURES = 4  # shapes of networks in one batch: those of one shape are trained as one computation
_STRUCTURE = ("mlp.pca", "mlp.whiten", "mlp.hidden", "mlp.n_hidden", "mlp.fusion", "mlp.balance")
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
        Index into ``trials`` of the highest score; the earliest of equals.
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
        finished in it is taken from there, and not computed again.
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
    asks more than these (an ``l1_ratio``, a resampler), it is asked for like any other head.

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
    whole = start or first
    in_full = frozenset(configuration.key for configuration in whole)
    started = time.monotonic()
    with quiet_optuna():
        if study is None:
            study = open_study(random_state=random_state)
        else:
            _claim(study, {**describe_task(task, heads), "space": space.digest})
            recall = SharedMemory(study, recall, shape=(len(codes), n_classes))
        ledger = Ledger(BatchEvaluation(task, on_step), recall)
        talk = _Talk(study, _asked_space(space), ledger, in_full, on_trial, asks=grid is None)
        talk.hear(_finished(study))
        _enqueue(study, space, first, tried=set(ledger.outcomes))
        while (left := talk.left(n_trials)) > 0:
            size = 1 if timeout is not None and not ledger.outcomes else _batch_size(study, n_trials)
            if grid is not None:  # points of a grid do not compete, so other processes may take the next ones
                size = min(size, _LARGEST_BATCH)
            talk.answer(talk.ask(min(size, left)))
            if timeout is not None and time.monotonic() - started >= timeout:
                break
        else:  # another process may have begun with some of these, and have died or still be at work
            ledger.look_up([(one, number) for number, one in enumerate(whole)], in_full)
        ledger.keep(_numbers(study, n_trials, in_full) if grid is None else _places(first))
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


def _batch_size(study: Study, n_trials: int) -> int:
    """Return how many configurations to ask for: first all that wait, then a fair part of the rest."""
    return _n_waiting(study) or min(_LARGEST_BATCH, max(4, math.ceil(n_trials / _BATCHES)))


def _n_waiting(study: Study) -> int:
    return len(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))


@dataclass
class _Talk:
    """The exchange with a study: questions out, scores back."""

    study: Study
    space: Space
    ledger: Ledger
    in_full: frozenset[str]
    on_trial: Callable[[Trial, Trial], None] | None
    asks: bool
    """Whether more is asked than what waits, which is all of a grid."""

    def left(self, n_trials: int) -> int:
        """Return how many trials are still to be made; those of processes that died are asked again."""
        n_finished = self.hear(_finished(self.study))
        fail_dead_trials(self.study, kept=(_CONFIGURATION,))
        return n_trials - n_finished if self.asks else _n_waiting(self.study)

    def hear(self, finished: Sequence[FrozenTrial]) -> int:
        """Take up what was finished before, or by another process; return how many trials are finished."""
        for trial in finished:
            if _FAILURE in trial.user_attrs and _configuration(trial).key not in self.in_full:
                self.ledger.enter_failure(_configuration(trial), trial.user_attrs[_FAILURE])
        asked = [(_configuration(trial), number) for number, trial in enumerate(finished)]
        new = [(one, number) for one, number in asked if one.key not in self.ledger.outcomes]
        if new:
            self.ledger.look_up(new, self.in_full)
            self._show([one for one, _ in new])
        return len(finished)

    def ask(self, n: int) -> list[tuple[Question, Configuration]]:
        """Ask for some configurations; what was enqueued comes first.

        After a few shapes of networks were asked for, the others of the batch get one of these. What waits
        has its shape: it would be asked later than the shapes that were enqueued for it.
        """
        shapes = self.asks and not _n_waiting(self.study)
        asked: list[tuple[Question, Configuration]] = []
        structures: list[dict[str, Any]] = []
        for place in range(n):
            if shapes and len(structures) >= _STRUCTURES:
                self.study.enqueue_trial(structures[place % _STRUCTURES])
            question = self.study.ask()
            sign(question)
            enqueued = question.user_attrs.get(_CONFIGURATION)
            if enqueued is None and not self.asks:  # another process took what waited
                self.study.tell(question, state=TrialState.FAIL)
                break
            if enqueued is not None and enqueued["head"] not in self.space.heads:
                configuration = Configuration(**enqueued)
            else:
                configuration = self.space.suggest(question)
                if enqueued is not None:  # it may lie outside the space: its parameters come near only
                    configuration = Configuration(**enqueued)
            question.set_user_attr(_CONFIGURATION, configuration.as_dict())
            asked.append((question, configuration))
            structure = {name: question.params[name] for name in _STRUCTURE if name in question.params}
            if structure and structure not in structures:
                structures.append(structure)
        return asked

    def answer(self, asked: Sequence[tuple[Question, Configuration]]) -> None:
        """Find the outcomes of a batch and tell them to the study."""
        try:
            pairs = [(one, question.number) for question, one in asked]
            outcomes = self.ledger.look_up(pairs, self.in_full, is_batch=True)
        except BaseException:
            for question, configuration in asked:
                # Left alone, it would count as running for ever. Asked again, the search goes on where it
                # stopped.
                self.study.tell(question, state=TrialState.FAIL)
                self.study.enqueue_trial(
                    question.params, user_attrs={_CONFIGURATION: configuration.as_dict()}
                )
            raise
        for (question, _), outcome in zip(asked, outcomes, strict=True):
            self._tell(question, outcome)
        self._show([configuration for _, configuration in asked])

    def _tell(self, question: Question, outcome: Outcome) -> None:
        if isinstance(outcome, str):
            question.set_user_attr(_FAILURE, outcome)
            self.study.tell(question, state=TrialState.FAIL)
            return
        if isinstance(self.ledger.recall, SharedMemory):
            for name, value in shared_attributes(outcome).items():
                question.set_user_attr(name, value)
        if outcome.rung:
            question.report(outcome.score, step=outcome.rung)
            self.study.tell(question, state=TrialState.PRUNED)
        else:
            self.study.tell(question, outcome.score)

    def _show(self, configurations: Sequence[Configuration]) -> None:
        if self.on_trial is None or not self.ledger.trials:
            return
        best = self.ledger.trials[self.ledger.best]
        for configuration in configurations:
            outcome = self.ledger.outcomes[configuration.key]
            if isinstance(outcome, Trial):
                self.on_trial(outcome, best)


def _check_budget(n_trials: int, timeout: float | None) -> None:
    faults = []
    if n_trials < 1:
        faults.append(f"'n_trials' is {n_trials}, allowed is 1 or more")
    if timeout is not None and not timeout > 0:
        faults.append(f"'timeout' is {timeout} seconds, allowed is more than 0, or None for no limit")
    if faults:
        raise ValueError(f"{'; '.join(faults)}. Correct the search budget.")


def _claim(study: Study, task: dict[str, Any]) -> None:
    """Write into a new study what it is about; refuse a study that is about something else."""
    known = study.user_attrs.get(_TASK)
    begun = [t for t in study.get_trials(deepcopy=False) if t.state != TrialState.WAITING]
    if known is None and not begun:
        study.set_user_attr(_TASK, task)
        return
    if known != task:
        found = "trials of another program" if known is None else _unlike(known, task)
        if known is not None and "matrix" not in known:
            found = "trials of an earlier version, which did not note their matrix"
        raise ValueError(
            f"Study '{study.study_name}' holds {found}; scores of different tasks cannot be compared. "
            "Pass another study name, or search with the settings it was made with."
        )


def _unlike(known: dict[str, Any], task: dict[str, Any]) -> str:
    return "; ".join(
        f"{name} {known.get(name)!r}, not {task[name]!r}" for name in task if known.get(name) != task[name]
    )


def _configuration(trial: FrozenTrial) -> Configuration:
    return Configuration(**trial.user_attrs[_CONFIGURATION])


def _finished(study: Study) -> list[FrozenTrial]:
    """Return what any process has finished, in the order of finishing; interrupted trials are not."""
    trials = study.get_trials(
        deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    )
    finished = [t for t in trials if t.state != TrialState.FAIL or _FAILURE in t.user_attrs]
    return sorted(finished, key=lambda trial: (trial.datetime_complete, trial.number))


def _places(grid: Sequence[Configuration]) -> dict[str, int]:
    """Return the keys and numbers of a grid: its order, whichever process was first with a point."""
    return {key: number for number, key in enumerate(dict.fromkeys(one.key for one in grid))}


def _numbers(study: Study, n_trials: int, in_full: Collection[str]) -> dict[str, int]:
    """Return the keys and numbers that all processes of a study report: its first so many finished trials."""
    reported = [_configuration(trial).key for trial in _finished(study)[:n_trials]]
    others = sorted(set(in_full) - set(reported))  # where the process that began with them has died
    return {key: number for number, key in reversed(list(enumerate([*reported, *others])))}


def _enqueue(study: Study, space: Space, first: Sequence[Configuration], *, tried: set[str]) -> None:
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING, TrialState.RUNNING))
    enqueued = [trial.user_attrs.get(_CONFIGURATION) for trial in waiting]
    for configuration in first:
        if configuration.key not in tried and configuration.as_dict() not in enqueued:
            study.enqueue_trial(
                space.study_parameters(configuration), user_attrs={_CONFIGURATION: configuration.as_dict()}
            )


def _check_any(ledger: Ledger) -> None:
    if ledger.trials:
        return
    reasons = list(dict.fromkeys(f"{failed.head}: {reason}" for failed, reason in ledger.failures))
    raise ValueError(
        f"None of the {len(ledger.failures)} configurations could be trained. Reasons: "
        f"{' | '.join(reasons[:5])} Correct the data or choose other heads."
    )
