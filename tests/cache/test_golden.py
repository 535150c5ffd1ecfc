"""Published files stay readable: the golden store of format 1.0, and refusal of formats to come."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from cache import FeatureStore, StoreCorruptError, StoreVersionError, verify_store
from tests.golden import make_store_1_0 as golden

GOLDEN = Path(golden.__file__).with_name("store-1.0.h5")


def test_golden_store_1_0_is_readable() -> None:
    """The store written when format 1.0 was made opens, verifies and holds what its script says."""
    assert verify_store(GOLDEN).format == (1, 0)
    with FeatureStore.open(GOLDEN) as store:
        assert (store.ids, store.texts) == (golden.IDS, golden.TEXTS)
        assert list(store.class_names) == golden.CLASSES
        assert store.labels.tolist() == [0, 1, 2, -1, 0, 1]
        assert store.splits.tolist() == [1, 1, 2, 3, 0, 1]
        assert store.groups.tolist() == [0, 0, -1, 1, 2, 2]
        assert store.encodings == ("gb18030", "", "utf-8", "utf-8", "utf-8", "utf-8")
        assert (
            store.status.tolist() == np.stack([1 - golden.TEXT_VALID, golden.IMAGE_STATUS], axis=1).tolist()
        )
        assert store.source_sha256[1, 0] == 32
        assert store.image_sha256[-1, 0] == 0
        assert store.image_sizes[2].tolist() == [20, 40]
        assert store.image_paths[5] == "data/5.jpg"
        assert store.fingerprint == "aeec49bb5a94a973e15d8b4565627c0a62b5f5c17c999b399cd9f759efed8563"
        np.testing.assert_array_equal(store.select("text")[:], golden.text_features(), strict=True)
        image = store.select("image.cls")
        np.testing.assert_array_equal(image[:], golden.image_features(), strict=True)
        np.testing.assert_array_equal(image.views[1][:], -golden.image_features(), strict=True)
        assert image.valid.tolist() == [True, True, False, True, False, True]


def _edited(path: Path, name: str, value: object) -> Path:
    with h5py.File(path, "r+") as file:
        if value is None:
            del file.attrs[name]
        else:
            file.attrs[name] = value
    return path


@pytest.mark.parametrize(
    ("name", "value", "kind", "message"),
    [
        (
            "format_major",
            np.int64(2),
            StoreVersionError,
            r"has store format 2, but this version reads format 1\. Update",
        ),
        ("format_major", np.int64(0), StoreVersionError, r"has store format 0, .* format 1\. Extract again"),
        (
            "format",
            np.bytes_(b"other"),
            StoreCorruptError,
            "not a feature store: its attribute 'format' is 'other'",
        ),
        ("format", None, StoreCorruptError, "'format' is None"),
        ("complete", np.int64(0), StoreCorruptError, "not marked as complete"),
        ("n_rows", np.int64(11), StoreCorruptError, r"'/rows/id_off' is int64 \(11,\)"),
        ("n_rows", np.int64(-1), StoreCorruptError, "'n_rows' is -1"),
        ("fingerprint", np.bytes_(b"0" * 64), StoreCorruptError, "is not the one in '/meta'"),
        (
            "integrity_sha256",
            np.bytes_(b"0" * 64),
            StoreCorruptError,
            "SHA-256 of '/integrity' is not the one",
        ),
    ],
)
def test_feature_store_refuses_other_root_attributes(
    store_path: Path, name: str, value: object, kind: type, message: str
) -> None:
    """Root attributes are outside the hashes, so each is checked against something that is inside."""
    path = _edited(store_path, name, value)
    with pytest.raises(kind, match=message):
        FeatureStore.open(path, verify=False)


def test_feature_store_reads_newer_minor_versions(store_path: Path) -> None:
    """A newer minor version only adds, so it opens."""
    path = _edited(store_path, "format_minor", np.int64(7))
    assert verify_store(path).format == (1, 7)
