"""What a search knows so far, and where finished trials are kept for the next run."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tuning.folds import Fold
from tuning.trials import Configuration, Trial, evaluate, fold_scores_of


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


@dataclass(frozen=True)
class Task:
    """What every configuration of one search is tried on."""

    X: ArrayLike
    y: NDArray[np.int64]
    folds: Sequence[Fold]
    blocks: Mapping[str, int] | None
    n_classes: int
    metric: str
    random_state: int
    views: Any = None

    def try_out(self, configuration: Configuration, number: int) -> Trial:
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

    def check_recalled(self, known: Trial, configuration: Configuration) -> None:
        """The scores follow from the probabilities: a memory of other rows, folds or metric shows itself."""
        expected = (len(self.y), self.n_classes)
        if known.configuration == configuration and known.oof.shape == expected:
            scores = fold_scores_of(
                known.predictions, self.y, self.folds, n_classes=self.n_classes, metric=self.metric
            )
            if scores == known.fold_scores and float(np.mean(scores)) == known.score:
                return
        raise ValueError(
            f"The stored trial of configuration {configuration.key[:12]} ({configuration.head}) is not of "
            f"this search: its probabilities have shape {known.oof.shape} and its fold scores are "
            f"{known.fold_scores}, which is not what {expected[0]} rows, {expected[1]} classes, these "
            f"{len(self.folds)} folds and metric '{self.metric}' give. Use another memory (another run "
            "folder) for other data, folds, metric or seed."
        )

    def describe(self, heads: Sequence[str]) -> dict[str, Any]:
        """What the scores of one study must share to be comparable."""
        digest = hashlib.sha256(self.y.tobytes())
        for _, valid in self.folds:
            digest.update(len(valid).to_bytes(8, "little") + np.asarray(valid, dtype=np.int64).tobytes())
        return {"heads": list(heads), "metric": self.metric, "labels and folds": digest.hexdigest()[:16]}


@dataclass
class Ledger:
    """What is known so far: every configuration once, with its trial or the reason why it has none."""

    task: Task
    recall: TrialMemory | None
    trials: list[Trial] = field(default_factory=list)
    failures: list[tuple[Configuration, str]] = field(default_factory=list)
    outcomes: dict[str, Trial | str] = field(default_factory=dict)

    def outcome(self, configuration: Configuration, number: int) -> Trial | str:
        """Look up, recall or evaluate."""
        key = configuration.key
        if key not in self.outcomes:
            self.outcomes[key] = self._recalled(configuration, number) or self._tried(configuration, number)
        return self.outcomes[key]

    def _recalled(self, configuration: Configuration, number: int) -> Trial | None:
        known = None if self.recall is None else self.recall.get(configuration.key)
        if known is None:
            return None
        self.task.check_recalled(known, configuration)
        self.trials.append(replace(known, number=number))
        return self.trials[-1]

    def _tried(self, configuration: Configuration, number: int) -> Trial | str:
        try:
            trial = self.task.try_out(configuration, number)
        except ValueError as error:
            self.failures.append((configuration, str(error)))
            return str(error)
        if self.recall is not None:
            self.recall.put(trial)
        self.trials.append(trial)
        return trial

    @property
    def best(self) -> int:
        """Index of the highest score; max() keeps the first of equals."""
        return max(range(len(self.trials)), key=lambda index: self.trials[index].score)

    def index_of(self, configuration: Configuration) -> int | None:
        found = [index for index, trial in enumerate(self.trials) if trial.configuration == configuration]
        return found[0] if found else None
