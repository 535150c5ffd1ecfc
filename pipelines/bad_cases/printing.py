"""What ``embedonce errors`` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines.bad_cases.finding import BadCases, described_neighbours
from pipelines.bad_cases.writing import shown_neighbours
from pipelines.console import p_text, say, say_json, table, tell
from pipelines.errors import UsageError

_LONGEST_TEXT, _SHORT_TEXT = 500, 40  # characters
_SURE = 0.05  # Holm-adjusted; above it a slice may be worse by luck


def print_bad_cases(found: BadCases, files: Sequence[Path], *, top: int, as_json: bool) -> None:
    """Print confusion pairs, the worst slices and the least believable labels.

    Parameters
    ----------
    found : BadCases
    files : sequence of Path
        What was written.
    top : int
        Lines of each table.
    as_json : bool
        Print everything as one JSON object instead.
    """
    if as_json:
        say_json(_as_json(found, files))
        return
    n, n_wrong = len(found.rows.ids), int(found.rows.wrong.sum())
    say(f"{n_wrong:,} of {n:,} rows are wrong out of fold ({n_wrong / n:.1%})")
    _print_table(found.confusion_pairs, top, ["label", "predicted", "n", "rate"], "confusion pairs")
    shown = ["name", "n", "errors", "error_rate", "difference", "p_holm"]
    _print_table(found.slices, top, shown, "slices, the surely worst first")
    worse = (found.slices["difference"] > 0) & (found.slices["p_holm"] < _SURE)
    say(
        f"{int(worse.sum())} of {len(found.slices)} slices are worse than the other rows beyond luck (p with "
        "Holm's correction below 0.05)"
    )
    suspected = found.label_errors.assign(
        nearest=[shown_neighbours(near[:2]) for near in found.label_errors["neighbours"]],
        text=[_short_text(found, guid) for guid in found.label_errors["id"]],
    )
    shown = ["id", "label", "predicted", "margin", "text", "nearest"]
    _print_table(suspected, top, shown, "likely label errors")
    say(f"{len(suspected):,} labels are suspected; look at one with --id ID")
    for path in files:
        say(str(path))


def _print_table(frame: pd.DataFrame, top: int, columns: Sequence[str], title: str) -> None:
    if frame.empty:
        return
    cells = [
        [_cell(name, value) for name, value in zip(columns, line, strict=True)]
        for line in frame[list(columns)].head(top).itertuples(index=False, name=None)
    ]
    say()
    more = f" ({min(top, len(frame))} of {len(frame):,})" if len(frame) > top else ""
    say(f"{title}{more}:")
    say(table(cells, [name.replace("_", " ") for name in columns]))


def _cell(column: str, value: object) -> str:
    if isinstance(value, float):
        return p_text(value) if column == "p_holm" else f"{value:.3f}"
    return str(value)


def _short_text(found: BadCases, guid: str) -> str:
    """Return the first words of a row's text on one line."""
    if found.facts.texts is None:
        return ""
    return " ".join(found.facts.texts[found.place_of[guid]].split())[:_SHORT_TEXT]


def _as_json(found: BadCases, files: Sequence[Path]) -> dict[str, Any]:
    return {
        "run": str(found.run),
        "n": len(found.rows.ids),
        "n_wrong": int(found.rows.wrong.sum()),
        "confusion_pairs": found.confusion_pairs.to_dict("records"),
        "slices": found.slices.to_dict("records"),
        "label_errors": [_json_case(line) for line in found.label_errors.to_dict("records")],
        "notes": list(found.notes),
        "files": [str(path) for path in files],
    }


def _json_case(line: Mapping[Any, Any]) -> dict[str, Any]:
    return {**line, "slices": list(line["slices"]), "neighbours": _json_neighbours(line["neighbours"])}


def _json_neighbours(near: Sequence[tuple[str, str, float]]) -> list[dict[str, Any]]:
    return [{"id": guid, "label": label, "cosine": cosine} for guid, label, cosine in near]


def describe_case(found: BadCases, guid: str) -> dict[str, Any]:
    """Return everything that is known of one labelled row, JSON-able.

    Raises
    ------
    UsageError
        If the run has no out-of-fold prediction of that id.
    """
    if guid not in found.place_of:
        matches = get_close_matches(guid, found.rows.ids, n=5)
        hint = f"; did you mean {' or '.join(map(repr, matches))}?" if matches else "."
        raise UsageError(
            f"--id: run '{found.run}' has no out-of-fold prediction of {guid!r}{hint} Ids of labelled "
            "rows are in oof.csv."
        )
    rows, i = found.rows, found.place_of[guid]
    near: tuple[tuple[str, str, float], ...] = ()
    if found.neighbours is not None:
        near = described_neighbours(rows, *found.neighbours.nearest(np.array([i])))[0]
    texts, images = found.facts.texts, found.facts.images
    return {
        "id": guid,
        "fold": int(rows.folds[i]),
        "label": rows.classes[rows.y[i]],
        "predicted": rows.classes[rows.predicted[i]],
        "probabilities": dict(zip(rows.classes, rows.probabilities[i].tolist(), strict=True)),
        "confidence": float(rows.confidence[i]),
        "margin": float(1.0 - 2.0 * found.scores[i]),
        "label_error_score": float(found.scores[i]),
        "suspected": guid in set(found.label_errors["id"]),
        "text": None if texts is None else texts[i],
        "image": None if images is None else images[i],
        "slices": [name for name, members in found.members.items() if members[i]],
        "neighbours": _json_neighbours(near),
    }


def print_case(found: BadCases, guid: str, *, as_json: bool) -> None:
    """Print one labelled row with its nearest neighbours.

    Raises
    ------
    UsageError
        If the run has no out-of-fold prediction of that id.
    """
    case = describe_case(found, guid)
    if as_json:
        say_json(case)
        return
    shares = ", ".join(f"{name} {share:.3f}" for name, share in case["probabilities"].items())
    lines = {
        "label": case["label"],
        "predicted": f"{case['predicted']} (out of fold {case['fold']}: {shares})",
        "margin": f"{case['margin']:+.3f}" + ("; the label is suspected" if case["suspected"] else ""),
        "text": None if case["text"] is None else case["text"][:_LONGEST_TEXT] or "(empty)",
        "image": case["image"] or None,
        "slices": "; ".join(case["slices"]) or None,
    }
    say(f"id {guid}")
    for name, value in lines.items():
        if value is not None:
            say(f"{name + ':':<10} {value}")
    if case["neighbours"]:
        say()
        cells = [
            [near["id"], near["label"], f"{near['cosine']:.3f}", _short_text(found, near["id"])]
            for near in case["neighbours"]
        ]
        say(table(cells, ["nearest", "label", "cosine", "text"]))


def tell_notes(found: BadCases) -> None:
    """Print what could not be looked at."""
    for note in found.notes:
        tell(f"note: {note}")
