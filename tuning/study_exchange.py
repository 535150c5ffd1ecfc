"""The exchange with a study: configurations are asked for, their scores told, other processes heard."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from optuna.trial import Trial as Question

from tuning.batch_evaluation import Outcome
from tuning.dead_trials import fail_dead_trials, is_mine, sign
from tuning.ledger import Ledger
from tuning.shared_trials import SharedMemory, shared_attributes
from tuning.spaces import Space
from tuning.trials import Configuration, Trial

# Names under which a study keeps what its own numbers do not say.
_CONFIGURATION = "embedonce:configuration"
_FAILURE = "embedonce:failure"
_TASK = "embedonce:task"

_STRUCTURES = 4  # shapes of networks in one batch: those of one shape are trained as one computation
_STRUCTURE = ("mlp.pca", "mlp.whiten", "mlp.hidden", "mlp.n_hidden", "mlp.fusion", "mlp.balance")


@dataclass(frozen=True)
class StudyExchange:
    """Questions out, scores back, of one search in one study.

    Attributes
    ----------
    study : optuna.Study
    space : Space
        What is asked for.
    ledger : Ledger
        Where outcomes are looked up and kept.
    in_full : frozenset of str
        Keys of the configurations that are never dropped on a rung.
    on_trial : callable (trial, best) or None
        Called for each outcome that has a score.
    asks : bool
        Whether more is asked than what waits, which is all of a grid.
    """

    study: Study
    space: Space
    ledger: Ledger
    in_full: frozenset[str]
    on_trial: Callable[[Trial, Trial], None] | None
    asks: bool

    def n_left(self, n_trials: int) -> int:
        """Return how many trials are still to be made; those of processes that died are asked again."""
        n_finished = self.hear()
        fail_dead_trials(self.study, kept=(_CONFIGURATION,))
        return n_trials - n_finished if self.asks else self.n_waiting()

    def n_waiting(self) -> int:
        """Return how many trials are enqueued and taken by no process."""
        return len(self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def hear(self) -> int:
        """Take up what was finished before, or by another process; return how many trials are finished."""
        finished = _finished(self.study)
        for trial in finished:
            if _FAILURE in trial.user_attrs and _configuration(trial).key not in self.in_full:
                self.ledger.enter_failure(_configuration(trial), trial.user_attrs[_FAILURE])
        asked = [(_configuration(trial), number) for number, trial in enumerate(finished)]
        new = [(one, number) for one, number in asked if one.key not in self.ledger.outcomes]
        if new:
            self.ledger.look_up(new, self.in_full)
            self._show([one for one, _ in new])
        return len(finished)

    def awaited(self) -> list[FrozenTrial]:
        """Return the trials that other processes evaluate and this one must have, and would get from them."""
        if not (isinstance(self.ledger.recall, SharedMemory) and self.ledger.recall.holds_all):
            return []
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [trial for trial in running if self._is_missing(trial) and not is_mine(trial)]

    def _is_missing(self, trial: FrozenTrial) -> bool:
        if _CONFIGURATION not in trial.user_attrs:
            return False
        key = _configuration(trial).key
        return key in self.in_full and key not in self.ledger.outcomes

    def enqueue(self, first: Sequence[Configuration], space: Space) -> None:
        """Let these wait to be asked, but for those that are known, or that any process has or waits for.

        Parameters
        ----------
        first : sequence of Configuration
        space : Space
            Of all their heads: wider than what is asked for by and by.
        """
        open_states = (TrialState.WAITING, TrialState.RUNNING)
        waiting = self.study.get_trials(deepcopy=False, states=open_states)
        enqueued = [trial.user_attrs.get(_CONFIGURATION) for trial in waiting]
        for configuration in first:
            kept = configuration.as_dict()
            if configuration.key not in self.ledger.outcomes and kept not in enqueued:
                parameters = space.study_parameters(configuration)
                self.study.enqueue_trial(parameters, user_attrs={_CONFIGURATION: kept})

    def ask(self, n: int) -> list[tuple[Question, Configuration]]:
        """Ask for some configurations; what was enqueued comes first.

        There may be fewer: two processes that begin at the same instant both enqueue a whole grid, and what
        one has taken of it is not evaluated by the other.

        After a few shapes of networks were asked for, the others of the batch get one of these. What waits
        has its shape: it would be asked later than the shapes that were enqueued for it.
        """
        shapes = self.asks and not self.n_waiting()
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
            if not self.asks and self._is_copy(question):
                self.study.tell(question, state=TrialState.FAIL)
                continue
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

    def _is_copy(self, question: Question) -> bool:
        """Tell whether what a trial was enqueued for is known, or was taken before, by whichever process."""
        kept = question.user_attrs[_CONFIGURATION]
        if Configuration(**kept).key in self.ledger.outcomes:
            return True
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        before = [trial for trial in running if trial.number < question.number]
        return any(trial.user_attrs.get(_CONFIGURATION) == kept for trial in before)

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

    def numbers(self, n_trials: int) -> dict[str, int]:
        """Return the keys and numbers that all processes of a study report: its first finished trials."""
        reported = [_configuration(trial).key for trial in _finished(self.study)[:n_trials]]
        others = sorted(self.in_full - set(reported))  # where the process that began with them has died
        return {key: number for number, key in reversed(list(enumerate([*reported, *others])))}

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

    def _show(self, configurations: Collection[Configuration]) -> None:
        if self.on_trial is None or not self.ledger.trials:
            return
        best = self.ledger.trials[self.ledger.best]
        for configuration in configurations:
            outcome = self.ledger.outcomes[configuration.key]
            if isinstance(outcome, Trial):
                self.on_trial(outcome, best)


def claim(study: Study, task: Mapping[str, Any]) -> None:
    """Write into a new study what it is about; refuse a study that is about something else.

    Parameters
    ----------
    study : optuna.Study
    task : mapping of str to JSON value
        What all scores of the study share.

    Raises
    ------
    ValueError
        When the study holds trials of another task, or of another program.
    """
    known = study.user_attrs.get(_TASK)
    begun = [t for t in study.get_trials(deepcopy=False) if t.state != TrialState.WAITING]
    if known is None and not begun:
        study.set_user_attr(_TASK, dict(task))
        return
    if known != task:
        found = "trials of another program" if known is None else _unlike(known, task)
        raise ValueError(
            f"Study '{study.study_name}' holds {found}; scores of different tasks cannot be compared. "
            "Pass another study name, or search with the settings it was made with."
        )


def _unlike(known: Mapping[str, Any], task: Mapping[str, Any]) -> str:
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
