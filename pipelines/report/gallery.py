"""Single rows in the page: example pairs, the gallery of errors, and the data that the script draws from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from pipelines.report.charts import PALETTE
from pipelines.report.evidence import OutOfFold
from pipelines.report.maps import SampleMap
from pipelines.report.samples import Samples
from pipelines.report.thumbnails import SHEET, Thumbnails

_LONGEST_TEXT = 280  # characters
_EXAMPLES = 3  # of each class
_MOST_EXAMPLE_CLASSES = 6
_FINE = 1000  # places of a map are whole numbers up to this


def payload(
    rows: OutOfFold,
    samples: Samples,
    thumbnails: Thumbnails,
    maps: Sequence[SampleMap],
    *,
    fusion: Mapping[str, np.ndarray],
    cases: Sequence[Mapping[str, str]],
    slice_names: Sequence[str],
) -> dict[str, Any]:
    """Return the rows shown and the maps, JSON-able, as small as they can be.

    Parameters
    ----------
    rows : OutOfFold
    samples : Samples
    thumbnails : Thumbnails
    maps : sequence of SampleMap
    fusion : mapping of str to ndarray of shape (n_samples,)
        Block -> its weight in every row; empty for heads that do not weigh blocks.
    cases : sequence of mapping
        Lines of ``bad_cases.csv``.
    slice_names : sequence of str
        Of ``slices.csv``.
    """
    shown = samples.shown
    texts = samples.texts
    case_of = {case["id"]: case for case in cases}
    known = [case_of.get(rows.ids[i], {}) for i in shown]
    number = {name: k for k, name in enumerate(slice_names)}
    return {
        "classes": list(rows.classes),
        "blocks": list(fusion),
        "slices": list(slice_names),
        "rows": {
            "id": [rows.ids[i] for i in shown],
            "text": None if texts is None else [shortened(texts[i]) for i in shown],
            "y": rows.y[shown].tolist(),
            "predicted": rows.predicted[shown].tolist(),
            "p": rows.probabilities[shown].round(4).tolist(),
            "fold": rows.folds[shown].tolist(),
            "tile": list(thumbnails.tiles) or [-1] * len(shown),
            "slices": [
                [number[name] for name in case.get("slices", "").split("; ") if name in number]
                for case in known
            ],
            # How little a label is believed; 0 for labels that are not suspected.
            "doubt": [
                round(float(case["label_error_score"]), 4) if case.get("suspected") == "True" else 0
                for case in known
            ],
            "weights": [weights[shown].round(3).tolist() for weights in fusion.values()],
        },
        "maps": [
            {
                "rows": m.rows.tolist(),
                "x": (m.xy[:, 0] * _FINE).round().astype(int).tolist(),
                "y": (m.xy[:, 1] * _FINE).round().astype(int).tolist(),
            }
            for m in maps
        ],
    }


def shortened(text: str) -> str:
    """Return a text of at most 280 characters."""
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "\u2026"


def examples(rows: OutOfFold, samples: Samples, thumbnails: Thumbnails) -> str:
    """A few rows of each class, drawn with a fixed seed, as cards."""
    generator = np.random.default_rng(0)
    codes = rows.y[samples.shown]
    tiles = np.array(thumbnails.tiles or [-1] * len(codes))
    cards = []
    for code in np.argsort(-np.bincount(codes, minlength=len(rows.classes)), kind="stable")[
        :_MOST_EXAMPLE_CLASSES
    ]:
        mine = np.flatnonzero((codes == code) & (tiles >= 0) if thumbnails.sheets else codes == code)
        for k in np.sort(generator.choice(mine, min(_EXAMPLES, len(mine)), replace=False)):
            cards.append(_example(rows, samples, int(k), int(tiles[k])))
    return '<h3>Samples of each class, drawn at random</h3><div class="cards">' + "".join(cards) + "</div>"


def _example(rows: OutOfFold, samples: Samples, k: int, tile: int) -> str:
    row = samples.shown[k]
    sheet, place = divmod(tile, SHEET * SHEET)
    down, across = divmod(place, SHEET)
    spot = f"{across / (SHEET - 1):.4%} {down / (SHEET - 1):.4%}"
    picture = f'<i class="thumb s{sheet}" style="background-position:{spot}"></i>' if tile >= 0 else ""
    words = (
        ""
        if samples.texts is None
        else f'<p class="text">{escape(shortened(samples.texts[row]) or "(empty text)")}</p>'
    )
    code = rows.y[row]
    name = f'<p><b class="c{code % len(PALETTE)}">{escape(rows.classes[code])}</b></p>'
    return (
        f'<article class="card">{picture}<div class="words">{words}{name}'
        f'<div class="id">id {escape(rows.ids[row])}</div></div></article>'
    )


def map_controls(classes: Sequence[str]) -> str:
    """What the points' colours mean, and the choice of it."""
    keys = "".join(
        f'<span><i class="key c{k % len(PALETTE)}"></i>{escape(name)}</span>'
        for k, name in enumerate(classes[:20])
    )
    return (
        "<p>Each point is a row; hover or tap to read it, and to find it on the other maps. Labels colour "
        "the points and play no part in where they lie.</p>"
        '<div class="bar-row"><label>Colour <select id="map-colour"><option value="true">true class</option>'
        '<option value="predicted">predicted class</option>'
        '<option value="right">right (grey) or wrong</option></select></label></div>'
        f'<div class="legend">{keys}</div>'
    )


