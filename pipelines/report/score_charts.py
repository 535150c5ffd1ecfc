"""Charts of scores and of the search: intervals, trials, importance of hyper-parameters."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.report.charts import SOFT, Axis, Chart, Mark, names_axis, span_of, whole_ticks

SCORES = {
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
}
_FEWEST_TRIALS = 12  # below, a forest only repeats the noise
_MOST_HEADS = 3


def score_name(metric: str) -> str:
    """Return how a score is called in sentences."""
    return SCORES.get(metric, metric)


def score_chart(metrics: Mapping[str, Any]) -> Chart:
    """Every score: majority, default, cross-validated and corrected, the last two with intervals."""
    names = [name for name in SCORES if name in metrics["cv"]]
    at = [-float(row) for row in range(len(names))]
    marks = [_plain(metrics["majority"], names, at, "most frequent class", hollow=True)]
    if metrics.get("default"):
        means = {name: metrics["default"][name]["mean"] for name in names}
        marks.append(_plain(means, names, at, "default settings", hollow=False))
    marks += _with_interval(metrics["cv"], names, [y + 0.14 for y in at], "cross-validated", 0)
    marks += _with_interval(
        metrics["corrected"], names, [y - 0.14 for y in at], "corrected for the search", 1
    )
    if metrics.get("test"):
        marks += _with_interval(metrics["test"], names, [y - 0.34 for y in at], "test split", 2)
    values = [value for mark in marks for value in (*mark.x, *mark.end)]
    low, high = span_of(values, within=(0.0, 1.0))
    return Chart(
        "scores",
        "Scores with 95 % intervals",
        "The corrected score is what to expect on new data; where its interval reaches the grey marks, the "
        "search has shown little.",
        Axis("score", low, high),
        names_axis([SCORES[name] for name in names]),
        marks,
        across=True,
        height=46 * len(names) + 64,
    )


def _plain(
    values: Mapping[str, float], names: Sequence[str], at: Sequence[float], label: str, *, hollow: bool
) -> Mark:
    x = [float(values[name]) for name in names]
    notes = [f"{SCORES[name]}, {label}: {value:.3f}" for name, value in zip(names, x, strict=True)]
    return Mark("points", x, at, name=label, colour=SOFT, hollow=hollow, notes=notes)


def _with_interval(
    entry: Mapping[str, Any], names: Sequence[str], at: Sequence[float], label: str, colour: int
) -> list[Mark]:
    means = [entry[name]["mean"] for name in names]
    spans = [entry[name].get("ci95") or (mean, mean) for name, mean in zip(names, means, strict=True)]
    notes = [
        f"{SCORES[name]}, {label}: {mean:.3f} ({low:.3f} to {high:.3f})"
        for name, mean, (low, high) in zip(names, means, spans, strict=True)
    ]
    return [
        Mark("span", [s[0] for s in spans], at, [s[1] for s in spans], colour=colour),
        Mark("points", means, at, name=label, colour=colour, notes=notes),
    ]


def completed(trials: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Return the trials that were scored on all folds."""
    return [row for row in trials if row["state"] == "complete" and row["number"] and row["score"]]


def history_chart(trials: Sequence[Mapping[str, str]], metric: str) -> Chart | None:
    """Score against trial number, by head, and the best so far; None when no trial was finished."""
    scored = [row for row in trials if row["number"] and row["score"]]
    done = completed(scored)
    if not done:
        return None
    numbers = [int(row["number"]) for row in done]
    order = np.argsort(numbers, kind="stable")
    best_x, best_y = _steps([numbers[i] for i in order], [float(done[i]["score"]) for i in order])
    last = max(int(row["number"]) for row in scored)
    marks = [Mark("line", [*best_x, last], [*best_y, best_y[-1]], name="best so far", colour=SOFT)]
    heads = list(dict.fromkeys(row["head"] for row in scored))
    for colour, head in enumerate(heads):
        for state, hollow in (("complete", False), ("other", True)):
            mine = [r for r in scored if r["head"] == head and (r["state"] == "complete") is not hollow]
            if mine:
                name = head if state == "complete" else f"{head}, stopped early"
                marks.append(_trial_points(mine, name, colour, hollow=hollow))
    low, high = span_of([float(row["score"]) for row in scored])
    return Chart(
        "search-history",
        "Search history",
        "Each dot is one configuration; an open one was stopped early and scored on some folds only, so it "
        "does not compare. A line that is flat for long says that more trials would not help.",
        Axis("trial", -0.5, max(1, last) + 0.5, whole_ticks(-0.5, max(1, last) + 0.5)),
        Axis(score_name(metric), low, high),
        marks,
    )


