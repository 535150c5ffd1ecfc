"""Blocks of raw term counts, made from the texts of a store: what TF-IDF starts from.

Only counting happens here, which looks at one text at a time. Choosing and weighing terms is the head's
pipeline's part (``heads.TermWeights``), because that must see training rows only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cache import canonical_json, sha256_hex
from heads.term_blocks import GRAMMAR, TermRecipe, term_recipe
from pipelines.errors import RunError, UsageError

#: What the card of a block of term counts names as its backbone.
TERMS_BACKBONE = "tfidf"

#: Most that a dense block of counts may take, in bytes.
MOST_BYTES = 1 << 30

# How terms are cut out of a text, for scikit-learn's CountVectorizer.
_ANALYZERS: dict[str, dict[str, object]] = {
    "terms": {"analyzer": "word", "ngram_range": (1, 2)},
    "chars": {"analyzer": "char", "ngram_range": (1, 3)},
}
_WITHOUT_SPACES = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
)
_MANY = 0.2  # of all letters


@dataclass(frozen=True, eq=False)
class TermCounts:
    """Counts of terms.

    Attributes
    ----------
    terms : tuple of str
        In alphabetical order, one per column.
    counts : ndarray of shape (n_texts, n_terms), float32
    note : str
        What to know about these texts; "" if there is nothing.
    """

    terms: tuple[str, ...]
    counts: np.ndarray
    note: str = ""


def is_term_space(space: str) -> bool:
    """Tell whether the name of a space stands for term counts.

    Raises
    ------
    UsageError
        If it begins like one, but is none.
    """
    if term_recipe(space) is not None and "@" not in space:
        return True
    if re.match(r"text\.(terms|chars)(-|$)", space):
        raise UsageError(f"'{space}' is no block of term counts; their names are {GRAMMAR}.")
    return False


def _recipe(space: str) -> TermRecipe:
    recipe = term_recipe(space)
    assert recipe is not None  # is_term_space was asked first
    return recipe


def build_term_counts(texts: Sequence[str] | None, space: str, source: str) -> TermCounts:
    """Find the terms of all texts, and count them.

    Parameters
    ----------
    texts : sequence of str, or None
        One per row; None means that the store has none.
    space : str
        Such as ``"text.terms"``, see ``heads.term_recipe``.
    source : str
        Where the texts come from, for messages.

    Returns
    -------
    TermCounts
        Terms that are in fewer texts than `space` asks for are left out: training rows, being some of these,
        cannot hold them often enough either. Sparse until the end.

    Raises
    ------
    RunError
        If there are no texts, no term is in enough of them, or the counts would take more than 1 GiB.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    if texts is None:
        raise RunError(
            f"Store '{source}' has no texts, so there are no terms to count for '{space}'. Name a store "
            "whose backbone embedded texts, or import one with a text column."
        )
    recipe = _recipe(space)
    counter = CountVectorizer(min_df=recipe.min_documents, dtype=np.float32, **_ANALYZERS[recipe.unit])
    try:
        found = counter.fit_transform(texts)
    except ValueError as error:
        raise RunError(
            f"No term is in {recipe.min_documents} or more of the {len(texts):,} texts of '{source}' "
            f"({error}). Lower -min, or use text.chars where words are not set apart by spaces."
        ) from error
    if found.shape[0] * found.shape[1] * 4 > MOST_BYTES:
        raise RunError(_too_large(found, space, source, recipe))
    return TermCounts(
        tuple(counter.get_feature_names_out().tolist()), found.toarray(), _script_note(texts, recipe)
    )


def count_terms(texts: Sequence[str], space: str, terms: Sequence[str]) -> np.ndarray:
    """Count known terms.

    Parameters
    ----------
    texts : sequence of str
    space : str
        As for `build_term_counts`, which `terms` come from.
    terms : sequence of str

    Returns
    -------
    ndarray of shape (n_texts, n_terms), float32

    Raises
    ------
    RunError
        If the counts would take more than 1 GiB.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    if len(texts) * len(terms) * 4 > MOST_BYTES:
        raise RunError(
            f"The counts of {len(terms):,} terms in {len(texts):,} texts would take "
            f"{len(texts) * len(terms) * 4 / 2**30:.1f} GiB; at most 1 GiB is used. Predict in parts."
        )
    counter = CountVectorizer(vocabulary=list(terms), dtype=np.float32, **_ANALYZERS[_recipe(space).unit])
    counts: np.ndarray = counter.transform(texts).toarray()
    return counts


def terms_fingerprint(space: str, clean: str, terms: Sequence[str]) -> str:
    """Return what identifies the columns of a block: how texts are cleaned and cut, and the terms."""
    return sha256_hex(canonical_json({"space": space, "clean": clean, "terms": list(terms)}))


def _too_large(found: object, space: str, source: str, recipe: TermRecipe) -> str:
    """Say how large the counts would be, and how often a term has to occur for them to fit."""
    n_texts, n_terms = found.shape  # type: ignore[attr-defined]
    documents = np.sort(np.bincount(found.indices, minlength=n_terms))[::-1]  # type: ignore[attr-defined]
    fitting = MOST_BYTES // (4 * n_texts)
    least = int(documents[fitting]) + 1
    base = f"text.{recipe.unit}-min{least}" + (f"-max{recipe.max_terms}" if recipe.max_terms else "")
    return (
        f"The counts of {n_terms:,} terms in the {n_texts:,} texts of '{source}' would take "
        f"{n_texts * n_terms * 4 / 2**30:.1f} GiB; at most 1 GiB is used. Ask for terms of more texts: "
        f"--features {source}:{base} instead of {space}."
    )


def _script_note(texts: Sequence[str], recipe: TermRecipe) -> str:
    """Say that words are hard to find in texts of a script without spaces."""
    if recipe.unit != "terms":
        return ""
    letters = sum(character.isalpha() for text in texts for character in text)
    unspaced = sum(len(_WITHOUT_SPACES.findall(text)) for text in texts)
    if unspaced <= _MANY * max(letters, 1):
        return ""
    return (
        f"{unspaced / max(letters, 1):.0%} of the letters are of scripts without spaces, in which text.terms "
        "finds few words; text.chars counts runs of characters"
    )
