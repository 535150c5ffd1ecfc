"""Rows to predict: from a run's own stores, from given stores, or embedded anew from raw inputs.

Raw inputs go the same way as stored ones: a pass writes a small store into a temporary folder, and that store
is read like any other. So a prediction cannot depend on the way in.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cache import Status
from extract import (
    DataSet,
    PassOptions,
    SourceOptions,
    open_backbone,
    opens_by_name,
    parts_of,
    read_sources,
    resolve_device,
    run_pass,
)
from pipelines.console import tell
from pipelines.errors import RunError, UsageError, users_words
from pipelines.extract import PassPrinter
from pipelines.joined_blocks import clean_recipe
from pipelines.named_stores import check_stores_unchanged, open_store, split_spec
from pipelines.prediction_blocks import (
    AbsentBlock,
    PredictionRows,
    TermBlock,
    imputed_notes,
    rows_to_predict,
)
from pipelines.stored_rows import Block, StoredRows
from pipelines.term_counts import is_term_space, terms_fingerprint

if TYPE_CHECKING:
    from extract import Backbone, PassReport


@dataclass(frozen=True)
class EmbeddingOptions:
    """How raw inputs are embedded: the device, folders of weights by backbone, and encodings to try."""

    device: str = "auto"
    weights: Mapping[str, Path] = field(default_factory=dict)
    encodings: tuple[str, ...] = ("utf-8", "gb18030", "cp1252")


def device_of(word: str) -> str:
    """Return the device that ``--device`` stands for on this machine.

    Parameters
    ----------
    word : str
        As for `extract.resolve_device`.

    Raises
    ------
    UsageError
        If the device is not known, or this machine lacks it.
    """
    with users_words():
        return resolve_device(word)


def with_terms(spaces: Sequence[Mapping[str, Any]], extra: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return a run's spaces, those of term counts with the terms that its model holds under ``"terms"``.

    Raises
    ------
    RunError
        If the model holds no terms, or others than the run recorded.
    """
    found = []
    for space in spaces:
        if is_term_space(space["space"]):
            terms = dict(extra.get("terms", {})).get(space["block"], [])
            if terms_fingerprint(space["space"], space["clean"], terms) != space["space_fingerprint"]:
                raise RunError(
                    f"The model's terms of '{space['block']}' are not those that the run recorded. Train it "
                    "again."
                )
            space = {**space, "terms": terms}
        found.append(space)
    return found


def own_unlabelled_rows(
    run: Path, spaces: Sequence[Mapping[str, Any]], stay_open: ExitStack
) -> PredictionRows:
    """Return the unlabelled rows of the run's own stores, which must not have changed."""
    files = {space["block"]: Path(space["path"]) for space in spaces}
    check_stores_unchanged(spaces, run)
    return rows_to_predict(files, spaces, unlabelled_only=True, stay_open=stay_open)


def find_spaces(specs: Sequence[str], spaces: Sequence[Mapping[str, Any]]) -> dict[str, Path]:
    """Return block -> store file; a space is recognised by its fingerprint, not by its file's name."""
    offered: dict[str, Path] = {}
    names = []
    for spec in specs:
        path, _ = split_spec(spec)
        with open_store(path) as store:
            for name in store.spaces:
                offered.setdefault(store.select(name).fingerprint, path)
                names.append(f"{path}:{name}")
            for space in spaces:  # terms can be counted in the texts of any store, if they are cleaned alike
                if "terms" in space and store.texts is not None and clean_recipe(store) == space["clean"]:
                    offered.setdefault(space["space_fingerprint"], path)
    missing = [space for space in spaces if space["space_fingerprint"] not in offered]
    if missing:
        needed = ", ".join(
            f"texts (cleaning {s['clean'] or 'none'})"
            if "terms" in s
            else f"'{s['space']}' of {s['backbone']} ({s['precision']}, cleaning {s['clean'] or 'none'})"
            for s in missing
        )
        raise UsageError(
            f"The run needs {needed}, which the given stores do not hold (they hold {', '.join(names)}). "
            "Extract with that backbone and the same settings, and add its store with --features."
        )
    return {space["block"]: offered[space["space_fingerprint"]] for space in spaces}


