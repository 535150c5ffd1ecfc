"""The engine: one result whatever the threads, devices, shards and companions."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import extract.devices
import extract.inputs
import extract.probing
from cache import FeatureStore
from extract import (
    DataError,
    PassOptions,
    PassReport,
    WorkerDiedError,
    open_backbone,
    read_data_set,
    resolve_devices,
    run_pass,
    run_passes,
)
from extract.devices import ProcessEngine
from extract.drift import TOLERANCE
from extract.engine import DeviceEngine
from tests.kit.data_sets import write_guid_data_set
from tests.kit.pretended_gpu import MEMORY, pretended_gpu
from tests.kit.tiny_checkpoints import make_resnet18, make_tiny_bert, make_tiny_clip


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    make_tiny_clip(folder / "tiny-clip")
    make_tiny_bert(folder / "tiny-bert")
    make_resnet18(folder / "resnet18")
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    write_guid_data_set(folder, 40, 5)
    for guid in ("105", "139"):  # repeats, within a shard and across shards
        for kind in ("txt", "jpg"):
            name = folder / "data" / f"{guid}.{kind}"
            name.write_bytes((folder / "data" / f"100.{kind}").read_bytes())
    return folder


def _run(data: Path, weights: Path, out: Path, **options: object) -> PassReport:
    backbone = open_backbone(str(weights))
    return run_pass(read_data_set(data), backbone, replace(PassOptions(out=out, shard_rows=8), **options))


@pytest.mark.parametrize("threads", [1, 3])
def test_pass_does_not_depend_on_the_number_of_threads(
    data: Path, weights: Path, tmp_path: Path, threads: int
) -> None:
    """A machine with more cores makes the same bytes, and torch's own setting is put back."""
    before = torch.get_num_threads()
    plain = _run(data, weights / "tiny-clip", tmp_path / "plain")
    try:
        torch.set_num_threads(threads)
        other = _run(data, weights / "tiny-clip", tmp_path / "other")
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert other.path.read_bytes() == plain.path.read_bytes()


