"""Thumbnails: the pictures of the rows as sprite sheets, small enough for one page.

One sheet of 256 pictures is one WebP file: 4,000 single files would spend a third of the page on headers.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from extract import BadImageError, decode_image, read_image_file
from pipelines.console import Progress
from pipelines.picture_files import file_inside

if TYPE_CHECKING:
    from PIL.Image import Image

SHEET = 16
"""Pictures per row and per column of a sheet."""

_MOST_BYTES = 3_900_000  # of all sheets; base64 makes 5.2 MB of it
_SECONDS = 9.0  # after which the rest goes without a picture
_GROUND = (236, 238, 241)
_AT_ONCE = 64


@dataclass(frozen=True)
class Thumbnails:
    """Sprite sheets.

    Attributes
    ----------
    sheets : tuple of bytes
        WebP files of 16 by 16 pictures.
    tiles : tuple of int
        For each row its picture's number over all sheets, row by row; -1 = none.
    note : str
        What is not there, and why; may be empty.
    """

    sheets: tuple[bytes, ...]
    tiles: tuple[int, ...]
    note: str


def make_thumbnails(
    root: Path,
    paths: Sequence[str],
    hashes: Sequence[bytes] | None,
    order: Sequence[int],
    *,
    stop: Event | None = None,
) -> Thumbnails:
    """Make the sheets.

    Parameters
    ----------
    root : Path
        The data set's folder.
    paths : sequence of str
        Picture of each row, relative to `root`; empty = none.
    hashes : sequence of bytes or None
        SHA-256 of each file when it was embedded; zeros = unknown. A file that has changed is left out.
    order : sequence of int
        Rows in the order in which they get a picture while time lasts.
    stop : threading.Event, optional
        Once it is set, the rest goes without a picture.

    Returns
    -------
    Thumbnails
        At most 3.9 MB.
    """
    side = 96 if len(paths) <= 800 else 80 if len(paths) <= 2000 else 64
    began, tiles = time.monotonic(), [-1] * len(paths)
    pictures: list[Image] = []
    left_out = {"could not be read": 0, "changed since they were embedded": 0}
    late = 0
    progress = Progress("thumbnails", "pictures")

    def load(row: int) -> Image | str | None:
        if not paths[row]:
            return None
        return _thumbnail(root, paths[row], None if hashes is None else hashes[row], side)

    with ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
        for start in range(0, len(order), _AT_ONCE):
            if time.monotonic() - began > _SECONDS or (stop is not None and stop.is_set()):
                late = len(order) - start
                break
            progress.update(start, len(order))
            some = order[start : start + _AT_ONCE]
            for row, found in zip(some, pool.map(load, some), strict=True):
                if isinstance(found, str):
                    left_out[found] += 1
                elif found is not None:
                    tiles[row] = len(pictures)
                    pictures.append(found)
        progress.close()
        sheets = _sheets(pictures, side, pool)
    notes = [f"{count:,} pictures {why}" for why, count in left_out.items() if count]
    notes += [f"{late:,} pictures are left out to save time"] if late else []
    return Thumbnails(sheets, tuple(tiles), "; ".join(notes))


def _thumbnail(root: Path, path: str, sha256: bytes | None, side: int) -> Image | str:
    """Return a small picture, or why there is none."""
    from PIL.Image import Resampling

    file = file_inside(root, path)
    if file is None:
        return "could not be read"
    try:
        data = read_image_file(file)
        if sha256 is not None and any(sha256) and hashlib.sha256(data).digest() != sha256:
            return "changed since they were embedded"
        picture = decode_image(data, enough=side)
    except BadImageError:
        return "could not be read"
    picture.thumbnail((side - 2, side - 2), Resampling.BOX)
    return picture


def _sheets(pictures: Sequence[Image], side: int, pool: ThreadPoolExecutor) -> tuple[bytes, ...]:
    """Paste pictures into sheets and encode them at the best quality that fits."""
    if not pictures:
        return ()
    per_sheet = SHEET * SHEET
    starts = [*range(0, len(pictures), per_sheet), len(pictures)]
    groups = [pictures[start:stop] for start, stop in pairwise(starts)]
    pages = [_paste(group, side) for group in groups]
    qualities = (70, 55, 40, 25, 10, 1)
    share = _MOST_BYTES * len(groups[0]) / len(pictures)
    fitting = (quality for quality in qualities if len(_encode(pages[0], quality)) <= share * 0.95)
    first = qualities.index(next(fitting, qualities[-1]))
    for quality in qualities[first:]:
        sheets = tuple(pool.map(lambda page, q=quality: _encode(page, q), pages))
        if sum(map(len, sheets)) <= _MOST_BYTES:
            break
    return sheets


def _paste(pictures: Sequence[Image], side: int) -> Image:
    from PIL import Image

    page = Image.new("RGB", (SHEET * side, SHEET * side), _GROUND)
    for k, picture in enumerate(pictures):
        row, column = divmod(k, SHEET)
        page.paste(
            picture, (column * side + (side - picture.width) // 2, row * side + (side - picture.height) // 2)
        )
    return page


def _encode(page: Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    page.save(buffer, "WEBP", quality=quality, method=2)
    return buffer.getvalue()
