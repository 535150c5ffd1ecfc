"""Manifests: four layouts, repaired ids, and faults that are all named."""

from __future__ import annotations

from pathlib import Path

import pytest

from extract import DataError, read_data_set
from tests.kit.data_sets import write_guid_data_set, write_list, write_picture


def test_guid_layout_lists_samples_in_manifest_order(tmp_path: Path) -> None:
    """Labelled rows first, then the unlabelled list; files are looked up, classes are sorted."""
    ids = write_guid_data_set(tmp_path, 10, 3)
    data_set = read_data_set(tmp_path)
    assert [s.id for s in data_set.samples] == ids
    assert data_set.class_names == ("negative", "neutral", "positive")
    assert [s.label for s in data_set.samples[-3:]] == [None, None, None]
    assert all(s.text_path is not None and s.image_path is not None for s in data_set.samples)


def test_guid_layout_repairs_ids_and_counts_strays(tmp_path: Path) -> None:
    """`7.0` and ` 8` mean 7 and 8; files of no listed id are ignored and counted; the oddities are notes."""
    (tmp_path / "data").mkdir()
    for name in ("7.txt", "8.txt", "9.txt", "readme.md"):
        (tmp_path / "data" / name).write_text("x", encoding="utf-8")
    write_list(tmp_path / "train.txt", [("7.0", "a"), (" 8", "b"), ("8", "b")])
    data_set = read_data_set(tmp_path)
    assert [s.id for s in data_set.samples] == ["7", "8"]
    assert "'7.0' -> '7'" in data_set.notes["repaired ids"]
    assert data_set.notes["files ignored"].startswith("2 not in any list")
    assert data_set.notes["repeated rows"].startswith("1 identical")


def test_guid_layout_finds_a_file_spelt_like_the_raw_id(tmp_path: Path) -> None:
    """Where the files carry the spreadsheet's `.0` too, they are still found."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "7.0.txt").write_text("x", encoding="utf-8")
    write_list(tmp_path / "train.txt", [("7.0", "a")])
    assert read_data_set(tmp_path).samples[0].text_path is not None


def test_conflicting_rows_are_refused(tmp_path: Path) -> None:
    """One id with two labels is never settled quietly."""
    write_guid_data_set(tmp_path, 10, 0)
    write_list(tmp_path / "test_without_label.txt", [("100", "null")])
    with pytest.raises(DataError, match=r"'100' \(train.txt line 2 and test_without_label.txt line 2\)"):
        read_data_set(tmp_path)


def test_faulty_lines_are_named_together(tmp_path: Path) -> None:
    """Every line that is not `guid,tag` is in one message."""
    (tmp_path / "data").mkdir()
    (tmp_path / "train.txt").write_text("guid,tag\n1,a,b\n2,a\n,b\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"2 line\(s\).*line 2: '1,a,b'; line 4"):
        read_data_set(tmp_path)


@pytest.mark.parametrize("guid", ["a\tb", "x" * 2000])
def test_hostile_ids_are_refused(tmp_path: Path, guid: str) -> None:
    """Control characters and endless ids are refused with the line."""
    (tmp_path / "data").mkdir()
    write_list(tmp_path / "train.txt", [(guid, "a")])
    with pytest.raises(DataError, match=r"train\.txt line 2"):
        read_data_set(tmp_path)


def test_ids_never_name_files_outside(tmp_path: Path) -> None:
    """An id such as `../secret` finds nothing, because ids are looked up in a listing."""
    folder = tmp_path / "set"
    (folder / "data").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("secret", encoding="utf-8")
    write_list(folder / "train.txt", [("../secret", "a"), ("../../secret", "b"), ("/etc/hostname", "b")])
    assert all(s.text_path is None and s.image_path is None for s in read_data_set(folder).samples)


def test_links_out_of_the_data_set_are_refused(tmp_path: Path) -> None:
    """A link to a file elsewhere is an error that names its target."""
    folder = tmp_path / "set"
    write_guid_data_set(folder, 10, 0)
    (folder / "data" / "999.txt").symlink_to("/etc/hostname")
    with pytest.raises(DataError, match="outside the data set"):
        read_data_set(folder)


def test_mvsa_joins_two_labels_by_the_published_rule(tmp_path: Path) -> None:
    """Equal labels stand, neutral gives way, contradictions and rows without majority are dropped."""
    (tmp_path / "data").mkdir()
    lines = [
        "ID\ttext,image",
        "1\tpositive,positive",
        "2\tneutral,negative",
        "3\tpositive,neutral",
        "4\tpositive,negative",
        "5\tpositive,neutral\tpositive,neutral\tnegative,neutral",
        "6\tpositive,neutral\tneutral,neutral\tnegative,neutral",
    ]
    (tmp_path / "labelResultAll.txt").write_text("\n".join(lines), encoding="utf-8")
    data_set = read_data_set(tmp_path)
    assert {s.id: s.label for s in data_set.samples} == {
        "1": "positive",
        "2": "negative",
        "3": "positive",
        "5": "positive",
    }
    assert data_set.notes["samples dropped"].startswith("2 ")


def test_image_folder_takes_classes_and_splits_from_paths(tmp_path: Path) -> None:
    """`train/cat/1.png` is a cat in the training split."""
    for name in ("train/cat/1.png", "test/dog/2.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        write_picture(tmp_path / name, (1, 2, 3), seed=0)
    data_set = read_data_set(tmp_path)
    assert data_set.modalities == ("image",)
    assert [(s.id, s.label, s.split) for s in data_set.samples] == [
        ("test/dog/2.png", "dog", "test"),
        ("train/cat/1.png", "cat", "train"),
    ]


@pytest.mark.parametrize("content", ["", "   \n"])
def test_empty_manifest_is_one_clear_error(tmp_path: Path, content: str) -> None:
    """An empty list says so."""
    (tmp_path / "data").mkdir()
    (tmp_path / "train.txt").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="is empty"):
        read_data_set(tmp_path)


def test_wrong_paths_say_what_is_allowed(tmp_path: Path) -> None:
    """A missing path, a folder without a data set and an unknown ending each say what would do."""
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_data_set(tmp_path / "nowhere")
    with pytest.raises(DataError, match="guid layout"):
        read_data_set(tmp_path)
    (tmp_path / "x.docx").touch()
    with pytest.raises(DataError, match=r"'\.docx'"):
        read_data_set(tmp_path / "x.docx")


def test_guid_layout_counts_spare_files_of_a_listed_id(tmp_path: Path) -> None:
    """Of three pictures of one id, one is used and the others are counted as ignored."""
    (tmp_path / "data").mkdir()
    for name in ("1.JPG", "1.jpg", "1.png"):
        write_picture(tmp_path / "data" / name, (9, 9, 9), seed=0)
    write_list(tmp_path / "train.txt", [("1", "a")])
    data_set = read_data_set(tmp_path)
    assert data_set.samples[0].image_name == "data/1.jpg"
    assert data_set.notes["files ignored"].startswith("2 not in any list")


def test_old_mac_line_ends_are_read(tmp_path: Path) -> None:
    """A list with CR alone as line end is a list."""
    (tmp_path / "data").mkdir()
    (tmp_path / "train.txt").write_bytes(b"guid,tag\r1,a\r2,b\r")
    assert [s.id for s in read_data_set(tmp_path).samples] == ["1", "2"]
