"""One word for how a configuration treats the rare classes: weighted, resampled, or left alone.

It is one choice, because weighting them and repeating them as well would count the prior twice.
"""

from collections.abc import Mapping
from typing import Any

from heads import RESAMPLERS
from heads.names import known_names

BALANCE = "balance"
"""Name of the dimension."""

CLASS_WEIGHT = "class-weight"
HALF_CLASS_WEIGHT = "class-weight^0.5"
EFFECTIVE = "effective"
NONE = "none"

SEARCHED_RESAMPLERS = (NONE, "smote")
"""The part of ``heads.RESAMPLERS`` that a search tries by itself. Random over-sampling and the
inverse-frequency sampler are class weights drawn at random: in expectation the same loss, from 1.8 times the
rows at 6:1:3. The others are near relatives of SMOTE, or lose rows: each would take trials from the rest."""

_POWER = f"{CLASS_WEIGHT}^"


def treatment(word: str) -> tuple[str, str | float | None]:
    """Return what a word means.

    Parameters
    ----------
    word : str
        ``"none"``, ``"class-weight"``, ``"class-weight^P"`` (the balanced weights to the power P, between 0
        and 1), ``"effective"`` (see ``heads.class_weights.row_weights``), or a resampler.

    Returns
    -------
    resampler : str
    class_weight : "balanced", "effective", float or None

    Raises
    ------
    ValueError
        When the word is none of these.
    """
    if word in RESAMPLERS:
        return word, None
    if word == CLASS_WEIGHT:
        return NONE, "balanced"
    if word == EFFECTIVE:
        return NONE, EFFECTIVE
    power = _power(word)
    if power is None:
        raise ValueError(f"'{word}' is no way to treat rare classes, allowed are {allowed_words(word)}.")
    return NONE, power


def allowed_words(word: object = "") -> str:
    """List the words, and those that `word` probably meant."""
    return f"0 < P < 1 in: {known_names(word, [CLASS_WEIGHT, f'{_POWER}P', EFFECTIVE, *RESAMPLERS])}"


def is_balance(word: object) -> bool:
    """Whether `treatment` knows a word."""
    return isinstance(word, str) and (
        word in (CLASS_WEIGHT, EFFECTIVE, *RESAMPLERS) or _power(word) is not None
    )


def balance_of(resampler: str, parameters: Mapping[str, Any]) -> str | None:
    """Return the word for a configuration's resampler and ``class_weight``.

    Parameters
    ----------
    resampler : str
    parameters : mapping
        Of a configuration.

    Returns
    -------
    str or None
        None when there is no word: weights by class, or weights and a resampler.
    """
    weight = parameters.get("class_weight")
    if weight is None:
        return resampler
    if resampler != NONE or isinstance(weight, Mapping):
        return None
    if weight == "balanced":
        return CLASS_WEIGHT
    return EFFECTIVE if weight == EFFECTIVE else f"{_POWER}{weight:g}"


def _power(word: str) -> float | None:
    """Return the P of ``class-weight^P`` when it lies between 0 and 1."""
    try:
        power = float(word.removeprefix(_POWER)) if word.startswith(_POWER) else 0.0
    except ValueError:
        return None
    return power if 0 < power < 1 else None
