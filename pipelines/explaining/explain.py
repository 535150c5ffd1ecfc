"""``embedonce explain``: why a run's model answers what it answers for one text and picture."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cache import StoreError, write_file
from extract import DEFAULT_ENCODINGS, resolve_device
from pipelines.console import duration, say, table, tell
from pipelines.errors import RunError, UsageError
from pipelines.explaining.attributions import (
    METHODS,
    Attributions,
    check_gradient,
    follow_gradients,
    occlude,
)
from pipelines.explaining.case import Case, given_case, stored_case
from pipelines.explaining.context import Neighbour, Shares, modality_shares, nearest_training_rows
from pipelines.matrices import Matrix, read_matrix
from pipelines.prediction_rows import EmbeddingOptions
from pipelines.run_inputs import group_by_tower
from pipelines.run_stores import store_specs
from pipelines.runs import CONFIG, MODEL, OUT_OF_FOLD, check_config, read_csv, read_json

_SHOWN_WORDS = 12


@dataclass(frozen=True)
class ExplainSettings:
    """Settings of ``embedonce explain``, as on the command line.

    Attributes
    ----------
    run : Path
    id : str or None
        A row of the run's stores; else `text`, `image` or both.
    text : str or None
    image : Path or None
    target : str or None
        The class that is explained; None is the most probable one.
    method : {"occlusion", "gradient"}
    data : Path or None
        The data set, where the pictures of stored rows lie; None looks around the stores and the run.
    out : Path or None
        The page; None is ``explain-<id>.html`` in the current folder.
    device : str
    weights : mapping of str to Path
    encodings : tuple of str
    """

    run: Path
    id: str | None = None
    text: str | None = None
    image: Path | None = None
    target: str | None = None
    method: str = "occlusion"
    data: Path | None = None
    out: Path | None = None
    device: str = "auto"
    weights: Mapping[str, Path] = field(default_factory=dict)
    encodings: tuple[str, ...] = DEFAULT_ENCODINGS

    def __post_init__(self) -> None:
        faults = []
        given = self.text is not None or self.image is not None
        if (self.id is None) != given:
            faults.append("give either --id, or --text and/or --image")
        if self.method not in METHODS:
            faults.append(f"method {self.method!r} is not known; allowed are {', '.join(METHODS)}")
        if self.out is not None and (self.out.is_dir() or not self.out.absolute().parent.is_dir()):
            faults.append(f"'{self.out}' cannot be written: it is a folder, or its folder does not exist")
        if faults:
            raise UsageError("; ".join(faults))


@dataclass(frozen=True, eq=False)
class Explanation:
    """One answer and what speaks for it.

    Attributes
    ----------
    case : Case
    classes : tuple of str
    probabilities : ndarray of shape (n_classes,), float64
        Of the model.
    code : int
        Position of the class that is explained.
    held_out : dict of str to float, or None
        Class -> probability by the model that was trained without the row; None for a row that the run's
        model was not trained on.
    shares : Shares
    attributions : Attributions
    neighbours : dict of str to list of Neighbour
        By block.
    matrix : Matrix or None
        Where the neighbours are; None if the run's stores are gone.
    notes : tuple of str
    seconds : float
    """

    case: Case
    classes: tuple[str, ...]
    probabilities: np.ndarray
    code: int
    held_out: Mapping[str, float] | None
    shares: Shares
    attributions: Attributions
    neighbours: Mapping[str, list[Neighbour]]
    matrix: Matrix | None
    notes: tuple[str, ...]
    seconds: float


def explain(settings: ExplainSettings) -> Explanation:
    """Explain one answer of a run's model.

    Parameters
    ----------
    settings : ExplainSettings

    Returns
    -------
    Explanation

    Raises
    ------
    RunError
        If the run or the row is not there, or the row's inputs are not those that were embedded.
    UsageError
        If a class is not known, the run has an imported space, or nothing has a gradient that is asked for.
    """
    from heads import load_model

    began = time.perf_counter()
    config = read_json(settings.run / CONFIG)
    check_config(config, settings.run / CONFIG)
    model = load_model(settings.run / MODEL)
    if settings.target is not None and settings.target not in model.classes:
        raise UsageError(
            f"Class '{settings.target}' is not one of the run's: {', '.join(map(repr, model.classes))}."
        )
    spaces = config["spaces"]
    group_by_tower(spaces)  # an imported space is named before any network runs
    if settings.method == "gradient":
        check_gradient(model)
    how = EmbeddingOptions(resolve_device(settings.device), settings.weights, settings.encodings)
    if settings.id is not None:
        case = stored_case(settings.run, spaces, model, settings.id, data=settings.data, how=how)
    else:
        case = given_case(spaces, model, text=settings.text, image=settings.image, how=how)
    probabilities = case.probabilities([{}])[0]
    code = int(probabilities.argmax()) if settings.target is None else model.classes.index(settings.target)
    attributions = (occlude if settings.method == "occlusion" else follow_gradients)(case, code)
    held_out = _held_out(settings.run, case, model.classes)
    matrix, why_not = _matrix(settings.run, spaces)
    return Explanation(
        case=case,
        classes=model.classes,
        probabilities=probabilities,
        code=code,
        held_out=held_out,
        shares=modality_shares(case, code),
        attributions=attributions,
        neighbours={} if matrix is None else nearest_training_rows(case, matrix),
        matrix=matrix,
        notes=(*_honesty(case, held_out), *why_not),
        seconds=time.perf_counter() - began,
    )


def _matrix(run: Path, spaces: list[dict[str, Any]]) -> tuple[Matrix | None, tuple[str, ...]]:
    """Return the run's rows, or why there are no neighbours."""
    try:
        return read_matrix(store_specs(spaces, run), use_views=0, duplicates="none"), ()
    except (RunError, StoreError) as error:
        return None, (f"No neighbours: {error}",)


