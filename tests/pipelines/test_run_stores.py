"""Stores of a finished run, found again."""

from __future__ import annotations

from pathlib import Path

import pytest

from cache import FeatureStore
from pipelines.errors import RunError
from pipelines.run_stores import find_store, store_specs
from tests.pipelines.ablation_stores import labels_of, make_store, noisy


def _space(root: Path) -> dict[str, str]:
    codes = labels_of(20)
    path = make_store(root / "features" / "a.h5", "toy", {"text": noisy(codes, 1.0)}, codes)
    with FeatureStore.open(path) as store:
        return {"path": "features/a.h5", "space": "text.pooled", "store_fingerprint": store.fingerprint}


def test_stores_are_found_from_the_folder_above_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run names its stores relative to where it was made; it may be read from anywhere."""
    space, run = _space(tmp_path), tmp_path / "runs" / "x"
    run.mkdir(parents=True)
    monkeypatch.chdir(run)
    assert find_store(space, run).samefile(tmp_path / "features" / "a.h5")
    assert store_specs([space], run) == (f"{find_store(space, run)}:text.pooled",)


def test_stores_that_changed_or_went_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another store in the same place is not the run's."""
    space, run = _space(tmp_path), tmp_path / "runs" / "x"
    run.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="has changed since the run was made"):
        find_store({**space, "store_fingerprint": "0" * 64}, run)
    with pytest.raises(RunError, match="has changed since the run was made"):
        find_store({**space, "space": "image.pooled"}, run)
    (tmp_path / "features" / "a.h5").unlink()
    with pytest.raises(RunError, match="is not there any more"):
        find_store(space, run)
