"""Leaks on the page of an ablation: each leaky figure beside the honest one, and what leaked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from pipelines.report.charts import Axis, Chart, Mark, names_axis, span_of
from pipelines.report.markup import table
from pipelines.report.score_charts import score_name

Leak = Mapping[str, Any]

_BETWEEN = 0.14  # of a row, from its middle to either of its two scores


def leak_chart(leaks: Sequence[Leak], metric: str) -> Chart:
    """Draw what each leak seems to score over the honest score of the same configuration.

    Parameters
    ----------
    leaks : sequence of mapping
        ``leaks`` of ``metrics.json``; see ``ablation.leaks.leaky_table``.
    metric : str

    Returns
    -------
    Chart
    """
    pairs = [(leak, honest) for leak, honest in _pairs(leaks) if leak["cv"] is not None]
    practices = [_plain(leak["practice"]) for leak, _ in pairs]
    at = [-float(k) for k in range(len(pairs))]
    fair, seeming = [honest["cv"][metric] for _, honest in pairs], [leak["cv"][metric] for leak, _ in pairs]
    marks = [
        *_marks("honest", practices, fair, [y + _BETWEEN for y in at], 0),
        *_marks("leaky", practices, seeming, [y - _BETWEEN for y in at], 1),
    ]
    low, high = span_of([x for mark in marks for x in (*mark.x, *mark.end)], within=(0.0, 1.0))
    return Chart(
        "leaks",
        "What leaks seem to add",
        "The same configuration on the same folds. Only the honest dots are results.",
        Axis(score_name(metric), low, high),
        names_axis(practices),
        marks,
        across=True,
        height=46 * len(pairs) + 64,
    )


def _marks(
    name: str,
    practices: Sequence[str],
    scores: Sequence[Mapping[str, Any]],
    at: Sequence[float],
    colour: int,
) -> list[Mark]:
    means = [score["mean"] for score in scores]
    lows, highs = ([score["ci95"][end] for score in scores] for end in (0, 1))
    notes = [
        f"{practice}, {name}: {mean:.3f} ({low:.3f} to {high:.3f})"
        for practice, mean, low, high in zip(practices, means, lows, highs, strict=True)
    ]
    return [
        Mark("span", lows, at, highs, colour=colour),
        Mark("points", means, at, name=name, colour=colour, notes=notes),
    ]


def leak_table(leaks: Sequence[Leak], metric: str) -> str:
    """Return a line for each leak: the honest score and what it seems to be.

    Parameters
    ----------
    leaks : sequence of mapping
        As for `leak_chart`.
    metric : str

    Returns
    -------
    str
        HTML.
    """
    rows = []
    for leak, honest in _pairs(leaks):
        fair = honest["cv"][metric]["mean"]
        cells = ["-", "-", "-"]
        if leak["cv"] is not None:
            seems = leak["cv"][metric]["mean"]
            cells = [f"{seems:.3f}", f"{seems - fair:+.3f}", f"{leak['n_scored']:,}"]
        rows.append([_plain(leak["practice"]), f"{fair:.3f}", *cells])
    name = score_name(metric)
    return table(["leak", f"honest {name}", f"leaky {name}", "seems better by", "rows scored"], rows)


def leak_sentences(leaks: Sequence[Leak]) -> str:
    """Return what leaked, a sentence for each leak; HTML."""
    sentences = []
    for leak, honest in _pairs(leaks):
        partner = "" if honest is leaks[0] else f" Beside it stands: {honest['practice']}."
        words = f"{leak['why'][:1].upper()}{leak['why'][1:]}.{partner}"
        sentences.append(f"<p><b>{escape(_plain(leak['practice']))}.</b> {escape(words)}</p>")
    return "".join(sentences)


def _pairs(leaks: Sequence[Leak]) -> list[tuple[Leak, Leak]]:
    """Return every leak with the honest line that it should be compared with."""
    of_practice = {leak["practice"]: leak for leak in leaks}
    return [(leak, of_practice[leak["honest"]]) for leak in leaks if leak["leaky"]]


def _plain(practice: str) -> str:
    """Leave out the warning that stands before a leak's name where there is no column for it."""
    return practice.removeprefix("LEAKY: ")
