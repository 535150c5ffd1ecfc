"""What a search knows so far, and where finished trials are kept for the next run."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from tuning.batch_evaluation import BatchEvaluation, Outcome, Task
from tuning.trials import Configuration, Trial, fold_scores_of

_READ_AT_ONCE = 2**22  # values: 16 MiB as float32


class TrialMemory(Protocol):
    """Where finished trials are kept, so that an interrupted search goes on instead of starting again.

    One memory belongs to one matrix, one set of folds, one metric and one ``random_state``: a key names a
    configuration only. The owner keeps memories apart, for example in a folder named after a fingerprint.
    """

    def get(self, key: str) -> Trial | None:
        """Return the trial stored under `Configuration.key`, or None."""
        ...

    def put(self, trial: Trial) -> None:
        """Store a finished trial durably before returning."""
        ...


@dataclass
class Ledger:
    """What is known so far: every configuration once, with its trial or the reason why it has none."""

    evaluation: BatchEvaluation
    recall: TrialMemory | None
    trials: list[Trial] = field(default_factory=list)
    dropped: list[Trial] = field(default_factory=list)
    failures: list[tuple[Configuration, str]] = field(default_factory=list)
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def look_up(
        self,
        asked: Sequence[tuple[Configuration, int]],
        never_dropped: Collection[str],
        *,
        is_batch: bool = False,
    ) -> list[Outcome]:
        """Recall or evaluate configurations; those with equal keys share an outcome.

        Parameters
        ----------
        asked : sequence of (Configuration, int)
            With the number for a trial that is new.
        never_dropped : collection of str
            Keys of configurations that are evaluated in full, also when the memory has less of them.
        is_batch : bool
            Whether they were asked to be evaluated together. A memory that has a part of them was cut off
            while it was written: they compete with each other, so all of that head are evaluated again.
        """
        new = {one.key: (one, number) for one, number in reversed(asked) if one.key not in self.outcomes}
        unknown = []
        for one, number in reversed(new.values()):
            known = self._recalled(one, in_full=one.key in never_dropped)
            if known is None:
                unknown.append((one, number))
            else:
                self.outcomes[one.key] = replace(known, number=number)
        incumbent = self.trials[self.best].predictions if self.trials else None
        made = self.evaluation.outcomes(unknown, never_dropped=never_dropped, incumbent=incumbent)
        if is_batch and len(unknown) < len(new):
            # Which heads compete is known from outcomes alone, so theirs of this first round are thrown away.
            competed = {o.configuration.head for o in made if isinstance(o, Trial) and o.asked is not None}
            torn = [pair for pair in reversed(new.values()) if pair[0].head in competed]
            again = self.evaluation.outcomes(torn, never_dropped=never_dropped, incumbent=incumbent)
            unknown, made = [*unknown, *torn], [*made, *again]
        self.outcomes |= {one.key: outcome for (one, _), outcome in zip(unknown, made, strict=True)}
        for key in dict.fromkeys(one.key for one, _ in unknown):
            outcome = self.outcomes[key]
            if self.recall is not None and isinstance(outcome, Trial):
                self.recall.put(outcome)
        for one, _ in reversed(new.values()):
            self._enter(one, self.outcomes[one.key])
        return [self.outcomes[one.key] for one, _ in asked]

    def _enter(self, configuration: Configuration, outcome: Outcome) -> None:
        if isinstance(outcome, str):
            self.failures.append((configuration, outcome))
        else:
            (self.dropped if outcome.rung else self.trials).append(outcome)

    def enter_failure(self, configuration: Configuration, reason: str) -> None:
        """Take up why a configuration could not be trained, as found out before."""
        if configuration.key not in self.outcomes:
            self.outcomes[configuration.key] = reason
            self._enter(configuration, reason)

    def _recalled(self, configuration: Configuration, *, in_full: bool) -> Trial | None:
        """Return the stored trial of a configuration, or None when none answers what is asked."""
        known = None if self.recall is None else self.recall.get(configuration.key)
        if known is None:
            return None
        # A search may have dropped it, or have stopped it where it was best.
        if in_full and known.asked is not None:
            return None
        self._check_recalled(known, configuration)
        return known

    def _check_recalled(self, known: Trial, configuration: Configuration) -> None:
        """The scores follow from the probabilities: a memory of other rows, folds or metric shows itself."""
        task = self.evaluation.task
        expected = (len(task.y), task.n_classes)
        if known.key == configuration.key and known.oof.shape == expected:
            seen = task.folds[: len(known.fold_scores)]
            scores = fold_scores_of(
                known.predictions, task.y, seen, n_classes=task.n_classes, metric=task.metric
            )
            if scores == known.fold_scores and float(np.mean(scores)) == known.score:
                return
        raise ValueError(
            f"The stored trial of configuration {configuration.key[:12]} ({configuration.head}) is not of "
            f"this search: its probabilities have shape {known.oof.shape} and its fold scores are "
            f"{known.fold_scores}, which is not what {expected[0]} rows, {expected[1]} classes, these "
            f"{len(task.folds)} folds and metric '{task.metric}' give. Use another memory (another run "
            "folder) for other data, folds, metric or seed."
        )

    def keep(self, numbers: Mapping[str, int]) -> None:
        """Put the configurations with these keys in the order of their numbers, and forget all others."""

        def kept(trials: list[Trial]) -> list[Trial]:
            found = sorted((one for one in trials if one.key in numbers), key=lambda one: numbers[one.key])
            return [
                one if one.number == numbers[one.key] else replace(one, number=numbers[one.key])
                for one in found
            ]

        self.trials, self.dropped = kept(self.trials), kept(self.dropped)
        known = [failed for failed in self.failures if failed[0].key in numbers]
        self.failures = sorted(known, key=lambda failed: numbers[failed[0].key])

    @property
    def best(self) -> int:
        """Index of the highest score; max() keeps the first of equals."""
        return max(range(len(self.trials)), key=lambda index: self.trials[index].score)

    def index_of(self, configuration: Configuration) -> int | None:
        """Return the place among the trials of what was asked for, or None."""
        found = [index for index, trial in enumerate(self.trials) if trial.key == configuration.key]
        return found[0] if found else None


def describe_task(task: Task, heads: Sequence[str]) -> dict[str, Any]:
    """Return what the scores of one study must share to be comparable.

    Parameters
    ----------
    task : Task
        Its matrix and views are read once.
    heads : sequence of str

    Returns
    -------
    dict of str to JSON value
        Rows are named by what they hold, not by where they come from: equal rows make equal trials.
    """
    digest = hashlib.sha256(task.y.tobytes())
    for _, valid in task.folds:
        digest.update(len(valid).to_bytes(8, "little") + np.asarray(valid, dtype=np.int64).tobytes())
    views = [] if task.views is None else [task.views[view] for view in range(len(task.views))]
    return {
        "heads": list(heads),
        "metric": task.metric,
        "labels and folds": digest.hexdigest()[:16],
        "matrix": _content(task.X),
        "views": [_content(view) for view in views],
        "blocks": None if task.blocks is None else [list(block) for block in task.blocks.items()],
        "random_state": task.random_state,
    }


def _content(X: Any) -> str:
    """Name a matrix by its shape and the values that are trained on, read a part at a time."""
    rows = X if hasattr(X, "shape") else np.asarray(X)
    digest = hashlib.blake2b(digest_size=8)
    step = max(1, _READ_AT_ONCE // max(1, rows.shape[1]))
    for start in range(0, rows.shape[0], step):
        digest.update(np.asarray(rows[start : start + step], dtype=np.float32).tobytes())
    return f"{rows.shape[0]} x {rows.shape[1]} {digest.hexdigest()}"
