"""The drift guard: vectors that come out differently now are never joined to stored ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cache import FeatureStore, PassFolder, ShardData
from extract import DriftError, PassOptions, open_backbone, read_data_set, read_sources, run_pass
from extract.work import PassWork
from tests.kit.data_sets import write_guid_data_set
from tests.kit.tiny_checkpoints import make_tiny_bert


@pytest.fixture
def work(tmp_path: Path) -> PassWork:
    write_guid_data_set(tmp_path / "set", 24, 0)
    data_set = read_data_set(tmp_path / "set")
    backbone = open_backbone(str(make_tiny_bert(tmp_path / "tiny-bert")))
    options = PassOptions(out=tmp_path / "out", shard_rows=6)
    return PassWork.gather(data_set, read_sources(data_set, options.source), backbone, options)


def _store(work: PassWork, folder: Path, *, drift: float, n_shards: int) -> Path:
    """Write the first shards of a pass, vectors off by a relative error; publish if all are there."""
    true = run_pass(work.data_set, work.backbone, replace(work.options, out=folder / "true"))
    with FeatureStore.open(true.path) as store:
        x = np.asarray(store.select("text"))
    noise = np.random.default_rng(0).normal(size=x.shape)
    noise *= drift * np.linalg.norm(x, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    folder.mkdir(exist_ok=True)
    with PassFolder(folder / "tiny-bert.h5", work.planned.plan) as writer:
        for start, stop in writer.missing("text")[:n_shards]:
            ok = np.ones(stop - start, dtype=np.uint8)
            vectors = (x + noise)[start:stop].astype(np.float32)
            writer.write("text", start, stop, ShardData({"text.pooled": vectors}, ok, ok * 0))
        if not writer.missing("text"):
            return writer.publish(work.planned.table, work.planned.meta)
    return folder / "tiny-bert.h5"


@pytest.mark.parametrize("drift", [0.0, 1e-5])
def test_guard_lets_rounding_pass(work: PassWork, tmp_path: Path, drift: float) -> None:
    """Another kernel's last bits are no drift."""
    _store(work, tmp_path / "out", drift=drift, n_shards=2)
    report = run_pass(work.data_set, work.backbone, work.options)
    assert report.counts["text"].resumed == 12
    assert report.counts["text"].computed > 0


def test_guard_refuses_to_resume_other_vectors(work: PassWork, tmp_path: Path) -> None:
    """Shards of a pass whose vectors now come out differently are not continued; nothing is lost."""
    _store(work, tmp_path / "out", drift=0.02, n_shards=2)
    with pytest.raises(DriftError, match=r"unfinished pass.*relative difference 0.02, allowed is 0.002"):
        run_pass(work.data_set, work.backbone, work.options)
    assert len(list((tmp_path / "out" / "tiny-bert.h5.work" / "shards").glob("*.h5"))) == 2


def test_guard_refuses_to_reuse_other_vectors(work: PassWork, tmp_path: Path) -> None:
    """A store whose vectors now come out differently lends none to a larger data set."""
    _store(work, tmp_path / "out", drift=0.02, n_shards=4).rename(tmp_path / "out" / "earlier.h5")
    (tmp_path / "set" / "data" / "103.txt").write_text("quite another text", encoding="utf-8")
    data_set = read_data_set(tmp_path / "set")
    with pytest.raises(DriftError, match=r"an earlier store.*the stored vectors \w{12}.*--out"):
        run_pass(data_set, work.backbone, work.options)
    assert not (tmp_path / "out" / "tiny-bert.h5").exists()


def test_guard_is_silent_when_nothing_is_embedded(work: PassWork, tmp_path: Path) -> None:
    """A pass that copies every vector mixes nothing, so it loads no weights."""
    _store(work, tmp_path / "out", drift=0.02, n_shards=4).rename(tmp_path / "out" / "earlier.h5")
    report = run_pass(work.data_set, work.backbone, work.options)
    assert report.counts["text"].reused > 20
    assert report.counts["text"].computed == 0
