"""Publish and open: what goes in comes out, in any order and shard size, with equal bytes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cache
from cache import (
    FeatureStore,
    PassFolder,
    RowTable,
    SpaceError,
    Split,
    Status,
    StoreCorruptError,
    StoreError,
    verify_store,
    write_store,
)
from tests.cache.builders import META, Toy, finish, part

IDS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)


@settings(max_examples=10, deadline=None)
@given(data=st.data(), ids=st.lists(IDS, min_size=1, max_size=12, unique=True), shard_rows=st.integers(2, 13))
def test_store_returns_what_was_published(data: st.DataObject, ids: list[str], shard_rows: int) -> None:
    """Any ids and texts, any shard size, and rows asked for in any order come back unchanged."""
    toy = Toy(n=len(ids), shard_rows=shard_rows, views=data.draw(st.integers(0, 2)))
    texts = tuple(data.draw(st.lists(TEXTS, min_size=len(ids), max_size=len(ids))))
    table = replace(toy.table, ids=tuple(ids), text=texts)
    order = data.draw(st.lists(st.integers(-len(ids), len(ids) - 1), max_size=20))
    with tempfile.TemporaryDirectory() as folder:
        path = write_store(Path(folder) / "s.h5", toy.plan, table=table, data=toy.data, meta=META)
        with FeatureStore.open(path) as store:
            assert (store.ids, store.texts) == (tuple(ids), texts)
            for modality in toy.modalities:
                wanted, space = toy.data[modality], store.select(modality)
                matrix = wanted.features[space.name]
                np.testing.assert_array_equal(space[order], matrix[np.array(order, dtype=int)])
                np.testing.assert_array_equal(np.asarray(space), matrix)
                np.testing.assert_array_equal(space.valid, wanted.valid.astype(bool))
                if wanted.views is not None:
                    np.testing.assert_array_equal(np.asarray(space.views), wanted.views[space.name])


def test_store_returns_every_column(toy: Toy, store_path: Path) -> None:
    """Every column of the table is there after publishing, and the status is that of the shards."""
    table = toy.table
    with FeatureStore.open(store_path) as store:
        assert (store.n_rows, len(store), store.path) == (10, 10, store_path)
        assert store.fingerprint == toy.plan.fingerprint
        assert store.class_names == ("positive", "neutral", "negative")
        assert store.modalities == ("text", "image")
        assert store.spaces == ("text.pooled", "image.pooled")
        assert store.ids == table.ids
        for name, column in [("labels", table.label), ("splits", table.split), ("groups", table.group)]:
            np.testing.assert_array_equal(getattr(store, name), column, strict=True)
        np.testing.assert_array_equal(store.source_sha256, table.source_sha256, strict=True)
        wanted = np.stack([toy.data[m].status for m in toy.modalities], axis=1)
        assert wanted.any()
        np.testing.assert_array_equal(store.status, wanted, strict=True)
        assert store.encodings == tuple(META["encodings"][code] for code in table.encoding)
        assert store.image_paths == table.image_path
        np.testing.assert_array_equal(store.image_sizes, np.stack([table.image_width, table.image_height], 1))
        np.testing.assert_array_equal(store.image_sha256, table.image_sha256)
        assert store.meta["identity"] == toy.plan.identity
        assert store.meta["spaces"][0] == {
            "name": "text.pooled",
            "width": 6,
            "dtype": "float32",
            "fingerprint": "fp-text",
        }


def test_store_has_no_groups_for_absent_modalities(tmp_path: Path) -> None:
    """A store of texts has no image columns, and one of images no text columns."""
    with FeatureStore.open(Toy(modalities=("text",)).write(tmp_path / "t.h5")) as store:
        assert (store.image_paths, store.image_sizes, store.image_sha256) == (None, None, None)
    with FeatureStore.open(Toy(modalities=("image",)).write(tmp_path / "i.h5")) as store:
        assert (store.texts, store.encodings) == (None, None)
        assert store.select("image").dtype == np.float16


@pytest.mark.parametrize("shard_rows", [1, 3, 7])
def test_publish_gives_equal_bytes(tmp_path: Path, shard_rows: int) -> None:
    """Equal inputs give byte-equal files in other folders and with other shard sizes."""
    (tmp_path / "elsewhere").mkdir()
    # 100 rows of 3000 columns: several chunks, the last one padded.
    first = Toy(n=100, shard_rows=100, views=1, modalities=("text",), width=3000).write(tmp_path / "a.h5")
    second = Toy(n=100, shard_rows=shard_rows * 10, views=1, modalities=("text",), width=3000).write(
        tmp_path / "elsewhere" / "b.h5"
    )
    assert first.read_bytes() == second.read_bytes()


def test_publish_resumed_gives_equal_bytes(toy: Toy, store_path: Path, tmp_path: Path) -> None:
    """A pass that stopped and went on, with another shard size, publishes the bytes of an unbroken one."""
    target = tmp_path / "resumed.h5"
    with PassFolder(target, toy.plan) as folder:
        folder.write("image", 4, 8, part(toy.data["image"], 4, 8))
    with PassFolder(target, replace(toy.plan, shard_rows=9)) as folder:
        assert folder.plan.shard_rows == 4
        assert (folder.resumed("image"), folder.resumed("text")) == (4, 0)
        assert folder.missing("image") == [(0, 4), (8, 10)]
        finish(folder, toy.data, toy.table)
    assert target.read_bytes() == store_path.read_bytes()
    assert not (tmp_path / "resumed.h5.work").exists()


def test_feature_space_picks_rows_like_numpy(toy: Toy, store_path: Path) -> None:
    """Ints, slices, masks, lists, negative numbers and duplicates give what numpy gives."""
    x = toy.data["text"].features["text.pooled"]
    with FeatureStore.open(store_path) as store:
        space = store.select("text")
        assert (space.shape, len(space), space.ndim, space.dtype) == ((10, 6), 10, 2, np.float32)
        picks = [
            3,
            -1,
            slice(None),
            slice(2, 5),
            slice(5, 2),
            slice(None, None, -3),
            slice(-4, None),
            [9, 0, 0],
        ]
        for rows in [*picks, [], np.arange(10) % 3 == 0, np.array([-1, 4], dtype=np.int32), np.uint8(2)]:
            np.testing.assert_array_equal(
                space[rows], x[rows] if not isinstance(rows, list) or rows else x[:0]
            )
        assert np.asarray(space, dtype=np.float64).dtype == np.float64
        with pytest.raises(ValueError, match="without a copy"):
            np.array(space, copy=False)


@pytest.mark.parametrize(
    ("rows", "kind", "message"),
    [
        (10, IndexError, "Row 10 is outside the matrix, which has 10 rows"),
        ([0, -11], IndexError, "Row -11 is outside"),
        (np.ones(3, dtype=bool), IndexError, r"mask has shape \(3,\)"),
        ((1, 2), TypeError, "by one int, slice or list"),
        ([0.5], TypeError, "by integers in one dimension, not by float64"),
        ("a", TypeError, "by integers"),
    ],
)
def test_feature_space_refuses_bad_rows(store_path: Path, rows: object, kind: type, message: str) -> None:
    """A row that is not there, or not a row number, is refused by value."""
    with FeatureStore.open(store_path) as store, pytest.raises(kind, match=message):
        store.select("text")[rows]


def test_view_stack_reads_one_view(tmp_path: Path) -> None:
    """Each view is a matrix of its own; views that are not there are refused."""
    toy = Toy(views=2)
    with FeatureStore.open(toy.write(tmp_path / "s.h5")) as store:
        views = store.select("image").views
        assert (views.shape, len(views), views.dtype) == ((2, 10, 6), 2, np.float16)
        np.testing.assert_array_equal(views[-1][[5, 1]], toy.data["image"].views["image.pooled"][1][[5, 1]])
        with pytest.raises(IndexError, match="View 2 is asked for, but there are 2"):
            views[2]
        with pytest.raises(ValueError, match="without a copy"):
            np.array(views, copy=False)


def test_select_refuses_unknown_and_ambiguous_names(tmp_path: Path) -> None:
    """A name that fits no space or several is refused with the names there are; the message is a sentence."""
    toy = Toy(modalities=("text",))
    spec = toy.plan.spaces[0]
    plan = replace(toy.plan, spaces=(spec, replace(spec, name="text.cls")))
    x = toy.data["text"].features["text.pooled"]
    data = {"text": replace(toy.data["text"], features={"text.pooled": x, "text.cls": x})}
    path = write_store(tmp_path / "s.h5", plan, table=toy.table, data=data, meta=META)
    with FeatureStore.open(path) as store:
        with pytest.raises(
            SpaceError, match=r"^'text' is not clear in '.*': it has 'text.pooled', 'text.cls'\."
        ):
            store.select("text")
        with pytest.raises(
            KeyError, match=r"^'.*' has no space 'image'; it has 'text.pooled', 'text.cls'\.$"
        ):
            store.select("image")
        assert store.select("text.cls").name == "text.cls"


def test_feature_store_refuses_reading_after_close(store_path: Path) -> None:
    """Columns and spaces not read before the close say that the store is closed."""
    store = FeatureStore.open(store_path)
    store.close()
    with pytest.raises(StoreError, match=r"toy.h5' is closed; open it again"):
        _ = store.ids
    with pytest.raises(StoreError, match="is closed"):
        store.select("text")


def test_verify_store_reports_what_it_checked(toy: Toy, store_path: Path) -> None:
    """The report counts data sets and bytes."""
    report = verify_store(store_path)
    assert (report.n_rows, report.fingerprint, report.format) == (10, toy.plan.fingerprint, (1, 0))
    assert report.n_datasets == 7 + 3 + 5 + 4 + 1
    assert report.n_bytes > 10 * 6 * 6


def test_open_says_when_it_hashes(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for a file that stays as it is, with its size; not where hashes are not compared, or not yet."""
    monkeypatch.setattr("cache.verify._SETTLED_NS", 0)  # as if the file had been there for a while
    told: list[int] = []
    FeatureStore.open(store_path, verify=False, on_hashing=told.append).close()
    assert told == []
    for _ in range(2):
        FeatureStore.open(store_path, on_hashing=told.append).close()
        assert told == [store_path.stat().st_size]
    verify_store(store_path, on_hashing=told.append)
    assert told == [store_path.stat().st_size] * 2
    store_path.write_bytes(store_path.read_bytes()[:-1])
    with pytest.raises(StoreCorruptError, match="cut short"):
        FeatureStore.open(store_path, on_hashing=told.append)
    assert len(told) == 2


