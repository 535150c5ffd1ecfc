"""The names a user may type, and what to say about a name that is not one of them."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

HEADS = ("mlp", "logreg", "lightgbm", "ridge", "svm", "centroid", "knn")
"""Names of the heads, as in ``make_pipeline("mlp")``."""

OTHER_HEADS = ("zero-shot", "tabpfn")
"""Heads that need more than rows and labels: embedded prompts, or a package of their own; not searched."""

RESAMPLERS = (
    "none",
    "random-over",
    "random-under",
    "smote",
    "borderline-smote",
    "adasyn",
    "smote-enn",
    "inverse-frequency",
)
"""Names of the ways to balance the training rows."""

FUSIONS = (
    "concat",
    "projection",
    "early",
    "weighted_sum",
    "gated",
    "attention",
    "product",
    "bilinear",
    "late",
)
"""Names of the ways :class:`heads.MLPHead` combines blocks."""

NORMS = ("layer", "batch", "none")
"""Names of what normalises the units of a hidden layer."""

ACTIVATIONS = ("gelu", "relu")
"""Names of the non-linear functions of hidden layers."""

LOSSES = ("cross-entropy", "focal")
"""Names of the losses :class:`heads.MLPHead` can minimise."""

SCHEDULES = ("constant", "cosine", "one-cycle", "plateau")
"""Names of the courses of the learning rate."""

STOP_METRICS = ("loss", "macro_f1", "weighted_f1", "accuracy")
"""What early stopping can look at on the held-out rows."""

CALIBRATIONS = ("none", "temperature", "vector")
"""Names of the ways to make probabilities mean what they say."""

DECISIONS = ("argmax", "weights", "low-confidence")
"""Names of the ways to turn probabilities into a class."""


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
    return f"unknown {kind} {value!r} (allowed: {_listed(known)}{_hint(value, known)})"


def known_names(value: object, allowed: Iterable[str]) -> str:
    """Return the names that exist, and which of them was probably meant."""
    known = list(allowed)
    return f"{_listed(known)}{_hint(value, known)}"


def _listed(known: list[str]) -> str:
    return ", ".join(repr(name) for name in known)


def _hint(value: object, known: list[str]) -> str:
    near = get_close_matches(str(value), known, n=5, cutoff=0.5)
    return f"; did you mean {' or '.join(repr(name) for name in near)}" if near else ""
