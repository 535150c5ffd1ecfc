"""Occlusions: edits that hide one part of an input: a word of a text, a cell of a grid over a picture.

References
----------
M. Zeiler and R. Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.2 (a
grey square over the picture). J. Li, W. Monroe and D. Jurafsky, "Understanding Neural Networks through
Representation Erasure", 2016 (a word left out).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from extract.augmentations.texts import text_pieces
from extract.edited_inputs import Edit

if TYPE_CHECKING:
    from PIL.Image import Image


def word_edits(text: str) -> list[tuple[int, Edit]]:
    """Return one edit for every word of a text, which leaves that word out.

    Parameters
    ----------
    text : str
        Cleaned text.

    Returns
    -------
    list of (int, Edit)
        Position of the word among the pieces of ``text_pieces(text)``, and its edit. In a text that was
        cleaned in another way, an edit leaves out the word of the same spelling and count, if it has that.
    """
    seen: dict[str, int] = {}
    edits = []
    for place, (piece, counts) in enumerate(text_pieces(text)):
        if counts:
            occurrence = seen[piece] = seen.get(piece, -1) + 1
            edits.append((place, Edit(text=partial(_without, piece, occurrence))))
    return edits


def _without(word: str, occurrence: int, text: str, _seed: bytes) -> str:
    """Leave out one occurrence of a word, and the white space after it."""
    pieces = [piece for piece, _ in text_pieces(text)]
    places = [i for i, piece in enumerate(pieces) if piece == word]
    if occurrence >= len(places):
        return text
    first = places[occurrence]
    last = first + 1
    if last < len(pieces) and pieces[last].isspace():
        last += 1
    return "".join(pieces[:first] + pieces[last:]).strip()


def cell_edits(n_rows: int, n_columns: int) -> list[Edit]:
    """Return one edit for every cell of a grid over a picture, row by row.

    An edit paints its cell in the mean colour of the picture, which hides what is there and is no edge that
    the picture's own colours would not explain.
    """
    return [
        Edit(image=partial(_painted, row, column, n_rows, n_columns))
        for row in range(n_rows)
        for column in range(n_columns)
    ]


def _painted(row: int, column: int, n_rows: int, n_columns: int, image: Image, _seed: bytes) -> Image:
    from PIL import ImageStat

    left, right = image.width * column // n_columns, image.width * (column + 1) // n_columns
    top, bottom = image.height * row // n_rows, image.height * (row + 1) // n_rows
    red, green, blue = (round(mean) for mean in ImageStat.Stat(image).mean)
    hidden = image.copy()
    hidden.paste((red, green, blue), (left, top, right, bottom))
    return hidden
