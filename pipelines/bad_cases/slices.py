"""Slices: rows that have something in common, and whether more of them go wrong than of the others."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from cache import Status
from pipelines.bad_cases.facts import RowFacts
from tuning import holm, share_difference, wilson_interval

#: A slice of fewer rows, or one that leaves fewer, says too little to be listed.
FEWEST = 10
COLUMNS = (
    "name",
    "kind",
    "n",
    "errors",
    "error_rate",
    "low",
    "high",
    "rest_error_rate",
    "difference",
    "difference_low",
    "difference_high",
    "p_value",
    "p_holm",
)

_SIGNS: Mapping[str, re.Pattern[str]] = {
    "URL": re.compile(r"https?://\S|www\.\S", re.IGNORECASE),
    "mention": re.compile(r"(?<!\w)@\w"),
    "hashtag": re.compile(r"#\w"),
}
_TALL, _WIDE = 0.8, 1.25  # width over height
_MOST_LETTERS = 200  # of a text, for its script

Slices = dict[str, np.ndarray]


def input_slices(facts: RowFacts, learn_from: np.ndarray) -> Slices:
    """Return the slices that can be told from an input alone, before anything is predicted.

    Parameters
    ----------
    facts : RowFacts
    learn_from : ndarray of integer
        Rows from which the borders between short and long, small and large are taken. A slice is the same
        rule for all rows, so rows that were not looked at can be sorted into it.

    Returns
    -------
    dict of str to ndarray of shape (n_rows,), bool
        By name; slices without a row are left out.
    """
    found: Slices = {}
    if facts.texts is not None:
        found |= _text_slices(facts.texts, learn_from)
    if facts.encodings is not None:
        found |= _value_slices(facts.encodings, "text read as {}")
    if facts.sizes is not None:
        found |= _picture_slices(facts.sizes, learn_from)
    for modality, codes in facts.statuses.items():
        names = ["" if code in (Status.OK, Status.ABSENT) else Status(code).label for code in codes.tolist()]
        found |= _value_slices(names, f"{modality} status {{}}")
    if facts.groups is not None:
        _, number, sizes = np.unique(facts.groups, return_inverse=True, return_counts=True)
        found["shares a text, a picture or a group"] = sizes[number] > 1
    return {name: members for name, members in found.items() if members.any()}


def _text_slices(texts: Sequence[str], learn_from: np.ndarray) -> Slices:
    lengths = np.array([len(text) for text in texts])
    found = {"text empty": lengths == 0}
    found |= _quarters(lengths, learn_from, lambda low, high: f"text of {_span(low, high)} characters")
    for name, pattern in _SIGNS.items():
        found[f"text with {name}"] = np.array([pattern.search(text) is not None for text in texts])
    found["text with emoji"] = np.array([_has_emoji(text) for text in texts])
    return found | _value_slices([_script(text) for text in texts], "text in {} script")


def _picture_slices(sizes: np.ndarray, learn_from: np.ndarray) -> Slices:
    width, height = sizes[:, 0].astype(np.int64), sizes[:, 1].astype(np.int64)
    known = (width > 0) & (height > 0)
    shape = np.divide(width, height, out=np.ones(len(sizes)), where=known)
    found = {
        "picture of unknown size": ~known,
        "tall picture": known & (shape < _TALL),
        "square picture": known & (shape >= _TALL) & (shape <= _WIDE),
        "wide picture": known & (shape > _WIDE),
    }
    return found | _quarters(
        width * height, learn_from, lambda low, high: f"picture of {_span(low, high)} pixels"
    )


def _quarters(
    values: np.ndarray, learn_from: np.ndarray, name: Callable[[int | None, int | None], str]
) -> Slices:
    """Cut positive values at the quartiles of some rows; equal quartiles make fewer slices."""
    learnt = values[learn_from]
    learnt = learnt[learnt > 0]
    if not len(learnt):
        return {}
    edges = np.unique(np.quantile(learnt, [0.25, 0.5, 0.75], method="lower")).tolist()
    edges = [edge for edge in edges if edge < learnt.max()]
    found = {}
    for low, high in zip([None, *edges], [*edges, None], strict=True):
        if low is None and high is None:
            return {}  # all values are equal
        inside = (values > (low or 0)) & (values <= (np.inf if high is None else high))
        found[name(low, high)] = inside
    return found


def _span(low: int | None, high: int | None) -> str:
    if low is None:
        return f"up to {high:,}"
    return f"over {low:,}" if high is None else f"{low + 1:,} to {high:,}"


def _value_slices(values: Sequence[str], name: str) -> Slices:
    """One slice for every value but the empty one."""
    column = np.array(values, dtype=object)
    return {name.format(value): column == value for value in dict.fromkeys(values) if value}


def _has_emoji(text: str) -> bool:
    return any(unicodedata.category(character) == "So" for character in text)


def _script(text: str) -> str:
    """Return the script of most letters, the first word of their Unicode names; "" without letters."""
    counts: dict[str, int] = {}
    for letter in [character for character in text if character.isalpha()][:_MOST_LETTERS]:
        word = unicodedata.name(letter, "OTHER").split()[0]
        script = word if word == "CJK" else word.capitalize()
        counts[script] = counts.get(script, 0) + 1
    return max(counts, key=lambda script: counts[script]) if counts else ""


def model_slices(
    predicted: np.ndarray, class_names: Sequence[str], alone: Mapping[str, np.ndarray]
) -> Slices:
    """Return the slices that need a prediction.

    Parameters
    ----------
    predicted : ndarray of shape (n_rows,), integer
        Predicted class codes, out of fold.
    class_names : sequence of str
    alone : mapping of str to ndarray of shape (n_rows,), integer
        Modality -> class codes that it says by itself, out of fold.

    Returns
    -------
    dict of str to ndarray of shape (n_rows,), bool
    """
    found = {f"predicted {name}": predicted == code for code, name in enumerate(class_names)}
    if len(alone) > 1:
        opinions = np.stack(list(alone.values()))
        found[f"{' and '.join(alone)} disagree"] = (opinions != opinions[0]).any(axis=0)
    return {name: members for name, members in found.items() if members.any()}


def slice_table(inputs: Slices, models: Slices, wrong: np.ndarray) -> pd.DataFrame:
    """Compare every slice with the rows outside it, the worst first.

    Parameters
    ----------
    inputs, models : dict of str to ndarray of shape (n_rows,), bool
        From `input_slices` and `model_slices`.
    wrong : ndarray of shape (n_rows,), bool

    Returns
    -------
    pandas.DataFrame
        Columns `COLUMNS`. ``low`` and ``high`` are Wilson's interval of the error rate; ``difference`` is to
        the other rows, with Newcombe's interval, a mid-p value and Holm's correction over the table. Ordered
        by ``difference_low``: what is surely worse comes before what may be much worse. Slices of fewer than
        `FEWEST` rows, or that leave fewer, are not in it.
    """
    enough = {
        (name, kind): members
        for kind, slices in (("input", inputs), ("model", models))
        for name, members in slices.items()
        if FEWEST <= members.sum() <= len(wrong) - FEWEST
    }
    if not enough:
        return pd.DataFrame(columns=list(COLUMNS))
    n = np.array([members.sum() for members in enough.values()])
    errors = np.array([(members & wrong).sum() for members in enough.values()])
    low, high = wilson_interval(errors, n)
    rest, rest_errors = len(wrong) - n, wrong.sum() - errors
    against = share_difference(errors, n, rest_errors, rest)
    table = pd.DataFrame(
        {
            "name": [name for name, _ in enough],
            "kind": [kind for _, kind in enough],
            "n": n,
            "errors": errors,
            "error_rate": errors / n,
            "low": low,
            "high": high,
            "rest_error_rate": rest_errors / rest,
            "difference": against.difference,
            "difference_low": against.low,
            "difference_high": against.high,
            "p_value": against.p_value,
            "p_holm": holm(against.p_value),
        }
    )
    return table.sort_values("difference_low", ascending=False, kind="stable", ignore_index=True)
