"""The page of an explanation: picture under its map, coloured words, shares, neighbours; one file."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.explaining.attributions import PatchMap, WordMap
from pipelines.explaining.context import N_NEIGHBOURS, Neighbour
from pipelines.matrices import Matrix
from pipelines.named_stores import open_store
from pipelines.picture_files import data_folders, data_root
from pipelines.report.charts import Axis, Chart, Mark, names_axis, span_of
from pipelines.report.markup import Section, figure, figures, no_rows, page, table, why
from pipelines.report.thumbnails import SHEET, Thumbnails, make_thumbnails
from pipelines.run_stores import find_store

if TYPE_CHECKING:
    from PIL.Image import Image

    from pipelines.explaining.explanation import Explanation

_LARGEST = 640  # pixels of the picture's longer side
_DEEPEST = 0.72  # opacity of the strongest part

_METHODS = {
    "occlusion": (
        "Each word is left out and each cell of the picture painted over in turn, the rest is embedded "
        "again, and the model asked again. A value is what the probability loses: parts in blue speak for "
        "the class, parts in orange against it. Parts that stand in for each other lose little each."
    ),
    "gradient": (
        "Integrated gradients (Sundararajan et al. 2017) from an empty input to this one, through network "
        "and head. The values of a map add up to what its input gives: parts in blue speak for the class, "
        "parts in orange against it."
    ),
}


def explanation_page(found: Explanation, *, run: Path, data: Path | None) -> bytes:
    """Return the page, one self-contained file in UTF-8.

    Parameters
    ----------
    found : Explanation
    run : Path
        The run folder.
    data : Path or None
        Where the pictures of the neighbours lie; None looks around the stores and the run.
    """
    target = found.classes[found.code]
    thumbnails, shown = _thumbnails(found, run, data)
    maps = found.attributions
    words = "".join(_words(m) for m in maps.words) or why("There is no text.")
    patches = f'<div class="figures">{"".join(_patches(m, k) for k, m in enumerate(maps.patches))}</div>'
    sections = [
        Section("answer", "Answer", figures([_answer_chart(found), _share_chart(found)])),
        Section("words", "Words", words),
        Section("picture", "Picture", patches if maps.patches else why("There is no picture.")),
        Section("neighbours", "Nearest training samples", _neighbours(found, thumbnails, shown)),
    ]
    label = f", labelled <b>{escape(found.case.label)}</b>" if found.case.label is not None else ""
    best = escape(found.classes[found.predicted])
    notes = "".join(why(note) for note in (*found.notes, *maps.notes))
    lead = (
        f"<p>Predicted <b>{best}</b>{label}. What follows explains the probability of "
        f"<b>{escape(target)}</b> by {escape(maps.method)}.</p>{notes}<p>{escape(_METHODS[maps.method])}</p>"
    )
    return page(f"Why {found.case.name}?", lead, sections, no_rows(), thumbnails.sheets)


def _answer_chart(found: Explanation) -> Chart:
    order = np.argsort(-found.probabilities, kind="stable")
    names = [found.classes[k] for k in order]
    values = [float(found.probabilities[k]) for k in order]
    places = [-float(row) for row in range(len(names))]
    notes = [f"{name}: {value:.4f}" for name, value in zip(names, values, strict=True)]
    marks = [Mark("bars", values, places, notes=notes)]
    caption = ""
    if found.held_out is not None:
        held = [found.held_out[name] for name in names]
        words = [
            f"{name}, trained without this row: {value:.4f}" for name, value in zip(names, held, strict=True)
        ]
        marks = [
            Mark("bars", values, places, name="this model, which was trained on the row", notes=notes),
            Mark("points", held, places, name="a model that was not", colour=1, notes=words),
        ]
        caption = "The dots are the honest figure: out of fold."
    return Chart(
        "answer", "Probabilities", caption, Axis("probability"), names_axis(names), marks, across=True
    )


def _share_chart(found: Explanation) -> Chart:
    shares = found.shares
    names = ["training means", *shares.values, "together"]
    values = [shares.nothing, *shares.values.values(), shares.whole]
    places = [-float(row) for row in range(len(names))]
    low, high = span_of([0.0, *values])
    marks = []
    for name, value, place in zip(names, values, places, strict=True):
        mine = name in shares.values
        text = f"{name}: {value:+.4f}" if mine else f"{name}: {value:.4f}"
        colour = (0 if value >= 0 else 1) if mine else 7
        # A span and not a bar: values below zero go to the left.
        marks.append(Mark("span", [0.0], [place], [value], colour=colour))
        marks.append(Mark("points", [value], [place], colour=colour, notes=[text]))
    caption = (
        "Shapley values: what each modality adds to the probability of the class, from the training means (a "
        "missing input) to the whole."
    )
    return Chart(
        "shares",
        f"What gives {found.classes[found.code]}",
        caption,
        Axis("probability", low, high),
        names_axis(names),
        marks,
        across=True,
    )


def _words(word_map: WordMap) -> str:
    strongest = max((abs(value) for _, value in word_map.scored), default=0.0) or 1.0
    pieces = "".join(_piece(piece, value, strongest) for piece, value in word_map.pieces)
    rows = [[piece, f"{value:+.4f}"] for piece, value in word_map.scored[:12]]
    drawn = f'<p style="font-size:1.15rem;line-height:2;overflow-wrap:anywhere;max-width:none">{pieces}</p>'
    return figure("words", word_map.title, drawn, "") + table(["strongest", "value"], rows)


def _piece(piece: str, value: float | None, strongest: float) -> str:
    if value is None:
        return escape(piece)
    depth = round(100 * _DEEPEST * abs(value) / strongest)
    ground = f"color-mix(in srgb, var(--p{0 if value >= 0 else 1}) {depth}%, transparent)"
    return (
        f'<span style="background:{ground};border-radius:.25rem;padding:.1em .15em;print-color-adjust:exact" '
        f'title="{value:+.4f}">{escape(piece)}</span>'
    )


def _patches(patch_map: PatchMap, number: int) -> str:
    width, height, address = _embedded(patch_map.picture)
    n_rows, n_columns = patch_map.values.shape
    strongest = float(np.abs(patch_map.values).max()) or 1.0
    cells = []
    for row in range(n_rows):
        for column in range(n_columns):
            value = float(patch_map.values[row, column])
            left, top = width * column / n_columns, height * row / n_rows
            cells.append(
                f'<rect x="{left:.1f}" y="{top:.1f}" width="{width / n_columns:.1f}" '
                f'height="{height / n_rows:.1f}" fill="var(--p{0 if value >= 0 else 1})" '
                f'fill-opacity="{_DEEPEST * abs(value) / strongest:.3f}" '
                f'data-tip="row {row + 1}, column {column + 1}: {value:+.4f}"/>'
            )
    image = f'<image href="{address}" width="{width}" height="{height}" preserveAspectRatio="none"/>'
    box = f'viewBox="0 0 {width} {height}" role="img"'
    drawn = (
        f'<svg {box} aria-label="map over the picture">{image}{"".join(cells)}</svg>'
        f'<details><summary>without the map</summary><svg {box} aria-label="picture">{image}</svg></details>'
    )
    return figure(f"patches-{number}", patch_map.title, drawn, "Hover for the value of a cell.")


def _embedded(picture: Image) -> tuple[int, int, str]:
    """Return width, height and data address of a picture made small enough for a page."""
    small = picture.copy()
    small.thumbnail((_LARGEST, _LARGEST))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=80)
    return *small.size, f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _thumbnails(found: Explanation, run: Path, data: Path | None) -> tuple[Thumbnails, list[int]]:
    """Return small pictures of the neighbours, and the matrix row of each tile asked for."""
    rows = list(dict.fromkeys(n.row for near in found.neighbours.values() for n in near))
    matrix = found.matrix
    if matrix is None or matrix.images is None or not rows:
        return Thumbnails((), (), ""), rows
    paths = [matrix.images[row] for row in rows]
    spaces = [space for space in found.case.spaces if not str(space["space"]).startswith("text")]
    home = find_store((spaces or list(found.case.spaces))[0], run)
    root = data_root(paths, data_folders(data, [home], run))
    if root is None:
        return Thumbnails((), (), ""), rows
    return make_thumbnails(root, paths, _hashes(home, matrix, rows), range(len(rows))), rows


def _hashes(store_path: Path, matrix: Matrix, rows: Sequence[int]) -> list[bytes] | None:
    """Return what the pictures were when they were embedded."""
    with open_store(store_path) as store:
        if store.image_sha256 is None:
            return None
        row_of = {guid: row for row, guid in enumerate(store.ids)}
        return [store.image_sha256[row_of[matrix.ids[row]]].tobytes() for row in rows]


def _neighbours(found: Explanation, thumbnails: Thumbnails, shown: Sequence[int]) -> str:
    if not found.neighbours:
        return why("There are none: the run's stores are not there, or the case has no vector.")
    tile_of = dict(zip(shown, thumbnails.tiles, strict=False))
    parts = [f"<p>The {N_NEIGHBOURS} labelled training rows with the largest cosine, block by block.</p>"]
    for block, near in found.neighbours.items():
        cards = "".join(_card(n, tile_of.get(n.row, -1)) for n in near)
        parts.append(f'<h3>{escape(block)}</h3><div class="cards">{cards}</div>')
    return "".join(parts)


def _card(neighbour: Neighbour, tile: int) -> str:
    picture = ""
    if tile >= 0:
        row, column = divmod(tile % (SHEET * SHEET), SHEET)
        place = f"{100 * column / (SHEET - 1):.3f}% {100 * row / (SHEET - 1):.3f}%"
        picture = f'<i class="thumb s{tile // (SHEET * SHEET)}" style="background-position:{place}"></i>'
    text = f'<p class="text">{escape(neighbour.text)}</p>' if neighbour.text else ""
    return (
        f'<article class="card">{picture}<div class="words">{text}<p>{escape(neighbour.label)}, cosine '
        f'{neighbour.cosine:.3f}</p><div class="id">id {escape(neighbour.guid)}</div></div></article>'
    )
