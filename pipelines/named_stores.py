"""Stores that a command names: what is meant where none are, and whether they are those that a run used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cache import FeatureStore
from pipelines.console import size, tell
from pipelines.errors import RunError, UsageError

FEATURES_FOLDER = Path("features")

#: Stores of less are opened within about a second, all hashes compared.
_SLOW_BYTES = 1 << 29


def default_features(folder: Path = FEATURES_FOLDER) -> list[str]:
    """Return the stores of `folder` when there is one way to use them.

    There is one way when every modality comes from exactly one store: a single store, or a text store and an
    image store.

    Raises
    ------
    UsageError
        If there are no stores, or the choice is not clear; the choices are listed.
    """
    paths = sorted(folder.glob("*.h5")) if folder.is_dir() else []
    if not paths:
        raise UsageError(
            f"No --features given and no store in '{folder}/'. Make one with extract-features --backbone "
            "NAME, or name a file."
        )
    offers: dict[str, list[str]] = {}
    for path in paths:
        with FeatureStore.open(path, verify=False) as store:
            for modality in sorted({name.split(".")[0] for name in store.spaces}):
                offers.setdefault(modality, []).append(str(path))
    if all(len(stores) == 1 for stores in offers.values()):
        return [str(path) for path in paths]
    choices = "; ".join(f"{modality}: {', '.join(stores)}" for modality, stores in offers.items())
    raise UsageError(
        f"Several stores in '{folder}/' offer the same modality ({choices}). Choose with --features "
        "FILE[:SPACE]."
    )


def check_stores_unchanged(spaces: Sequence[Mapping[str, Any]], source: Path) -> None:
    """Refuse stores that are not the ones a run recorded.

    Parameters
    ----------
    spaces : sequence of mapping
        As in ``config.json``.
    source : Path
        What recorded them, for the message.

    Raises
    ------
    RunError
        If a store is missing or has another fingerprint.
    """
    for space in spaces:
        path = Path(space["path"])
        if not path.exists():
            raise RunError(
                f"'{source}' used store '{path}', which is not there (relative to the current folder). Run "
                "from the folder where it was made, or name the stores with --features."
            )
        with open_store(path) as store:
            if store.fingerprint != space["store_fingerprint"]:
                raise RunError(
                    f"Store '{path}' has changed since '{source}' was written (fingerprint "
                    f"{store.fingerprint[:12]}, recorded is {space['store_fingerprint'][:12]}). Tune again, "
                    "or name stores with --features."
                )


def split_spec(spec: str) -> tuple[Path, str | None]:
    """Split ``FILE[:SPACE]``; a colon inside an existing file's name belongs to the file."""
    if Path(spec).exists() or ":" not in spec:
        return Path(spec), None
    file, _, space = spec.rpartition(":")
    return Path(file), space or None


def open_store(path: Path) -> FeatureStore:
    """Open a store, all of it verified; say so where that takes seconds.

    Raises
    ------
    StoreError
        As `FeatureStore.open`.
    """
    return FeatureStore.open(path, on_hashing=partial(tell_hashing, path))


def tell_hashing(path: Path, n_bytes: int) -> None:
    """Say what takes the time where comparing the hashes of a store takes seconds."""
    if n_bytes > _SLOW_BYTES:
        tell(f"comparing the hashes of '{path}', {size(n_bytes)}")
