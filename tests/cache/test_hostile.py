"""Hostile and broken files: refused by name before one byte of data is read, and no other file is opened."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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

LABEL = "/rows/label"


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[Path]:
    """A pipe without a writer: whoever opens it hangs, and the alarm ends the test."""
    path = tmp_path / "trap"
    os.mkfifo(path)

    def ring(number: int, frame: object) -> None:
        raise TimeoutError("something opened the trap")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 20)
    yield path
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def _external_link(file: Any, trap: Path) -> None:
    del file[LABEL]
    file[LABEL] = h5py.ExternalLink(str(trap), "/x")


def _soft_link(file: Any, trap: Path) -> None:
    del file[LABEL]
    file[LABEL] = h5py.SoftLink("/rows/group")


def _external_storage(file: Any, trap: Path) -> None:
    del file[LABEL]
    file.create_dataset(LABEL, shape=(10,), dtype="<i4", external=[(str(trap), 0, 40)])


def _virtual(file: Any, trap: Path) -> None:
    del file[LABEL]
    layout = h5py.VirtualLayout(shape=(10,), dtype="<i4")
    layout[:] = h5py.VirtualSource(str(trap), "x", shape=(10,))
    file.create_virtual_dataset(LABEL, layout)


def _cycle(file: Any, trap: Path) -> None:
    file["/rows/loop"] = file["/rows"]


def _second_name(file: Any, trap: Path) -> None:
    file["/rows/again"] = file[LABEL]


def _sparse(file: Any, trap: Path) -> None:
    del file[LABEL]
    file.create_dataset(LABEL, shape=(1 << 40,), dtype="<i4", chunks=(1024,))


def _half_stored(file: Any, trap: Path) -> None:
    del file[LABEL]
    file.create_dataset(LABEL, shape=(10,), dtype="<i4")


def _gzip_bomb(file: Any, trap: Path) -> None:
    del file[LABEL]
    file.create_dataset(LABEL, data=np.zeros(5_000_000, dtype="<i4"), compression="gzip")


def _fletcher(file: Any, trap: Path) -> None:
    data = file[LABEL][()]
    del file[LABEL]
    file.create_dataset(LABEL, data=data, fletcher32=True, chunks=(10,))


def _vlen_string(file: Any, trap: Path) -> None:
    del file[LABEL]
    file.create_dataset(LABEL, data=["a"] * 10, dtype=h5py.string_dtype())


def _object_reference(file: Any, trap: Path) -> None:
    del file[LABEL]
    file.create_dataset(LABEL, data=[file["/rows"].ref] * 10, dtype=h5py.ref_dtype)


def _opaque(file: Any, trap: Path) -> None:
    del file[LABEL]
    file.create_dataset(LABEL, data=np.zeros(10, dtype="V16"))


def _big_endian(file: Any, trap: Path) -> None:
    data = file[LABEL][()]
    del file[LABEL]
    file.create_dataset(LABEL, data=data.astype(">i4"))


def _named_type(file: Any, trap: Path) -> None:
    file["/rows/type"] = np.dtype("<i4")


def _vlen_attribute(file: Any, trap: Path) -> None:
    file.attrs["format"] = "embedonce-features"


def _array_attribute(file: Any, trap: Path) -> None:
    file.attrs["more"] = np.zeros(4000)


def _deep(file: Any, trap: Path) -> None:
    file.create_group("/a/b/c/d/e/f")


def _long_name(file: Any, trap: Path) -> None:
    file.create_group("/" + "x" * 300)


def _crowd(file: Any, trap: Path) -> None:
    for number in range(1001):
        file.create_group(f"/crowd/{number}")


CORPUS: list[tuple[Callable[[Any, Path], None], str]] = [
    (_external_link, "'/rows/label' is a soft or external link"),
    (_soft_link, "'/rows/label' is a soft or external link"),
    (_external_storage, "'/rows/label' keeps its data in another file"),
    (_virtual, "'/rows/label' is a virtual data set"),
    (_cycle, "'/rows/loop' is reached by two links"),
    (_second_name, r"'/rows/\w+' is reached by two links"),
    (_sparse, "'/rows/label' declares 4,398,046,511,104 bytes, more than the file has"),
    (_half_stored, "'/rows/label' declares 40 bytes and stores 0"),
    (_gzip_bomb, "'/rows/label' is compressed or filtered"),
    (_fletcher, "'/rows/label' is compressed or filtered"),
    (_vlen_string, "'/rows/label' has a type other than uint8, int32"),
    (_object_reference, "'/rows/label' has a type other than"),
    (_opaque, "'/rows/label' has a type other than"),
    (_big_endian, "'/rows/label' has a type other than"),
    (_named_type, "'/rows/type' is neither a group nor a data set"),
    (_vlen_attribute, "'format' is an attribute that is not one number or short string"),
    (_array_attribute, "'more' is an attribute that is not one number"),
    (_deep, "'/a/b/c/d/e' lies more than 4 groups deep"),
    (_long_name, "'/x+' has a name of 300 bytes"),
    (_crowd, "'/crowd' has more than 1000 members"),
]


@pytest.mark.parametrize(("spoil", "message"), CORPUS, ids=[spoil.__name__[1:] for spoil, _ in CORPUS])
def test_every_reader_refuses_hostile_files(
    store_path: Path, trap: Path, spoil: Callable[[Any, Path], None], message: str
) -> None:
    """Each trick is refused by its name through every way into a file, and its target is never opened."""
    with h5py.File(store_path, "r+") as file:
        spoil(file, trap)
    readers = [
        audit_file,
        verify_store,
        FeatureStore.open,
        lambda path: FeatureStore.open(path, verify=False),
    ]
    for reader in readers:
        with pytest.raises(UnsafeStoreError, match=rf"toy\.h5' is refused: {message}"):
            reader(store_path)
    index = ReuseIndex.from_folder(store_path.parent)
    assert len(index.notes) == 1
    assert "is refused" in index.notes[0]


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
