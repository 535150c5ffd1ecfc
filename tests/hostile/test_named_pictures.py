"""Pictures that a stranger's store names: opened inside the data set only, and never the end of a page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cache import Status
from extract import DataError, SourceOptions, read_data_set, read_sources
from extract.images import BadImageError, decode_image
from pipelines.picture_files import data_folders, data_root, file_inside, folders_around
from pipelines.picture_marks import read_marks
from pipelines.report.thumbnails import make_thumbnails
from tests.hostile.picture_corpus import OK, PICTURES, jpeg_with
from tests.kit.data_sets import write_guid_data_set

#: EXIF after its mark, by what it makes Pillow's `exif_transpose` raise; found by changing bytes of others.
ODD_EXIF = {
    "struct.error": "4d4d002a000000080003010f0002000000060000003201120003000000010006000001"
    "2d00050000000100000038000000006d616b6572000000004800000001",
    "TypeError": "4d4d002a000000080003010f0002000000060000003201120003000000010006000001"
    "1a0007000000010000c338000000006d616b6572000000004800000001",
    "AttributeError": "4d4d002a000000080003010f0002000000060000003201120003000000010006000001"
    "0d00050000000100000038000000006d616b6572000035004800000001",
}


def _odd(kind: str) -> bytes:
    exif = b"Exif\0\0" + bytes.fromhex(ODD_EXIF[kind])
    return jpeg_with(b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif)


@pytest.mark.parametrize("kind", ODD_EXIF)
def test_odd_exif_ends_neither_a_decoding_nor_a_page(kind: str, tmp_path: Path) -> None:
    """The pixels are fine, so they are shown and compared; what turns them cannot be read."""
    data = _odd(kind)
    assert decode_image(data).size == (20, 10)
    assert decode_image(data, enough=5).size == (10, 5)
    (tmp_path / "odd.jpg").write_bytes(data)
    made = make_thumbnails(tmp_path, ["odd.jpg"], None, [0])
    assert (made.tiles, made.note) == ((0,), "")
    assert read_marks(tmp_path, ["odd.jpg"], None, np.array([0])).shape == (1, 255)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # as on the command line
def test_hostile_pictures_are_left_out_of_thumbnails_and_marks(tmp_path: Path) -> None:
    """What the pass refuses, for its format, size or scans, is not decoded for a page either."""
    fine = [_odd("TypeError"), PICTURES["EXIF that points at itself"][0]()]
    refused = [make() for make, expected in PICTURES.values() if expected != OK]
    names = [f"{number}.jpg" for number in range(len(fine) + len(refused))]
    for name, data in zip(names, [*fine, *refused], strict=True):
        (tmp_path / name).write_bytes(data)
    made = make_thumbnails(tmp_path, names, None, list(range(len(names))))
    assert [tile >= 0 for tile in made.tiles] == [True] * len(fine) + [False] * len(refused)
    assert made.note == f"{len(refused)} pictures could not be read"
    assert not read_marks(tmp_path, names, None, np.arange(len(names)))[len(fine) :].any()


def test_jpeg_of_endless_scans_is_not_decoded_small() -> None:
    """Decoding at a fraction of the size costs a pass over all pixels for each scan too."""
    data = PICTURES["3,000 scans"][0]()
    with pytest.raises(BadImageError, match="scans of all its pixels"):
        decode_image(data, enough=64)


@pytest.mark.parametrize("name", ["x" * 300 + ".jpg", "a/" * 3000 + "b.jpg", "round/b.jpg", "a\0b", "", "."])
def test_names_that_lead_nowhere_are_no_files(name: str, tmp_path: Path) -> None:
    """Too long a name and links in a circle are like a picture that is missing."""
    (tmp_path / "round").symlink_to("round")
    assert file_inside(tmp_path.resolve(), name) is None
    assert data_root([name], [tmp_path]) is None


def test_absolute_names_are_never_opened(tmp_path: Path) -> None:
    """Even where they point into the data set: a store's names are relative to it."""
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    root = tmp_path.resolve()
    assert file_inside(root, "a.png") == root / "a.png"
    assert file_inside(root, str(root / "a.png")) is None
    assert file_inside(Path("/"), str(root / "a.png")) is None
    assert data_root([str(root / "a.png")], [Path("/")]) is None


def test_guessed_folders_never_hold_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's run in a folder of the home names private pictures, and gets none unless told where."""
    home = (tmp_path / "home" / "me").resolve()
    run = home / "Downloads" / "run"
    run.mkdir(parents=True)
    (home / "private").mkdir()
    Image.new("RGB", (9, 9)).save(home / "private" / "me.png")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    store = home / "Downloads" / "s.h5"
    for top in (Path("/"), tmp_path, home.parent, home):
        names = [str((home / "private" / "me.png").relative_to(top.resolve()))]
        assert data_root(names, [top]) == top.resolve()
        assert data_root(names, data_folders(None, [store], run)) is None
        assert data_root(names, data_folders(top, [store], run)) == top.resolve()
    assert data_folders(None, [store], run) == [home / "Downloads", home / "Downloads"]
    assert home in folders_around([store])
    monkeypatch.delenv("HOME")
    assert Path("/") not in data_folders(None, [store], Path("/run"))


def test_pictures_around_the_stores_are_found_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where run, stores and pictures lie together, nobody has to say where."""
    data = tmp_path / "set"
    run = data / "runs" / "r"
    run.mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(data / "a.png")
    monkeypatch.chdir(run)
    assert data_root(["a.png"], data_folders(None, [data / "features" / "s.h5"], run)) == data.resolve()


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b"\xff\xfe", b"\xef\xbb\xbf\n"])
def test_list_of_a_byte_order_mark_alone_is_one_clear_error(mark: bytes, tmp_path: Path) -> None:
    """There is no first line to look at."""
    (tmp_path / "data").mkdir()
    (tmp_path / "train.txt").write_bytes(mark)
    with pytest.raises(DataError, match="its first line must be 'guid,tag'"):
        read_data_set(tmp_path)


def test_links_in_a_circle_are_named(tmp_path: Path) -> None:
    """In the folder of files they are refused; in a table the row is."""
    write_guid_data_set(tmp_path)
    (tmp_path / "data" / "round.jpg").symlink_to("round.jpg")
    with pytest.raises(DataError, match="is a link that leads nowhere"):
        read_data_set(tmp_path)
    table = tmp_path / "t.csv"
    table.write_text("id,text,image,label\n1,x,data/round.jpg,a\n", encoding="utf-8")
    with pytest.raises(DataError, match="leads nowhere"):
        read_data_set(table)


def test_name_that_is_too_long_is_a_missing_picture(tmp_path: Path) -> None:
    """A row of its own, and not the end of the pass."""
    table = tmp_path / "t.csv"
    table.write_text(f"id,text,image,label\n1,x,{'y' * 300}.jpg,a\n", encoding="utf-8")
    (source,) = read_sources(read_data_set(table), SourceOptions(clean="none"))
    assert source.image_status == Status.IMAGE_MISSING
