"""What ``embedonce tune`` and ``train`` are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heads import HEADS, OTHER_HEADS, RESAMPLERS
from pipelines.applied_steps import AppliedSteps, asked_steps
from pipelines.duplicates import RULES
from pipelines.errors import UsageError, users_words
from tuning import Configuration, score_name


@dataclass(frozen=True)
class TuneSettings:
    """Settings of ``embedonce tune`` and ``train``, as on the command line.

    For ``train`` there is one head, `trials` is 1, and `resampler` and `parameters` may differ from the
    head's defaults; `preset` names what they come from (``presets.apply_preset``). `use_views` is how many of
    the stored augmented views are trained on, None for all. `space` is what a space file declares
    (``search_spaces.read_space``); with `grid` every combination of it is tried, and nothing else.
    `duplicates` says which rows share a fold (``duplicates.find_related_rows``).
    `calibrate` and `decide` are what ``predict`` applies (``applied_steps.asked_steps``). `weights` are
    folders of backbones by name, for a zero-shot head, which embeds its ``prompts`` (one of its parameters).
    `select` is ``"best"``, or ``"simplest"`` for the simplest trial within one standard error of the best.
    `repeats` is how many other splits decide among the best five, None for `finalists.repeats_of`.
    """

    features: tuple[str, ...] = ()
    heads: tuple[str, ...] = ("mlp", "logreg", "lightgbm")
    trials: int = 200
    metric: str = "macro-f1"
    folds: int = 5
    seed: int = 0
    timeout: float | None = None
    study: str | None = None
    storage: str | None = None
    out: Path = Path("runs")
    resampler: str = "none"
    parameters: Mapping[str, Any] | None = None
    use_views: int | None = None
    preset: str | None = None
    space: Mapping[str, Any] | None = None
    grid: bool = False
    select: str = "best"
    repeats: int | None = None
    duplicates: str = "near"
    calibrate: str = "none"
    decide: str = "argmax"
    weights: Mapping[str, Path] | None = None

    def __post_init__(self) -> None:
        faults = []
        unknown = [head for head in self.heads if head not in (*HEADS, *OTHER_HEADS)]
        if unknown or not self.heads:
            faults.append(
                f"heads {', '.join(map(repr, unknown)) or '(none)'} are not known; allowed are "
                f"{', '.join((*HEADS, *OTHER_HEADS))}"
            )
        if self.trials < 1:
            faults.append(f"trials {self.trials} must be at least 1")
        if self.folds < 2:
            faults.append(f"folds {self.folds} must be at least 2")
        if self.repeats is not None and self.repeats < 0:
            faults.append(f"repeats {self.repeats} must not be negative")
        if self.seed < 0:
            faults.append(f"seed {self.seed} must not be negative")
        if self.use_views is not None and self.use_views < 0:
            faults.append(f"use_views {self.use_views} must not be negative")
        if self.timeout is not None and self.timeout <= 0:
            faults.append(f"timeout {self.timeout} must be a positive number of seconds")
        if self.resampler not in RESAMPLERS:
            faults.append(f"resampler {self.resampler!r} is not known; allowed are {', '.join(RESAMPLERS)}")
        if self.duplicates not in RULES:
            faults.append(f"duplicates {self.duplicates!r} is not known; allowed are {', '.join(RULES)}")
        if self.storage is not None and self.study is None:
            faults.append("a storage needs a name for the study: add --study NAME")
        if self.study is not None and (Path(self.study).name != self.study or self.study in ("", ".", "..")):
            faults.append(f"study {self.study!r} must be a plain name: it becomes a folder in --out")
        try:
            score_name(self.metric)
        except ValueError as error:
            faults.append(str(error))
        try:
            asked_steps(self.calibrate, self.decide)
        except UsageError as error:
            faults.append(str(error))
        if faults:
            raise UsageError("; ".join(faults))

    @property
    def applied(self) -> AppliedSteps:
        """What ``predict`` does to the model's probabilities."""
        return asked_steps(self.calibrate, self.decide)


def single_configuration(settings: TuneSettings) -> Configuration:
    """Return the one configuration of ``train``: the head's defaults, changed by resampler and parameters.

    Raises
    ------
    UsageError
        If there are several heads, or the head has no such parameter or does not take its value.
    """
    from heads import default_parameters
    from heads.parameter_rules import check_parameters
    from heads.presets import parameter_rules

    if len(settings.heads) != 1:
        raise UsageError(f"train takes one head, got {', '.join(settings.heads)}")
    start = Configuration(settings.heads[0], "none", default_parameters(settings.heads[0]))
    unknown = [name for name in settings.parameters or {} if name not in start.parameters]
    if unknown:
        raise UsageError(
            f"Parameter(s) {', '.join(map(repr, unknown))} of head '{start.head}' are not known; allowed are "
            f"{', '.join(start.parameters)}."
        )
    values = {**start.parameters, **(settings.parameters or {})}
    rules = {name: rule for name, rule in parameter_rules(start.head).items() if name in values}
    with users_words():
        check_parameters(f"Head '{start.head}'", values, rules)
    return Configuration(start.head, settings.resampler, values)
