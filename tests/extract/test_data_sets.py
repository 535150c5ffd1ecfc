"""Data sets by column, and what they cost in memory."""

from __future__ import annotations

import csv
import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cache import Status
from extract import (
    DataError,
    DataSet,
    Sample,
    SourceOptions,
    data_sets,
    dry_run,
    open_backbone,
    read_data_set,
    read_sources,
    run_pass,
)
from extract.data_sets import merge_repeats
from extract.open_shards import first_occurrences
from extract.plans import PassOptions, make_plan
from extract.sample_table import ImagePaths, SampleTable
from extract.source_table import SourceTable, hashes_of_rows, input_hashes
from tests.kit.data_sets import write_guid_data_set
from tests.kit.tiny_checkpoints import make_tiny_bert

SAMPLES = [
    Sample("1", text="a", label="pos", split="train", group="g2"),
    Sample("é", text="", image_path=Path("d/1.png"), image_name="1.png", split="test"),
    Sample("3", text_path=Path("d/3.txt"), label="neg", group="g1"),
    Sample("4", image_path=Path("/x/4.png"), label="pos", split="val", group="g2"),
]


def test_sample_table_is_the_samples_it_was_made_of() -> None:
    """Every field comes back, an empty text as an empty one and a missing one as none."""
    table = SampleTable.of(SAMPLES)
    assert list(table) == SAMPLES == [table[i] for i in range(4)]
    assert list(table[1:3]) == SAMPLES[1:3] and list(table[::-2]) == SAMPLES[::-2]
    assert list(ImagePaths(table)) == [sample.image_path for sample in SAMPLES]
    assert SampleTable.of(table) is table


def test_sample_table_numbers_labels_by_name_and_groups_by_place() -> None:
    """Of the rows at hand: what only other rows have takes no number."""
    table = SampleTable.of(SAMPLES)
    assert table.class_names == ("neg", "pos")
    assert table.label_codes().tolist() == [1, -1, 0, 1]
    assert table.group_codes().tolist() == [0, -1, 1, 0]
    last = table[2:]
    assert (last.class_names, last.label_codes().tolist()) == (("neg", "pos"), [0, 1])
    assert last.group_codes().tolist() == [0, 1]
    assert table[:2].class_names == ("pos",)


def test_data_set_head_keeps_the_first_samples() -> None:
    """--limit N."""
    data_set = DataSet(Path(), "table", SampleTable.of(SAMPLES), ("text",))
    assert list(data_set.head(2).samples) == SAMPLES[:2]
    assert data_set.head(None) is data_set.head(9) is data_set


