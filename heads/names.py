"""The names a user may type, and what to say about a name that is not one of them."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

HEADS = ("mlp", "logreg", "lightgbm")
"""Names of the heads, as in ``make_pipeline("mlp")``."""

RESAMPLERS = ("none", "random-over", "smote", "inverse-frequency")
"""Names of the ways to balance the training rows."""

FUSIONS = ("concat",)
"""Names of the ways :class:`heads.MLPHead` combines blocks."""


def unknown_name(kind: str, value: object, allowed: Iterable[str]) -> str:
    """Say that a name is not known, and what was probably meant.

    Parameters
    ----------
    kind : str
        What is being named, such as ``"head"``.
    value : object
        The name that was given.
    allowed : iterable of str
        The names that exist.

    Returns
    -------
    str
        One clause without a final stop, with at most five near matches.
    """
    known = list(allowed)
    near = get_close_matches(str(value), known, n=5, cutoff=0.5)
    hint = f"; did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
    return f"unknown {kind} {value!r} (allowed: {', '.join(repr(name) for name in known)}){hint}"
