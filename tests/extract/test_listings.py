"""Files of a folder by stem, and what the layouts that look files up hold in memory."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from extract.data_sets import DataSet
from extract.listings import FilesByStem
from extract.manifests import read_data_set
from extract.samples import DataError

_STEMS = ("1", "2", ".hidden", "a.b", "with space", "\u00e9")
_ENDINGS = (".txt", ".TXT", ".jpg", ".JPG", ".Jpg", ".jpeg", "", ".")


def _as_paths(folder: Path) -> dict[str, dict[str, Path]]:
    """The listing by paths, one after the other: lower-case endings first, then names as they sort."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir(), key=lambda p: (p.suffix != p.suffix.lower(), p.name)):
        by_ending = found.setdefault(path.stem, {})
        by_ending[path.suffix if path.suffix.lower() in by_ending else path.suffix.lower()] = path
    return found


@pytest.mark.parametrize("seed", range(5))
def test_listing_is_that_of_the_paths(tmp_path: Path, seed: int) -> None:
    """Every stem has the files that it has by name, and a taken file is no longer named."""
    random = np.random.default_rng(seed)
    for stem in _STEMS:
        for ending in random.choice(_ENDINGS, size=4, replace=False):
            (tmp_path / f"{stem}{ending}").touch()
    (tmp_path / "folder.txt").mkdir()
    expected = _as_paths(tmp_path)
    del expected["folder"]
    files = FilesByStem(tmp_path)
    assert {stem: files.of(stem) for stem in expected} == expected
    assert files.of("nobody") == {}
    assert files.names() == [path.name for found in expected.values() for path in found.values()]
    first = next(iter(expected))
    files.take(None, *expected.pop(first).values(), tmp_path / "nobody.txt")
    assert files.names() == [path.name for found in expected.values() for path in found.values()]
    assert files.of(first) == {}


def test_links_count_if_they_stay_in_the_data_set(tmp_path: Path) -> None:
    """A link to a file beside it is one of the files; one to elsewhere is refused by its name."""
    folder = tmp_path / "set" / "data"
    folder.mkdir(parents=True)
    (folder / "1.txt").touch()
    (folder / "2.txt").symlink_to(folder / "1.txt")
    (folder / "3.txt").symlink_to(folder)
    assert FilesByStem(folder).names() == ["1.txt", "2.txt"]
    (tmp_path / "other.txt").touch()
    (folder / "4.txt").symlink_to(tmp_path / "other.txt")
    with pytest.raises(DataError, match=r"'.*4\.txt' is a link to '.*other\.txt', outside the data set"):
        FilesByStem(folder)
    with pytest.raises(DataError, match="the guid layout keeps"):
        FilesByStem(tmp_path / "nowhere")


def test_pictures_come_in_the_order_of_their_paths(tmp_path: Path) -> None:
    """Names that sort otherwise than their paths do, and folders that are called like pictures."""
    for name in (
        "a/x.jpg",
        "a-b/x.jpg",
        "a/b/x.png",
        "a.jpg/y.jpg",
        "train/a/z.jpg",
        "train/a0.jpg",
        "B/1.JPG",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a-b", target_is_directory=True)
    data_set = read_data_set(tmp_path)
    expected = [path for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    assert [sample.image_path for sample in data_set.samples] == expected
    assert data_set.layout == "image-folder"


def _guid_layout(root: Path, n: int) -> None:
    _files(root / "data", n, ".txt", ".jpg")
    rows = "".join(f"{i},{'ab'[i % 2]}\n" for i in range(n))
    (root / "train.txt").write_text(f"guid,tag\n{rows}")


def _mvsa(root: Path, n: int) -> None:
    _files(root / "data", n, ".txt", ".jpg")
    rows = "".join(f"{i}\tpositive,neutral\n" for i in range(n))
    (root / "labelResultAll.txt").write_text(f"ID\ttext,image\n{rows}")


def _image_folder(root: Path, n: int) -> None:
    for name in "ab":
        _files(root / name, n // 2, ".jpg")


def _files(folder: Path, n: int, *endings: str) -> None:
    folder.mkdir(parents=True)
    for i in range(n):
        for ending in endings:
            os.close(os.open(folder / f"{i}{ending}", os.O_CREAT))


@pytest.mark.parametrize(
    ("make", "layout", "most"),
    [(_guid_layout, "guid", 350), (_mvsa, "mvsa", 400), (_image_folder, "image-folder", 200)],
)
def test_layouts_of_files_take_little_memory_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path, int], None], layout: str, most: int
) -> None:
    """What is held at a time grows by a few names a row: 211, 284 and 81 bytes were measured, once 1,855."""
    monkeypatch.setattr("extract.string_columns._BLOCK_BYTES", 1 << 14)
    peak = {}
    for n in (50, 500, 2000):  # the first one imports what all need
        make(tmp_path / str(n), n)
        peaks = []
        for _ in range(2):  # Python builds its table of path names anew now and then, a few megabytes
            tracemalloc.start()
            data_set: DataSet = read_data_set(tmp_path / str(n))
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        peak[n] = min(peaks)
        assert (data_set.layout, len(data_set.samples)) == (layout, n)
    assert (peak[2000] - peak[500]) / 1500 < most