def embedded_rows(
    data_set: DataSet, spaces: Sequence[Mapping[str, Any]], how: EmbeddingOptions, stay_open: ExitStack
) -> PredictionRows:
    """Embed a data set with the run's backbones into a temporary folder, to be read from there."""
    files: dict[str, Path] = {}
    texts, broken = _texts_for_terms(data_set, spaces, how)
    folder = Path(stay_open.enter_context(tempfile.TemporaryDirectory(prefix="embedonce-predict-")))
    for number, (key, members) in enumerate(_by_backbone(spaces).items()):
        wanted = [s for s in members if set(parts_of(_modality(s))) <= set(data_set.modalities)]
        if not wanted or "terms" in wanted[0]:
            continue
        report = _pass(key, wanted, data_set, folder / str(number), how)
        files.update({space["block"]: report.path for space in wanted})
        broken += [f"not ok: {guid} ({why})" for guid, why in report.not_ok.items()]
    if files:
        rows = rows_to_predict(files, spaces, unlabelled_only=False, stay_open=stay_open, texts=texts)
    elif texts:
        rows = _rows_of_terms(data_set, spaces, texts)
    else:
        needed = ", ".join(space["space"] for space in spaces)
        raise UsageError(
            f"The run was trained on {needed}; the input has only {' and '.join(data_set.modalities)}."
        )
    nothing = np.flatnonzero(~np.any([block.valid for block in rows.X.blocks], axis=0))
    if len(nothing) == len(rows.ids):
        raise RunError(f"There is nothing to predict from: {'; '.join(dict.fromkeys(broken))}.")
    unknown = [f"answered from nothing but the training means: {rows.ids[row]}" for row in nothing]
    return replace(rows, notes=(*dict.fromkeys(broken), *unknown, *rows.notes))


def _texts_for_terms(
    data_set: DataSet, spaces: Sequence[Mapping[str, Any]], how: EmbeddingOptions
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Return cleaning recipe -> id -> cleaned text for the spaces of term counts, and what is not ok."""
    texts: dict[str, dict[str, str]] = {}
    broken: list[str] = []
    if "text" not in data_set.modalities:
        return texts, broken
    only_texts = replace(data_set, modalities=("text",))
    for clean in dict.fromkeys(space["clean"] for space in spaces if "terms" in space):
        sources = read_sources(only_texts, SourceOptions(clean=clean or "none", encodings=how.encodings))
        ids = [sample.id for sample in data_set.samples]
        texts[clean] = {guid: source.text for guid, source in zip(ids, sources, strict=True)}
        broken += [
            f"not ok: {guid} ({source.text_status.name.lower()})"
            for guid, source in zip(ids, sources, strict=True)
            if source.text_status != Status.OK
        ]
    return texts, broken


def _rows_of_terms(
    data_set: DataSet, spaces: Sequence[Mapping[str, Any]], texts: Mapping[str, Mapping[str, str]]
) -> PredictionRows:
    """Return rows of which nothing but terms is there; other blocks are imputed."""
    ids = tuple(sample.id for sample in data_set.samples)
    blocks: list[Block] = [
        TermBlock([texts[space["clean"]][guid] for guid in ids], space)
        if "terms" in space
        else AbsentBlock(len(ids), space["width"])
        for space in spaces
    ]
    return PredictionRows(ids, StoredRows(blocks), tuple(imputed_notes(blocks, spaces)))


_PassKey = tuple[str, str, str]


def _by_backbone(spaces: Sequence[Mapping[str, Any]]) -> dict[_PassKey, list[Mapping[str, Any]]]:
    grouped: dict[_PassKey, list[Mapping[str, Any]]] = {}
    for space in spaces:
        grouped.setdefault((space["backbone"], space["clean"], space["precision"]), []).append(space)
    return grouped


def _pass(
    key: _PassKey,
    spaces: Sequence[Mapping[str, Any]],
    data_set: DataSet,
    out: Path,
    how: EmbeddingOptions,
) -> PassReport:
    name, clean, precision = key
    if not clean or not precision:
        raise UsageError(
            f"Space '{spaces[0]['space']}' was imported, so embedonce cannot embed new inputs for it. "
            "Import their vectors into a store and name it with --features."
        )
    options = PassOptions(
        out=out,
        readouts=tuple(space["space"] for space in spaces),
        modalities=tuple(dict.fromkeys(_modality(space) for space in spaces)),
        device=device_of(how.device),
        precision=precision,
        max_bad=1.0,  # a broken input is predicted from its other modality, and listed
        source=SourceOptions(clean=clean, encodings=how.encodings),
    )
    tell(f"embedding with {name}")  # libraries and weights take seconds to load
    printer = PassPrinter()
    try:
        report = run_pass(
            data_set, open_again(name, how), options, on_progress=printer, on_hashing=printer.hashing
        )
    finally:
        printer.close()
    with open_store(report.path) as store:
        made = {space: store.select(space).fingerprint for space in store.spaces}
    for space in spaces:
        if made[space["space"]] != space["space_fingerprint"]:
            raise RunError(
                f"Backbone '{name}' on this machine does not make the space '{space['space']}' that the run "
                "was trained on (its weights or preprocessing differ). Pass the right weights with "
                f"--weights {name}=DIR."
            )
    return report


def _modality(space: Mapping[str, Any]) -> str:
    return str(space["space"]).partition(".")[0]


def open_again(name: str, how: EmbeddingOptions) -> Backbone:
    """Open the backbone that a store names; one that came from a folder needs that folder again."""
    weights = how.weights.get(name)
    if opens_by_name(name):
        return open_backbone(name, weights=weights)
    if weights is None:
        raise UsageError(
            f"The run's backbone '{name}' came from a folder of weights; say where that folder is with "
            f"--weights {name}=DIR."
        )
    return open_backbone(str(weights.absolute()))