def test_write_store_ignores_leftovers(toy: Toy, tmp_path: Path) -> None:
    """Shards of a failed import with the same settings but other arrays do not get into the store."""
    target = tmp_path / "s.h5"
    other = {m: replace(d, features={k: -v for k, v in d.features.items()}) for m, d in toy.data.items()}
    with PassFolder(target, toy.plan) as folder:
        folder.write("text", 0, 4, part(other["text"], 0, 4))
    with FeatureStore.open(toy.write(target)) as store:
        np.testing.assert_array_equal(store.select("text")[:], toy.data["text"].features["text.pooled"])
    with pytest.raises(ValueError, match=r"Data of \['text'\] is given, but the plan has modalities"):
        write_store(target, toy.plan, table=toy.table, data={"text": toy.data["text"]}, meta=META)


def test_row_table_names_every_fault() -> None:
    """A broken table is refused once, with all that is wrong."""
    zeros = np.zeros((2, 32), dtype=np.uint8)
    with pytest.raises(ValueError, match="cannot be stored") as caught:
        RowTable(
            ids=("a", "a"),
            label=np.zeros(2, dtype=np.int64),
            split=np.array([0, 4], dtype=np.uint8),
            group=np.zeros(3, dtype=np.int32),
            source_sha256=zeros,
            status=np.full((2, 1), 10, dtype=np.uint8),
            text=("x", "\ud800"),
            image_path=("a",),
        )
    for fault in [
        "'label' has type int64 and shape (2,), but int32 and (2,) are needed",
        "'split' holds 4 in row 1; allowed are 0 to 3",
        "'group' has type int32 and shape (3,)",
        "'status' holds [10] in row 0; allowed are 0 to 9",
        "'text' and 'encoding' must be given together",
        "'image_path', 'image_width' and 'image_height' must be given together",
        "ids 'a' occur more than once",
        "'text' is no valid Unicode string in rows 1",
        "'image_path' has 1 entries for 2 rows",
    ]:
        assert fault in str(caught.value)


