"""Finished trials in a shared study: their probabilities as text, so that no process computes them twice.

A study keeps a score and parameters of each trial. What reports, ensembles and intervals need besides, the
out-of-fold probabilities, is put beside them as user attributes.
"""

import base64
import binascii
import hashlib
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tuning.trials import Configuration, Trial

if TYPE_CHECKING:
    from optuna.study import Study

    from tuning.ledger import TrialMemory

_FACTS = "embedonce:trial"
_PIECE = "embedonce:probabilities:{}"
# A TEXT column of MySQL holds 65,535 bytes; those of PostgreSQL and SQLite hold more.
_PIECE_LENGTH = 60_000
_MOST_PIECES = 17
_MOST_CHARACTERS = _MOST_PIECES * _PIECE_LENGTH


def shared_attributes(trial: Trial) -> dict[str, Any]:
    """Return what a study must keep of a trial so that another process can use it.

    Parameters
    ----------
    trial : Trial

    Returns
    -------
    dict of str to JSON value
        User attributes of an Optuna trial. Empty when the probabilities take more than about 1 MB as text:
        then each process evaluates the configuration by itself.

    Notes
    -----
    Probabilities are rounded to half precision: 3 decimal digits, and 0 below 3e-8. Each row keeps its most
    probable class, so all scores but the log loss are exactly those of the trial.
    """
    half = _halved(trial.oof)
    body = half.tobytes()
    text = base64.b64encode(zlib.compress(body, 6)).decode("ascii")
    if len(text) > _MOST_CHARACTERS:
        return {}
    pieces = [text[start : start + _PIECE_LENGTH] for start in range(0, len(text), _PIECE_LENGTH)]
    facts = {
        "configuration": trial.configuration.as_dict(),
        "asked": None if trial.asked is None else trial.asked.as_dict(),
        "score": trial.score,
        "fold_scores": trial.fold_scores,
        "seconds": trial.seconds,
        "rung": trial.rung,
        "shape": list(half.shape),
        "sha256": hashlib.sha256(body).hexdigest(),
        "pieces": len(pieces),
    }
    return {_FACTS: facts, **{_PIECE.format(number): piece for number, piece in enumerate(pieces)}}


def shared_trial(attributes: Mapping[str, Any], *, number: int, shape: tuple[int, int]) -> Trial | None:
    """Return the trial that `shared_attributes` wrote, or None when there is no whole one.

    Parameters
    ----------
    attributes : mapping of str to JSON value
        User attributes of an Optuna trial.
    number : int
        For the trial that is returned.
    shape : (n_samples, n_classes)
        Of the probabilities that are expected. A trial of another shape, like one whose text was cut short or
        changed, does not count; no more than these bytes are ever unpacked.

    Returns
    -------
    Trial or None
    """
    facts = attributes.get(_FACTS)
    if not isinstance(facts, Mapping) or facts.get("shape") != list(shape):
        return None
    numbers = range(min(facts["pieces"], _MOST_PIECES))
    text = "".join(str(attributes.get(_PIECE.format(piece), "")) for piece in numbers)
    body = _unpacked(text, n_bytes=2 * shape[0] * shape[1])
    if body is None or hashlib.sha256(body).hexdigest() != facts["sha256"]:
        return None
    return Trial(
        number=number,
        configuration=Configuration(**facts["configuration"]),
        score=facts["score"],
        fold_scores=list(facts["fold_scores"]),
        seconds=facts["seconds"],
        oof=np.frombuffer(body, dtype="<f2").reshape(shape).astype(np.float32),
        rung=facts["rung"],
        asked=None if facts.get("asked") is None else Configuration(**facts["asked"]),
    )


class SharedMemory:
    """The trials of a shared study, and this process's own memory before them: a `tuning.TrialMemory`.

    Parameters
    ----------
    study : optuna.Study
        Its finished trials carry `shared_attributes`.
    own : TrialMemory or None
        Looked into first; what is found in the study is put there too.
    shape : (n_samples, n_classes)
        Of the probabilities.
    """

    def __init__(self, study: "Study", own: "TrialMemory | None", *, shape: tuple[int, int]) -> None:
        self._study, self._own, self._shape = study, own, shape
        self._answers: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
        self._known: set[int] = set()

    @property
    def holds_all(self) -> bool:
        """Whether the study can keep every trial, however little its probabilities compress."""
        n_bytes = 2 * self._shape[0] * self._shape[1]
        # Bytes that do not compress get 5 more in every 16,000, and base64 writes 3 bytes as 4 characters.
        return 4 / 3 * (1.001 * n_bytes + 100) <= _MOST_CHARACTERS

    def get(self, key: str) -> Trial | None:
        """Return the trial stored under `Configuration.key`, or None."""
        known = None if self._own is None else self._own.get(key)
        if known is not None:
            return known
        self._look_through()
        for number, attributes in self._answers.get(key, []):
            found = shared_trial(attributes, number=number, shape=self._shape)
            if found is not None and found.key == key:
                if self._own is not None:
                    self._own.put(found)
                return found
        return None

    def _look_through(self) -> None:
        """Note which finished trials of the study are of which configuration; nothing is unpacked."""
        for answer in self._study.get_trials(deepcopy=False):
            if answer.number in self._known or not answer.state.is_finished():
                continue
            self._known.add(answer.number)
            facts = answer.user_attrs.get(_FACTS)
            if isinstance(facts, Mapping):
                key = Configuration(**(facts.get("asked") or facts["configuration"])).key
                self._answers.setdefault(key, []).append((answer.number, answer.user_attrs))

    def put(self, trial: Trial) -> None:
        """Store a finished trial in the own memory; the study gets it with its answer."""
        if self._own is not None:
            self._own.put(trial)


def _halved(oof: NDArray[np.float32]) -> NDArray[np.float16]:
    """Round to half precision without changing the most probable class of a row."""
    half = oof.astype("<f2")
    winners = oof.argmax(axis=1)
    tied = np.flatnonzero(half.argmax(axis=1) != winners)  # rounding keeps the order, but may make equals
    half[tied, winners[tied]] = np.nextafter(half[tied, winners[tied]], np.float16(np.inf))
    return half


def _unpacked(text: str, *, n_bytes: int) -> bytes | None:
    try:
        stream = zlib.decompressobj()
        body = stream.decompress(base64.b64decode(text, validate=True), n_bytes + 1)
    except (binascii.Error, zlib.error):
        return None
    return body if len(body) == n_bytes and stream.eof else None
