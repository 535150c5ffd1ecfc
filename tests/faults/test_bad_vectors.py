"""A backbone that returns nonsense: refused before anything is written, with the rows named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cache import FeatureStore
from extract import PassOptions, PassReport, open_backbone, read_data_set, run_pass
from extract.work import PassWork
from tests.kit.data_sets import write_guid_data_set
from tests.kit.tiny_checkpoints import make_tiny_bert

Forward = Callable[[list[object]], dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bert(tmp_path_factory.mktemp("weights") / "tiny-bert")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "set"
    write_guid_data_set(folder, 20, 0)
    return folder


def run(data: Path, bert: Path, out: Path) -> PassReport:
    return run_pass(read_data_set(data), open_backbone(str(bert)), PassOptions(out=out, shard_rows=5))


def spoil(patch: pytest.MonkeyPatch, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Let every tower change the vectors that it returns."""
    real = PassWork.open_tower

    def open_tower(work: PassWork, modality: str, device: str) -> object:
        tower = real(work, modality, device)
        forward: Forward = tower.forward
        tower.forward = lambda batch: {name: change(x) for name, x in forward(batch).items()}
        return tower

    patch.setattr(PassWork, "open_tower", open_tower)


def with_first(value: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return a change that puts a value into the first row of a batch."""

    def change(x: np.ndarray) -> np.ndarray:
        x = x.copy()
        x[0, 3:] = value
        return x

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_first(np.nan), r"'text.pooled' is not finite in rows \d+"),
        (with_first(np.inf), r"'text.pooled' is not finite in rows \d+"),
        (np.zeros_like, r"'text.pooled' is all zero in rows 0, 1, 2, 3, 4"),
        (lambda x: x[:, :1], r"float32 of shape \(\d+, 1\), but float32 of \(\d+, 32\)"),
        (lambda x: x[:, :-1], r"of shape \(\d+, 31\), but"),
        (lambda x: x[:-1], r"of shape \(\d+, 32\), but"),
        (lambda x: x[0], r"of shape \(32,\), but"),
        (lambda x: x.astype(np.float64), r"is float64 of shape"),
        (lambda x: x.astype(np.int32), r"is int32 of shape"),
        (lambda x: x.astype(np.complex64), r"is complex64 of shape"),
    ],
    ids=["nan", "inf", "zero", "one wide", "narrow", "short", "flat", "double", "integer", "complex"],
)
def test_nonsense_from_a_backbone_is_refused(
    data: Path, bert: Path, tmp_path: Path, change: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    """Wrong values, widths, lengths and types end the pass by name; mended, the same pass succeeds."""
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        spoil(patch, change)
        with pytest.raises(ValueError, match=message):
            run(data, bert, out)
    assert list(out.glob("*.h5")) == []
    report = run(data, bert, out)
    assert report.counts["text"].resumed + report.counts["text"].computed == 20
    with FeatureStore.open(report.path) as store:
        assert np.isfinite(np.asarray(store.select("text"))).all()
    assert report.path.read_bytes() == run(data, bert, tmp_path / "calm").path.read_bytes()
