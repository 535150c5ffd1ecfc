"""``embedonce inspect`` and ``verify``: look at things without changing anything."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.console import Progress, duration, say, say_json, size, table, tell
from pipelines.errors import users_words
from pipelines.truncation import truncation_lines


@dataclass(frozen=True)
class InspectDataSettings:
    """Settings of ``embedonce inspect --data``."""

    data: Path
    backbone: str | None = None
    weights: Path | None = None
    clean: str = "basic"
    encodings: tuple[str, ...] = ("utf-8", "gb18030", "cp1252")
    columns: Mapping[str, str] | None = None


def describe_data(settings: InspectDataSettings) -> dict[str, Any]:
    """Read a data set fully, pictures decoded, and describe it.

    Returns
    -------
    dict
        Layout, class counts, statuses, text lengths (words, and tokens when a tokenizer is at hand), image
        sizes, encodings, splits, repeated inputs, notes and the broken samples.
    """
    from extract import (
        SourceOptions,
        count_names,
        count_statuses,
        read_data_set,
        read_sources,
        reasons_not_ok,
        status_columns,
    )

    data_set = read_data_set(settings.data, columns=settings.columns, encodings=settings.encodings)
    progress = Progress("reading the data", "samples")
    total = len(data_set.samples)
    options = SourceOptions(clean=settings.clean, encodings=settings.encodings, decode_images=True)
    sources = read_sources(data_set, options, on_progress=lambda n: progress.update(n, total))
    progress.close()
    status = status_columns(sources, data_set.modalities)
    labels = Counter(s.label if s.label is not None else "(no label)" for s in data_set.samples)
    description: dict[str, Any] = {
        "path": str(settings.data),
        "layout": data_set.layout,
        "samples": total,
        "modalities": list(data_set.modalities),
        "classes": dict(sorted(labels.items(), key=lambda item: -item[1])),
        "splits": dict(Counter(s.split or "(none)" for s in data_set.samples)),
        "statuses": count_statuses(status, data_set.modalities),
        "notes": dict(data_set.notes),
        "broken": reasons_not_ok(tuple(s.id for s in data_set.samples), status),
    }
    texts = [s.text for s in sources if s.text]
    if "text" in data_set.modalities:
        description["encodings"] = count_names(s.encoding for s in sources)
        description["repeated texts"] = len(texts) - len(set(texts))
        description["words"] = _quantiles([len(text.split()) for text in texts])
        description.update(_token_lengths(texts, settings))
    if "image" in data_set.modalities:
        hashes = [s.image_sha256 for s in sources if s.width]
        description["repeated images"] = len(hashes) - len(set(hashes))
        description["image width"] = _quantiles([s.width for s in sources if s.width])
        description["image height"] = _quantiles([s.height for s in sources if s.height])
    return description


def _quantiles(values: Sequence[int]) -> dict[str, float]:
    if not values:
        return {}
    points = np.percentile(values, [0, 50, 95, 100])
    return {
        "smallest": float(points[0]),
        "mean": round(float(np.mean(values)), 1),
        "median": float(points[1]),
        "95 %": float(points[2]),
        "largest": float(points[3]),
    }


def _token_lengths(texts: Sequence[str], settings: InspectDataSettings) -> dict[str, Any]:
    """Count tokens with the tokenizer of ``--backbone`` (default: minilm-l6, if its weights are here)."""
    from extract import BackboneNameError, WeightsMissingError, open_backbone

    try:
        with users_words(BackboneNameError):
            backbone = open_backbone(settings.backbone or "minilm-l6", weights=settings.weights)
        if "text" not in backbone.card.modalities or not texts:
            return {}
        backbone.check_available(download=settings.backbone is not None)
    except WeightsMissingError:
        if settings.backbone is not None:
            raise
        return {}
    tell(f"counting the tokens of {backbone.card.name}")
    tokens = backbone.open_tokeniser("text")(texts)
    truncated = sum(t.full_length > len(t.ids) for t in tokens)
    return {
        f"tokens ({backbone.card.name})": _quantiles([t.full_length for t in tokens]),
        "truncated": {
            "texts": truncated,
            "share": round(truncated / len(tokens), 4),
            "limit": backbone.card.token_limit,
        },
    }


def print_data(description: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the description of a data set."""
    if as_json:
        say_json(description)
        return
    say(
        f"{description['path']}: {description['layout']} layout, {description['samples']:,} samples, "
        f"{' and '.join(description['modalities'])}"
    )
    total = description["samples"]
    say()
    say(
        table(
            [[name, count, f"{count / total:.1%}"] for name, count in description["classes"].items()],
            ["class", "rows", "share"],
        )
    )
    say()
    rows = [
        [m, name, count] for m, counts in description["statuses"].items() for name, count in counts.items()
    ]
    say(table(rows, ["modality", "status", "rows"]))
    lengths = [
        [name, *(f"{value:g}" for value in values.values())]
        for name, values in description.items()
        if isinstance(values, dict) and "median" in values
    ]
    if lengths:
        say()
        say(table(lengths, ["", "smallest", "mean", "median", "95 %", "largest"]))
    say()
    for name in ("truncated", "encodings", "splits", "repeated texts", "repeated images"):
        if description.get(name):
            say(f"{name}: {_inline(description[name])}")
    for name, note in description["notes"].items():
        say(f"{name}: {note}")
    broken = description["broken"]
    for guid, reason in list(broken.items())[:20]:
        say(f"not ok: {guid} ({reason})")
    if len(broken) > 20:
        say(f"not ok: {len(broken) - 20:,} more (--json lists all)")


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(
            f"{name} {count:,}" if isinstance(count, int) else f"{name} {count}"
            for name, count in value.items()
        )
    return f"{value:,}" if isinstance(value, int) else str(value)


