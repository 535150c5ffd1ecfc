"""Find embeddings that an earlier store already holds: same input, same space, so the same vector."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from cache.errors import StoreError
from cache.schema import Array
from cache.store import FeatureStore


class ReuseIndex:
    """Content-addressed lookup over the stores of one folder; build it with `from_folder`.

    Only names and fingerprints are kept until a lookup asks for a space; then the hashes of its inputs are,
    and vectors are read for the rows found.

    Attributes
    ----------
    notes : list of str
        One sentence for each store that could not be used, and why.
    """

    def __init__(
        self,
        spaces: dict[str, list[tuple[Path, str]]],
        notes: list[str],
        on_hashing: Callable[[Path, int], None] | None = None,
    ) -> None:
        self.notes = notes
        self._on_hashing = on_hashing
        self._spaces = spaces
        self._hashes: dict[tuple[Path, str], tuple[Array, Array]] = {}

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        *,
        skip: Path | None = None,
        on_hashing: Callable[[Path, int], None] | None = None,
    ) -> ReuseIndex:
        """Scan the headers of all ``*.h5`` files of a folder.

        Parameters
        ----------
        folder : str or pathlib.Path
            May be missing; then nothing is found.
        skip : pathlib.Path, optional
            A store to leave out, usually the one being written.
        on_hashing : callable, optional
            Called with a store's path and its size in bytes before a lookup compares every hash of it.

        Returns
        -------
        ReuseIndex
        """
        spaces: dict[str, list[tuple[Path, str]]] = {}
        notes: list[str] = []
        for path in sorted(Path(folder).glob("*.h5")):
            if skip is not None and path.absolute() == Path(skip).absolute():
                continue
            try:
                with FeatureStore.open(path, verify=False) as store:
                    for name in store.spaces:
                        spaces.setdefault(store.select(name).fingerprint, []).append((path, name))
            except StoreError as error:
                notes.append(_note(path, error))
        return cls(spaces, notes, on_hashing)

    def holds(self, space_fingerprint: str) -> bool:
        """Whether any store has the space at all; without it there is nothing to look up."""
        return bool(self._spaces.get(space_fingerprint))

    def lookup(self, space_fingerprint: str, input_sha256: Array) -> tuple[Array, Array | None]:
        """Find vectors of inputs.

        Parameters
        ----------
        space_fingerprint : str
            `SpaceSpec.fingerprint` of the space that is wanted.
        input_sha256 : ndarray of shape (k, 32), uint8
            SHA-256 of each input: of a cleaned text as UTF-8; of an image file's bytes; for a joint space, of
            the text's hash followed by the image's hash. All zero = unknown, never found.

        Returns
        -------
        (ndarray of shape (k,), bool, ndarray of shape (n_found, d) or None)
            Which inputs were found, and their vectors in the same order; None if none was.

        Raises
        ------
        ValueError
            If `input_sha256` has another type or shape.
        """
        if input_sha256.dtype != np.uint8 or input_sha256.ndim != 2 or input_sha256.shape[1] != 32:
            raise ValueError(
                f"'input_sha256' is {input_sha256.dtype} of shape {input_sha256.shape}, "
                "but uint8 of (k, 32) is needed."
            )
        found = np.zeros(len(input_sha256), dtype=bool)
        vectors: Array | None = None
        for path, name in list(self._spaces.get(space_fingerprint, [])):
            asked = np.flatnonzero(~found & input_sha256.any(axis=1))
            try:
                hits, rows = self._search(path, name, input_sha256[asked])
                if len(hits) == 0:
                    continue
                with self._open(path) as store:
                    new = store.select(name)[rows]
            except StoreError as error:
                self.notes.append(_note(path, error))
                self._spaces[space_fingerprint].remove((path, name))
                continue
            if vectors is None:
                vectors = np.zeros((len(found), new.shape[1]), dtype=new.dtype)
            if new.dtype != vectors.dtype or new.shape[1] != vectors.shape[1]:
                self.notes.append(f"'{path}' is not used: its '{name}' has another width or type.")
                continue
            vectors[asked[hits]] = new
            found[asked[hits]] = True
        return found, None if vectors is None else vectors[found]

    def _search(self, path: Path, name: str, wanted: Array) -> tuple[Array, Array]:
        """Return positions in `wanted` that a store has, and their rows in it."""
        if (path, name) not in self._hashes:
            with self._open(path) as store:
                self._hashes[path, name] = _sorted_hashes(store, name)
        keys, rows = self._hashes[path, name]
        if len(keys) == 0 or len(wanted) == 0:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        asked = _keys(wanted)
        at = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
        hits = np.flatnonzero(keys[at] == asked)
        return hits, rows[at[hits]]

    def _open(self, path: Path) -> FeatureStore:
        """Open a store, all of it verified."""
        tell = self._on_hashing
        return FeatureStore.open(path, on_hashing=None if tell is None else partial(tell, path))


def _sorted_hashes(store: FeatureStore, name: str) -> tuple[Array, Array]:
    """Return the hashes of the valid inputs of one space, sorted, and their rows."""
    hashes = _input_hashes(store, name.partition(".")[0])
    if hashes is None:
        return np.empty(0, dtype="S32"), np.empty(0, dtype=np.int64)
    rows = np.flatnonzero(store.select(name).valid & hashes.any(axis=1))
    keys = _keys(hashes[rows])
    order = np.argsort(keys, kind="stable")
    return keys[order], rows[order]


def _input_hashes(store: FeatureStore, modality: str) -> Array | None:
    """Return uint8 of shape (n, 32), or None if the store does not keep what is needed."""
    images = store.image_sha256
    if modality == "image":
        return images
    blocks = store.text_blocks()
    if blocks is None or (modality == "joint" and images is None):
        return None
    hashes, at = np.empty((store.n_rows, 32), dtype=np.uint8), 0
    for texts in blocks:
        digests = [hashlib.sha256(text.encode("utf-8")).digest() for text in texts]
        rows = slice(at, at + len(texts))
        if modality == "joint" and images is not None:
            # A missing image has the hash zero: its pair is then another input than the same text with one.
            pairs = zip(digests, images[rows], strict=True)
            digests = [hashlib.sha256(text + image.tobytes()).digest() for text, image in pairs]
        hashes[rows] = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 32)
        at = rows.stop
    return hashes


def _keys(hashes: Array) -> Array:
    """Return hashes as sortable strings; numpy drops trailing zero bytes, which 32-byte keys can spare."""
    return np.ascontiguousarray(hashes).view("S32").reshape(-1)


def _note(path: Path, error: StoreError) -> str:
    return f"'{path}' is not used: {error}"