def _trial_points(rows: Sequence[Mapping[str, str]], name: str, colour: int, *, hollow: bool) -> Mark:
    return Mark(
        "points",
        [int(row["number"]) for row in rows],
        [float(row["score"]) for row in rows],
        name=name,
        colour=colour,
        hollow=hollow,
        notes=[f"trial {row['number']}: {row['head']}, {float(row['score']):.4f}" for row in rows],
    )


def _steps(numbers: Sequence[int], scores: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return the corners of the best score so far."""
    x, y = [float(numbers[0])], [scores[0]]
    for number, score in zip(numbers[1:], scores[1:], strict=True):
        if score > y[-1]:
            x += [number, number]
            y += [y[-1], score]
    return x, y


def importance_charts(trials: Sequence[Mapping[str, str]]) -> Iterator[Chart]:
    """Importance of the hyper-parameters of each head with enough finished trials, by Optuna's fANOVA.

    Notes
    -----
    The ranges are those that the trials cover, and a number whose values span a factor of 50 or more is
    read on a logarithmic scale.

    References
    ----------
    F. Hutter, H. Hoos, K. Leyton-Brown, "An efficient approach for assessing hyperparameter importance",
    ICML 2014.
    """
    done = completed(trials)
    heads = list(dict.fromkeys(row["head"] for row in done))
    counts = {head: sum(row["head"] == head for row in done) for head in heads}
    enough = sorted((head for head in heads if counts[head] >= _FEWEST_TRIALS), key=lambda h: -counts[h])
    for head in enough[:_MOST_HEADS]:
        found = _importance([row for row in done if row["head"] == head])
        if found:
            yield _importance_chart(head, counts[head], found)


def _importance_chart(head: str, n_trials: int, found: Mapping[str, float]) -> Chart:
    names = list(found)[:8]
    values = [found[name] for name in names]
    return Chart(
        f"importance-{head}",
        f"Importance of hyper-parameters, {head}",
        f"Share of the variation of the score that each explains alone or with others (fANOVA over "
        f"{n_trials} trials).",
        Axis("importance", 0.0, max(values) * 1.08 or 1.0),
        names_axis(names),
        [
            Mark(
                "bars",
                values,
                [-float(row) for row in range(len(names))],
                width=0.62,
                notes=[f"{name}: {value:.2f}" for name, value in zip(names, values, strict=True)],
            )
        ],
        across=True,
    )


def _importance(rows: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """Return parameter -> importance, largest first; empty when nothing was varied."""
    import optuna

    settings = [{**json.loads(row["parameters"]), "resampler": row["resampler"]} for row in rows]
    distributions = {}
    for name in settings[0]:
        values = [setting.get(name) for setting in settings]
        if len({json.dumps(value, sort_keys=True) for value in values}) > 1:
            distributions[name] = _distribution(values)
    scores = [float(row["score"]) for row in rows]
    if not distributions or len(set(scores)) < 2:
        return {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    for setting, score in zip(settings, scores, strict=True):
        chosen = {
            name: setting.get(name) if kind is not None else json.dumps(setting.get(name), sort_keys=True)
            for name, kind in ((n, None if _is_choice(d) else d) for n, d in distributions.items())
        }
        study.add_trial(optuna.trial.create_trial(params=chosen, distributions=distributions, value=score))
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=32, seed=0)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _is_choice(distribution: Any) -> bool:
    return hasattr(distribution, "choices")


def _distribution(values: Sequence[Any]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        low, high = float(min(values)), float(max(values))
        return FloatDistribution(low, high, log=low > 0 and high / low >= 50)
    return CategoricalDistribution(sorted({json.dumps(value, sort_keys=True) for value in values}))