@pytest.mark.parametrize("all_alike", [False, True])
def test_merge_repeats_keeps_the_first_of_each_id(all_alike: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where all ids have the same hash."""
    if all_alike:
        monkeypatch.setattr(data_sets, "hash", lambda _: 7, raising=False)
    notes: dict[str, str] = {}
    repeated = [SAMPLES[0], SAMPLES[1], SAMPLES[0], SAMPLES[2], SAMPLES[1], SAMPLES[0]]
    assert list(merge_repeats(enumerate(repeated), notes)) == SAMPLES[:3]
    assert notes == {"repeated rows": "3 identical, counted once: '1', 'é', '1'"}
    other = [*SAMPLES[:3], Sample("1", text="b"), Sample("3")]
    with pytest.raises(DataError, match=r"2 id\(s\).*'1' \(row 0 and row 3\), '3' \(row 2 and row 4\)"):
        merge_repeats(enumerate(other), {}, place="row {}")


def test_merge_repeats_goes_through_the_table_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are not looked up one by one, which took twenty times as long: only what each repeats is."""
    asked = []
    get = SampleTable.__getitem__

    def noted(table: SampleTable, row: int) -> Sample:
        asked.append(row)
        return get(table, row)

    monkeypatch.setattr(SampleTable, "__getitem__", noted)
    rows = [Sample(str(i % 50), text="a") for i in range(60)]
    assert [sample.id for sample in merge_repeats(enumerate(rows), {})] == [str(i) for i in range(50)]
    assert asked == list(range(10))


def test_first_occurrences_name_the_first_usable_row() -> None:
    """Against a dictionary; hashes that share half of their first half stay apart."""
    rng = np.random.default_rng(0)
    distinct = rng.integers(0, 256, (40, 32)).astype(np.uint8)
    distinct[1, :8], distinct[2, 8:16] = distinct[0, :8], distinct[0, 8:16]
    hashes = distinct[rng.integers(0, 40, 300)]
    usable = rng.random(300) < 0.8
    first: dict[bytes, int] = {}
    for row in np.flatnonzero(usable).tolist():
        first.setdefault(hashes[row].tobytes(), row)
    wanted = [
        first[h.tobytes()] if ok else row for row, (h, ok) in enumerate(zip(hashes, usable, strict=True))
    ]
    assert first_occurrences(hashes, usable).tolist() == wanted
    assert first_occurrences(hashes[:0], usable[:0]).tolist() == []


def test_source_table_is_the_sources_it_was_made_of(tmp_path: Path) -> None:
    """From files: statuses, encodings, hashes and sizes come back; hashes of some rows are those of all."""
    write_guid_data_set(tmp_path)
    next(tmp_path.glob("data/*.jpg")).write_bytes(b"no picture")
    sources = read_sources(read_data_set(tmp_path), SourceOptions())
    again = SourceTable.of(list(sources))
    assert list(again) == list(sources) == [sources[i] for i in range(len(sources))]
    assert {source.image_status for source in sources} == {Status.OK, Status.IMAGE_FORMAT}
    rows = np.array([3, 0, 3])
    for modality in ("text", "image", "joint"):
        np.testing.assert_array_equal(
            hashes_of_rows(sources, modality, rows), input_hashes(sources, modality)[rows]
        )


def test_data_set_takes_tens_of_bytes_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From table to plan a row of 300 characters holds less than 110 bytes of memory, and never 250."""
    for module in ("string_columns", "texts"):  # what they hold at a time, whatever the number of rows
        monkeypatch.setattr(f"extract.{module}._BLOCK_BYTES", 1 << 14)
    monkeypatch.setattr("extract.plans._RUN", 64)
    backbone = open_backbone(str(make_tiny_bert(tmp_path / "bert")))
    backbone.weights_sha256()
    held, peak = {}, {}
    for n in (100, 800, 3200):  # the first one imports what all need
        table = _table(tmp_path / f"{n}.csv", n)

        def plan(table: Path = table, n: int = n) -> object:
            data_set = read_data_set(table)
            sources = read_sources(data_set, SourceOptions())
            planned = make_plan(data_set, sources, backbone, PassOptions(out=tmp_path))
            assert len(planned.table) == n
            return data_set, sources, planned

        held[n], peak[n] = _memory(plan)
    assert (held[3200] - held[800]) / 2400 < 110
    assert (peak[3200] - peak[800]) / 2400 < 250


def test_dry_run_takes_tens_of_bytes_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where an earlier store has the space, so that every text is hashed and looked up in it."""
    for module in ("string_columns", "texts"):
        monkeypatch.setattr(f"extract.{module}._BLOCK_BYTES", 1 << 14)
    for module in ("plans", "source_table", "open_shards", "sample_table"):
        monkeypatch.setattr(f"extract.{module}._RUN", 64)
    backbone = open_backbone(str(make_tiny_bert(tmp_path / "bert")))
    options = PassOptions(out=tmp_path / "out", replace=True)
    run_pass(read_data_set(_table(tmp_path / "earlier.csv", 50)), backbone, options)
    peak = {}
    for n in (100, 600, 2600):
        data_set = read_data_set(_table(tmp_path / f"{n}.csv", n))

        def rehearse(data_set: DataSet = data_set, n: int = n) -> object:
            plan = dry_run(data_set, backbone, options)
            assert plan.to_compute == {"text": n - 50}
            return plan

        peak[n] = _memory(rehearse)[1]
    assert (peak[2600] - peak[600]) / 2000 < 250


def _memory(work: Callable[[], object]) -> tuple[int, int]:
    """Return the bytes that what some work makes holds, and those at the work's peak."""
    found = []
    for _ in range(2):  # Python builds its table of path names anew now and then, a few megabytes
        gc.collect()
        tracemalloc.start()
        made = work()
        found.append(tracemalloc.get_traced_memory())
        tracemalloc.stop()
        del made
    return min(held for held, _ in found), min(peak for _, peak in found)


def _table(path: Path, n: int) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label"])
        writer.writerows([f"post-{i}", f"{i} " + "words and é " * 27, "ab"[i % 2]] for i in range(n))
    return path