def errors(rows: OutOfFold, samples: Samples, slice_names: Sequence[str], *, suspects: bool) -> str:
    """The gallery's frame; the script fills it.

    Parameters
    ----------
    rows : OutOfFold
    samples : Samples
    slice_names : sequence of str
        What can be chosen besides classes.
    suspects : bool
        Whether it is known which labels look wrong.
    """
    n_wrong, n = int(rows.wrong.sum()), len(rows.y)
    inside = int(rows.wrong[samples.shown].sum())
    some = (
        "" if inside == n_wrong else f" The page holds {inside:,} of them, the most confident ones included."
    )
    options = "".join(f'<option value="{k}">{escape(name)}</option>' for k, name in enumerate(rows.classes))
    return (
        "<h3>Gallery</h3>"
        f"<p>{n_wrong:,} of {n:,} rows ({n_wrong / n:.0%}) are wrong out of fold.{some} A confident error is "
        "either something the features do not show or a wrong label.</p>"
        '<div class="bar-row">'
        f'<label>True <select id="gallery-true"><option value="">any</option>{options}</select></label>'
        '<label>Predicted <select id="gallery-predicted"><option value="">any</option>'
        f"{options}</select></label>"
        f"{_slice_choice(slice_names)}{_suspect_choice() if suspects else ''}"
        '<label>Sort <select id="gallery-sort"><option value="sure">most confident first</option>'
        '<option value="unsure">least confident first</option>'
        '<option value="margin">nearest misses first</option>'
        f"{_DOUBT_ORDER if suspects else ''}"
        "</select></label>"
        '<label>Find <input id="gallery-find" type="search" placeholder="words or id"></label>'
        '<span id="gallery-count"></span></div><div class="cards" id="gallery"></div>'
        '<p><button id="gallery-more" type="button" hidden>Show more</button></p>'
        "<noscript><p>The gallery needs JavaScript; the same rows are in oof.csv.</p></noscript>"
    )


_DOUBT_ORDER = '<option value="doubt">least believed label first</option>'


def _slice_choice(names: Sequence[str]) -> str:
    options = "".join(f'<option value="{k}">{escape(name)}</option>' for k, name in enumerate(names))
    choice = (
        f'<label>Slice <select id="gallery-slice"><option value="">any</option>{options}</select></label>'
    )
    return choice if names else ""


def _suspect_choice() -> str:
    return (
        '<label>Label <select id="gallery-label"><option value="">any</option>'
        '<option value="suspect">looks wrong</option></select></label>'
    )
