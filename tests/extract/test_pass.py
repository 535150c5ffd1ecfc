"""The pass: whole, resumable, frugal, and the same result whatever happens on the way."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cache import FeatureStore, FingerprintMismatch, ReuseIndex, Status
from extract import (
    DataError,
    PassOptions,
    SourceOptions,
    TooManyBadRowsError,
    dry_run,
    open_backbone,
    open_shards,
    read_data_set,
    run_pass,
)
from tests.faults.processes import run_script
from tests.kit.data_sets import write_guid_data_set, write_list
from tests.kit.tiny_checkpoints import make_tiny_bert, make_tiny_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_clip(tmp_path_factory.mktemp("weights") / "tiny-clip")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bert(tmp_path_factory.mktemp("weights") / "tiny-bert")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    write_guid_data_set(folder, 40, 5)
    return folder


def _run(data: Path, weights: Path, out: Path, **options: object):
    return run_pass(
        read_data_set(data), open_backbone(str(weights)), replace(PassOptions(out=out), **options)
    )


def _vectors(path: Path) -> dict[str, np.ndarray]:
    with FeatureStore.open(path) as store:
        return {name: np.asarray(store.select(name)) for name in store.spaces}


def test_pass_writes_one_valid_row_per_sample(data: Path, clip: Path, tmp_path: Path) -> None:
    """Rows in = rows out, in manifest order, with labels, texts, paths and hashes."""
    report = _run(data, clip, tmp_path / "features")
    assert report.path == tmp_path / "features" / "tiny-clip.h5"
    with FeatureStore.open(report.path) as store:
        assert store.n_rows == 45
        assert store.modalities == ("text", "image")
        assert store.spaces == ("text.pooled", "image.pooled")
        assert store.class_names == ("negative", "neutral", "positive")
        assert np.asarray(store.labels)[-5:].tolist() == [-1] * 5
        assert store.image_paths[0] == "data/100.jpg"
        assert np.asarray(store.image_sizes)[0].tolist() == [48, 40]
        assert store.select("text").valid.all()
    assert report.counts["image"].computed == 45


def test_pass_does_not_depend_on_batch_size(data: Path, clip: Path, tmp_path: Path) -> None:
    """Batches of 1, 7 and 64 give the same bits on a CPU."""
    results = [_vectors(_run(data, clip, tmp_path / str(size), batch_size=size).path) for size in (1, 7, 64)]
    for other in results[1:]:
        for name, x in results[0].items():
            np.testing.assert_array_equal(other[name], x)


def test_pass_does_not_depend_on_shard_size(data: Path, clip: Path, tmp_path: Path) -> None:
    """Shards are an inner matter: the published bytes are equal."""
    paths = [_run(data, clip, tmp_path / str(rows), shard_rows=rows).path for rows in (4, 17, 256)]
    assert len({path.read_bytes() for path in paths}) == 1


def test_pass_embeds_repeats_once(data: Path, clip: Path, tmp_path: Path) -> None:
    """Equal texts and equal pictures are computed once, within a shard and across shards."""
    for guid in ("105", "110", "139"):
        (data / "data" / f"{guid}.txt").write_bytes((data / "data" / "100.txt").read_bytes())
        (data / "data" / f"{guid}.jpg").write_bytes((data / "data" / "100.jpg").read_bytes())
    report = _run(data, clip, tmp_path / "out", shard_rows=8)
    assert (report.counts["text"].repeated, report.counts["text"].computed) == (3, 42)
    assert (report.counts["image"].repeated, report.counts["image"].computed) == (3, 42)
    plain = _run(data, clip, tmp_path / "plain", shard_rows=1000)
    assert plain.path.read_bytes() == report.path.read_bytes()
    for x in _vectors(report.path).values():
        for row in (5, 10, 39):
            np.testing.assert_array_equal(x[row], x[0])


def test_pass_again_has_nothing_to_do(data: Path, clip: Path, tmp_path: Path) -> None:
    """The same command on the same data leaves the file untouched."""
    first = _run(data, clip, tmp_path / "out")
    before = first.path.stat()
    second = _run(data, clip, tmp_path / "out")
    assert second.nothing_to_do
    assert first.path.stat().st_mtime_ns == before.st_mtime_ns


def test_pass_refuses_another_data_set_and_replaces_on_request(
    data: Path, clip: Path, tmp_path: Path
) -> None:
    """A changed text is named; --replace computes that row alone."""
    _run(data, clip, tmp_path / "out")
    (data / "data" / "103.txt").write_text("the dog go", encoding="utf-8")
    with pytest.raises(FingerprintMismatch, match=r"changed since.*--replace"):
        _run(data, clip, tmp_path / "out")
    report = _run(data, clip, tmp_path / "out", replace=True)
    assert (report.counts["text"].computed, report.counts["text"].reused) == (1, 44)
    assert (report.counts["image"].computed, report.counts["image"].reused) == (0, 45)
    fresh = _run(data, clip, tmp_path / "fresh")
    assert fresh.path.read_bytes() == report.path.read_bytes()


def test_pass_names_a_changed_setting(data: Path, bert: Path, tmp_path: Path) -> None:
    """Another cleaning recipe is named with both values."""
    _run(data, bert, tmp_path / "out")
    with pytest.raises(FingerprintMismatch, match=r"clean.recipe = 'basic', but 'none'"):
        _run(data, bert, tmp_path / "out", source=SourceOptions(clean="none"))


def test_pass_keeps_broken_rows_as_statuses(data: Path, clip: Path, tmp_path: Path) -> None:
    """Missing, truncated or foreign pictures, missing or empty texts are rows with a status, not vectors."""
    files = data / "data"
    picture = (files / "100.jpg").read_bytes()
    (files / "101.jpg").unlink()
    (files / "102.jpg").write_bytes(picture[: len(picture) // 2])
    (files / "103.jpg").write_bytes(b"<html>")
    (files / "104.txt").unlink()
    (files / "105.txt").write_text(" @you http://a.b ", encoding="utf-8")
    Image.new("1", (12_000, 12_000)).save(files / "106.png")
    (files / "106.jpg").unlink()
    report = _run(data, clip, tmp_path / "out", max_bad=0.2)
    assert report.statuses["image"] == {
        "ok": 41,
        "image_missing": 1,
        "image_corrupt": 1,
        "image_too_large": 1,
        "image_format": 1,
    }
    assert report.statuses["text"] == {"ok": 43, "text_empty": 1, "text_missing": 1}
    with FeatureStore.open(report.path) as store:
        image, text = store.select("image"), store.select("text")
        assert np.flatnonzero(~image.valid).tolist() == [1, 2, 3, 6]
        assert np.flatnonzero(~text.valid).tolist() == [4, 5]
        assert not np.asarray(image)[[1, 2, 3, 6]].any()
        assert np.asarray(store.status)[2].tolist() == [Status.OK, Status.IMAGE_CORRUPT]


def test_pass_stops_at_too_many_bad_rows(data: Path, clip: Path, tmp_path: Path) -> None:
    """Above --max-bad the pass ends with the first bad ids, and no store appears."""
    for guid in range(100, 110):
        (data / "data" / f"{guid}.jpg").unlink()
    with pytest.raises(
        TooManyBadRowsError, match=r"10 of 45 rows \(22.2%\).*'100' \(image_missing\).*--max-bad"
    ):
        _run(data, clip, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.h5")) if (tmp_path / "out").exists() else True


def test_pass_embeds_the_modalities_that_are_there(
    data: Path, clip: Path, bert: Path, tmp_path: Path
) -> None:
    """A paired backbone embeds the texts of a text-only data set; a text backbone refuses pictures alone."""
    for path in (data / "data").glob("*.jpg"):
        path.unlink()
    assert set(_vectors(_run(data, clip, tmp_path / "out").path)) == {"text.pooled"}
    for path in (data / "data").glob("*.txt"):
        path.unlink()
    write_guid_data_set(tmp_path / "pictures", 10, 0)
    for path in (tmp_path / "pictures" / "data").glob("*.txt"):
        path.unlink()
    with pytest.raises(DataError, match="has only image"):
        _run(tmp_path / "pictures", bert, tmp_path / "out")


def test_several_readouts_share_one_store(data: Path, bert: Path, tmp_path: Path) -> None:
    """--readout pooled,mean makes two spaces in one pass."""
    vectors = _vectors(_run(data, bert, tmp_path / "out", readouts=("pooled", "mean")).path)
    assert set(vectors) == {"text.pooled", "text.mean"}
    assert not np.array_equal(vectors["text.pooled"], vectors["text.mean"])
    with pytest.raises(ValueError, match=r"'poled'.*allowed are"):
        _run(data, bert, tmp_path / "other", readouts=("poled",))


def test_dry_run_writes_nothing(data: Path, clip: Path, tmp_path: Path) -> None:
    """A dry run counts rows and bytes, estimates the time and leaves no trace."""
    plan = dry_run(read_data_set(data), open_backbone(str(clip)), PassOptions(out=tmp_path / "out"))
    assert (plan.n_rows, plan.to_compute) == (45, {"text": 45, "image": 45})
    assert 0 < plan.seconds < 60
    assert plan.needed_bytes > 45 * (24 + 24) * 4
    assert not (tmp_path / "out").exists()


def test_dry_run_counts_what_no_earlier_store_holds(
    data: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked up a few rows at a time, since a lookup reads the vectors too; whatever the modality."""
    monkeypatch.setattr(open_shards, "_RUN", 7)
    asked: list[int] = []
    lookup = ReuseIndex.lookup

    def noted(index: ReuseIndex, fingerprint: str, hashes: np.ndarray) -> object:
        asked.append(len(hashes))
        return lookup(index, fingerprint, hashes)

    monkeypatch.setattr(ReuseIndex, "lookup", noted)
    data_set, options = read_data_set(data), PassOptions(out=tmp_path / "out", replace=True)
    run_pass(data_set.head(30), open_backbone(str(clip)), options)
    asked.clear()
    plan = dry_run(data_set, open_backbone(str(clip)), options)
    assert plan.to_compute == {"text": 15, "image": 15}
    assert (max(asked), sum(asked)) == (7, 2 * 45)


