"""An explanation on the terminal, and where its page goes."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np

from cache import write_file
from pipelines.console import duration, say, table, tell
from pipelines.explaining.explain import ExplainSettings
from pipelines.explaining.explanation import Explanation, as_dict
from pipelines.explaining.page import explanation_page

_SHOWN_WORDS = 12


def page_path(settings: ExplainSettings) -> Path:
    """Return where the page goes; an id is data, so only harmless characters of it get into a file name."""
    if settings.out is not None:
        return settings.out
    name = settings.id or "input"
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64]
    if safe != name:
        safe += "-" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return Path(f"explain-{safe}.html")


def print_explanation(found: Explanation, settings: ExplainSettings, *, as_json: bool) -> None:
    """Write the page and print the explanation."""
    path = page_path(settings)
    write_file(path, explanation_page(found, run=settings.run, data=settings.data))
    if as_json:
        say(json.dumps({**as_dict(found), "page": str(path)}, ensure_ascii=False, allow_nan=False))
        return
    for note in (*found.notes, *found.attributions.notes):
        tell(f"note: {note}")
    label = "" if found.case.label is None else f", labelled {found.case.label}"
    say(f"{found.case.name}: {found.classes[found.predicted]}{label}")
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
    drawn = " for the map over the picture" if found.attributions.patches else ""
    tell(f"done in {duration(found.seconds)}; open the page{drawn}")
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
