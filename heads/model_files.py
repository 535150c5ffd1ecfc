"""Fitted pipelines on disk: safetensors, JSON and LightGBM text; no pickle."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from imblearn.pipeline import Pipeline
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as arrays_from_bytes
from safetensors.numpy import save as arrays_to_bytes
from sklearn.utils.validation import check_is_fitted

from heads.blocks import BlockImputer
from heads.durable_files import write_durably
from heads.estimator import Head, TrainedState
from heads.loaded_model import LoadedModel
from heads.names import HEADS, OTHER_HEADS
from heads.presets import head_class
from heads.term_weights import TermWeights
from heads.tree_text import checked_tree_text

if TYPE_CHECKING:
    pass

FORMAT = "embedonce-model"
FORMAT_VERSION = 1

_CARD = "model.json"
_ARRAYS = "arrays.safetensors"
_BOOSTER = "booster.txt"
# Most bytes of each file. Python needs up to twenty times the size of a JSON text; arrays are read whole.
_LARGEST = {_CARD: 16 << 20, _BOOSTER: 256 << 20, _ARRAYS: 4 << 30}


def save_model(
    pipeline: Pipeline, folder: Path, *, classes: Sequence[str], extra: Mapping[str, object] | None = None
) -> None:
    """Write a fitted pipeline of ``make_pipeline`` to a folder.

    Parameters
    ----------
    pipeline : imblearn.pipeline.Pipeline
        Fitted, from ``make_pipeline``.
    folder : Path
        Made when it is not there; a model in it is replaced.
    classes : sequence of str
        Name of each column of ``predict_proba``, in order.
    extra : mapping, optional
        JSON-able facts to keep beside the model, such as the spaces it needs.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the pipeline is not fitted.
    ValueError
        If it is not a pipeline of ``make_pipeline``, `classes` has another length than the fitted classes, or
        `extra` or a parameter cannot be written as JSON.

    Notes
    -----
    Each file is written under a temporary name, fsynced and renamed; ``model.json``, which holds the hashes
    of the others, comes last. A crash between two renames therefore leaves a folder that ``load_model``
    refuses.
    """
    folder = Path(folder)
    terms, imputer, head = _steps(pipeline)
    check_is_fitted(head, "classes_")
    if len(classes) != len(head.classes_):
        raise ValueError(
            f"classes names {len(classes)} class(es) ({', '.join(repr(name) for name in classes)}), but the "
            f"model was trained on {len(head.classes_)}: {head.classes_.tolist()}. Name each column of "
            "predict_proba."
        )
    state = head.trained_state()
    arrays = {f"head.{name}": np.ascontiguousarray(value) for name, value in state.arrays.items()}
    arrays["impute.means"] = imputer.means_
    if terms is not None:
        arrays["terms.idf"] = terms.idf_
    files = {_ARRAYS: arrays_to_bytes(arrays)}
    if state.text is not None:
        files[_BOOSTER] = state.text.encode()
    card = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "head": _name_of(head),
        "parameters": head.get_params(deep=False),
        "labels": head.classes_.tolist(),
        "classes": list(classes),
        "n_features": head.n_features_in_,
        "blocks": None if imputer.blocks is None else dict(imputer.blocks),
        "dead_blocks": imputer.dead_blocks_,
        "extra": dict(extra or {}),
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    card_bytes = _sealed(card)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_durably(folder / name, data)
    write_durably(folder / _CARD, card_bytes)
    if _BOOSTER not in files:
        (folder / _BOOSTER).unlink(missing_ok=True)  # left by a model of another kind


def load_model(folder: Path) -> LoadedModel:
    """Read a model that ``save_model`` wrote.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    LoadedModel

    Raises
    ------
    FileNotFoundError
        If the folder or one of its files is not there.
    ValueError
        If a file was altered, the format is newer than this version, or a file does not hold what it should.

    Notes
    -----
    Every file is hashed before it is parsed, and nothing in it is executed. The hashes guard against damage
    and mix-ups; they are no signature, so the text of trees is checked before LightGBM's own reader sees it.
    """
    folder = Path(folder)
    card = _read_card(folder)
    contents = {name: _read_checked(folder, name, digest) for name, digest in card["files"].items()}
    try:
        return _assemble(card, contents)
    except (
        KeyError,
        TypeError,
        ValueError,
        RuntimeError,
        AttributeError,
        IndexError,
        SafetensorError,
    ) as error:
        raise ValueError(
            f"The model in '{folder}' cannot be put together ({type(error).__name__}: {error}). Its files "
            "belong to another version or were not written by save_model; train and save the model again."
        ) from error


def _assemble(card: Mapping[str, Any], contents: Mapping[str, bytes]) -> LoadedModel:
    """Turn checked contents into a model."""
    _refuse_odd_card(card)
    arrays = arrays_from_bytes(contents[_ARRAYS])
    imputer = BlockImputer(blocks=card["blocks"])
    imputer.means_ = arrays["impute.means"]
    imputer.dead_blocks_ = list(card["dead_blocks"])
    imputer.n_features_in_ = card["n_features"]
    terms = None
    if "terms.idf" in arrays:
        terms = TermWeights(blocks=card["blocks"])
        terms.idf_ = arrays["terms.idf"]
        terms.n_features_in_ = card["n_features"]
    head = head_class(card["head"])(**card["parameters"])
    state = TrainedState(
        {name.removeprefix("head."): value for name, value in arrays.items() if name.startswith("head.")},
        text=_tree_text(card, contents[_BOOSTER], arrays) if _BOOSTER in contents else None,
    )
    head.restore(state, classes=np.asarray(card["labels"]), n_features=card["n_features"])
    return LoadedModel(
        head=card["head"],
        classes=tuple(card["classes"]),
        blocks=card["blocks"],
        n_features=card["n_features"],
        parameters=card["parameters"],
        extra=card["extra"],
        _imputer=imputer,
        _estimator=head,
        _terms=terms,
    )


def _refuse_odd_card(card: Mapping[str, Any]) -> None:
    """Refuse entries of another type than save_model writes: some are used only when predicting."""
    blocks = card["blocks"]
    odd = []
    if blocks is not None and not (
        isinstance(blocks, dict) and all(type(width) is int and width > 0 for width in blocks.values())
    ):
        odd.append("blocks")
    if type(card["n_features"]) is not int or card["n_features"] < 1:
        odd.append("n_features")
    if not isinstance(card["classes"], list) or not all(isinstance(name, str) for name in card["classes"]):
        odd.append("classes")
    elif not isinstance(card["labels"], list) or len(card["labels"]) != len(card["classes"]):
        odd.append("labels")
    odd += [key for key in ("parameters", "extra") if not isinstance(card[key], dict)]
    if odd:
        raise TypeError(f"{', '.join(odd)} of the card are of another type")


def _tree_text(card: Mapping[str, Any], data: bytes, arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return a booster's text after its check, for the columns that its projection makes."""
    projection = arrays.get("head.projection")
    n_columns = card["n_features"] if projection is None else projection.shape[1]
    return checked_tree_text(data.decode(), n_columns=n_columns, n_classes=len(card["labels"]))