def describe_store(path: Path) -> dict[str, Any]:
    """Verify a store and describe what made it."""
    from extract import count_statuses
    from pipelines.named_stores import open_store

    with open_store(path) as store:
        meta = dict(store.meta)
        labels = np.bincount(np.asarray(store.labels) + 1, minlength=len(store.class_names) + 1)
        return {
            "path": str(path),
            "backbone": meta.get("card", {}).get("name", ""),
            "rows": store.n_rows,
            "bytes": path.stat().st_size,
            "spaces": {
                name: {
                    "width": store.select(name).shape[1],
                    "dtype": str(store.select(name).dtype),
                    "valid": int(store.select(name).valid.sum()),
                }
                for name in store.spaces
            },
            "classes": {name: int(labels[code + 1]) for code, name in enumerate(store.class_names)}
            | {"(no label)": int(labels[0])},
            "statuses": count_statuses(np.asarray(store.status), store.modalities),
            "truncated": meta.get("truncated", {}),
            "fingerprint": store.fingerprint,
            "weights": meta.get("weights", {}),
            "precision": meta.get("precision", ""),
            "clean": meta.get("clean", {}),
            "preprocessing": meta.get("preprocessing", {}),
            "versions": meta.get("versions", {}),
            "notes": meta.get("data", {}).get("notes", {}),
        }


def print_store(description: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the description of a store."""
    if as_json:
        say_json(description)
        return
    say(
        f"{description['path']}: {description['rows']:,} rows by {description['backbone']}, "
        f"{size(description['bytes'])}, whole and verified"
    )
    say()
    say(
        table(
            [[n, s["width"], s["dtype"], s["valid"]] for n, s in description["spaces"].items()],
            ["space", "width", "type", "valid rows"],
        )
    )
    say()
    say(table([[name, count] for name, count in description["classes"].items()], ["class", "rows"]))
    rows = [
        [m, name, count] for m, counts in description["statuses"].items() for name, count in counts.items()
    ]
    say()
    say(table(rows, ["modality", "status", "rows"]))
    for line in truncation_lines(description["truncated"]):
        say(line)
    say()
    weights = description["weights"]
    say(f"weights: {weights.get('source')} revision {weights.get('revision')} sha256 {weights.get('sha256')}")
    say(f"precision: {description['precision']}; cleaning: {_inline(description['clean'])}")
    for modality, settings in description["preprocessing"].items():
        say(f"preprocessing of {modality}: {json.dumps(settings, ensure_ascii=False)}")
    say(f"versions: {_inline(description['versions'])}")
    for name, note in description["notes"].items():
        say(f"{name}: {note}")
    say(f"fingerprint: {description['fingerprint']}")


def verify(path: Path, *, as_json: bool) -> None:
    """Prove a store: audit, version, completeness and every hash."""
    from cache import verify_store
    from pipelines.named_stores import tell_hashing

    report = verify_store(path, on_hashing=partial(tell_hashing, path))
    if as_json:
        values = {
            "path": str(path),
            "ok": True,
            "datasets": report.n_datasets,
            "bytes": report.n_bytes,
            "rows": report.n_rows,
            "fingerprint": report.fingerprint,
            "seconds": round(report.seconds, 4),
        }
        say(json.dumps(values))
        return
    tell(f"{report.n_datasets} data sets, {size(report.n_bytes)} in {duration(report.seconds)}")
    say(
        f"{path}: ok, {report.n_rows:,} rows, format {report.format[0]}.{report.format[1]}, "
        f"fingerprint {report.fingerprint}"
    )