def test_dry_run_says_what_the_pass_would_do_with_a_store_that_is_there(
    data: Path, bert: Path, tmp_path: Path
) -> None:
    """Nothing if it was made with these settings; else the same error as the pass, unless it may replace."""
    data_set, backbone, options = read_data_set(data), open_backbone(str(bert)), PassOptions(out=tmp_path)
    run_pass(data_set, backbone, options)
    same = dry_run(data_set, backbone, options)
    assert (same.nothing_to_do, same.to_compute, same.needed_bytes) == (True, {"text": 0}, 0)
    other = PassOptions(out=tmp_path, source=SourceOptions(clean="none"))
    for each in (run_pass, dry_run):
        with pytest.raises(FingerprintMismatch, match=r"'basic', but 'none' was asked for.*--replace"):
            each(data_set, backbone, other)
    replaced = dry_run(data_set, backbone, replace(other, replace=True))
    assert (replaced.nothing_to_do, replaced.needed_bytes > 0) == (False, True)


def test_dry_run_hashes_nothing_for_a_space_that_no_store_has(
    data: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to look up, so that no text is read for it."""

    def refused(*_: object) -> object:
        raise AssertionError("a space that no store has was looked up")

    monkeypatch.setattr(ReuseIndex, "lookup", refused)
    run_pass(read_data_set(data), open_backbone(str(clip)), PassOptions(out=tmp_path, modalities=("text",)))
    plan = dry_run(
        read_data_set(data),
        open_backbone(str(clip)),
        PassOptions(out=tmp_path, modalities=("image",), replace=True),
    )
    assert plan.to_compute == {"image": 45}


def test_killed_pass_goes_on_and_ends_in_the_same_bytes(data: Path, clip: Path, tmp_path: Path) -> None:
    """Kill -9 after every eight shards: no finished shard is lost or made again, the result is equal."""
    undisturbed = _run(data, clip, tmp_path / "here", shard_rows=3)
    found = run_script("kill_counted_passes.py", tmp_path, clip, data, "3", "8")
    shards = [set(), *map(set, found["left"])]
    assert len(shards) == 4
    for before, after in pairwise(shards):
        assert after > before
        assert len(after) == len(before) + 8
    assert found["computed"] == 18  # of 30 shards of three rows
    assert (tmp_path / "out" / "tiny-clip.h5").read_bytes() == undisturbed.path.read_bytes()
    assert not list((tmp_path / "out").glob("*.work"))


def test_stopped_pass_leaves_no_lock(data: Path, clip: Path, tmp_path: Path) -> None:
    """Ctrl-C in the middle of a forward leaves shards that the next run continues from."""
    from extract import PassProgress

    def interrupt(moment: PassProgress) -> None:
        if moment.stage == "image":
            raise KeyboardInterrupt

    out = tmp_path / "out"
    options = PassOptions(out=out, shard_rows=5)
    with pytest.raises(KeyboardInterrupt):
        run_pass(read_data_set(data), open_backbone(str(clip)), options, on_progress=interrupt)
    report = run_pass(read_data_set(data), open_backbone(str(clip)), options)
    assert report.counts["text"].resumed == 45
    assert report.counts["image"].computed <= 45


def test_same_data_under_two_lists_is_one_text_one_vector(tmp_path: Path, bert: Path) -> None:
    """A store of another data set in the same folder lends its vectors."""
    write_guid_data_set(tmp_path / "a", 20, 0)
    _run(tmp_path / "a", bert, tmp_path / "out")
    (tmp_path / "out" / "tiny-bert.h5").rename(tmp_path / "out" / "first.h5")
    write_list(tmp_path / "a" / "train.txt", [(str(100 + i), "x" if i % 2 else "y") for i in range(20)])
    report = _run(tmp_path / "a", bert, tmp_path / "out")
    assert (report.counts["text"].reused, report.counts["text"].computed) == (20, 0)
