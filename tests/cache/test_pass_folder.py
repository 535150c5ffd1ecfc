"""The work folder: who may write, what counts, what is refused before it gets in."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cache import (
    BadRowsError,
    FeatureStore,
    FingerprintMismatch,
    PassFolder,
    Plan,
    RowTable,
    ShardData,
    SpaceSpec,
    StoreBusyError,
    StoreCorruptError,
    StoreIncompleteError,
    required_bytes,
    unfinished,
)
from tests.cache.builders import META, Toy, finish, make_plan, part


def test_pass_folder_lets_one_writer_in(toy: Toy, tmp_path: Path) -> None:
    """A second writer is refused with the process and host of the first, and may start when that is gone."""
    target = tmp_path / "s.h5"
    with (
        PassFolder(target, toy.plan),
        pytest.raises(StoreBusyError, match=r"s.h5' is being written by process \d+ on host '.+'\. Wait"),
    ):
        PassFolder(target, toy.plan).__enter__()
    with PassFolder(target, toy.plan) as folder:
        finish(folder, toy.data, toy.table)


def test_pass_folder_is_freed_by_a_killed_writer(toy: Toy, tmp_path: Path) -> None:
    """A writer in another process blocks while it lives, under its own pid, and not one moment longer."""
    target = tmp_path / "s.h5"
    code = (
        "import sys; from pathlib import Path; from cache.locking import WriterLock; "
        "from cache.workfolder import WorkFolder; lock = WriterLock(WorkFolder(Path(sys.argv[1]))); "
        "print('held', flush=True); sys.stdin.read()"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", code, str(target)], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(StoreBusyError, match=f"process {other.pid} "):
            PassFolder(target, toy.plan).__enter__()
        other.kill()
    with PassFolder(target, toy.plan) as folder:
        assert folder.notes == []
        finish(folder, toy.data, toy.table)


def test_pass_folder_takes_over_a_stale_lock(toy: Toy, tmp_path: Path) -> None:
    """A lock file of a dead writer does not block; one from another machine is mentioned."""
    target = tmp_path / "s.h5"
    work = tmp_path / "s.h5.work"
    work.mkdir()
    for content, notes in [(b'{"pid": 999', 0), (json.dumps({"pid": 1, "host": "elsewhere"}).encode(), 1)]:
        (work / "LOCK").write_bytes(content)
        with PassFolder(target, toy.plan) as folder:
            assert len(folder.notes) == notes
            assert all("ran on host 'elsewhere'" in note for note in folder.notes)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"identity": {"weights": "w1", "seed": 1}}, r"identity\.weights = 'w0', but now it is 'w1'"),
        ({"identity": {"weights": "w0"}}, r"identity\.seed = 1, but now it is '\(absent\)'"),
        ({"identity": {"weights": "w0", "seed": 1.0}}, r"identity\.seed = 1, but now it is 1\.0"),
        ({"backbone": "other"}, "backbone = 'toy', but now it is 'other'"),
        ({"n_rows": 11}, "n_rows = 10, but now it is 11"),
    ],
)
def test_pass_folder_refuses_other_settings(toy: Toy, tmp_path: Path, change: dict, field: str) -> None:
    """An unfinished pass of other settings is not continued; first difference and ways out are named."""
    target = tmp_path / "s.h5"
    with PassFolder(target, toy.plan) as folder:
        folder.write("text", 0, 4, part(toy.data["text"], 0, 4))
    other = replace(toy.plan, **change)
    assert other.fingerprint != toy.plan.fingerprint
    with pytest.raises(
        FingerprintMismatch, match=f"{field}. Finish it with the old settings, or delete the folder"
    ):
        PassFolder(target, other).__enter__()
    assert unfinished(target) == (4, 20)
    with PassFolder(target, other, resume=False) as folder:
        assert folder.done("text") == frozenset()


def test_plan_fingerprint_covers_all_but_the_shard_size(toy: Toy) -> None:
    """The shard size is the only field that leaves the fingerprint alone; key order does not matter."""
    plan = toy.plan
    assert replace(plan, shard_rows=99).fingerprint == plan.fingerprint
    assert replace(plan, identity={"seed": 1, "weights": "w0"}).fingerprint == plan.fingerprint
    spec = plan.spaces[0]
    specs = [
        replace(spec, **c) for c in ({"width": 7}, {"dtype": "float16"}, {"fingerprint": "x"}, {"views": 1})
    ]
    others = [
        replace(plan, spaces=(other, plan.spaces[1])) for other in [*specs, replace(spec, name="text.cls")]
    ]
    others += [replace(plan, modalities=("image", "text")), replace(plan, spaces=plan.spaces[::-1])]
    assert len({plan.fingerprint, *(other.fingerprint for other in others)}) == len(others) + 1


def test_pass_folder_recomputes_a_damaged_shard(toy: Toy, store_path: Path, tmp_path: Path) -> None:
    """A shard whose bytes changed is set aside and reported, its rows are missing again, the rest is kept."""
    target = tmp_path / "s.h5"
    with PassFolder(target, toy.plan) as folder:
        for start, stop in folder.missing("text"):
            folder.write("text", start, stop, part(toy.data["text"], start, stop))
        shard = sorted((tmp_path / "s.h5.work" / "shards").iterdir())[1]
        data = bytearray(shard.read_bytes())
        data[-1] ^= 1
        shard.write_bytes(data)
        with pytest.raises(StoreCorruptError, match="changed after it was written"):
            folder.read("text", 4, 8)
    with PassFolder(target, toy.plan) as folder:
        assert folder.missing("text") == [(4, 8)]
        assert len(folder.notes) == 1
        assert "its rows are embedded again" in folder.notes[0]
        finish(folder, toy.data, toy.table)
    assert target.read_bytes() == store_path.read_bytes()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["s.h5", "toy.h5"]


def test_pass_folder_says_when_it_hashes(toy: Toy, tmp_path: Path) -> None:
    """The shards that an earlier process left, and the store before it has its name."""
    target = tmp_path / "s.h5"
    told: list[tuple[Path, int, bool]] = []

    def on_hashing(path: Path, n_bytes: int) -> None:
        told.append((path, n_bytes, target.exists()))

    with PassFolder(target, toy.plan, on_hashing=on_hashing) as folder:
        folder.write("text", 0, 4, part(toy.data["text"], 0, 4))
        folder.write("text", 4, 8, part(toy.data["text"], 4, 8))
    assert told == []
    shards = tmp_path / "s.h5.work" / "shards"
    expected = [(shards, sum(path.stat().st_size for path in shards.iterdir()), False)]
    with PassFolder(target, toy.plan, on_hashing=on_hashing) as folder:
        assert told == expected
        finish(folder, toy.data, toy.table)
    assert told == [*expected, (target, target.stat().st_size, False)]


def test_publish_says_how_many_rows_are_written(tmp_path: Path) -> None:
    """Of every space and of every view, up to all of them; shards that an earlier process wrote count too."""
    toy = Toy(views=2)
    told: list[tuple[int, int]] = []
    with PassFolder(tmp_path / "s.h5", toy.plan) as folder:
        folder.write("text", 0, 4, part(toy.data["text"], 0, 4))
    with PassFolder(tmp_path / "s.h5", toy.plan) as folder:
        for modality in toy.plan.modalities:
            for start, stop in folder.missing(modality):
                folder.write(modality, start, stop, part(toy.data[modality], start, stop))
        folder.publish(toy.table, META, on_rows=lambda *rows: told.append(rows))
    assert told[0] == (4, 60)
    assert told == sorted(set(told))
    assert told[-1] == (60, 60)


def test_pass_folder_refuses_a_damaged_plan(toy: Toy, tmp_path: Path) -> None:
    """A recorded plan that is no JSON, or was edited, is refused by name."""
    target = tmp_path / "s.h5"
    with PassFolder(target, toy.plan) as folder:
        folder.write("text", 0, 4, part(toy.data["text"], 0, 4))
        plan = tmp_path / "s.h5.work" / "plan.json"
    good = plan.read_bytes()
    for bad in (
        b"",
        b"{}",
        b"[1]",
        good.replace(b'"w0"', b'"w1"'),
        good.replace(b'"shard_rows":4', b'"shard_rows":0'),
    ):
        plan.write_bytes(bad)
        with pytest.raises(StoreCorruptError, match=r"plan.json' is damaged.*Delete the folder"):
            PassFolder(target, toy.plan).__enter__()
    with PassFolder(target, toy.plan, resume=False) as folder:
        assert folder.missing("text") == [(0, 4), (4, 8), (8, 10)]


def test_plan_torn_before_the_first_shard_is_no_unfinished_pass(toy: Toy, tmp_path: Path) -> None:
    """It is made durable with the first shard, so a power cut may leave zeros: the next pass just begins."""
    target = tmp_path / "s.h5"
    with PassFolder(target, toy.plan):
        pass
    (tmp_path / "s.h5.work" / "plan.json").write_bytes(b"\0" * 200)
    assert unfinished(target) is None
    with PassFolder(target, toy.plan) as folder:
        finish(folder, toy.data, toy.table)


def test_pass_folder_reads_back_what_it_wrote(tmp_path: Path) -> None:
    """A finished range reads back unchanged, views included, with invalid rows zero."""
    toy = Toy(views=2)
    data = part(toy.data["image"], 0, 4)
    data.features["image.pooled"][1] = np.nan
    dirty = replace(data, valid=np.array([1, 0, 1, 1], dtype=np.uint8))
    dirty.features["image.pooled"][[0, 2, 3]] = 1
    dirty.views["image.pooled"][:, [0, 2, 3]] = 1
    with PassFolder(tmp_path / "s.h5", toy.plan) as folder:
        folder.write("image", 0, 4, dirty)
        back = folder.read("image", 0, 4)
        assert folder.done("image") == {(0, 4)}
        np.testing.assert_array_equal(
            back.features["image.pooled"], np.repeat([[1], [0], [1], [1]], 6, axis=1)
        )
        np.testing.assert_array_equal(back.views["image.pooled"][:, 1], 0)
        np.testing.assert_array_equal(back.valid, dirty.valid)
        np.testing.assert_array_equal(back.status, dirty.status)
        with pytest.raises(ValueError, match="no missing range"):
            folder.write("image", 0, 4, data)
        with pytest.raises(ValueError, match="no missing range"):
            folder.write("image", 0, 3, data)
        with pytest.raises(ValueError, match="are not finished"):
            folder.read("text", 0, 4)
        with pytest.raises(ValueError, match="Modality 'joint' is not in this pass; it has text, image"):
            folder.missing("joint")


def _broken(toy: Toy, case: str) -> ShardData:
    good = part(toy.data["text"], 0, 4)
    x = good.features["text.pooled"].copy()
    x[:] = 1
    good = replace(good, features={"text.pooled": x}, valid=np.ones(4, dtype=np.uint8))
    if case == "values":
        x[1, 0], x[2], x[3, 5] = np.nan, 0, np.inf
    changes = {
        "values": {},
        "dtype": {"features": {"text.pooled": x.astype(np.float64)}},
        "shape": {"features": {"text.pooled": x[:, :5]}},
        "missing": {"features": {}},
        "unknown": {"features": {"text.pooled": x, "image.pooled": x}},
        "views": {"views": {"text.pooled": x[None]}},
        "valid": {"valid": np.full(4, 2, dtype=np.uint8)},
        "status": {"status": np.zeros(3, dtype=np.uint8)},
    }
    return replace(good, **changes[case])


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("values", "'text.pooled' is not finite in rows 1, 3; 'text.pooled' is all zero in rows 2"),
        ("dtype", r"'text.pooled' is float64 of shape \(4, 6\), but float32 of \(4, 6\) is needed"),
        ("shape", r"'text.pooled' is float32 of shape \(4, 5\)"),
        ("missing", r"spaces \[\] are given, but the plan has \['text.pooled'\]"),
        ("unknown", r"spaces \['image.pooled', 'text.pooled'\] are given"),
        ("views", r"views \['text.pooled'\] are given, but the plan has \[\]"),
        ("valid", "'valid' holds 2, allowed are 0 to 1"),
        ("status", r"'status' is uint8 of shape \(3,\), but uint8 of \(4,\) is needed"),
    ],
)
def test_pass_folder_refuses_bad_rows(toy: Toy, tmp_path: Path, case: str, message: str) -> None:
    """Rows that may not be stored are refused before anything is written, with spaces and rows."""
    with PassFolder(tmp_path / "s.h5", toy.plan) as folder:
        with pytest.raises(BadRowsError, match=f"^Rows 0 to 3 cannot be stored: {message}"):
            folder.write("text", 0, 4, _broken(toy, case))
        assert folder.done("text") == frozenset()
        assert list((tmp_path / "s.h5.work" / "shards").iterdir()) == []


@pytest.mark.parametrize("word", ["write", "hold"])
def test_pass_folder_keeps_its_own_copy_of_rows(tmp_path: Path, word: str) -> None:
    """A caller may fill the same arrays again: what was handed over is stored."""
    spaces = (SpaceSpec("text.pooled", 4, "float32", "f1"),)
    plan = Plan("toy", 4, 2, spaces, ("text",), {"backbone": "toy"})
    x, valid, status = np.zeros((2, 4), np.float32), np.zeros(2, np.uint8), np.zeros(2, np.uint8)
    with PassFolder(tmp_path / "s.h5", plan) as folder:
        for start, missing in ((0, 1), (2, 0)):
            x[:], valid[:], status[:] = start + 1, 1, 0
            x[missing], valid[missing], status[missing] = 0, 0, 1
            getattr(folder, word)("text", start, start + 2, ShardData({"text.pooled": x}, valid, status))
        table = RowTable(
            ids=("a", "b", "c", "d"),
            label=np.zeros(4, np.int32),
            split=np.zeros(4, np.uint8),
            group=np.full(4, -1, np.int32),
            source_sha256=np.zeros((4, 32), np.uint8),
            status=np.zeros((4, 1), np.uint8),
        )
        folder.publish(table, META)
    with FeatureStore.open(tmp_path / "s.h5") as store:
        assert np.asarray(store.select("text").valid).tolist() == [1, 0, 0, 1]
        assert np.asarray(store.status)[:, 0].tolist() == [0, 1, 1, 0]
        assert np.asarray(store.select("text")[:]).sum(axis=1).tolist() == [4, 0, 0, 12]


def test_publish_refuses_missing_ranges(toy: Toy, tmp_path: Path) -> None:
    """A pass with a gap is not published, and the work folder opened as a store says how far it is."""
    target = tmp_path / "s.h5"
    assert unfinished(target) is None
    with PassFolder(target, toy.plan) as folder:
        folder.write("text", 0, 4, part(toy.data["text"], 0, 4))
        with pytest.raises(
            StoreIncompleteError, match="4 of 20 inputs are embedded; ranges missing are 2 of text, 3 of"
        ):
            folder.publish(toy.table, META)
    for path in (target, tmp_path / "s.h5.work"):
        assert unfinished(path) == (4, 20)
        with pytest.raises(
            StoreIncompleteError, match=r"4 of 20 inputs are embedded\. Run the same extract"
        ) as caught:
            FeatureStore.open(path)
        assert (caught.value.done, caught.value.total) == (4, 20)


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"encodings": ["", "utf-8"]}, r"meta\['class_names'\] is None, but must be a list of strings"),
        ({**META, "class_names": ["a"]}, r"the table has code 2, but meta\['class_names'\] has 1 names"),
        ({**META, "class_names": ["a", "b", "a"]}, "has a name twice"),
        ({"class_names": ["a", "b", "c"]}, r"meta\['encodings'\] is None"),
        ({**META, "spaces": []}, "meta keys spaces are added by publish"),
    ],
)
def test_publish_refuses_unfit_meta(toy: Toy, tmp_path: Path, meta: dict, message: str) -> None:
    """Class names and encodings must be there and cover the codes; nothing is written before that."""
    with PassFolder(tmp_path / "s.h5", toy.plan) as folder:
        for modality in ("text", "image"):
            for start, stop in folder.missing(modality):
                folder.write(modality, start, stop, part(toy.data[modality], start, stop))
        with pytest.raises(ValueError, match=message):
            folder.publish(toy.table, meta)
    assert not (tmp_path / "s.h5").exists()


def test_publish_refuses_unfit_table(toy: Toy, tmp_path: Path) -> None:
    """A table of another length or with a modality that the pass does not have is refused."""
    only_text = Toy(modalities=("text",))
    with PassFolder(tmp_path / "s.h5", only_text.plan) as folder:
        for start, stop in folder.missing("text"):
            folder.write("text", start, stop, part(toy.data["text"], start, stop))
        table: RowTable = replace(toy.table, status=np.zeros((10, 1), dtype=np.uint8))
        with pytest.raises(ValueError, match="the table has the modality 'image', but the plan has text"):
            folder.publish(table, META)
        with pytest.raises(ValueError, match=r"status has shape \(9, 1\), but the plan has 10 rows"):
            folder.publish(Toy(n=9, modalities=("text",)).table, META)


def test_publish_keeps_what_a_person_put_into_the_folder(toy: Toy, tmp_path: Path) -> None:
    """A file of somebody else in the work folder is not deleted, and the folder stays with it."""
    with PassFolder(tmp_path / "s.h5", toy.plan) as folder:
        (tmp_path / "s.h5.work" / "notes.txt").write_text("mine")
        finish(folder, toy.data, toy.table)
    assert {item.name for item in (tmp_path / "s.h5.work").iterdir()} == {"notes.txt", "LOCK"}
    assert unfinished(tmp_path / "s.h5") is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "audio.pooled"}, "'audio.pooled' is not '<modality>.<readout>'"),
        ({"name": "text.A/b"}, "is not '<modality>.<readout>'"),
        ({"name": "text."}, "is not '<modality>.<readout>'"),
        ({"width": 0}, "the width is 0"),
        ({"dtype": "float64"}, "the type is 'float64', but must be one of float32, float16"),
        ({"fingerprint": ""}, "the fingerprint is empty"),
        ({"views": -1}, "the number of views is -1"),
    ],
)
def test_space_spec_refuses_bad_fields(fields: dict, message: str) -> None:
    """A space that the format cannot hold is refused with the rule."""
    with pytest.raises(ValueError, match=message):
        SpaceSpec(**{"name": "text.pooled", "width": 4, "dtype": "float32", "fingerprint": "f", **fields})


def test_plan_refuses_bad_fields() -> None:
    """A plan names all its faults at once, and refuses identities that JSON cannot hold."""
    with pytest.raises(ValueError, match=r"'n_rows' is 0.*'shard_rows' is 0.*no name.*do not fit"):
        Plan("", 0, 0, make_plan(3).spaces, ("text",), {})
    with pytest.raises(ValueError, match="JSON compliant"):
        make_plan(3, identity={"x": float("nan")})
    with pytest.raises(TypeError, match="JSON keys must be strings; x has 1"):
        make_plan(3, identity={"x": {1: 2}})
    with pytest.raises(TypeError, match="type 'set' has no JSON form"):
        make_plan(3, identity={"x": {1}})


def test_required_bytes_covers_shards_and_store(toy: Toy, tmp_path: Path) -> None:
    """The estimate is no less than what shards and store take together."""
    with PassFolder(tmp_path / "s.h5", toy.plan) as folder:
        for modality in ("text", "image"):
            for start, stop in folder.missing(modality):
                folder.write(modality, start, stop, part(toy.data[modality], start, stop))
        shards = sum(item.stat().st_size for item in (tmp_path / "s.h5.work" / "shards").iterdir())
        size = folder.publish(toy.table, META).stat().st_size
    assert shards + size <= required_bytes(toy.plan)
    big = make_plan(10**6, width=768)
    assert 2 * 10**6 * 768 * 6 * 1.05 <= required_bytes(big) <= 2 * 10**6 * 768 * 6 * 1.25
