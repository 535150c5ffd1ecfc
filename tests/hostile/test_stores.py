"""Hostile and broken files: refused by name before one byte of data is read, and no other file is opened."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from cache import (
    FeatureStore,
    ReuseIndex,
    StoreCorruptError,
    StoreError,
    StoreMissingError,
    UnsafeStoreError,
    audit_file,
    verify_store,
)
from tests.cache.builders import Toy
from tests.hostile.hdf5_corpus import TRICKS, WHOLE_FILES, Trick


def _readers() -> list[Callable[[Path], object]]:
    return [
        audit_file,
        verify_store,
        FeatureStore.open,
        lambda path: FeatureStore.open(path, verify=False),
    ]


def _refused_everywhere(path: Path, message: str) -> None:
    """Check that every way into a file gives the same refusal."""
    for reader in _readers():
        with pytest.raises(UnsafeStoreError, match=message):
            reader(path)
    index = ReuseIndex.from_folder(path.parent)
    assert len(index.notes) == 1
    assert re.search(message, index.notes[0])


@pytest.mark.parametrize("trick", TRICKS, ids=[trick.name for trick in TRICKS])
def test_every_reader_refuses_hostile_files(store_path: Path, trap: Path, trick: Trick) -> None:
    """Each trick is refused by its name through every way into a file, and its target is never opened."""
    trick.make(store_path, trap)
    _refused_everywhere(store_path, trick.message)


@pytest.mark.parametrize(("make", "message"), WHOLE_FILES, ids=[make.__name__ for make, _ in WHOLE_FILES])
def test_every_reader_refuses_hostile_containers(
    store_path: Path, make: Callable[[Path], None], message: str
) -> None:
    """Giant attributes, something before the store and a terabyte of nothing are refused by their names."""
    make(store_path)
    _refused_everywhere(store_path, message)


def _directory(path: Path, good: Path) -> None:
    path.mkdir()
    (path / "clip.h5").write_bytes(good.read_bytes())


def _fifo(path: Path, good: Path) -> None:
    os.mkfifo(path)


def _link_to_folder(path: Path, good: Path) -> None:
    path.symlink_to(good.parent)


def _loop(path: Path, good: Path) -> None:
    path.symlink_to(path)


def _nothing(path: Path, good: Path) -> None:
    assert not path.exists()


def _empty(path: Path, good: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path, good: Path) -> None:
    path.write_text("id,label\n")


def _dangling(path: Path, good: Path) -> None:
    path.symlink_to(path.with_name("gone"))


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (_nothing, StoreMissingError, "There is no store at"),
        (_dangling, StoreMissingError, "There is no store at"),
        (
            _directory,
            UnsafeStoreError,
            r"is a folder, but a store is one HDF5 file; did you mean .*: clip\.h5\?",
        ),
        (_link_to_folder, UnsafeStoreError, "is a folder"),
        (_fifo, UnsafeStoreError, "is not a regular file"),
        (_loop, StoreError, "is not a regular file|cannot be opened"),
        (_empty, StoreCorruptError, "the file is empty"),
        (_text, StoreCorruptError, "it is not an HDF5 file"),
        (lambda path, good: path.write_bytes(good.read_bytes()[:-1]), StoreCorruptError, "cut short.*eof = "),
        (lambda path, good: path.write_bytes(good.read_bytes()[:2000]), StoreCorruptError, "cut short"),
        (
            lambda path, good: path.write_bytes(good.read_bytes() + b"x"),
            StoreCorruptError,
            r"ends at [\d,]+ bytes, but the file has [\d,]+\. Copy it again",
        ),
    ],
)
def test_feature_store_refuses_what_is_no_store(
    store_path: Path,
    tmp_path: Path,
    trap: Path,
    make: Callable[[Path, Path], object],
    kind: type,
    message: str,
) -> None:
    """Whatever else lies at a path is named in plain words, and a pipe is never opened."""
    path = tmp_path / "x" / "bad.h5"
    path.parent.mkdir()
    make(path, store_path)
    with pytest.raises(kind, match=message):
        FeatureStore.open(path)


def test_feature_store_refuses_foreign_hdf5(tmp_path: Path) -> None:
    """An HDF5 file of somebody else is not called damaged."""
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(3, dtype="<i4")
    with pytest.raises(StoreCorruptError, match="is an HDF5 file, but not a feature store"):
        FeatureStore.open(path)


def test_feature_store_follows_a_symlink_to_a_file(store_path: Path, tmp_path: Path) -> None:
    """A link to a store on another disk opens."""
    (tmp_path / "link.h5").symlink_to(store_path)
    with FeatureStore.open(tmp_path / "link.h5") as store:
        assert store.n_rows == 10


def test_audit_file_respects_the_size_cap(store_path: Path) -> None:
    """A file over the cap is refused before HDF5 sees it; under it, the report lists the data sets."""
    size = store_path.stat().st_size
    with pytest.raises(UnsafeStoreError, match=f"has {size:,} bytes; at most {size - 1:,} are read"):
        audit_file(store_path, max_bytes=size - 1)
    report = audit_file(store_path, max_bytes=size)
    assert report.file_bytes == size > report.data_bytes
    assert report.datasets["/features/text.pooled/x"] == ("float32", (10, 6))


@pytest.mark.parametrize(
    ("name", "message"),
    [("/rows/extra", "differs from its own list in '/rows/extra'"), ("/text/extra", "'/text/extra'")],
)
def test_feature_store_refuses_unlisted_data(store_path: Path, name: str, message: str) -> None:
    """A data set that was not published is not tolerated beside those that were."""
    with h5py.File(store_path, "r+") as file:
        file[name] = np.arange(3, dtype="<i4")
    with pytest.raises(StoreCorruptError, match=message):
        FeatureStore.open(store_path, verify=False)


def test_feature_store_refuses_changed_values(store_path: Path) -> None:
    """One changed value is found by its data set's hash; without verification it is the caller's own wish."""
    with h5py.File(store_path, "r+") as file:
        file["/features/image.pooled/x"][3, 2] += 1
    message = (
        r"SHA-256 of '/features/image.pooled/x' is [0-9a-f]{16}\.\.\., but [0-9a-f]{16}\.\.\. was published"
    )
    with pytest.raises(StoreCorruptError, match=message):
        FeatureStore.open(store_path)
    FeatureStore.open(store_path, verify=False).close()


def test_feature_store_verifies_a_file_once_until_it_changes(store_path: Path) -> None:
    """A verdict is kept for a settled file, and dropped when the file is written to."""
    os.utime(store_path, ns=(10**9, 10**9))
    FeatureStore.open(store_path).close()
    with h5py.File(store_path, "r+") as file:
        file["/rows/label"][0] = 2 - file["/rows/label"][0]
    with pytest.raises(StoreCorruptError, match="'/rows/label'"):
        FeatureStore.open(store_path)


def test_toy_corpus_starts_from_a_good_file(toy: Toy, store_path: Path) -> None:
    """The file that each trick spoils passes the audit by itself."""
    assert len(audit_file(store_path).datasets) == 7 + 3 + 5 + 4 + 2
