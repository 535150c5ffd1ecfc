"""A small data set taken from folders to a finished run once, for all tests of the commands."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.cli import main
from tests.kit.data_sets import write_guid_data_set
from tests.kit.threads import one_torch_thread  # noqa: F401 - a fixture of this folder
from tests.kit.tiny_checkpoints import make_tiny_bert, make_tiny_clip


@dataclass(frozen=True)
class World:
    """A data set with a tiny CLIP's store and a tuned run, in one folder."""

    root: Path
    clip: Path
    bert: Path
    ids: tuple[str, ...]

    @property
    def run(self) -> Path:
        return self.root / "runs" / "small"


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("world")
    ids = write_guid_data_set(root, 90, 7)
    clip = make_tiny_clip(tmp_path_factory.mktemp("weights") / "tiny-clip")
    bert = make_tiny_bert(clip.parent / "tiny-bert")
    before = Path.cwd()
    os.chdir(root)
    try:
        assert main(["extract", "--backbone", str(clip)]) == 0
        assert (
            main(["tune", "--trials", "5", "--heads", "logreg,mlp", "--folds", "3", "--study", "small"]) == 0
        )
    finally:
        os.chdir(before)
    return World(root, clip, bert, tuple(ids))


@pytest.fixture
def in_world(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The world, as the current folder."""
    monkeypatch.chdir(world.root)
    return world
