"""The search: ask for a configuration, cross-validate or recall it, tell the score, keep everything."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from optuna.study import Study
from optuna.trial import Trial as Question
from optuna.trial import TrialState

from heads import check_views
from tuning.folds import Fold, check_partition
from tuning.ledger import Ledger, Task, TrialMemory
from tuning.scores import class_codes, score_name
from tuning.spaces import check_heads, default_configuration, default_parameters_in_study, suggest
from tuning.studies import open_study, quiet_optuna
from tuning.trials import Configuration, Trial

# Names under which a study keeps what its own numbers do not say.
_CONFIGURATION = "embedonce:configuration"
_FAILURE = "embedonce:failure"
_TASK = "embedonce:task"


@dataclass(frozen=True)
class SearchResult:
    """Everything a search found.

    Attributes
    ----------
    trials : list of Trial
        The configurations with a score, each once, in the order asked.
    failures : list of (Configuration, str)
        The configurations that could not be trained, each once, with the reason.
    best : int
        Index into ``trials`` of the highest score; the earliest of equals.
    default : int or None
        Index into ``trials`` of the default configuration of the first head; None when it could not be
        trained.
    folds : list of (train, valid)
    metric : str
        Name of the score in snake_case.
    n_classes : int
    """

    trials: list[Trial]
    failures: list[tuple[Configuration, str]]
    best: int
    default: int | None
    folds: list[Fold]
    metric: str
    n_classes: int

    @property
    def predictions(self) -> NDArray[np.int64]:
        """Out-of-fold class codes, shape (n_trials, n_samples), int64: what `tuning.bbc_cv` takes."""
        return np.stack([trial.predictions for trial in self.trials])


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
    study: Study | None = None,
    recall: TrialMemory | None = None,
    on_trial: Callable[[Trial, Trial], None] | None = None,
) -> SearchResult:
    """Look for the configuration with the highest cross-validated score.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features), float32
        See `evaluate`; a block that is NaN in a row is imputed from training rows.
    y : array-like of shape (n_samples,), integer
        Class codes 0 .. n_classes - 1.
    heads : sequence of str
        Names of the heads to choose from. Their default configurations are tried first, in this order; only
        what the caller enqueued in ``study`` comes before.
    n_trials : int
        How many configurations to ask for, the defaults and those already in ``study`` included.
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
    study : optuna.Study or None
        From `open_study`. A study of an earlier search on the same task is continued.
    recall : TrialMemory or None
        With the same seed the same configurations are asked, so one that is stored is recalled, not computed.
    on_trial : callable (trial, best) or None
        Called after every configuration that has a score, with the best so far. What it raises ends the
        search.

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
    ledger = Ledger(task, recall)
    study = open_study(random_state=random_state) if study is None else study
    started = time.monotonic()
    with quiet_optuna():
        _claim(study, task.describe(heads))
        for number, (configuration, question) in enumerate(_asked(study, heads, n_trials)):
            n_before = len(ledger.trials)
            _answer(study, question, ledger, configuration, number)
            if on_trial is not None and len(ledger.trials) > n_before:
                on_trial(ledger.trials[-1], ledger.trials[ledger.best])
            if timeout is not None and time.monotonic() - started >= timeout:
                break
    _check_any(ledger)
    return SearchResult(
        trials=ledger.trials,
        failures=ledger.failures,
        best=ledger.best,
        default=ledger.index_of(default_configuration(heads[0])),
        folds=list(folds),
        metric=task.metric,
        n_classes=n_classes,
    )


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
        raise ValueError(
            f"Study '{study.study_name}' holds {found}; scores of different tasks cannot be compared. "
            "Pass another study name, or search with the settings it was made with."
        )


def _unlike(known: dict[str, Any], task: dict[str, Any]) -> str:
    return "; ".join(
        f"{name} {known.get(name)!r}, not {task[name]!r}" for name in task if known.get(name) != task[name]
    )


def _asked(
    study: Study, heads: Sequence[str], n_trials: int
) -> Iterator[tuple[Configuration, Question | None]]:
    """Yield the configurations a study has already finished (without a question), then new ones."""
    earlier = [
        Configuration(**trial.user_attrs[_CONFIGURATION])
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL))
        if trial.state == TrialState.COMPLETE or _FAILURE in trial.user_attrs  # else it was interrupted
    ]
    for configuration in earlier:
        yield configuration, None
    _enqueue_defaults(study, heads, tried={configuration.key for configuration in earlier})
    for _ in range(len(earlier), n_trials):
        question = study.ask()
        configuration = suggest(question, heads)
        question.set_user_attr(_CONFIGURATION, configuration.as_dict())
        yield configuration, question


def _enqueue_defaults(study: Study, heads: Sequence[str], *, tried: set[str]) -> None:
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    enqueued = [trial.user_attrs.get(_CONFIGURATION) for trial in waiting]
    for head in heads:
        configuration = default_configuration(head)
        if configuration.key not in tried and configuration.as_dict() not in enqueued:
            study.enqueue_trial(
                default_parameters_in_study(head), user_attrs={_CONFIGURATION: configuration.as_dict()}
            )


def _answer(
    study: Study, question: Question | None, ledger: Ledger, configuration: Configuration, number: int
) -> None:
    """Find the outcome of a configuration and tell it to the study that asked."""
    try:
        outcome = ledger.outcome(configuration, number)
    except BaseException:
        if question is not None:
            # Left alone, it would count as running for ever. Asked again, the search goes on where it
            # stopped.
            study.tell(question, state=TrialState.FAIL)
            study.enqueue_trial(question.params, user_attrs={_CONFIGURATION: configuration.as_dict()})
        raise
    if question is None:
        return
    if isinstance(outcome, Trial):
        study.tell(question, outcome.score)
    else:
        question.set_user_attr(_FAILURE, outcome)
        study.tell(question, state=TrialState.FAIL)


def _check_any(ledger: Ledger) -> None:
    if ledger.trials:
        return
    reasons = list(dict.fromkeys(f"{failed.head}: {reason}" for failed, reason in ledger.failures))
    raise ValueError(
        f"None of the {len(ledger.failures)} configurations could be trained. Reasons: "
        f"{' | '.join(reasons[:5])} Correct the data or choose other heads."
    )
