"""Blocks of term counts, by name: what they hold travels with `blocks` wherever the columns go.

``text.terms`` are counts of words and pairs of words, ``text.chars`` of runs of characters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = re.compile(
    r"text\.(?P<unit>terms|chars)(?:-min(?P<min>[1-9]\d{0,8}))?(?:-max(?P<max>[1-9]\d{0,8}))?(?:@.*)?",
    re.DOTALL,
)

GRAMMAR = "text.terms or text.chars, then -minN (documents a term must be in) and -maxN (terms) if wanted"
"""How the name of a block of term counts is made."""


@dataclass(frozen=True)
class TermRecipe:
    """What a block of term counts holds.

    Attributes
    ----------
    unit : {"terms", "chars"}
        Words and pairs of words, or runs of characters.
    min_documents : int
        Training rows that a term must be in.
    max_terms : int or None
        Only so many terms are weighted, those with the largest counts in the training rows.
    """

    unit: str
    min_documents: int = 2
    max_terms: int | None = None


def term_recipe(block: str) -> TermRecipe | None:
    """Return what a block of term counts holds, by its name; None for any other block.

    Parameters
    ----------
    block : str
        Such as ``"text.terms"``, ``"text.chars-min5"``, ``"text.terms-max5000"`` or ``"text.terms@bert"``.

    Returns
    -------
    TermRecipe or None

    Examples
    --------
    >>> term_recipe("text.terms-min3-max5000")
    TermRecipe(unit='terms', min_documents=3, max_terms=5000)
    >>> term_recipe("text.pooled") is None
    True
    """
    found = _NAME.fullmatch(block)
    if found is None:
        return None
    return TermRecipe(found["unit"], int(found["min"] or 2), int(found["max"]) if found["max"] else None)
