"""Reading run folders, which may be a stranger's: plain files of moderate size, and what a run records."""

from __future__ import annotations

import csv
import io
import json
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines.duplicates import RULES
from pipelines.errors import RunError
from tuning import score_name

#: Most that is read in bytes, and in cells of a table.
MAX_JSON_BYTES = 16 << 20
MAX_CSV_BYTES = 128 << 20
_MOST_CELLS = 12_000_000
_ROW_COST = 5  # what Python needs for a row, in cells


def _read_run_file(path: Path, max_bytes: int) -> bytes:
    """Return the bytes of a file of a run folder, which may be a stranger's: never a link, pipe or giant."""
    info = path.lstat()
    if not stat.S_ISREG(info.st_mode):
        raise OSError(f"'{path}' is a link or no regular file, so it is not opened; copy the file itself")
    if info.st_size > max_bytes:
        raise OSError(f"'{path}' has {info.st_size:,} bytes; at most {max_bytes:,} are read")
    return path.read_bytes()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a run folder.

    Raises
    ------
    RunError
        If the file is missing or is not a JSON object.
    """
    try:
        values = json.loads(_read_run_file(path, MAX_JSON_BYTES))
    except NotADirectoryError as error:
        raise RunError(
            f"'{path.parent}' is not a folder, but a run is one. Name the folder that tune or train printed."
        ) from error
    except FileNotFoundError as error:
        raise RunError(
            f"'{path}' is missing: '{path.parent}' is not a finished run folder. Name the folder that tune "
            "or train printed."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(
            f"'{path}' cannot be read as JSON: {error}. The run is damaged; make it again."
        ) from error
    if not isinstance(values, dict):
        raise RunError(f"'{path}' does not hold a JSON object. The run is damaged; make it again.")
    return values


_SPACE_KEYS = {
    "path",
    "space",
    "block",
    "width",
    "backbone",
    "space_fingerprint",
    "store_fingerprint",
    "clean",
    "precision",
}


#: What a store that a run names may be called: a stranger's run cannot have other files opened.
STORE_SUFFIXES = (".h5", ".hdf5")


def check_config(config: Mapping[str, Any], path: Path) -> None:
    """Refuse a ``config.json`` without the settings and spaces that a run records, or with others.

    Raises
    ------
    RunError
        Naming everything that is missing, or is not what a run records.
    """
    spaces = config.get("spaces")
    if not isinstance(spaces, list) or not spaces or not all(isinstance(space, dict) for space in spaces):
        raise RunError(f"'{path}' names no spaces; it is not the config.json of a tune, train or ablate run.")
    missing = sorted({key for space in spaces for key in _SPACE_KEYS - set(space)})
    missing += [key for key in ("command", "heads", "seed", "folds", "metric") if key not in config]
    if missing:
        raise RunError(f"'{path}' is damaged: it lacks {', '.join(map(repr, missing))}. Make the run again.")
    odd = [fault for space in spaces for fault in _odd_entries(space)]
    odd += [
        f"{key} is {config[key]!r:.60}"
        for key, kind in (("command", str), ("metric", str), ("heads", list), ("folds", int), ("seed", int))
        if not isinstance(config[key], kind)
    ]
    odd += (
        [f"a head is {head!r:.60}" for head in config["heads"] if not isinstance(head, str)]
        if not odd
        else []
    )
    odd += _odd_weights(config.get("inputs", {}))
    odd += _odd_settings(config) if not odd else []
    if odd or not config["heads"]:
        raise RunError(
            f"'{path}' is not what a run records: {'; '.join(odd[:5]) or 'heads is empty'}. Make the run "
            "again."
        )


def _odd_entries(space: Mapping[str, Any]) -> list[str]:
    """Return which entries of a space are not what a run records."""
    odd = [
        f"{key} is {space[key]!r:.60}"
        for key in sorted(_SPACE_KEYS - {"width"})
        if not isinstance(space[key], str) or "\0" in space[key]
    ]
    if not isinstance(space["width"], int) or not 0 < space["width"] < 1 << 24:
        odd.append(f"width is {space['width']!r:.60}")
    if not odd and not space["path"].lower().endswith(STORE_SUFFIXES):
        odd.append(f"the store {space['path']!r:.200} does not end in {' or '.join(STORE_SUFFIXES)}")
    return odd


def _odd_weights(inputs: Any) -> list[str]:
    """Return what is odd about the folders of weights that a run notes."""
    weights = inputs.get("weights", {}) if isinstance(inputs, dict) else None
    if not isinstance(weights, dict):
        return [f"inputs is {inputs!r:.60}"]
    return [
        f"the weights of {name!r:.60} are in {folder!r:.60}"
        for name, folder in weights.items()
        if not isinstance(folder, str) or "\0" in folder
    ]


def _odd_settings(config: Mapping[str, Any]) -> list[str]:
    """Return which settings, of the right types, have values that no run has."""
    odd = [f"{key} is {config[key]}" for key, least in (("folds", 2), ("seed", 0)) if config[key] < least]
    try:
        score_name(config["metric"])
    except ValueError:
        odd.append(f"metric is {config['metric']!r:.60}")
    if config.get("duplicates", RULES[0]) not in RULES:
        odd.append(f"duplicates is {config['duplicates']!r:.60}")
    views = config.get("use_views")
    counts = views if config["command"] == "ablate" and isinstance(views, list) else [views]
    if not all(count is None or (type(count) is int and count >= 0) for count in counts):
        odd.append(f"use_views is {views!r:.60}")
    return odd


def recorded_weights(config: Mapping[str, Any]) -> dict[str, Path]:
    """Return backbone -> folder of weights, of those that a run notes and that are still there.

    Parameters
    ----------
    config : mapping
        Which passed `check_config`.
    """
    noted = config.get("inputs", {}).get("weights", {})
    return {name: Path(folder) for name, folder in noted.items() if Path(folder).is_dir()}


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a CSV file of a run folder as one dict per row.

    Raises
    ------
    RunError
        If the file is missing, a row has more or fewer cells than the header, or there are too many of them.
    """
    try:
        return list(_csv_rows(_read_run_file(path, MAX_CSV_BYTES)))
    except FileNotFoundError as error:
        raise RunError(f"'{path}' is missing from the run folder.") from error
    except (OSError, ValueError, csv.Error) as error:
        raise RunError(f"'{path}' cannot be read: {error}") from error


def _csv_rows(data: bytes) -> Iterator[dict[str, str]]:
    csv.field_size_limit(MAX_JSON_BYTES)  # a cell may hold the parameters of a trial
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", newline=""), strict=True)
    header = next(reader, [])
    if len(set(header)) != len(header):
        raise ValueError("its header names a column twice")
    cost = 0
    for row in reader:
        if len(row) != len(header):
            raise ValueError(f"line {reader.line_num} has {len(row)} cells, the header has {len(header)}")
        cost += _ROW_COST + len(row)
        if cost > _MOST_CELLS:
            raise ValueError(f"it has more rows than are read (line {reader.line_num})")
        yield dict(zip(header, row, strict=True))
