"""Joining stores by id, and finding vectors that an earlier store already holds."""

from __future__ import annotations

import hashlib
import tracemalloc
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache import AlignError, FeatureStore, ReuseIndex, RowTable, SpaceError, align, write_store
from cache.alignment import _joint_groups
from tests.cache.builders import CLASSES, META, Toy, make_table, text_hashes

TEXT = ("text",)


def _rows(table: RowTable, index: np.ndarray) -> RowTable:
    """Return some rows of a table."""
    picked = {}
    for name, column in vars(table).items():
        if isinstance(column, tuple):
            picked[name] = tuple(column[i] for i in index)
        else:
            picked[name] = None if column is None else column[index]
    return RowTable(**picked)


def _write(path: Path, table: RowTable, *, class_names: list[str] | None = None, seed: int = 0) -> Path:
    toy = Toy(n=len(table), modalities=TEXT)
    x = np.random.default_rng(seed).normal(size=(len(table), 6)).astype(np.float32)
    valid = np.ones(len(table), dtype=np.uint8)
    valid[0] = 0
    data = {"text": replace(toy.data["text"], features={"text.pooled": x}, valid=valid, status=1 - valid)}
    meta = {**META, "class_names": class_names or CLASSES}
    return write_store(path, toy.plan, table=table, data=data, meta=meta)


@pytest.fixture
def table() -> RowTable:
    """Ten rows of text."""
    return make_table(10, TEXT)


def test_align_joins_by_id_in_the_first_order(table: RowTable, tmp_path: Path) -> None:
    """Stores with other rows, order and class codes join; vectors, labels and validity follow the ids."""
    order = np.array([7, 2, 9, 0, 4])
    other = _rows(table, order)
    recode = np.array([2, 0, 1, -1], dtype=np.int32)  # last entry serves label -1
    other = replace(other, label=recode[other.label])
    paths = [
        _write(tmp_path / "a.h5", table),
        _write(tmp_path / "b.h5", other, class_names=["neutral", "negative", "positive"], seed=1),
    ]
    with ExitStack() as stack:
        stores = [stack.enter_context(FeatureStore.open(path)) for path in paths]
        joined = align(stores)
        common = sorted(order)
        assert joined.ids == tuple(table.ids[i] for i in common)
        assert len(joined) == 5
        assert joined.class_names == tuple(CLASSES)
        np.testing.assert_array_equal(joined.labels, table.label[common])
        np.testing.assert_array_equal(joined.splits, table.split[common])
        assert joined.dropped == {paths[0]: 5, paths[1]: 0}
        for position, store in enumerate(stores):
            x, valid = joined.take(position, "text")
            rows = [store.ids.index(i) for i in joined.ids]
            np.testing.assert_array_equal(x, store.select("text")[:][rows])
            np.testing.assert_array_equal(valid, store.select("text").valid[rows])
        with pytest.raises(SpaceError, match="has no space 'image'"):
            joined.take(0, "image")


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (
            "label",
            r"^Id 'id-3-é' has label '\w+' in '.*a\.h5', but \S+ in '.*b\.h5' \(2 of 10",
        ),
        ("split", r"^Id 'id-3-é' has split '\w+' in '.*a\.h5', but '\w+' in '.*b\.h5'"),
        (
            "source_sha256",
            r"^Id 'id-3-é' has source hash [0-9a-f]{16}\.\.\. in '.*a\.h5', but [0-9a-f]{16}",
        ),
    ],
)
def test_align_refuses_other_data(table: RowTable, tmp_path: Path, field: str, message: str) -> None:
    """The same id with another label, split or source hash is refused, with the first row and both values."""
    column = getattr(table, field).copy()
    column[[3, 8]] = (column[[3, 8]] + 1) % 3
    paths = [_write(tmp_path / "a.h5", table), _write(tmp_path / "b.h5", replace(table, **{field: column}))]
    with FeatureStore.open(paths[0]) as a, FeatureStore.open(paths[1]) as b:
        with pytest.raises(AlignError, match=message):
            align([a, b])
        assert align([a]).ids == table.ids


def test_align_takes_a_zero_source_hash_as_unknown(table: RowTable, tmp_path: Path) -> None:
    """A store whose inputs were not hashed joins any."""
    unknown = replace(table, source_sha256=np.zeros((10, 32), dtype=np.uint8))
    paths = [_write(tmp_path / "a.h5", table), _write(tmp_path / "b.h5", unknown)]
    with FeatureStore.open(paths[0]) as a, FeatureStore.open(paths[1]) as b:
        assert len(align([a, b])) == 10


def test_align_refuses_stores_without_common_ids(table: RowTable, tmp_path: Path) -> None:
    """No store, or no common id, is refused with an id of each."""
    other = replace(table, ids=tuple(f"x{i}" for i in range(10)))
    paths = [_write(tmp_path / "a.h5", table), _write(tmp_path / "b.h5", other)]
    with (
        FeatureStore.open(paths[0]) as a,
        FeatureStore.open(paths[1]) as b,
        pytest.raises(AlignError, match=r"No id is in all of .*First ids are 'id-0-é', 'x0'"),
    ):
        align([a, b])
    with pytest.raises(AlignError, match="no store to align"):
        align([])


@given(st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 4)), min_size=1, max_size=20))
def test_align_groups_rows_linked_in_any_store(pairs: list[tuple[int, int]]) -> None:
    """Two rows share a joint group exactly when a chain of shared groups links them."""
    columns = [np.array(column, dtype=np.int32) for column in zip(*pairs, strict=True)]
    groups = _joint_groups(columns)
    n = len(pairs)
    linked = np.eye(n, dtype=bool)
    for column in columns:
        linked |= (column[:, None] == column[None, :]) & (column[:, None] >= 0)
    for _ in range(n):
        linked = linked @ linked
    np.testing.assert_array_equal(groups[:, None] == groups[None, :], linked)
    first_seen = list(dict.fromkeys(groups.tolist()))
    assert first_seen == list(range(len(first_seen)))


