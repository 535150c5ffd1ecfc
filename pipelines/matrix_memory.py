"""Whether a matrix fits in memory, and what to do where it does not."""

from __future__ import annotations

from pipelines.console import size
from pipelines.errors import RunError
from pipelines.machine import memory_bytes

#: A matrix and what is made of it while it is read: 1.5 matrices were measured (10,000 x 768 in float16).
READING = 2

#: ... and while a head is trained or searched for: the training rows, those of a fold, and what is made of
#: these. Of the whole process above its libraries, with what does not grow with the matrix, were measured
#: 5.1 matrices (train logreg), 5.3 (ridge), 6.1 (centroid), of 16,000 x 768 in float32, and 6.6 (tune logreg,
#: 32,000 x 768) by ``benchmarks/training_memory.py``.
TRAINING = 7


def refuse_too_big(shape: tuple[int, int], *, copies: int, n_views: int = 0, why: str = "") -> None:
    """Refuse a matrix that would be too big for this machine's memory.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    copies : int
        `READING` or `TRAINING`: how often the matrix is held at a time.
    n_views : int
        Augmented views of every row that are read too.
    why : str
        Why it has to be in memory, as a sentence; "" if nobody asked for less.

    Raises
    ------
    RunError
        If so many copies in float32 take more than the memory that this process may have.
    """
    n_bytes = 4 * shape[0] * shape[1] * (1 + n_views)
    available = memory_bytes()
    if n_bytes * copies <= available:
        return
    views = f" and {n_views} views of each" if n_views else ""
    raise RunError(
        f"{why + ' ' if why else ''}{shape[0]:,} rows of {shape[1]:,} columns{views} take {size(n_bytes)} as "
        f"float32 and about {size(n_bytes * copies)} with the copies that are made of them, but this machine "
        f"has {size(available)} of memory. Use embedonce train --head logreg (L2 penalty, up to 2,048 "
        "columns) or mlp, which read rows by chunks (without resampling, pca, views and term counts), fewer "
        "or narrower spaces, or a machine with more memory."
    )