def _held_out(run: Path, case: Case, classes: tuple[str, ...]) -> dict[str, float] | None:
    """Return the row's out-of-fold probabilities, which the run keeps of every row it was trained on."""
    if not case.is_stored or not (run / OUT_OF_FOLD).is_file():
        return None
    for row in read_csv(run / OUT_OF_FOLD):
        if row.get("id") == case.name:
            return {name: float(row.get(f"p_{name}", "nan")) for name in classes}
    return None


def _honesty(case: Case, held_out: Mapping[str, float] | None) -> tuple[str, ...]:
    """Say when the model has seen the row: its confidence then says little."""
    if held_out is None:
        return ()
    best = max(held_out, key=lambda name: held_out[name])
    return (
        f"The model was trained on row '{case.name}', so it knows the answer. The model that was trained "
        f"without it said {best} ({held_out[best]:.3f}).",
    )


def page_path(settings: ExplainSettings) -> Path:
    """Return where the page goes; an id is data, so only harmless characters of it get into a file name."""
    if settings.out is not None:
        return settings.out
    name = settings.id or "input"
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64]
    if safe != name:
        safe += "-" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return Path(f"explain-{safe}.html")


def as_dict(found: Explanation) -> dict[str, Any]:
    """Return an explanation as plain JSON values."""
    maps = found.attributions
    return {
        "id": found.case.name,
        "label": found.case.label,
        "class": found.classes[found.code],
        "probabilities": dict(zip(found.classes, found.probabilities.tolist(), strict=True)),
        "held_out": None if found.held_out is None else dict(found.held_out),
        "method": maps.method,
        "shares": {
            "nothing": found.shares.nothing,
            "whole": found.shares.whole,
            "values": dict(found.shares.values),
        },
        "words": [{"title": m.title, "pieces": [list(piece) for piece in m.pieces]} for m in maps.words],
        "patches": [{"title": m.title, "values": m.values.tolist()} for m in maps.patches],
        "neighbours": {
            block: [{"id": n.guid, "label": n.label, "cosine": n.cosine} for n in rows]
            for block, rows in found.neighbours.items()
        },
        "notes": [*found.notes, *maps.notes],
    }


def print_explanation(found: Explanation, settings: ExplainSettings, *, as_json: bool) -> None:
    """Write the page and print the explanation."""
    from pipelines.explaining.page import explanation_page

    path = page_path(settings)
    write_file(path, explanation_page(found, run=settings.run, data=settings.data))
    if as_json:
        say(json.dumps({**as_dict(found), "page": str(path)}, ensure_ascii=False, allow_nan=False))
        return
    for note in (*found.notes, *found.attributions.notes):
        tell(f"note: {note}")
    label = "" if found.case.label is None else f", labelled {found.case.label}"
    say(f"{found.case.name}: {found.classes[int(found.probabilities.argmax())]}{label}")
    order = np.argsort(-found.probabilities, kind="stable")
    say(table([[found.classes[k], f"{found.probabilities[k]:.4f}"] for k in order], ["class", "probability"]))
    say()
    _print_shares(found)
    for words in found.attributions.words:
        lines = [[repr(piece)[1:-1], f"{value:+.4f}"] for piece, value in words.scored[:_SHOWN_WORDS]]
        say(table(lines, [words.title, f"for {found.classes[found.code]}"]))
        say()
    for patches in found.attributions.patches:
        row, column = np.unravel_index(int(np.abs(patches.values).argmax()), patches.values.shape)
        size = " x ".join(map(str, patches.values.shape))
        say(
            f"{patches.title}: of {size}, the one in row {row + 1}, column {column + 1} matters most "
            f"({patches.values[row, column]:+.4f})"
        )
    for block, rows in found.neighbours.items():
        say()
        lines = [[n.guid, n.label, f"{n.cosine:.3f}", _short(n.text)] for n in rows]
        say(table(lines, [f"nearest by {block}", "label", "cosine", "text"]))
    tell(f"done in {duration(found.seconds)}; open the page for the map over the picture")
    say(str(path))


def _print_shares(found: Explanation) -> None:
    name, shares = found.classes[found.code], found.shares
    lines = [["the training means alone", f"{shares.nothing:.4f}"]]
    lines += [[f"the {modality}", f"{value:+.4f}"] for modality, value in shares.values.items()]
    lines.append(["together", f"{shares.whole:.4f}"])
    say(table(lines, ["what gives", f"for {name}"]))
    say()


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:59] + "\u2026"
