"""Marks of pictures: a few numbers per picture that survive re-encoding, resizing and a little cropping."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from pipelines.console import Progress
from pipelines.picture_files import data_root, file_inside
from tuning import centred, rows_with_likeness, similar_rows, unit_rows

LEAST_LIKENESS = 0.85
"""Least correlation of two marks."""

LEAST_COSINE = 0.55
"""Least cosine of the two vectors, less the mean of all."""

MOST_DIFFERENCE = 0.005
"""Largest product of (1 - correlation of the marks) and (1 - cosine of the vectors)."""

COSINE_UNKNOWN = 0.6
"""Cosine of pairs that have no vectors: their marks must agree to 0.9875."""

_SIDE = 32
_FREQUENCIES = 16


def same_picture_pairs(
    vectors: Sequence[np.ndarray],
    images: Sequence[str],
    hashes: Sequence[bytes | None] | None,
    folders: Sequence[Path],
) -> np.ndarray | None:
    """Find pairs of rows whose pictures are nearly the same.

    Parameters
    ----------
    vectors : sequence of ndarray of shape (n_samples, d), float32
        NaN where a row has none. Only rows with a likely partner (`LEAST_COSINE`) are read. Without any,
        all rows are, and the cosine of every pair counts as `COSINE_UNKNOWN`.
    images : sequence of str
        Files relative to the data set; "" = none.
    hashes : sequence of (bytes or None) or None
        SHA-256 of the files when they were embedded; a file that has changed is not compared.
    folders : sequence of Path
        Where the data set may lie.

    Returns
    -------
    ndarray of shape (n_pairs, 2), int64, or None
        None when the pictures are in none of the folders.

    Notes
    -----
    The mark is the low-frequency part of the discrete cosine transform of the grey picture at 32 x 32
    pixels, as in the perceptual hash pHash (Zauner, "Implementation and benchmarking of perceptual image
    hash functions", 2010), but 16 x 16 real numbers instead of 64 bits: bits cannot tell simple drawings
    apart. The vectors have a say because marks see outlines and no meaning.
    """
    root = data_root(images, folders)
    if root is None:
        return None
    named = np.array([bool(image) for image in images])
    if vectors:
        U: np.ndarray = np.concatenate([unit_rows(centred(X)) for X in vectors], axis=1)
        U /= np.float32(np.sqrt(len(vectors)))
        named &= rows_with_likeness(U, LEAST_COSINE)
    likely = np.flatnonzero(named)
    marks = unit_rows(read_marks(root, images, hashes, likely))
    found = [np.empty((0, 2), dtype=np.int64)]
    for i, j, likeness in similar_rows(marks, LEAST_LIKENESS):
        rows, others = likely[i], likely[j]
        cosine = np.einsum("ij,ij->i", U[rows], U[others]) if vectors else COSINE_UNKNOWN
        same = (cosine >= LEAST_COSINE) & ((1 - likeness) * (1 - cosine) <= MOST_DIFFERENCE)
        found.append(np.stack([rows[same], others[same]], axis=1))
    return np.concatenate(found)


def read_marks(
    root: Path, images: Sequence[str], hashes: Sequence[bytes | None] | None, rows: np.ndarray
) -> np.ndarray:
    """Read pictures and return their marks.

    Parameters
    ----------
    root : Path
        The data set's folder.
    images, hashes
        As for `same_picture_pairs`.
    rows : ndarray of shape (n_rows,), int64
        Which to read.

    Returns
    -------
    ndarray of shape (n_rows, 255), float32
        Not normalised. Zeros for a picture that cannot be read, has changed, or is of one colour.
    """
    grey = np.zeros((len(rows), _SIDE, _SIDE), dtype=np.uint8)
    progress = Progress("comparing pictures", "pictures")
    # One after another: two threads were slower, because decoding at a fraction of the size is not the work.
    for place, row in enumerate(rows.tolist()):
        digest = None if hashes is None else hashes[row]
        read = _read_grey if digest is None else _remembered_grey
        pixels = read(root, images[row], digest)
        if pixels is not None:
            grey[place] = pixels
        progress.update(place + 1, len(rows))
    progress.close()
    return marks_of_pixels(grey)


@lru_cache(maxsize=20_000)  # 20 MB; an ablation of several stores asks for the same pictures again
def _remembered_grey(root: Path, name: str, digest: bytes | None) -> np.ndarray | None:
    return _read_grey(root, name, digest)


def _read_grey(root: Path, name: str, digest: bytes | None) -> np.ndarray | None:
    """Return the grey picture at 32 x 32 pixels; None if it cannot be read or has changed."""
    from PIL.Image import Resampling

    from extract import BadImageError, decode_image, read_image_file

    file = file_inside(root, name)
    if file is None:
        return None
    try:
        data = read_image_file(file)
        if digest is not None and hashlib.sha256(data).digest() != digest:
            return None
        picture = decode_image(data, enough=_SIDE)
    except BadImageError:
        return None
    return np.asarray(picture.convert("L").resize((_SIDE, _SIDE), Resampling.LANCZOS))


def marks_of_pixels(grey: np.ndarray) -> np.ndarray:
    """Return the marks of grey pictures: 255 cosine coefficients each, the mean left out.

    Parameters
    ----------
    grey : ndarray of shape (n_pictures, 32, 32)

    Returns
    -------
    ndarray of shape (n_pictures, 255), float32
        Not normalised; zeros for a picture of one colour, which has rounding noise for a pattern.
    """
    from scipy.fft import dctn

    low = dctn(grey.astype(np.float32), axes=(1, 2), norm="ortho")[:, :_FREQUENCIES, :_FREQUENCIES]
    marks: np.ndarray = low.reshape(len(grey), -1)[:, 1:].astype(np.float32)
    marks[np.abs(marks).max(axis=1, initial=0.0) <= 1.0] = 0
    return marks
