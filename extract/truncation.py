"""Truncation: how much of the texts a network never saw, as a store's ``/meta`` keeps it.

The figures depend on the texts and the tokenizer alone, whoever computed the vectors: rows that this pass
embedded bring their lengths with them, rows of an earlier process or store are tokenised again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cache import Status
from extract.choices import parts_of
from extract.samples import TEXT
from extract.work import PassWork

#: Texts that are tokenised at a time.
_RUN = 1024


@dataclass(frozen=True)
class Truncation:
    """Texts of one modality, and what of them was cut.

    Attributes
    ----------
    texts, texts_cut : int
        Rows that have a vector, and those of them whose text was longer than the network takes.
    tokens, tokens_cut : int
        Tokens of these texts with their special tokens, and those that were cut. A picture among them
        counts as one.
    """

    texts: int
    texts_cut: int
    tokens: int
    tokens_cut: int


def measure_truncation(
    work: PassWork, status: np.ndarray, lengths: Mapping[str, np.ndarray]
) -> dict[str, Truncation]:
    """Return what was cut in each modality of a finished pass that reads texts.

    Parameters
    ----------
    work : PassWork
    status : ndarray of shape (n, n_modalities), uint8
        Final ones.
    lengths : mapping of str to ndarray of shape (n, 2), int32
        Modality -> tokens of each row's text before and after cutting; zeros where they are not known.
    """
    return {
        modality: _of_modality(work, modality, status[:, column], lengths[modality])
        for column, modality in enumerate(work.planned.modalities)
        if TEXT in parts_of(modality)
    }


def _of_modality(work: PassWork, modality: str, status: np.ndarray, lengths: np.ndarray) -> Truncation:
    rows = np.flatnonzero(status == Status.OK)
    known = lengths.copy()
    missing = rows[known[rows, 0] == 0]
    if len(missing):
        tokenise = work.backbone.open_tokeniser(modality)
        for start in range(0, len(missing), _RUN):
            run = missing[start : start + _RUN]
            tokens = tokenise(work.sources.texts.pick(run.tolist()))
            known[run] = [each.counts for each in tokens]
    full, kept = known[rows].T.astype(np.int64)
    return Truncation(len(rows), int((full > kept).sum()), int(full.sum()), int((full - kept).sum()))
