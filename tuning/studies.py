"""Optuna studies that give the same answers again: in memory, in a journal file or in a database."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tuning.journal_lock import JournalLock

_ATTEMPTS, _PAUSE = 5, 0.5  # seconds


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keep Optuna's progress and hints off the log inside the block; errors still show."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.ERROR))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


class NumberedSampler(BaseSampler):
    """A tree-structured Parzen estimator whose answers depend on seed, trial number and finished trials only.

    Optuna's own seeded sampler goes on from its internal generator, whose state no storage keeps: a study
    that is opened again would ask other configurations. Here every trial has a sampler of its own, seeded by
    its number.

    Parameters
    ----------
    random_state : int

    References
    ----------
    Watanabe (2023). Tree-structured Parzen estimator. arXiv 2304.11127.
    """

    def __init__(self, random_state: int) -> None:
        self._random_state = random_state
        self._number = -1
        self._current = _tpe(0)

    def _sampler(self, trial: FrozenTrial) -> TPESampler:
        if trial.number != self._number:
            seed = int(np.random.SeedSequence([self._random_state, trial.number]).generate_state(1)[0])
            self._number, self._current = trial.number, _tpe(seed)
        return self._current

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As Optuna asks of every sampler."""
        return self._sampler(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As Optuna asks of every sampler."""
        return self._sampler(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As Optuna asks of every sampler."""
        return self._sampler(trial).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """As Optuna asks of every sampler."""
        self._sampler(trial).after_trial(study, trial, state, values)


def _tpe(seed: int) -> TPESampler:
    """Sample jointly (multivariate) within each head (group); running trials count as bad (constant_liar)."""
    with catch_warnings():
        simplefilter("ignore", ExperimentalWarning)  # the three options have been stable since Optuna 3
        return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


def open_study(name: str | None = None, storage: str | None = None, *, random_state: int = 0) -> Study:
    """Open or start a study that maximises its score.

    Parameters
    ----------
    name : str or None
        Needed with a storage, so that the study can be found again.
    storage : str or None
        None keeps the study in memory. A path ending in ``.journal`` is a journal file, safe for several
        processes. Anything else is a database URL such as ``sqlite:///study.db`` (for one process only).
    random_state : int
        Seed of the sampler; not negative.

    Returns
    -------
    optuna.Study

    Raises
    ------
    ValueError
        When a storage has no study name, the storage cannot be opened, the study there minimises, or
        ``random_state`` is negative.
    """
    if random_state < 0:
        raise ValueError(f"'random_state' is {random_state}, allowed is 0 or more. Pass another seed.")
    if storage is not None and not name:
        raise ValueError(
            f"The storage '{storage}' was given without a study name, which is needed to find the study "
            "again. Pass a name (--study NAME)."
        )
    with quiet_optuna():
        study = optuna.create_study(
            study_name=name,
            storage=None if storage is None else _open_storage(storage),
            sampler=NumberedSampler(random_state),
            direction="maximize",
            load_if_exists=True,
        )
    if study.direction != StudyDirection.MAXIMIZE:
        raise ValueError(
            f"Study '{name}' in '{storage}' minimises its value, allowed are studies that maximise a score. "
            "Pass another study name."
        )
    return study


def _open_storage(storage: str) -> BaseStorage:
    if storage.endswith(".journal"):
        return _open_journal(Path(storage))
    if "://" not in storage:
        raise ValueError(
            f"Unknown storage '{storage}', allowed are a path ending in '.journal' or a database URL. "
            f"Pass '{storage}.journal' or 'sqlite:///{storage}'."
        )
    return _open_database(storage)


def _open_journal(path: Path) -> BaseStorage:
    if not path.parent.is_dir():
        raise ValueError(
            f"The folder '{path.parent}' of the journal '{path.name}' does not exist. Make it first, or pass "
            "another path."
        )
    try:
        return JournalStorage(JournalFileBackend(str(path), lock_obj=JournalLock(str(path))))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"The file '{path}' cannot be read as a journal ({error}). Pass a new path, or one that a study "
            "wrote."
        ) from error


def _open_database(url: str) -> BaseStorage:
    from sqlalchemy.exc import SQLAlchemyError  # slow to import, and used with a database only

    try:
        return _with_tables(url)
    except (ImportError, SQLAlchemyError, StorageInternalError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"The storage '{url}' cannot be opened ({str(error).splitlines()[0]}). Allowed are a path ending "
            "in '.journal' or an SQLAlchemy URL such as 'sqlite:///study.db' whose folder exists and whose "
            "driver is installed. Correct the URL, or use a journal file."
        ) from error


def _with_tables(url: str) -> RDBStorage:
    """Open a database, whose tables another process may be making at this moment."""
    from sqlalchemy.exc import IntegrityError, ProgrammingError

    for _ in range(_ATTEMPTS):
        try:
            return RDBStorage(url)
        except (IntegrityError, ProgrammingError):  # a table or type is there that was not a moment ago
            time.sleep(_PAUSE)
    return RDBStorage(url)