def test_reuse_index_finds_valid_vectors_by_content(toy: Toy, store_path: Path) -> None:
    """Vectors come back for the inputs asked for, in that order; unknown and invalid inputs are not found."""
    index = ReuseIndex.from_folder(store_path.parent)
    assert index.notes == []
    for modality, hashes in (("text", text_hashes(toy.table.text)), ("image", toy.table.image_sha256)):
        data = toy.data[modality]
        order = np.array([9, 2, 2, 5, 0, 7, 1])
        asked = np.concatenate(
            [hashes[order], np.full((1, 32), 7, dtype=np.uint8), np.zeros((1, 32), np.uint8)]
        )
        found, vectors = index.lookup(f"fp-{modality}", asked)
        # Texts repeat in the toy table (every third is empty), so validity goes by content.
        valid = {hashes[row].tobytes() for row in np.flatnonzero(data.valid)}
        assert found.tolist() == [h.tobytes() in valid for h in asked]
        x = data.features[f"{modality}.pooled"]
        first = {hashes[row].tobytes(): x[row] for row in np.flatnonzero(data.valid)[::-1]}
        np.testing.assert_array_equal(vectors, [first[h.tobytes()] for h in asked[found]])
        assert vectors.dtype == x.dtype
    found, vectors = index.lookup("fp-other", asked)
    assert (found.any(), vectors) == (False, None)
    with pytest.raises(ValueError, match=r"'input_sha256' is uint8 of shape \(3, 31\)"):
        index.lookup("fp-text", np.zeros((3, 31), dtype=np.uint8))


def test_reuse_index_says_when_it_hashes(toy: Toy, store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the store and its size, before its vectors are looked up; scanning hashes nothing."""
    monkeypatch.setattr("cache.verify._SETTLED_NS", 0)  # as if the file had been there for a while
    told: list[tuple[Path, int]] = []
    index = ReuseIndex.from_folder(store_path.parent, on_hashing=lambda *told_of: told.append(told_of))
    assert told == []
    for _ in range(2):
        assert index.lookup("fp-text", text_hashes(toy.table.text))[0].any()
        assert told == [(store_path, store_path.stat().st_size)]


def test_reuse_index_takes_tens_of_bytes_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a store whose texts have 300 characters: 36 bytes a row were measured, and 137 while it is read."""
    for block in ("columns.BLOCK_BYTES", "integrity._BLOCK_BYTES"):  # what is in memory at a time
        monkeypatch.setattr(f"cache.{block}", 1 << 13)
    held, peak = {}, {}
    for n in (50, 500, 2000):  # the first one imports what all need
        toy = Toy(n=n, shard_rows=n, modalities=("text",))
        table = replace(toy.table, text=tuple(f"{i} " + "words and é " * 25 for i in range(n)))
        (tmp_path / str(n)).mkdir()
        write_store(tmp_path / str(n) / "s.h5", toy.plan, table=table, data=toy.data, meta=META)
        index = ReuseIndex.from_folder(tmp_path / str(n))
        asked = text_hashes(table.text[:1])
        tracemalloc.start()
        assert index.lookup("fp-text", asked)[0].sum() == toy.data["text"].valid[0]
        held[n], peak[n] = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert (held[2000] - held[500]) / 1500 < 60
    assert (peak[2000] - peak[500]) / 1500 < 250


def test_reuse_index_joins_hashes_of_joint_spaces(tmp_path: Path) -> None:
    """A joint input is its text and its image: the hash of both hashes."""
    toy = Toy(modalities=("joint",))
    whole = make_table(10)
    table = replace(whole, status=np.zeros((10, 1), dtype=np.uint8))
    write_store(tmp_path / "j.h5", toy.plan, table=table, data=toy.data, meta=META)
    pairs = [
        hashlib.sha256(t.tobytes() + i.tobytes()).digest()
        for t, i in zip(text_hashes(whole.text), whole.image_sha256, strict=True)
    ]
    asked = np.frombuffer(b"".join(pairs), dtype=np.uint8).reshape(-1, 32)
    found, vectors = ReuseIndex.from_folder(tmp_path).lookup("fp-joint", asked)
    valid = toy.data["joint"].valid.astype(bool)
    np.testing.assert_array_equal(found, valid)
    np.testing.assert_array_equal(vectors, toy.data["joint"].features["joint.pooled"][valid])


def test_reuse_index_notes_stores_it_cannot_use(toy: Toy, store_path: Path, tmp_path: Path) -> None:
    """Broken stores are named and skipped, at the scan or when their vectors are wanted, and others serve."""
    data = bytearray(store_path.read_bytes())
    at = data.find(toy.data["text"].features["text.pooled"].tobytes())
    assert at > 0
    data[at] ^= 1
    (tmp_path / "a-damaged.h5").write_bytes(data)
    (tmp_path / "b-empty.h5").write_bytes(b"")
    index = ReuseIndex.from_folder(tmp_path)
    assert [note.split(" is not used")[0] for note in index.notes] == [f"'{tmp_path / 'b-empty.h5'}'"]
    hashes = text_hashes(toy.table.text)
    assert index.lookup("fp-text", hashes)[0].any()
    assert "a-damaged.h5' is damaged: the SHA-256 of '/features/text.pooled/x'" in index.notes[1]
    assert not ReuseIndex.from_folder(tmp_path, skip=store_path).lookup("fp-text", hashes)[0].any()
    assert not ReuseIndex.from_folder(tmp_path / "nowhere").lookup("fp-text", hashes)[0].any()