def _steps(pipeline: Pipeline) -> tuple[TermWeights | None, BlockImputer, Head]:
    """Return the steps that matter for predicting."""
    steps = getattr(pipeline, "named_steps", {})
    terms, imputer, head = steps.get("terms"), steps.get("impute"), steps.get("head")
    if (
        not isinstance(imputer, BlockImputer)
        or not isinstance(head, Head)
        or not isinstance(terms, TermWeights | None)
        or len(steps) > 2 + ("resample" in steps) + ("terms" in steps)
    ):
        raise ValueError(
            "Only pipelines of heads.make_pipeline can be saved (steps 'terms', 'impute', 'resample', "
            f"'head'), but found {type(pipeline).__name__} with steps {list(steps)}."
        )
    return terms, imputer, head


def _name_of(head: Head) -> str:
    """Return the name of a head's class."""
    return next(name for name in (*HEADS, *OTHER_HEADS) if type(head) is head_class(name))


def _sealed(card: Mapping[str, object]) -> bytes:
    """Write the card as JSON that holds its own hash."""
    try:
        digest = _card_hash(card)
        return (json.dumps({**card, "sha256": digest}, indent=1, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The model's parameters and extra must be JSON-able, but are not ({error}). Use numbers, "
            "strings, lists and mappings (random_state must be a number or None)."
        ) from error


def _card_hash(card: Mapping[str, object]) -> str:
    """Hash a card in one canonical spelling: layout, key order and keys that are numbers do not matter."""
    read_back = json.loads(json.dumps(card, allow_nan=False))
    canonical = json.dumps(read_back, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _read_card(folder: Path) -> dict[str, Any]:
    """Read and check ``model.json``."""
    path = folder / _CARD
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no model in '{folder}': '{path}' is missing. Pass the folder save_model wrote."
        )
    _refuse_odd_file(path)
    try:
        card = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"'{path}' is not JSON ({error}); train and save the model again.") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise ValueError(f"'{path}' is not an {FORMAT} card; pass the folder save_model wrote.")
    version = card.get("version")
    if version != FORMAT_VERSION:
        raise ValueError(
            f"The model in '{folder}' has format version {version!r}, but this installation reads version "
            f"{FORMAT_VERSION}. Update embedonce, or train and save the model again."
        )
    digest, files = card.pop("sha256", None), card.get("files")
    if (
        not isinstance(files, dict)
        or not {_ARRAYS} <= set(files) <= {_ARRAYS, _BOOSTER}
        or digest != _card_hash(card)
    ):
        raise ValueError(f"'{path}' was altered after it was written; train and save the model again.")
    return card


def _refuse_odd_file(path: Path) -> None:
    """Refuse a link, a pipe and a giant before it is opened: a run folder may be a stranger's."""
    info = path.lstat()
    if not stat.S_ISREG(info.st_mode):
        raise ValueError(f"'{path}' is a link or no regular file, so it is not opened; copy the file itself.")
    if info.st_size > _LARGEST[path.name]:
        raise ValueError(
            f"'{path}' has {info.st_size} bytes, more than the {_LARGEST[path.name]} that such a file may "
            "have."
        )


def _read_checked(folder: Path, name: str, digest: str) -> bytes:
    """Read a file once and compare its hash before anything looks inside."""
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(
            f"The model in '{folder}' is incomplete: '{path}' is missing. Save the model again."
        )
    _refuse_odd_file(path)
    with path.open("rb") as file:  # in pieces: a giant that is not the model's never lies in memory
        found = hashlib.file_digest(file, "sha256").hexdigest()
    data = path.read_bytes() if found == digest else b""
    if found != digest or hashlib.sha256(data).hexdigest() != digest:
        raise ValueError(
            f"'{path}' was altered or belongs to another model: its sha256 is {found[:12]}..., but {_CARD} "
            f"says {str(digest)[:12]}.... Copy the whole folder again, or train and save the model again."
        )
    return data