def test_passes_decode_every_picture_once(
    data: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two image backbones in one command share each decoded picture, and write what they would alone."""
    decoded: list[int] = []
    original = extract.inputs.decode_image

    def counted(content: bytes):
        decoded.append(hash(content))
        return original(content)

    monkeypatch.setattr(extract.inputs, "decode_image", counted)
    names = ("tiny-clip", "resnet18")
    options = PassOptions(out=tmp_path / "together", shard_rows=8)
    backbones = [open_backbone(str(weights / name)) for name in names]
    reports = run_passes(read_data_set(data), [(backbone, options) for backbone in backbones])
    assert len(decoded) == len(set(decoded)) == 43
    assert [report.counts["image"].computed for report in reports] == [43, 43]
    for name, report in zip(names, reports, strict=True):
        alone = _run(data, weights / name, tmp_path / "alone" / name)
        assert alone.path.read_bytes() == report.path.read_bytes()


def test_passes_go_on_where_each_of_them_was(data: Path, weights: Path, tmp_path: Path) -> None:
    """Companions that stopped at different places are each completed, and nothing is computed twice."""
    out = tmp_path / "out"
    options = PassOptions(out=out, shard_rows=8)
    backbones = [open_backbone(str(weights / name)) for name in ("tiny-clip", "resnet18")]
    _interrupt(data, backbones[0], options, after=3)
    _interrupt(data, backbones[1], options, after=2)
    reports = run_passes(read_data_set(data), [(backbone, options) for backbone in backbones])
    for name, report in zip(("tiny-clip", "resnet18"), reports, strict=True):
        count = report.counts["image"]
        assert count.resumed + count.computed + count.repeated == 45
        alone = _run(data, weights / name, tmp_path / "alone" / name)
        assert alone.path.read_bytes() == report.path.read_bytes()
    assert reports[1].counts["image"].resumed > 0


def _interrupt(data: Path, backbone, options: PassOptions, *, after: int) -> None:
    """Stop a pass once `after` shards of its last modality are on disk."""
    shards = options.out / f"{backbone.file_name}.h5.work" / "shards"
    modality = backbone.card.modalities[-1]

    def stop(moment) -> None:
        if moment.stage == modality and moment.done >= 8 * after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_pass(read_data_set(data), backbone, options, on_progress=stop)
    assert any(shards.glob("*.h5"))


def test_two_backbones_of_one_file_are_refused(data: Path, weights: Path, tmp_path: Path) -> None:
    """The second would write over the first."""
    backbone = open_backbone(str(weights / "tiny-bert"))
    options = PassOptions(out=tmp_path / "out")
    with pytest.raises(ValueError, match=r"same file 'tiny-bert.h5'"):
        run_passes(read_data_set(data), [(backbone, options), (backbone, options)])


def test_processes_make_the_same_bytes(data: Path, weights: Path, tmp_path: Path) -> None:
    """A pass shared by two processes, one per device, writes what one process writes."""
    for name in ("tiny-clip", "tiny-bert"):
        single = _run(data, weights / name, tmp_path / "single")
        shared = _run(data, weights / name, tmp_path / "shared", device="cpu,cpu")
        assert shared.path.read_bytes() == single.path.read_bytes()
        for modality, count in shared.counts.items():
            assert count.computed == single.counts[modality].computed


@pytest.mark.parametrize("after", ["_submit", "_result"])
def test_a_dead_process_ends_the_pass_and_the_next_run_goes_on(
    data: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    """Kill -9 of a worker, before it embeds or between two tasks, is one clear error; shards stay."""
    out = tmp_path / "out"
    plain = _run(data, weights / "tiny-clip", tmp_path / "plain")
    with monkeypatch.context() as patch:
        patch.setattr(extract.devices, "_UNITS_PER_TASK", 4)
        patch.setattr(ProcessEngine, after, _then_dead(getattr(ProcessEngine, after)))
        with pytest.raises(WorkerDiedError, match=r"'cpu' has died.*run the same command again"):
            _run(data, weights / "tiny-clip", out, device="cpu,cpu")
    assert list(out.glob("*.work"))
    assert not list(out.glob("*.h5"))
    assert _run(data, weights / "tiny-clip", out).path.read_bytes() == plain.path.read_bytes()


def _then_dead(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return the method of a `ProcessEngine`, after whose first call its processes are dead."""
    called = []

    def then_dead(engine: ProcessEngine, *given: Any) -> Any:
        found = call(engine, *given)
        if not called:
            called.append(call)
            for process in multiprocessing.active_children():
                process.kill()
            with pytest.raises(BrokenProcessPool, match="terminated abruptly"):  # as soon as that is seen
                engine._pools[0].submit(os.getpid).result()
        return found

    return then_dead


@pytest.mark.parametrize("names", [("tiny-bert",), ("tiny-clip", "resnet18")])
def test_a_device_engine_makes_the_same_vectors(
    data: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    """The engine for GPUs, fed with towers on the CPU: readers ahead, one thread forward, pieces joined."""
    options = PassOptions(out=tmp_path / "plain", shard_rows=8)
    backbones = [open_backbone(str(weights / name)) for name in names]
    plain = run_passes(read_data_set(data), [(backbone, options) for backbone in backbones])
    monkeypatch.setattr(
        extract.devices, "open_local_engine", lambda inputs, device: DeviceEngine(inputs, device, n_readers=2)
    )
    options = replace(options, out=tmp_path / "device")
    other = run_passes(read_data_set(data), [(backbone, options) for backbone in backbones])
    for a, b in zip(plain, other, strict=True):
        with FeatureStore.open(a.path) as one, FeatureStore.open(b.path) as two:
            for name in one.spaces:
                np.testing.assert_allclose(
                    np.asarray(two.select(name)), np.asarray(one.select(name)), rtol=1e-4, atol=1e-5
                )


def test_a_pass_on_a_pretended_gpu_stores_what_a_cpu_stores(
    data: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Limit, probing, two batches in flight, pixels as bytes: all of a GPU's way in fp16, but its kernels."""
    for modality in ("text", "image"):  # larger batches take minutes here
        monkeypatch.setitem(extract.probing._START, modality, 4)
        monkeypatch.setitem(extract.probing._LIMIT, modality, 8)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (data / "data" / "103.jpg").write_bytes(b"no picture")
    plain = _run(data, weights / "tiny-clip", tmp_path / "plain", precision="fp32")
    with pretended_gpu():
        other = _run(
            data, weights / "tiny-clip", tmp_path / "gpu", device="cuda", precision="fp16", max_memory=10**9
        )
    assert plain.not_ok and plain.not_ok == other.not_ok
    assert {count.peak_bytes for count in other.counts.values()} == {MEMORY // 2}
    with FeatureStore.open(plain.path) as one, FeatureStore.open(other.path) as two:
        assert np.array_equal(one.status, two.status)
        for name in one.spaces:
            x, y = np.asarray(one.select(name)), np.asarray(two.select(name))
            gaps, lengths = np.linalg.norm(x - y, axis=1), np.linalg.norm(x, axis=1)
            assert (gaps <= TOLERANCE["fp16"] * lengths).all() and gaps.any(), name


def test_resolve_devices_names_each_device() -> None:
    """Several devices keep their order; one that is not there is named."""
    assert resolve_devices("cpu, cpu") == "cpu,cpu"
    if not torch.cuda.is_available():
        assert resolve_devices("all") == resolve_devices("auto") == "cpu"
        with pytest.raises(ValueError, match="'cuda:1' is not on this machine"):
            resolve_devices("cpu,cuda:1")


def test_readouts_may_differ_by_modality(data: Path, weights: Path, tmp_path: Path) -> None:
    """``text.hidden`` is of texts alone; a modality without a readout, and an unknown one, are named."""
    report = _run(data, weights / "tiny-clip", tmp_path / "a", readouts=("pooled", "text.hidden"))
    with FeatureStore.open(report.path) as store:
        assert store.spaces == ("text.pooled", "text.hidden", "image.pooled")
    with pytest.raises(ValueError, match=r"No readout is asked for image.*--modality"):
        _run(data, weights / "tiny-clip", tmp_path / "b", readouts=("text.hidden",))
    with pytest.raises(ValueError, match=r"'joint.pooled' is of modality 'joint'"):
        _run(data, weights / "tiny-clip", tmp_path / "c", readouts=("joint.pooled",))


def test_modalities_can_be_chosen(data: Path, weights: Path, tmp_path: Path) -> None:
    """--modality image leaves the texts out; what backbone or data lack is named."""
    report = _run(data, weights / "tiny-clip", tmp_path / "a", modalities=("image",))
    with FeatureStore.open(report.path) as store:
        assert store.spaces == ("image.pooled",)
    with pytest.raises(ValueError, match=r"no modality 'joint'; it embeds text, image"):
        _run(data, weights / "tiny-clip", tmp_path / "b", modalities=("joint",))
    for path in (data / "data").glob("*.jpg"):
        path.unlink()
    with pytest.raises(DataError, match=r"has only text\. Choose another --modality"):
        _run(data, weights / "tiny-clip", tmp_path / "c", modalities=("image",))


def test_views_are_stored_beside_the_clean_vectors(data: Path, weights: Path, tmp_path: Path) -> None:
    """Clean vectors stay; views differ from them, agree for equal inputs and survive interruptions."""
    plain = _run(data, weights / "tiny-clip", tmp_path / "plain")
    views = _run(data, weights / "tiny-clip", tmp_path / "views", views=2)
    with FeatureStore.open(plain.path) as a, FeatureStore.open(views.path) as b:
        for name in a.spaces:
            x, stack = np.asarray(b.select(name)), np.asarray(b.select(name).views)
            np.testing.assert_array_equal(np.asarray(a.select(name)), x)
            assert stack.shape == (2, *x.shape)
            assert a.select(name).fingerprint == b.select(name).fingerprint
            assert not np.array_equal(stack[0], stack[1])
            for row in (5, 39):
                np.testing.assert_array_equal(stack[:, row], stack[:, 0])
        image = b.select("image")
        assert not (np.asarray(image.views)[0] == np.asarray(image)).all(axis=1).any()
    out = tmp_path / "resumed"
    options = PassOptions(out=out, shard_rows=8, views=2)
    _interrupt(data, open_backbone(str(weights / "tiny-clip")), options, after=2)
    resumed = _run(data, weights / "tiny-clip", out, views=2)
    assert resumed.path.read_bytes() == views.path.read_bytes()
    assert views.counts["image"].views == 2 * 43


def test_views_reuse_clean_vectors(data: Path, weights: Path, tmp_path: Path) -> None:
    """A store without views lends its clean vectors; only the views are computed."""
    _run(data, weights / "tiny-bert", tmp_path / "out").path.rename(tmp_path / "out" / "clean.h5")
    report = _run(data, weights / "tiny-bert", tmp_path / "out", views=1)
    count = report.counts["text"]
    assert (count.computed, count.reused, count.views) == (0, 45, 43)
    fresh = _run(data, weights / "tiny-bert", tmp_path / "fresh", views=1)
    assert report.path.read_bytes() == fresh.path.read_bytes()


def test_meta_counts_the_rows(data: Path, weights: Path, tmp_path: Path) -> None:
    """The store itself says how many rows of each modality have which status."""
    (data / "data" / "103.jpg").unlink()
    report = _run(data, weights / "tiny-clip", tmp_path / "out")
    with FeatureStore.open(report.path) as store:
        summary = store.meta["summary"]
    assert summary["text"] == {"ok": 45}
    assert summary["image"] == {"ok": 44, "image_missing": 1}
