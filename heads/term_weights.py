"""TF-IDF inside the fold: blocks of raw term counts become weighted rows, by training rows only.

What a block holds is said by its name, see ``heads.term_blocks``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from heads.blocks import block_slices
from heads.term_blocks import TermRecipe, term_recipe


def term_slices(blocks: Mapping[str, int] | None, n_features: int) -> dict[str, slice]:
    """Return the columns of each block of term counts, by block name; empty without such a block."""
    if not any(term_recipe(str(name)) for name in blocks or {}):
        return {}
    slices = block_slices(blocks, n_features)
    return {name: columns for name, columns in slices.items() if term_recipe(name)}


class TermWeights(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Choose terms, weigh them by inverse document frequency, and give every text the length 1.

    Only blocks of term counts are changed (see ``term_recipe``). A row whose block is NaN stays NaN.

    Parameters
    ----------
    blocks : mapping of str to int, or None
        Name and width of each block, in column order.

    Attributes
    ----------
    idf_ : ndarray of shape (n_features,), float64
        Weight of each term; 0 for a term that was not chosen, 1 for a column that is no term.
    n_features_in_ : int

    Notes
    -----
    The same numbers as scikit-learn's ``TfidfVectorizer(min_df=..., max_features=...)`` fitted on the texts
    of the training rows, with a column of zeros for every term that it does not know. So nothing of a
    validation row enters, though the columns were made of all texts: a term that the training rows hold
    often enough is in enough of all texts as well.

    References
    ----------
    scikit-learn, ``TfidfTransformer`` (smoothed idf: ``ln((1 + n) / (1 + df)) + 1``).

    Examples
    --------
    >>> import numpy as np
    >>> counts = np.array([[1, 1, 0], [2, 0, 0], [0, 1, 1]], dtype=np.float32)
    >>> TermWeights({"text.terms": 3}).fit(counts).idf_.round(3).tolist()
    [1.288, 1.288, 0.0]
    """

    def __init__(self, blocks: Mapping[str, int] | None = None) -> None:
        self.blocks = blocks

    # scikit-learn's signature: y is not looked at.
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,  # noqa: ARG002
        *,
        sample_origin: ArrayLike | None = None,
    ) -> Self:
        """Choose and weigh the terms of the training rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), float32
            Counts in the blocks of terms; a text that is missing is NaN in its whole block.
        y : ignored
        sample_origin : array-like of shape (n_samples,), integer, optional
            As for ``Head.fit``: a view of a row is no further document.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If `blocks` do not add up, or no term is in enough training rows.
        """
        rows = self._checked(X, reset=True)
        self.idf_ = np.ones(self.n_features_in_)
        if sample_origin is not None:
            origins = np.asarray(sample_origin)
            rows = rows[origins == np.arange(len(origins))]
        for name, columns in term_slices(self.blocks, self.n_features_in_).items():
            recipe = term_recipe(name)
            assert recipe is not None  # it is a slice of terms
            counts = rows[:, columns]
            valid = ~np.isnan(counts[:, 0])
            self.idf_[columns] = _idf(counts if valid.all() else counts[valid], name, recipe)
        return self

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Return rows of shape (n_samples, n_features) whose blocks of terms are weighted.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Not changed.
        """
        check_is_fitted(self, "idf_")
        X = self._checked(X, reset=False)
        slices = term_slices(self.blocks, self.n_features_in_)
        weighted = X.copy() if slices else X
        for columns in slices.values():
            part = weighted[:, columns]
            part *= self.idf_[columns].astype(X.dtype)
            length = np.sqrt(np.einsum("ij,ij->i", part, part))
            part /= np.where(length == 0, 1, length)[:, None]  # a text without a known term stays zero
        return weighted

    def _checked(self, X: ArrayLike, *, reset: bool) -> NDArray[Any]:
        """Convert to a float array; missing blocks are looked at by the imputer, which comes next."""
        checked: NDArray[Any] = validate_data(
            self, X, dtype=[np.float32, np.float64], order="C", ensure_all_finite=False, reset=reset
        )
        return checked

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that NaN is expected here."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _idf(counts: NDArray[Any], name: str, recipe: TermRecipe) -> NDArray[np.float64]:
    """Return the weight of each term, 0 for those that are not chosen."""
    documents = np.count_nonzero(counts, axis=0)
    kept = documents >= recipe.min_documents
    if not kept.any():
        raise ValueError(
            f"No term of block {name!r} is in {recipe.min_documents} or more of the {len(counts)} training "
            "texts. Ask for fewer (-min1), or leave the block out."
        )
    if recipe.max_terms is not None and kept.sum() > recipe.max_terms:
        totals = counts.sum(axis=0, dtype=np.float64)
        largest = np.argsort(-totals[kept], kind="stable")[: recipe.max_terms]
        chosen = np.flatnonzero(kept)[largest]
        kept = np.zeros_like(kept)
        kept[chosen] = True
    idf = np.log((1 + len(counts)) / (1 + documents)) + 1
    return np.where(kept, idf, 0.0)