@pytest.mark.parametrize("bad", ["", "a\0b", "a\nb", "\x85", "\ud800", "é" * 513, 7])
def test_row_table_refuses_bad_ids(toy: Toy, bad: object) -> None:
    """Ids that are empty, too long, no Unicode or hold control characters are refused."""
    with pytest.raises(ValueError, match="are not allowed"):
        replace(toy.table, ids=(bad, *toy.table.ids[1:]))


def test_store_keeps_hostile_ids_as_data(toy: Toy, tmp_path: Path) -> None:
    """Ids that look like paths, formulas or device names are stored as they are and name no file."""
    ids = ("../../x", "/etc/passwd", "..", "=cmd()", "CON", "e\u0301", "é", "\u202eabc", "a/b", "é" * 512)
    table = replace(toy.table, ids=ids)
    path = write_store(tmp_path / "s.h5", toy.plan, table=table, data=toy.data, meta=META)
    with FeatureStore.open(path) as store:
        assert store.ids == ids
    assert [item.name for item in tmp_path.iterdir()] == ["s.h5"]


def test_status_and_split_have_fixed_codes() -> None:
    """Codes in published files never change their meaning."""
    assert [status.label for status in Status] == [
        "ok",
        "text_empty",
        "image_missing",
        "image_corrupt",
        "image_too_large",
        "image_format",
        "oom",
        "text_missing",
        "text_encoding",
        "absent",
    ]
    assert [split.name for split in Split] == ["NONE", "TRAIN", "VAL", "TEST"]


def test_cache_loads_nothing_before_use() -> None:
    """Importing the package loads neither numpy nor h5py, and every public name is there."""
    code = "import sys, cache; print(*sorted({'numpy', 'h5py'} & set(sys.modules)), len(cache.__all__))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(len(cache.__all__))]
    assert all(getattr(cache, name) is not None for name in cache.__all__)
    assert callable(cache.align)
    with pytest.raises(AttributeError, match="has no name 'nothing'"):
        _ = cache.nothing
