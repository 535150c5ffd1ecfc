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

from cache import Aligned, FeatureStore, Status, align
from extract import (
    DataSet,
    PassOptions,
    SourceOptions,
    backbone_names,
    open_backbone,
    parts_of,
    read_sources,
    resolve_device,
    run_pass,
)
from pipelines.errors import RunError, UsageError
from pipelines.extract import PassPrinter
from pipelines.matrices import check_stores_unchanged, clean_recipe, split_spec, texts_of
from pipelines.term_counts import count_terms, is_term_space, terms_fingerprint

if TYPE_CHECKING:
    from extract import Backbone, PassReport


@dataclass(frozen=True)
class EmbeddingOptions:
    """How raw inputs are embedded: the device, folders of weights by backbone, and encodings to try."""

    device: str = "auto"
    weights: Mapping[str, Path] = field(default_factory=dict)
    encodings: tuple[str, ...] = ("utf-8", "gb18030", "cp1252")


@dataclass(frozen=True)
class PredictionRows:
    """Rows to predict: one matrix per needed space (None: the store is not there)."""

    ids: tuple[str, ...]
    X: np.ndarray
    notes: tuple[str, ...]


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


def own_unlabelled_rows(run: Path, spaces: Sequence[Mapping[str, Any]]) -> PredictionRows:
    """Return the unlabelled rows of the run's own stores, which must not have changed."""
    check_stores_unchanged(spaces, run)
    files = {space["block"]: Path(space["path"]) for space in spaces}
    return stored_rows(files, spaces, unlabelled_only=True)


def find_spaces(specs: Sequence[str], spaces: Sequence[Mapping[str, Any]]) -> dict[str, Path]:
    """Return block -> store file; a space is recognised by its fingerprint, not by its file's name."""
    offered: dict[str, Path] = {}
    names = []
    for spec in specs:
        path, _ = split_spec(spec)
        with FeatureStore.open(path) as store:
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


def stored_rows(
    files: Mapping[str, Path],
    spaces: Sequence[Mapping[str, Any]],
    *,
    unlabelled_only: bool,
    texts: Mapping[str, Mapping[str, str]] | None = None,
) -> PredictionRows:
    """Read the needed spaces of aligned stores; a block without a file is NaN, to be imputed.

    `texts` are cleaned texts by recipe and id, for terms that are not counted in a store's own texts.
    """
    paths = list(dict.fromkeys(files.values()))
    with ExitStack() as stack:
        stores = [stack.enter_context(FeatureStore.open(path)) for path in paths]
        aligned = align(stores)
        columns = [
            _term_column([texts[space["clean"]][guid] for guid in aligned.ids], space)
            if texts and "terms" in space
            else _column(aligned, paths, files.get(space["block"]), space)
            for space in spaces
        ]
        keep = np.arange(len(aligned.ids))
        if unlabelled_only:
            keep = np.flatnonzero(np.asarray(aligned.labels) < 0)
        dropped = [
            f"{n:,} rows of '{path}' are not in every store and are left out"
            for path, n in aligned.dropped.items()
            if n
        ]
        return PredictionRows(
            tuple(aligned.ids[i] for i in keep),
            np.concatenate(columns, axis=1)[keep],
            (*dropped, *_imputed(columns, spaces, keep)),
        )


def _column(
    aligned: Aligned, paths: Sequence[Path], path: Path | None, space: Mapping[str, Any]
) -> np.ndarray:
    """Return the block of one space, float32 of shape (n, width); a missing embedding is a row of NaN."""
    if path is None:
        return np.full((len(aligned.ids), space["width"]), np.nan, dtype=np.float32)
    at = paths.index(path)
    if "terms" in space:
        texts = texts_of(aligned.stores[at], aligned.rows[at])
        assert texts is not None  # find_spaces and the run took a store that has texts
        return _term_column(texts, space)
    x, valid = aligned.take(at, _space_name(aligned.stores[at], space))
    column = np.array(x, dtype=np.float32)
    column[~valid] = np.nan
    return column


def _term_column(texts: Sequence[str], space: Mapping[str, Any]) -> np.ndarray:
    return count_terms(texts, space["space"], space["terms"])


def _space_name(store: FeatureStore, space: Mapping[str, Any]) -> str:
    return next(name for name in store.spaces if store.select(name).fingerprint == space["space_fingerprint"])


def _imputed(
    columns: Sequence[np.ndarray], spaces: Sequence[Mapping[str, Any]], keep: np.ndarray
) -> list[str]:
    notes = []
    for x, space in zip(columns, spaces, strict=True):
        n_missing = int(np.isnan(x[keep, 0]).sum())
        if n_missing:
            notes.append(
                f"{n_missing:,} of {len(keep):,} rows have no {space['block']}; the training mean stands in "
                "for it"
            )
    return notes


def embedded_rows(
    data_set: DataSet, spaces: Sequence[Mapping[str, Any]], how: EmbeddingOptions
) -> PredictionRows:
    """Embed a data set with the run's backbones into a temporary folder, and read it from there."""
    files: dict[str, Path] = {}
    texts, broken = _texts_for_terms(data_set, spaces, how)
    with tempfile.TemporaryDirectory(prefix="embedonce-predict-") as folder:
        for number, (key, members) in enumerate(_by_backbone(spaces).items()):
            wanted = [s for s in members if set(parts_of(_modality(s))) <= set(data_set.modalities)]
            if not wanted or "terms" in wanted[0]:
                continue
            report = _pass(key, wanted, data_set, Path(folder) / str(number), how)
            files.update({space["block"]: report.path for space in wanted})
            broken += [f"not ok: {guid} ({why})" for guid, why in report.not_ok.items()]
        if files:
            rows = stored_rows(files, spaces, unlabelled_only=False, texts=texts)
        elif texts:
            rows = _rows_of_terms(data_set, spaces, texts)
        else:
            needed = ", ".join(space["space"] for space in spaces)
            raise UsageError(
                f"The run was trained on {needed}; the input has only {' and '.join(data_set.modalities)}."
            )
    nothing = np.flatnonzero(np.isnan(rows.X).all(axis=1))
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
    columns = [
        _term_column([texts[space["clean"]][guid] for guid in ids], space)
        if "terms" in space
        else np.full((len(ids), space["width"]), np.nan, dtype=np.float32)
        for space in spaces
    ]
    return PredictionRows(
        ids, np.concatenate(columns, axis=1), tuple(_imputed(columns, spaces, np.arange(len(ids))))
    )


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
        device=resolve_device(how.device),
        precision=precision,
        max_bad=1.0,  # a broken input is predicted from its other modality, and listed
        source=SourceOptions(clean=clean, encodings=how.encodings),
    )
    printer = PassPrinter()
    try:
        report = run_pass(data_set, open_again(name, how), options, on_progress=printer)
    finally:
        printer.close()
    with FeatureStore.open(report.path) as store:
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
    if name in backbone_names() or name.startswith(("hf:", "timm:")):
        return open_backbone(name, weights=weights)
    if weights is None:
        raise UsageError(
            f"The run's backbone '{name}' came from a folder of weights; say where that folder is with "
            f"--weights {name}=DIR."
        )
    return open_backbone(str(weights.absolute()))
