"""Whether a matrix fits in memory, and what to do where it does not."""

from __future__ import annotations

from pipelines.console import size
from pipelines.errors import RunError
from pipelines.machine import look_at_machine

#: A matrix in memory and what is made of it while a head is trained: the training rows, those of a fold, and
#: their standardised copy.
_COPIES = 4

#: What takes less, copies included, fits anywhere: looking for GPUs would cost more than reading.
_SMALL = 1 << 30


def refuse_too_big(shape: tuple[int, int], *, n_views: int = 0, why: str = "") -> None:
    """Refuse a matrix that would be too big for this machine's memory.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    n_views : int
        Augmented views of every row that are read too.
    why : str
        Why it has to be in memory, as a sentence; "" if nobody asked for less.

    Raises
    ------
    RunError
        If float32 values and the copies that training makes take more than the memory that this process may
        have.
    """
    n_bytes = 4 * shape[0] * shape[1] * (1 + n_views)
    if n_bytes * _COPIES < _SMALL:
        return
    available = look_at_machine().memory_bytes
    if n_bytes * _COPIES <= available:
        return
    views = f" and {n_views} views of each" if n_views else ""
    raise RunError(
        f"{why + ' ' if why else ''}{shape[0]:,} rows of {shape[1]:,} columns{views} take {size(n_bytes)} as "
        f"float32 and about {size(n_bytes * _COPIES)} while a head is trained, but this machine has "
        f"{size(available)} of memory. Use embedonce train --head logreg or mlp, which read rows by chunks "
        "(with an L2 penalty, no resampling, no pca and --use-views 0), fewer or narrower spaces, or a "
        "machine with more memory."
    )
