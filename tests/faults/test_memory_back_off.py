"""Out of memory: batches are halved until they fit, what does not fit alone is marked, nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch

import extract.devices
from cache import FeatureStore, Status
from extract import PassOptions, PassReport, TooManyBadRowsError, open_backbone, read_data_set, run_pass
from extract.engine import DeviceEngine
from extract.forwards import BackoffForward, is_out_of_memory
from extract.inputs import Inputs
from extract.work import PassWork
from tests.kit.data_sets import write_guid_data_set
from tests.kit.tiny_checkpoints import make_tiny_clip

N_ROWS = 90


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_clip(tmp_path_factory.mktemp("weights") / "tiny-clip")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "set"
    write_guid_data_set(folder, N_ROWS, 0)
    return folder


def use_device_engine(patch: pytest.MonkeyPatch) -> None:
    """Run passes on the engine for GPUs, with towers on the CPU."""

    def open_engine(inputs: Inputs, device: str) -> DeviceEngine:
        inputs.capacity = lambda _: 64
        return DeviceEngine(inputs, device, n_readers=2)

    patch.setattr(extract.devices, "open_local_engine", open_engine)


def limit_rows(patch: pytest.MonkeyPatch, rows: int) -> list[int]:
    """Let every tower run out of memory above so many rows; return the batch sizes that they are sent."""
    sizes: list[int] = []
    real = PassWork.open_tower

    def open_tower(work: PassWork, modality: str, device: str) -> object:
        tower = real(work, modality, device)
        forward = tower.forward

        def limited(batch: list[object]) -> dict[str, np.ndarray]:
            sizes.append(len(batch))
            if len(batch) > rows:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
            return forward(batch)

        tower.forward = limited
        return tower

    patch.setattr(PassWork, "open_tower", open_tower)
    return sizes


def run(data: Path, clip: Path, out: Path, max_bad: float = 0.1) -> PassReport:
    options = PassOptions(out=out, shard_rows=40, max_bad=max_bad)
    return run_pass(read_data_set(data), open_backbone(str(clip)), options)


@pytest.mark.parametrize("rows", [1, 3, 7, 64])
def test_device_engine_halves_batches_until_they_fit(
    data: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    """Every row is embedded, the size that fits is remembered, vectors are those of a calm pass."""
    use_device_engine(monkeypatch)
    calm = run(data, clip, tmp_path / "calm")
    sizes = limit_rows(monkeypatch, rows)
    report = run(data, clip, tmp_path / "out")
    assert report.not_ok == {}
    assert [count.computed for count in report.counts.values()] == [N_ROWS, N_ROWS]
    too_large = [size for size in sizes if size > rows]
    # Two towers; two batches in flight, of which each may find out by itself; six halvings from 64 to 1.
    assert len(too_large) <= 2 * 2 * 6
    assert bool(too_large) == (rows < 64)  # the engine's batches have 64 rows
    if too_large:
        assert all(count.smallest_batch <= rows for count in report.counts.values())
    with FeatureStore.open(calm.path) as a, FeatureStore.open(report.path) as b:
        for name in a.spaces:
            np.testing.assert_allclose(
                np.asarray(b.select(name)), np.asarray(a.select(name)), rtol=1e-4, atol=1e-5
            )


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
            True,
        ),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"), False),
        (ValueError("out of range"), False),
    ],
)
def test_out_of_memory_is_known_in_all_its_words(error: Exception, is_memory: bool) -> None:
    """Libraries below torch say it in their own; a fault that a smaller batch does not mend is none."""
    assert is_out_of_memory(error) == is_memory


def test_batches_in_flight_halve_once_for_one_size() -> None:
    """Two batches that fail at one size make it half of that, not a quarter; the smaller size stands."""
    both_in = Barrier(2, timeout=60)
    started: list[int] = []

    def forward(batch: Sequence[float]) -> dict[str, np.ndarray]:
        started.append(len(batch))
        if len(batch) == 64:
            both_in.wait()
        if len(batch) > 32:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return {"pooled": np.array(batch, dtype=np.float32)[:, None]}

    shared = BackoffForward(forward)
    batches = [[float(64 * i + row) for row in range(64)] for i in range(2)]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(shared, batches))
    for batch, (vectors, fits) in zip(batches, results, strict=True):
        assert fits.all() and vectors["pooled"][:, 0].tolist() == batch
    assert sorted(started) == [32, 32, 32, 32, 64, 64] and shared.largest == 32


def test_device_engine_marks_what_does_not_fit_alone(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without memory for one row, every row has the status oom, and --max-bad decides what follows."""
    data = tmp_path / "set"
    write_guid_data_set(data, 10, 0)
    use_device_engine(monkeypatch)
    limit_rows(monkeypatch, 0)
    with pytest.raises(TooManyBadRowsError, match=r"10 of 10 rows \(100.0%\).*oom.*--max-bad"):
        run(data, clip, tmp_path / "out")
    assert list((tmp_path / "out").glob("*.h5")) == []
    report = run(data, clip, tmp_path / "out", max_bad=1.0)
    with FeatureStore.open(report.path) as store:
        assert (np.asarray(store.status) == Status.OOM).all()
        assert not store.select("image").valid.any()
