"""Where pictures of a run are looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.picture_files import data_folders, data_root, searched


def test_pictures_in_the_home_folder_are_not_guessed_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger's run finds no picture of a user's by its name; with --data the folder is searched."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "a.png").write_bytes(b"picture")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    stores, run = [home / "features" / "x.h5"], home / "runs" / "r"
    assert data_root(["a.png"], data_folders(None, stores, run)) is None
    assert "the home folder itself is never searched" in searched(None)
    assert data_root(["a.png"], data_folders(home, stores, run)) == home
    assert searched(home) == f"'{home}'"
