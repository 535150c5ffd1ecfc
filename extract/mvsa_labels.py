"""Labels of MVSA: one of text and image, by the rule of the papers that use the set.

Equal labels stand; neutral gives way to the other; positive against negative is dropped. Of three annotators
the majority counts per modality, and a sample without a majority is dropped.

References
----------
Xu, Mao (2017). MultiSentiNet: a deep semantic network for multimodal sentiment analysis. CIKM.
"""

from __future__ import annotations

from collections.abc import Sequence

from extract.samples import DataError

_CLASSES = {"positive", "neutral", "negative"}


def joined_label(annotations: Sequence[str], place: str) -> str | None:
    """Join the labels of one sample.

    Parameters
    ----------
    annotations : sequence of str
        ``text,image`` of each annotator.
    place : str
        What to call the sample in the error.

    Returns
    -------
    str or None
        None for a sample that the rule drops.

    Raises
    ------
    DataError
        If there is no annotation, or one is not two of the three classes.
    """
    pairs = [
        [word.strip().lower() for word in annotation.split(",")]
        for annotation in annotations
        if annotation.strip()
    ]
    if not pairs or any(len(pair) != 2 or not set(pair) <= _CLASSES for pair in pairs):
        raise DataError(
            f"{place} has the labels {list(annotations)!r}; expected 'text,image' of {sorted(_CLASSES)}."
        )
    text, image = (_majority([pair[i] for pair in pairs]) for i in (0, 1))
    if text is None or image is None or {text, image} == {"positive", "negative"}:
        return None
    return image if text == "neutral" else text


def _majority(votes: Sequence[str]) -> str | None:
    best = max(set(votes), key=votes.count)
    return best if votes.count(best) * 2 > len(votes) else None
